"""The index on disk beside the ledger, so that a start maps it instead of building it: saved now and then, never
trusted.

A snapshot stands for the ledger up to a sequence; a start applies the changes after it. It is used only if nothing
about it is doubtful: every byte under its checksum, made with these parameters and under these facts, from this very
ledger (the change at its sequence is the one it remembers), and with as many rows, once caught up, as the ledger
counts. Otherwise the index is built from the ledger, which is the truth, and the log says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from memory_runtime.engine.following import Checkpoint, Follower, Names, same_rows
from memory_runtime.model.errors import SomaError
from memory_runtime.model.threads import in_thread
from memory_runtime.scoring import ExactIndex, SnapshotUnusable
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Applied, Collection, TailTrimmed
from memory_runtime.stores.sessions import Ledger, LedgerView, Loaded
from memory_runtime.stores.values import Facts
from memory_runtime.telemetry.supervision import Supervised, Supervisor

log = logging.getLogger(__name__)

DIRECTORY: Final = "index"
FORMAT: Final = 2
"""Raise it when what the rows' codes, features or times mean changes: snapshots from before are then not loaded."""
PAGE: Final = 2_000
WORTH_SAVING: Final = 1_000
"""Changes that a stop saves; fewer are caught up in less time than writing them takes."""
SPARE_BYTES: Final = 256 * 2**20
CLOCK_SECONDS: Final = 0.5


class _Taken(NamedTuple):
    """What a save writes: the checkpoint, the facts that it was made under, and the change that it ends with."""

    checkpoint: Checkpoint
    facts: dict[str, str]
    mark: list[Any]


class Snapshots:
    """The snapshots of one engine: `restore` at the start, a background task, a last save at the end."""

    def __init__(
        self, ledger: Ledger, follower: Follower, settings: SMFSettings, tasks: Supervisor | None = None
    ) -> None:
        self._ledger = ledger
        self._follower = follower
        self._settings = settings
        self._directory: Path = settings.data_dir / DIRECTORY
        self._saved_seq = 0
        self._saved_at = time.monotonic()
        self._tasks = tasks or Supervisor()
        self._task: Supervised | None = None

    # ---- loading ----

    def restore(self, found: Loaded, facts: Mapping[str, str]) -> bool:
        """Puts the index of the snapshot in place, caught up to `found`. Blocking; False where it must be built."""
        if not self._settings.index_snapshot_seconds:
            return False
        start = time.monotonic()
        try:
            index, seq = ExactIndex.load(
                self._directory, self._settings.vector_dim, self._follower.params, self._follower.clock
            )
            names = self._names(index.header, seq, found, facts)
            rows = sum(count for key, count in found.counts.items() if key[3] == int(Collection.MEMORIES))
            replayed = self._follower.resume(index, names, self._changes(seq, found.seq))
            if len(index) != rows:
                raise _doubtful(f"it holds {len(index)} memories, the ledger {rows}")
        except (SnapshotUnusable, TailTrimmed) as why:
            reason = why.message if isinstance(why, SnapshotUnusable) else "the changes since then were trimmed"
            if (self._directory / "manifest.json").exists():
                log.warning("the index is built from the ledger: %s", reason)
            self._follower.forget()
            return False
        self._follower.settle(found, facts)
        self._saved_seq = seq
        self._follower.load_seconds = time.monotonic() - start
        log.info(
            "index loaded: %d rows of the snapshot at seq %d, %d changes after it, in %.2f s",
            len(index), seq, replayed, self._follower.load_seconds,
        )  # fmt: skip
        return True

    def _names(self, header: Mapping[str, Any], seq: int, found: Loaded, facts: Mapping[str, str]) -> Names:
        """The names behind the rows' codes. Raises SnapshotUnusable for a header that is not of this ledger."""
        try:
            if header["format"] != FORMAT:
                raise _doubtful("another version of this program made it")
            if seq > found.seq:
                raise _doubtful(f"it is ahead of the ledger ({seq}, the ledger is at {found.seq})")
            if not same_rows(header["facts"], facts):
                raise _doubtful("stored importances or vectors were changed after it was made")
            if self._ledger.read_now(lambda view: _mark(view, seq)) != header["mark"]:
                raise _doubtful("it was made from another ledger, or from this one before a restore")
            names = Names(*(tuple(map(str, header["names"][kind])) for kind in Names._fields))
        except (KeyError, TypeError, ValueError) as bad:
            raise _doubtful(f"its header lacks {bad}") from bad
        configured = tuple(sorted(self._settings.half_life_by_type))
        if names.types[: len(configured)] != configured:
            raise _doubtful("half_life_by_type names other types now")
        return names

    def _changes(self, seq: int, end: int) -> Iterator[list[Applied]]:
        while seq < end:
            page = self._ledger.read_now(lambda view, seq=seq: view.changes(seq, PAGE, self._settings.vector_dim))  # type: ignore[misc]
            if not page:
                return
            seq = page[-1].receipt.seq
            # What another replica has written since is heard of like any later change
            yield [one for one in page if one.receipt.seq <= end]

    # ---- saving ----

    def start(self) -> None:
        """Begins to save in the background, unless the settings say never."""
        self._saved_at = time.monotonic()
        if self._settings.index_snapshot_seconds:
            self._task = self._tasks.start("index-snapshots", self._rounds)

    async def stop(self) -> None:
        """Lets a save that is under way finish, and saves once more where a restart would gain by it."""
        if self._task is None:
            return
        await self._task.stop()
        if self._behind() >= WORTH_SAVING:
            with contextlib.suppress(SomaError):
                await self.save()

    def _behind(self) -> int:
        enough = len(self._follower.index) >= self._settings.index_snapshot_min_rows
        return self._follower.applied_seq - self._saved_seq if enough else 0

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(min(CLOCK_SECONDS, self._settings.index_snapshot_seconds))
            if time.monotonic() - self._saved_at < self._settings.index_snapshot_seconds or not self._behind():
                continue
            try:
                await self.save()
            except SomaError as error:
                log.warning("the index snapshot was put off: %s", error)
            finally:
                self._saved_at = time.monotonic()

    async def save(self) -> bool:
        """Writes a snapshot of this moment; searches and writes go on. False where there is nothing fit to save."""
        taken = await self._ledger.exclusively(self._take)
        if taken is None:
            return False
        writing = asyncio.ensure_future(in_thread(self._write, taken))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise

    def _take(self, view: LedgerView) -> _Taken | None:
        """Where no change is applied: the index, the facts and the sequence are of one moment."""
        facts = view.facts()
        if not self._follower.in_step or self._follower.outdated:
            return None
        if self._follower.facts is None or not same_rows(self._follower.facts, facts):
            return None
        if self._follower.residency.bounds(self._follower.index):
            return None  # rows were given up: only the ledger has them all, and a start would refuse it
        checkpoint = self._follower.checkpoint()
        try:
            return _Taken(checkpoint, facts, _mark(view, checkpoint.seq))
        except TailTrimmed:
            return None

    def _write(self, taken: _Taken) -> bool:
        start = time.monotonic()
        made = taken.checkpoint
        facts = {key: taken.facts[key] for key in Facts.OF_ROWS if key in taken.facts}
        header = {"format": FORMAT, "facts": facts, "mark": taken.mark, "names": made.names._asdict()}
        needed = sum(segment.resident_bytes() for segment in made.view.segments if segment.file is None)
        try:
            free = shutil.disk_usage(self._settings.data_dir).free
            if free < needed + SPARE_BYTES:
                # The ledger needs the space more: without a snapshot a start is slow, without room nothing is stored
                log.warning("no index snapshot: it needs %d MiB, %d are free", needed >> 20, free >> 20)
                return False
            made.index.save(self._directory, made.seq, header=header, view=made.view)
        except OSError as error:
            log.warning("the index snapshot could not be written: %s", error)
            return False
        self._saved_seq = made.seq
        log.info("index snapshot: seq %d, %d MiB new, %.2f s", made.seq, needed >> 20, time.monotonic() - start)
        return True


def _mark(view: LedgerView, seq: int) -> list[Any]:
    """What tells the change at `seq` from any other that might have that number. Raises TailTrimmed."""
    if seq == 0:
        return []
    found = view.tail(seq - 1, 1)
    return [
        [one.seq, one.id.hex, one.version, one.at, one.event_time, one.importance] for one in found if one.seq == seq
    ]


def _doubtful(why: str) -> SnapshotUnusable:
    return SnapshotUnusable(f"the index snapshot is not used: {why}", field="snapshot")
