"""Two other rankings, exact as well, for those who come from them: a weighted sum, and linear decay.

    weighted sum (Park et al. 2023, "Generative Agents"):  w_r·recency + w_i·importance + w_s·max(0, q·v),
        recency = d^(hours since the memory's time), d = 0.995
    linear decay:  max(0, q·v) · i · max(0, 1 - age/window)

Both move with time (a sum of decaying and constant parts, a line), so no stored order serves them. The threshold
algorithm (Fagin, Lotem, Naor 2001) does: take rows by what needs no query, best first, and stop when even a similarity
of 1 could not lift the next row into the answer. Answers are labelled with the preset's name; scores of different
presets do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import codes
from memory_runtime.scoring.formula import exact_dot
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.merge import living
from memory_runtime.scoring.rows import Floats, Ids, Partition, Singles, id_bytes
from memory_runtime.scoring.segment import Segment
from memory_runtime.scoring.view import View

_FIRST_BLOCK: Final = 256
_HOUR: Final = 3600.0


class PresetRow(NamedTuple):
    """One answer: the id's 16 bytes, the preset's score, and its similarity; `preset` is the label."""

    id: bytes
    score: float
    similarity: float
    preset: str


class Preset(Protocol):
    """A score in two parts: what needs no query, and how a similarity in [0, 1] enters. Monotone in both."""

    name: str

    def standing(self, importance: Floats, age: Floats) -> Floats:
        """The part that needs no query; rows are taken by it, largest first."""

    def score(self, standing: Floats, similarity: Floats) -> Floats:
        """The score; must not fall when either argument rises."""


def _positive(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(
            f"{name} must be a positive number, not {value!r}", field=name, remedy="give one above zero"
        )


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """Park et al.: weights of recency, importance and relevance (1 each), and the decay of recency an hour."""

    recency: float = 1.0
    importance: float = 1.0
    relevance: float = 1.0
    hourly: float = 0.995
    name: str = "weighted-sum"

    def __post_init__(self) -> None:
        for field in ("recency", "importance", "relevance"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) >= 0):
                raise InvalidArgument(f"{field} must be zero or more", field=field, remedy="1 is the paper's weight")
        if not 0 < self.hourly < 1:
            raise InvalidArgument("hourly must be between 0 and 1", field="hourly", remedy="0.995 is the paper's value")

    def standing(self, importance: Floats, age: Floats) -> Floats:
        """w_r·recency + w_i·importance."""
        return self.recency * np.power(self.hourly, age / _HOUR) + self.importance * importance

    def score(self, standing: Floats, similarity: Floats) -> Floats:
        """standing + w_s·similarity."""
        return standing + self.relevance * similarity


@dataclass(frozen=True, slots=True)
class LinearDecay:
    """A memory fades along a line and is gone after `window` seconds."""

    window: float
    name: str = "linear-decay"

    def __post_init__(self) -> None:
        _positive(self.window, "window")

    def standing(self, importance: Floats, age: Floats) -> Floats:
        """i·max(0, 1 - age/window)."""
        return importance * np.maximum(0.0, 1.0 - age / self.window)

    def score(self, standing: Floats, similarity: Floats) -> Floats:
        """standing·similarity."""
        return standing * similarity


class _Part(NamedTuple):
    rows: npt.NDArray[np.intp]
    ids: Ids
    standing: Floats
    vectors: npt.NDArray[np.floating]


def search(view: View, query: Singles, preset: Preset, *, k: int, partition: Partition, at: float) -> list[PresetRow]:
    """The exact top k of one unit query at the moment `at`; rows with a score of 0 never appear, ties by id."""
    sources: list[Segment | Fresh] = [*view.segments, view.fresh]
    parts = [part for source in sources if (part := _part(view, source, preset, partition, at))]
    if not parts:
        return []
    owner = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    standing = np.concatenate([part.standing for part in parts])
    place = np.concatenate([np.arange(len(part.rows)) for part in parts])
    order = np.argsort(-standing, kind="stable")
    best: list[PresetRow] = []
    start, size = 0, max(_FIRST_BLOCK, 4 * k)
    while start < len(order):
        # Norms are 1 to 1e-6 (float16: 1e-3), so no similarity exceeds 1.001
        ceiling = preset.score(standing[order[start : start + 1]], np.array([1.001]))[0]
        if len(best) == k and ceiling < best[-1].score:
            break
        chosen = order[start : start + size]
        best = _better(best, parts, owner[chosen], place[chosen], query, preset, k)
        start, size = start + size, size * 2
    return best


def _part(view: View, source: Segment | Fresh, preset: Preset, partition: Partition, at: float) -> _Part | None:
    alive = living(source, view.epoch)
    if isinstance(source, Segment):
        number = (partition.tenant << 31) | partition.namespace
        low, high = np.searchsorted(source.runs.partition, [number, number + 1])
        rows = np.arange(int(source.runs.start[low]), int(source.runs.start[high])) if high > low else np.arange(0)
        vectors, records, importance, ids = source.vectors, source.records, source.importance, source.ids
    else:
        runs = [run for _, run in source.runs(*partition)]
        rows = source.rows_of(runs, view.fresh_count) if runs else np.arange(0)
        table = view.fresh_table
        vectors, records, importance, ids = table.vectors, table.records, table.importance, table.ids
    rows = rows[alive[rows] & (codes.expiries(records)[rows] > at)]
    if not len(rows):
        return None
    age = np.maximum(at - codes.times(records)[rows], 0.0)
    return _Part(rows, ids, preset.standing(importance[rows], age), vectors)


def _better(
    best: list[PresetRow],
    parts: Sequence[_Part],
    owner: npt.NDArray[np.intp],
    place: npt.NDArray[np.intp],
    query: Singles,
    preset: Preset,
    k: int,
) -> list[PresetRow]:
    found = list(best)
    for number in np.unique(owner).tolist():
        part, mine = parts[number], place[owner == number]
        rows = part.rows[mine]
        similarity = np.clip(exact_dot(part.vectors[rows], query), 0.0, 1.0)
        scores = preset.score(part.standing[mine], similarity)
        found += [
            PresetRow(key, float(score), float(sim), preset.name)
            for key, score, sim in zip(id_bytes(part.ids[rows]), scores, similarity, strict=True)
            if score > 0
        ]
    return sorted(found, key=lambda row: (-row.score, row.id))[:k]
