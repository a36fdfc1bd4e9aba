"""Lines of a file on their way to a server: in order, in batches, and whatever happens it says how far it came.

Every line before the one that an error names is stored, and none from it on: so `--start-at` that line goes on. A
batch that the server refuses is cut down to the line at fault, whether or not the server said which it is.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from memory_runtime.surfaces.cli.client import Refused
from memory_runtime.surfaces.cli.documents import Item
from memory_runtime.surfaces.cli.input_file import Fault, Line
from memory_runtime.surfaces.cli.results import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    CommandFailed,
    Progress,
)

BATCH: Final = 200
BATCH_BYTES: Final = 2 << 20
_OF_A_LINE: Final = frozenset({400, 404, 409, 413, 422})
"""Statuses that can be one item's fault. Any other (401, 429, 503) is not, and ends the run."""
AT: Final = re.compile(r"^(?:items|links)[.\[](\d+)\]?\.?")
"""The place of an item in a batch, as the server's errors name it."""
_LONGEST_KEPT: Final = 1 << 20

Send = Callable[[list[dict[str, Any]]], None]
Prepare = Callable[[dict[str, Any]], tuple[Send, dict[str, Any]] | None]


class _Entry(NamedTuple):
    source: Line | Item
    body: dict[str, Any]


class Rejects:
    """The file that takes lines that cannot be stored, each as `{line, reason, remedy, text}`."""

    def __init__(self, name: str) -> None:
        """Raises CommandFailed where the file cannot be written or holds something already."""
        self.name = name
        self.count = 0
        path = Path(name)
        try:
            if path.exists() and path.stat().st_size:
                raise CommandFailed(f"--rejects: {name} is there already; name another file", EXIT_USAGE)
            path.touch(mode=0o600)
            self._file = path.open("a", encoding="utf-8")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CommandFailed(f"--rejects: cannot write {name}: {why}", EXIT_USAGE) from None

    def add(self, source: Line | Item, fault: Fault) -> None:
        """Writes one line."""
        self.count += 1
        told: dict[str, Any] = {"line": source.number if isinstance(source, Line) else source.line}
        told |= {"reason": fault.reason, "remedy": fault.remedy}
        if len(source.raw) > _LONGEST_KEPT:
            told["bytes"] = len(source.raw)
        else:
            try:
                told["text"] = source.raw.decode("utf-8")
            except UnicodeDecodeError:
                told["base64"] = base64.b64encode(source.raw).decode()
        try:
            self._file.write(json.dumps(told, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise CommandFailed(f"--rejects: cannot write {self.name}: {error.strerror}", EXIT_USAGE) from None


def _fault(refused: Refused) -> Fault:
    """What the server said, without the item's place in the batch."""
    match = AT.match(refused.field)
    reason = refused.detail if match is None else refused.detail.replace(match[0], "", 1)
    return Fault(re.sub(r" \(and \d+ more\)$", "", reason), refused.remedy)


class Intake:
    """One file's lines, sent in order. Use it within `with intake.telling():`."""

    def __init__(self, name: str, *, start_at: int, rejects: str | None, what: str) -> None:
        """`what` is how the progress calls it, such as `imported`."""
        self.start_at = start_at
        self.stored = 0
        self._name = "standard input" if name == "-" else name
        self._rejects = None if rejects is None else Rejects(rejects)
        self._progress = Progress(what)
        self._send: Send | None = None
        self._batch: list[_Entry] = []
        self._size = 0
        self._seen: Line | Item | None = None
        self._settled = 0

    @property
    def rejected(self) -> int:
        """How many lines were left out."""
        return 0 if self._rejects is None else self._rejects.count

    @property
    def exit_code(self) -> int:
        """1 where lines were left out, so that a script notices."""
        return EXIT_FAILED if self.rejected else EXIT_OK

    def told_rejects(self) -> str:
        """What a summary adds about lines that were left out."""
        if self._rejects is None or not self.rejected:
            return ""
        return f"; {self.rejected:,} lines were left out, each with its reason in {self._rejects.name}"

    def counted_rejects(self) -> dict[str, int]:
        """The same for JSON; nothing where no file was named."""
        return {} if self._rejects is None else {"rejected": self.rejected}

    def count(self, more: int) -> None:
        """Counts what the server says that it took."""
        self.stored += more
        self._progress.at(self.stored)

    def take(
        self, source: Line | Item, prepare: Callable[[dict[str, Any]], tuple[Send, dict[str, Any]] | None]
    ) -> None:
        """Takes a line. `prepare` says what to send, and by which call; None leaves it out. It may raise Fault."""
        if source.number < self.start_at:
            return
        self._seen = source
        try:
            prepared = prepare(source.value())
        except Fault as fault:
            self.flush()
            self._refuse(source, fault)
            return
        if prepared is not None:
            self._add(source, *prepared)

    def _add(self, source: Line | Item, send: Send, body: dict[str, Any]) -> None:
        full = len(self._batch) >= BATCH or self._size + len(source.raw) > BATCH_BYTES
        if self._batch and (full or send != self._send):
            self.flush()
        self._send = send
        self._batch.append(_Entry(source, body))
        self._size += len(source.raw)

    def flush(self) -> None:
        """Sends what waits."""
        while self._batch:
            # what was sent leaves the batch at once: it says what is still to do, whatever ends this
            self._deliver(len(self._batch))
        self._size = 0

    def finish(self) -> None:
        """Sends the rest."""
        self.flush()
        self._progress.done(self.stored)

    def _deliver(self, size: int) -> None:
        assert self._send is not None  # noqa: S101 -- a batch has a way to go
        try:
            self._send([one.body for one in self._batch[:size]])
        except Refused as refused:
            if refused.status not in _OF_A_LINE:
                raise
            match = AT.match(refused.field)
            at = int(match[1]) if match and int(match[1]) < size else None
            if at is None and size > 1:
                self._deliver(size // 2)
            elif at:
                self._deliver(at)
            else:
                self._refuse(self._batch[0].source, _fault(refused))
                self._settle(1)
        else:
            self._settle(size)

    def _settle(self, size: int) -> None:
        self._settled = self._batch[size - 1].source.number
        del self._batch[:size]

    def _refuse(self, source: Line | Item, fault: Fault) -> None:
        if self._rejects is None:
            raise CommandFailed(f"{source.place}: {fault}", EXIT_USAGE)
        self._rejects.add(source, fault)
        self._settled = source.number

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Adds to whatever ends the run how far it came and how to go on."""
        try:
            yield
        except CommandFailed as failure:
            raise CommandFailed(f"{self._name}: {failure}{self._reached()}", failure.exit_code) from None
        except KeyboardInterrupt:
            raise CommandFailed(f"interrupted{self._reached()}", EXIT_INTERRUPTED) from None

    def _reached(self) -> str:
        last = self._batch[0].source if self._batch else self._seen
        at = self.start_at if last is None else last.number + (not self._batch and self._settled >= last.number)
        unit = "item" if isinstance(last, Item) else "line"
        done = f"{self.stored:,} stored, everything before {unit} {at}" if self.stored else "nothing was stored"
        more = "" if self._rejects is not None else ", or leave out what cannot be stored with --rejects FILE"
        return f". {done[0].upper()}{done[1:]}; go on with --start-at {at}{more}"
