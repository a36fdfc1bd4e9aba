"""One connection, asked from a thread: every call blocks until the event loop of the connection has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from memory_runtime.stores.resilience.deadline import check_time

T = TypeVar("T")
Runner = Callable[[Coroutine[Any, Any, T]], T]


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a loop and thread of its own and waits: also from a thread that runs a loop itself."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Session:
    """A connection and the way to its event loop; for one thread at a time."""

    def __init__(self, connection: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.connection: Any = connection
        self._run = run

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        check_time()
        return self._run(getattr(self.connection, method)(*arguments, **options))

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows that the query gives."""
        return self._ask("fetch", sql, *values)  # type: ignore[no-any-return]

    def row(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        return self._ask("fetchrow", sql, *values)

    def value(self, sql: str, *values: Any) -> Any:
        """The first row's first column, or None."""
        return self._ask("fetchval", sql, *values)

    def do(self, sql: str, *values: Any) -> int:
        """Runs a statement; the number of rows that it touched."""
        status = str(self._ask("execute", sql, *values))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    def do_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Runs a statement for each of the values, in one round trip."""
        self._ask("executemany", sql, values)

    def copy(self, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]]) -> None:
        """Puts records into a table by COPY, in binary."""
        self._ask("copy_records_to_table", table, records=records, columns=list(columns))


class TurnNeeded(Exception):  # noqa: N818 -- no error: the way without the turn ends here
    """Others have written meanwhile, or one question and one statement are not enough. Nothing was written."""


class NoQuestions(Session):
    """For a group that has not taken the turn: what it read came of one query, and so of one moment and one server."""

    def __init__(self) -> None:
        super().__init__(None, lambda work: work)

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        raise TurnNeeded


class Bound:
    """Gathers the values of one statement: `bound(value)` is its placeholder."""

    def __init__(self, *values: Any) -> None:
        self.values: list[Any] = list(values)

    def __call__(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"
