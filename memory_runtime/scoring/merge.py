"""Which segments to merge, and merging them: living rows only, quantised again only where their basis is another.

Tiers as in a log-structured merge tree: four segments of like size become one, so a row is rewritten a few times in
its life.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.codes import Narrow, narrow_codes
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.params import ScoringParams
from memory_runtime.scoring.rows import Ids, Ints, RowBatch, Singles
from memory_runtime.scoring.segment import Segment, Vectors, build

FAN: Final = 4
_TOMBSTONES: Final = 0.25
_COPY_BLOCK: Final = 1024


def pick(segments: Sequence[Segment], epoch: int) -> list[Segment]:
    """The segments to merge next, smallest first: four of one tier, or one that is a quarter dead; empty for none."""
    tiers: dict[int, list[Segment]] = {}
    for segment in segments:
        tiers.setdefault(int(math.log(max(len(segment), 1), FAN)), []).append(segment)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= FAN:
            return tiers[tier]
    for segment in segments:
        if np.count_nonzero(living(segment, epoch)) < (1 - _TOMBSTONES) * len(segment):
            return [segment]
    return []


def living(part: Segment | Fresh, epoch: int) -> npt.NDArray[np.bool_]:
    """Which rows of a part have not died at or before `epoch`."""
    death = codes.deaths(part.records) if isinstance(part, Segment) else part.deaths[: part.count]
    return np.asarray((death == 0) | (death > epoch))


def gather(
    parts: Sequence[Segment | Fresh], epoch: int, *, with_vectors: bool = True
) -> tuple[RowBatch, codes.Bytes, list[npt.NDArray[np.intp]]]:
    """The living rows of all parts: as given, their records, and which they were."""
    rows = [np.flatnonzero(living(part, epoch)) for part in parts]
    batch = RowBatch.concatenate(
        [part.batch(at, with_vectors=with_vectors) for part, at in zip(parts, rows, strict=True)]
    )
    records = np.concatenate(
        [
            part.records[at] if isinstance(part, Segment) else part.records(at)
            for part, at in zip(parts, rows, strict=True)
        ]
    )
    return batch, records, rows


def narrow_of(
    parts: Sequence[Segment | Fresh], rows: Sequence[npt.NDArray[np.intp]], basis: Basis, norm: float
) -> Narrow:
    """First-bound codes of gathered rows in `basis`: copied where a part has them, made where it does not."""
    made = [
        part.narrow(at) if part.basis is basis else narrow_codes(_Picked(part.vectors, at), basis, norm)
        for part, at in zip(parts, rows, strict=True)
    ]
    return Narrow(
        basis,
        np.concatenate([one.codes for one in made]),
        np.concatenate([one.scale for one in made]),
        np.concatenate([one.residual for one in made]),
        max(one.error for one in made),
    )


class _Picked:
    """Some rows of an array, taken a slice at a time: what `narrow_codes` reads of a part without copying all of it."""

    def __init__(self, vectors: Vectors, rows: npt.NDArray[np.intp]) -> None:
        self._vectors, self._rows = vectors, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> Singles:
        return self._vectors[self._rows[part]].astype(np.float32, copy=False)


def merge(
    name: str,
    parts: Sequence[Segment | Fresh],
    epoch: int,
    params: ScoringParams,
    basis: Basis,
    norm: float,
) -> Segment:
    """One segment of the rows alive at `epoch`. Rows that die meanwhile must be passed on: see `late_deaths`.

    Vectors go straight from where they are to where they will be: most of a row is its vector, and one more copy of
    each would be most of the memory of a merge.
    """
    batch, records, rows = gather(parts, epoch, with_vectors=False)
    narrow = narrow_of(parts, rows, basis, norm)

    def place(order: npt.NDArray[np.intp]) -> Vectors:
        owner = np.repeat(np.arange(len(parts)), [len(at) for at in rows])[order]
        source = np.concatenate(rows)[order]
        placed = np.empty((len(order), basis.dim), parts[0].vectors.dtype)
        for start in range(0, len(order), _COPY_BLOCK):
            # A block that fits a cache: rows come from everywhere, they should not also go everywhere
            block = placed[start : start + _COPY_BLOCK]
            owners, sources = owner[start : start + _COPY_BLOCK], source[start : start + _COPY_BLOCK]
            for number, part in enumerate(parts):
                here = np.flatnonzero(owners == number)
                block[here] = part.vectors[sources[here]]
        return placed

    merged = build(name, batch, params, basis, norm, records=records, narrow=narrow, place=place)
    # A death that was being written while its record was copied is passed on under the lock, with all the others
    codes.deaths(merged.records)[:] = 0
    return merged


def late_deaths(parts: Sequence[Segment | Fresh], epoch: int) -> tuple[Ids, npt.NDArray[np.uint64]]:
    """Ids and deaths of the rows that died after `epoch`."""
    ids: list[Ids] = [np.zeros((0, 2), np.uint64)]
    when: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    for part in parts:
        death = codes.deaths(part.records) if isinstance(part, Segment) else part.deaths[: part.count]
        late: Ints = np.flatnonzero(death > epoch)
        if len(late):
            ids.append(part.ids[late] if isinstance(part, Segment) else part.batch(late).ids)
            when.append(death[late])
    return np.concatenate(ids), np.concatenate(when)
