"""Proof that the vector store holds what the ledger holds: a hash for each of 256 ranges of ids, compared and mended.

The hash of a range is the sum of two independent 64-bit mixes of (id, sequence), so it does not depend on order and
costs a few nanoseconds a row. Where two differ the range is compared row by row, and what differs is looked at once
more: what the relay has yet to deliver is no difference.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.engine.vectors.backing import Stamp, VectorBacking
from memory_runtime.engine.vectors.feed import SINK, VectorFeed
from memory_runtime.model.threads import in_thread
from memory_runtime.stores.contracts import Lineage
from memory_runtime.stores.interfaces import VectorRemoval
from memory_runtime.stores.lineages import abandoned, lineage_of
from memory_runtime.stores.sessions import Ledger, LedgerView

RANGES: Final = 256
PAGE: Final = 5000
WAITING: Final = 20_000
"""Undelivered changes that are looked at: a relay further behind than this is not compared with, but waited for."""
LOOKS: Final = 3
"""Passes of a repair: what changes meanwhile is found by the next."""

_MIXERS: Final = np.array(
    [[0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9], [0xD6E8FEB86659FD93, 0x94D049BB133111EB]], np.uint64
)
_EPOCH_MIXER: Final = 0x9E3779B97F4A7C15
Order = tuple[int, int]
"""Epoch of a line of history, and sequence there: which of two changes is the later."""
Hashes = npt.NDArray[np.uint64]


def row_hashes(ids: list[bytes], seqs: list[int]) -> Hashes:
    """uint64 [n, 2]: two mixes of each id (16 bytes) with its sequence."""
    halves = np.frombuffer(b"".join(ids), ">u8").astype(np.uint64).reshape(-1, 2)
    seq = np.array(seqs, np.uint64)
    columns = []
    for first, second in _MIXERS:
        value = halves[:, 0] * first ^ halves[:, 1] * second ^ seq * (first ^ second)
        value ^= value >> np.uint64(31)
        value *= second
        value ^= value >> np.uint64(29)
        columns.append(value * first ^ (value >> np.uint64(32)))
    return np.stack(columns, axis=1)


class RangeHashes:
    """The hash of each range, of rows that come in any order."""

    def __init__(self) -> None:
        self.counts = np.zeros(RANGES, np.int64)
        self.sums = np.zeros((RANGES, 2), np.uint64)

    def add(self, ids: list[bytes], orders: list[Order]) -> None:
        """Counts these rows in."""
        if ids:
            ranges = np.fromiter((one[0] for one in ids), np.intp, len(ids))
            numbers = [(seq + epoch * _EPOCH_MIXER) % 2**64 for epoch, seq in orders]
            np.add.at(self.sums, ranges, row_hashes(ids, numbers))
            np.add.at(self.counts, ranges, 1)

    def look_again(self, number: int, found: Mapping[bytes, Order]) -> None:
        """Takes what a range was found to hold later in the place of what it held: id and order."""
        self.counts[number], self.sums[number] = 0, 0
        self.add(list(found), list(found.values()))

    @property
    def rows(self) -> int:
        """Rows of all ranges."""
        return int(self.counts.sum())

    def digest(self) -> str:
        """All ranges in one word."""
        return hashlib.sha256(self.sums.astype(">u8").tobytes()).hexdigest()[:16]

    def differing(self, other: RangeHashes) -> list[int]:
        """The ranges in which the two are not the same."""
        return np.flatnonzero((self.sums != other.sums).any(axis=1)).tolist()


class Difference(NamedTuple):
    """One id that ledger and store disagree about: order in the ledger, stamp in the store; None where it is not."""

    id: bytes
    seq: Order | None
    stamp: Stamp | None

    def stands_in_the_way(self, head: int, chain: Sequence[Lineage]) -> bool:
        """Newer than anything the ledger knows (from before it was restored), so that no condition would let it go."""
        if self.stamp is None:
            return False
        lines = [(one.epoch, one.forked) for one in chain]
        order = _order_of(self.stamp)
        if abandoned(lines, *order) or (order[0] and order[0] not in {epoch for epoch, _ in lines}):
            return True
        newest = (lines[-1][0] if lines else 0, head)
        return order > (self.seq or newest) or (self.stamp.gone and order == self.seq)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a comparison found: counts of rows. `missing` are not in the store, `stale` are of another change or layout,
    `foreign` are in the store alone, `pending` will be right once the relay has delivered. `equal` says that both hold
    the same, by hash, but for what is pending.
    """

    equal: bool
    ledger_rows: int
    store_rows: int
    ledger_hash: str
    store_hash: str
    ranges_differing: int
    missing: int = 0
    stale: int = 0
    foreign: int = 0
    pending: int = 0
    repaired: int = 0
    seconds: float = 0.0


class Reconciler:
    """Compares a ledger with the store that is fed from it."""

    def __init__(self, ledger: Ledger, store: VectorBacking, feed: VectorFeed) -> None:
        self._ledger = ledger
        self._store = store
        self._feed = feed

    async def run(self, *, repair: bool) -> Reconciliation:
        """Compares, and with `repair` mends until both are equal, in three passes at most. Raises Unavailable.

        Reads every stamp on both sides: O(rows), in pages, beside everything else.
        """
        began, mended = time.monotonic(), 0
        for _ in range(LOOKS):
            found, differences = await self._compare()
            if not repair or not differences:
                break
            mended += await self._mend(differences)
        return replace(found, repaired=mended, seconds=time.monotonic() - began)

    async def _compare(self) -> tuple[Reconciliation, list[Difference]]:
        # before anything is read: what was not delivered by then, or came after, may be on one side alone meanwhile
        delivered = await self._ledger.read(_delivered)
        ours, theirs, strangers = await self._ledger_hashes(), RangeHashes(), RangeHashes()
        async for page in self._store.stamps():
            await in_thread(self._count, theirs, strangers, page)
        # tombstones apart, a point of another layout is a difference wherever it is
        ranges = sorted({*ours.differing(theirs), *np.flatnonzero(strangers.sums.any(axis=1)).tolist()})
        differences = [one for number in ranges for one in await self._differences(number, ours, theirs)]
        waiting = await self._ledger.read(partial(_changed_since, delivered)) if differences else ()
        real = [one for one in differences if one.id not in waiting]
        kinds = [_kind(one) for one in real]
        return Reconciliation(
            equal=not real,
            ledger_rows=ours.rows,
            store_rows=theirs.rows,
            ledger_hash=ours.digest(),
            store_hash=theirs.digest(),
            ranges_differing=len({one.id[0] for one in differences}),
            missing=kinds.count("missing"),
            stale=kinds.count("stale"),
            foreign=kinds.count("foreign"),
            pending=len(differences) - len(real),
        ), real

    def _count(self, living: RangeHashes, strangers: RangeHashes, page: Sequence[tuple[uuid.UUID, Stamp]]) -> None:
        mine = [
            (key.bytes, _order_of(stamp))
            for key, stamp in page
            if not stamp.gone and stamp.layout == self._store.layout
        ]
        living.add([key for key, _ in mine], [order for _, order in mine])
        other = [(key.bytes, (0, 1)) for key, stamp in page if not stamp.gone and stamp.layout != self._store.layout]
        strangers.add([key for key, _ in other], [seq for _, seq in other])

    async def _ledger_hashes(self) -> RangeHashes:
        hashes, after = RangeHashes(), bytes(16)
        while stamps := await self._ledger.read(partial(_stamps, after, PAGE)):
            ids, seqs = [key for key, _ in stamps], [seq for _, seq in stamps]
            await in_thread(hashes.add, ids, seqs)
            after = ids[-1]
        return hashes

    async def _differences(self, number: int, in_ledger: RangeHashes, in_store: RangeHashes) -> list[Difference]:
        """What differs in one range, each id looked at again on both sides.

        Counts and hashes are brought to the same moment: a verdict must not stand beside numbers of before it.
        """
        ours = await self._ledger_range(number)
        theirs = await self._store_range(number)
        suspects = [key for key in {*ours, *theirs} if not self._agree(ours.get(key), theirs.get(key))]
        again = await self._ledger.read(partial(_seqs, suspects)) if suspects else {}
        settled = {key: seq for key, seq in ours.items() if key not in suspects} | again
        in_ledger.look_again(number, settled)
        layout = self._store.layout
        in_store.look_again(
            number, {key: _order_of(one) for key, one in theirs.items() if not one.gone and one.layout == layout}
        )
        found = [Difference(key, again.get(key), theirs.get(key)) for key in suspects]
        return [one for one in found if not self._agree(one.seq, one.stamp)]

    def _agree(self, seq: Order | None, stamp: Stamp | None) -> bool:
        there = stamp is not None and not stamp.gone
        if seq is None:
            return not there
        return stamp is not None and there and _order_of(stamp) == seq and stamp.layout == self._store.layout

    async def _ledger_range(self, number: int) -> dict[bytes, Order]:
        found: dict[bytes, Order] = {}
        # no version of a UUID is all zeros behind its first byte: nothing is left out
        after = bytes([number]) + bytes(15)
        while stamps := await self._ledger.read(partial(_stamps, after, PAGE)):
            mine = [one for one in stamps if one[0][0] == number]
            found |= dict(mine)
            if len(mine) < len(stamps):
                break
            after = stamps[-1][0]
        return found

    async def _store_range(self, number: int) -> dict[bytes, Stamp]:
        found: dict[bytes, Stamp] = {}
        async for page in self._store.stamps(uuid.UUID(bytes=bytes([number]) + bytes(15))):
            mine = {key.bytes: stamp for key, stamp in page if key.bytes[0] == number}
            found |= mine
            if len(mine) < len(page):
                break
        return found

    async def _mend(self, differences: list[Difference]) -> int:
        head, chain = await self._ledger.read(_head_and_lines)
        for start in range(0, len(differences), PAGE):
            part = differences[start : start + PAGE]
            ahead = [one for one in part if one.stands_in_the_way(head, chain)]
            await self._store.erase([uuid.UUID(bytes=one.id) for one in ahead])
            points = await self._ledger.read(partial(self._feed.points_of, [one.id for one in part]))
            await self._store.upsert(points)
            living = {point.id.bytes for point in points}
            await self._store.remove(
                [
                    VectorRemoval(uuid.UUID(bytes=one.id), one.stamp.seq, one.stamp.epoch)
                    for one in part
                    if one.id not in living and one.stamp is not None and one not in ahead
                ]
            )
        return len(differences)


def _kind(one: Difference) -> str:
    if one.seq is None:
        return "foreign"
    return "missing" if one.stamp is None or one.stamp.gone else "stale"


def _order_of(stamp: Stamp) -> Order:
    return stamp.epoch, stamp.seq


def _stamps(after: bytes, limit: int, view: LedgerView) -> list[tuple[bytes, Order]]:
    chain = view.lineages()
    return [(key, (lineage_of(chain, seq).epoch, seq)) for key, seq in view.stamps(after, limit)]


def _seqs(ids: list[bytes], view: LedgerView) -> dict[bytes, Order]:
    chain = view.lineages()
    return {key: (lineage_of(chain, record.seq).epoch, record.seq) for key, record in view.by_ids(ids).items()}


def _delivered(view: LedgerView) -> int:
    """How far the relay has come."""
    return view.sinks().get(SINK, 0)


def _changed_since(seq: int, view: LedgerView) -> Collection[bytes]:
    """The memories that the relay had yet to hand over at that sequence, and those changed since."""
    return {change.id.bytes for change in view.tail(seq, WAITING)}


def _head_and_lines(view: LedgerView) -> tuple[int, list[Lineage]]:
    return view.head(), view.lineages()
