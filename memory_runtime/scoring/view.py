"""What one search is about: the view of the index that it reads, and what was asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from memory_runtime.model.errors import DeadlineExceeded, SomaError
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.params import UNSET, ScoringParams, Unset
from memory_runtime.scoring.rows import Ids, Partition, Singles
from memory_runtime.scoring.segment import Segment
from memory_runtime.scoring.source import Table


class Cancelled(SomaError):  # noqa: N818 -- named as the taxonomy names its errors
    """The caller went away: the search stopped between two blocks."""

    code = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a reader sees: fixed segments, the first `fresh_count` fresh rows, and deaths up to `epoch`."""

    segments: tuple[Segment, ...]
    tables: tuple[Table, ...]
    fresh: Fresh
    fresh_table: Table
    fresh_count: int
    epoch: int
    params: ScoringParams


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A checked search; `at` is the moment asked about, `hide_later` is true for `as_of`.

    The ids of `only` stand in order of their hashes, so that looking them up goes through memory once.
    """

    queries: Singles
    k: int
    partition: Partition
    types: frozenset[int] | None
    at: float
    hide_later: bool
    half_life: float | Unset | None = UNSET
    only: Ids | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] | None = None

    def check_time(self) -> None:
        """Raises DeadlineExceeded or Cancelled: called between blocks."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded(
                "the search took too long", field="deadline", remedy="allow more time, or ask for less"
            )
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("the search was cancelled")
