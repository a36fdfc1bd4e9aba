"""Which segments to merge, and merging them: living rows only, quantised again only where their basis is another.

Tiers as in a log-structured merge tree: four segments of like size become one, so a row is rewritten a few times in
its life. A search pays for every segment, so where nothing is written for a while the tiers are folded further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.codes import Bytes, Coded
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.kernel import GROUP
from memory_runtime.scoring.params import ScoringParams
from memory_runtime.scoring.room import empty
from memory_runtime.scoring.rows import Ids, Ints, RowBatch
from memory_runtime.scoring.segment import Segment, Vectors, build

FAN: Final = 4
QUIET_BYTES: Final = 4 * 2**30
"""A merge that nobody needs makes no segment larger than this: its columns are anonymous memory until a restart."""
_TOMBSTONES: Final = 0.25
_COPY_BLOCK: Final = 1024


def pick(segments: Sequence[Segment]) -> list[Segment]:
    """The segments to merge next, smallest first: four of one tier, or one that is a quarter dead; empty for none."""
    tiers: dict[int, list[Segment]] = {}
    for segment in segments:
        tiers.setdefault(int(math.log(max(len(segment), 1), FAN)), []).append(segment)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= FAN:
            return tiers[tier]
    for segment in segments:
        if segment.dead > _TOMBSTONES * len(segment):
            return [segment]
    return []


def pick_quiet(segments: Sequence[Segment]) -> list[Segment]:
    """What to merge further while nothing is written: a segment and all smaller ones, where these together are as
    large as it is. Each such merge at least doubles what a row lies in.
    """
    order = sorted(segments, key=len)
    smaller, size, best = 0, 0, 0
    for count, segment in enumerate(order, 1):
        size += segment.stored_bytes()
        if size > QUIET_BYTES:
            break
        if smaller >= len(segment) and count > 1:
            best = count
        smaller += len(segment)
    return order[:best]


def living(part: Segment | Fresh, epoch: int) -> npt.NDArray[np.bool_]:
    """Which rows of a part have not died at or before `epoch`."""
    if not part.dead:
        return np.ones(len(part), np.bool_)
    death = codes.deaths(part.records)[: len(part)]
    return np.asarray((death == 0) | (death > epoch))


def gather(
    parts: Sequence[Segment | Fresh], epoch: int, *, with_vectors: bool = True
) -> tuple[RowBatch, list[npt.NDArray[np.intp]]]:
    """The living rows of all parts as they were given, and which they were."""
    rows = [np.flatnonzero(living(part, epoch)) for part in parts]
    batch = RowBatch.concatenate(
        [part.batch(at, with_vectors=with_vectors) for part, at in zip(parts, rows, strict=True)]
    )
    return batch, rows


class Gathered:
    """Rows of several parts: what they have is copied, straight from where it is to where it will be.

    Most of a row is its vector: one more copy of each would be most of the time and the memory of a merge.
    """

    def __init__(
        self, parts: Sequence[Segment | Fresh], rows: Sequence[npt.NDArray[np.intp]], basis: Basis, norm: float
    ) -> None:
        self._parts, self._basis, self._norm = parts, basis, norm
        self._owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(at) for at in rows])
        self._place = np.concatenate(rows).astype(np.int64, copy=False)

    def vectors(self, order: npt.NDArray[np.intp]) -> Vectors:
        """The stored vectors."""
        return self._rows([part.vectors for part in self._parts], order)

    def records(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Bytes:
        """The records, every row alive."""
        records = self._rows([part.records for part in self._parts], order)
        # A death that was being written while its record was copied is passed on under the lock, with all the others
        codes.deaths(records)[:] = 0
        return records

    def coded(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Coded:
        """The first-bound codes: copied where all parts have them in this basis, else made again."""
        if any(part.basis is not self._basis for part in self._parts):
            return codes.encoded(vectors, self._basis, self._norm)
        made = codes.blank(len(order), self._basis.size)
        owner, place = self._owner[order], self._place[order]
        prefixes, heads = tuple(part.prefix for part in self._parts), tuple(part.head for part in self._parts)
        module = kernel.load()
        if module is not None:
            module.gather_groups(made.prefix, made.head, made.prefix.shape[1], prefixes, heads, owner, place)
        else:
            here = np.arange(len(order))
            for number, (prefix, head) in enumerate(zip(prefixes, heads, strict=True)):
                to, source = here[owner == number], place[owner == number]
                made.prefix[to // GROUP, :, to % GROUP] = prefix[source // GROUP, :, source % GROUP]
                made.head[to // GROUP, :, to % GROUP] = head[source // GROUP, :, source % GROUP]
        return made._replace(error=max(part.error for part in self._parts))

    def _rows(self, columns: Sequence[npt.NDArray[Any]], order: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        owner, place = self._owner[order], self._place[order]
        # Records must start on 8 bytes: the kernel reads their tails in place
        gathered = empty((len(order), *columns[0].shape[1:]), columns[0].dtype)
        module = kernel.load()
        if module is not None:
            module.gather_rows(gathered, columns[0].strides[0], tuple(columns), owner, place)
            return gathered
        for start in range(0, len(order), _COPY_BLOCK):
            # A block that fits a cache: rows come from everywhere, they should not also go everywhere
            block = gathered[start : start + _COPY_BLOCK]
            owners, places = owner[start : start + _COPY_BLOCK], place[start : start + _COPY_BLOCK]
            for number, column in enumerate(columns):
                here = np.flatnonzero(owners == number)
                block[here] = column[places[here]]
        return gathered


def merge(
    name: str,
    parts: Sequence[Segment | Fresh],
    epoch: int,
    params: ScoringParams,
    basis: Basis,
    norm: float,
) -> Segment:
    """One segment of the rows alive at `epoch`. Rows that die meanwhile must be passed on: see `late_deaths`."""
    batch, rows = gather(parts, epoch, with_vectors=False)
    return build(name, batch, params, basis, norm, Gathered(parts, rows, basis, norm))


def late_deaths(parts: Sequence[Segment | Fresh], epoch: int) -> tuple[Ids, npt.NDArray[np.uint64]]:
    """Ids and deaths of the rows that died after `epoch`."""
    ids: list[Ids] = [np.zeros((0, 2), np.uint64)]
    when: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    for part in parts:
        if not part.dead:
            continue
        death = codes.deaths(part.records)[: len(part)]
        late: Ints = np.flatnonzero(death > epoch)
        if len(late):
            ids.append(part.ids[late])
            when.append(death[late])
    return np.concatenate(ids), np.concatenate(when)
