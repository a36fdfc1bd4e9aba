"""From evidence of several kinds to one relevance in [0, 1].

Each memory has a vector part and a words part, each relative to the best candidate of the question. A word counts at
its best in the memory or, weaker, in what was said just before or after; then a memory's relevance is a weighted mean
of its own and its neighbours'. The weights lie on a plateau: docs/recall.md says what changing each of them does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

RRF_K: Final = 60
NEAR_WORDS: Final = (0.5, 0.35)
"""What a word counts in the memory next to this one, and in the one after that."""
NEAR_RELEVANCE: Final = (0.35, 0.2)
"""What a neighbour's own relevance adds to this memory's, by distance."""
LINK_RELEVANCE: Final = 0.35
"""What a memory linked with weight 1 adds."""
DATE_GAIN: Final = 0.5
LEAST_SIMILARITY: Final = 0.2
"""A best similarity below this is mostly noise: it counts in proportion, so that a word in one memory outweighs it."""
REACH: Final = len(NEAR_RELEVANCE)
_WHOLE: Final = 1.0 + 2.0 * sum(NEAR_RELEVANCE)
_EVEN_BOOST: Final = 2.0


class Near(NamedTuple):
    """Pairs of candidates that lie near each other: `words` and `relevance` say what `other` lends to `row`."""

    row: NDArray[np.intp]
    other: NDArray[np.intp]
    words: Floats
    relevance: Floats

    @classmethod
    def of(cls, steps: Sequence[tuple[int, int, int]], links: Sequence[tuple[int, int, float]] = ()) -> Near:
        """From (row, other, distance 1…REACH), counted both ways, and from links (row, other, weight) of the graph."""
        both = [(a, b, d) for a, b, d in steps] + [(b, a, d) for a, b, d in steps]
        row = [one[0] for one in both] + [one[0] for one in links]
        other = [one[1] for one in both] + [one[1] for one in links]
        words = [NEAR_WORDS[d - 1] for *_, d in both] + [0.0] * len(links)
        lent = [NEAR_RELEVANCE[d - 1] for *_, d in both]
        lent += [LINK_RELEVANCE * min(1.0, max(0.0, weight)) for *_, weight in links]
        return cls(np.array(row, np.intp), np.array(other, np.intp), np.array(words), np.array(lent))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of n candidates: `similarity` [n] (cosine), `words` [w, n] (BM25 of each question word, 0 where it
    is absent), `near`, and `dates` [n] in [0, 1] (closeness to the dates that the question names).

    `floor` is the similarity that counts as none: what a memory has that merely shares the language.
    """

    similarity: Floats
    words: Floats
    near: Near
    dates: Floats
    floor: float


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """The parts [n] and the whole [n], all in [0, 1]: own = (1 - share)·vector + share·words; `around` is what the
    neighbours lent; total = (own + around)/2.1, raised by `dates`. `reach` [w, n] is each word's part of `words`.
    """

    share: float
    vector: Floats
    words: Floats
    around: Floats
    dates: Floats
    total: Floats
    reach: Floats


def fuse(evidence: Evidence, *, boost: float = _EVEN_BOOST) -> Relevance:
    """The relevance of every candidate. `boost` ≥ 0 weighs words against vectors: 2 evenly, 0 vectors alone."""
    share = boost / (boost + _EVEN_BOOST) if len(evidence.words) else 0.0
    near = evidence.near
    vector = _relative(evidence.similarity - evidence.floor, least=LEAST_SIMILARITY)
    reach = evidence.words.copy()
    for word, own in zip(reach, evidence.words, strict=True):
        np.maximum.at(word, near.row, near.words * own[near.other])
    words_total = reach.sum(axis=0)
    words = _relative(words_total)
    if words_total.size and words_total.max() > 0:
        reach /= words_total.max()
    own_relevance = (1.0 - share) * vector + share * words
    around = np.zeros_like(own_relevance)
    np.add.at(around, near.row, near.relevance * own_relevance[near.other])
    total = np.minimum((own_relevance + around) / _WHOLE, 1.0)
    # In [0, 1] for any gain, and f·(1 + gain) while f is small.
    total = 1.0 - (1.0 - total) ** (1.0 + DATE_GAIN * evidence.dates)
    return Relevance(share, vector, words, around, evidence.dates, total, reach)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Key]], k: int = RRF_K) -> dict[Key, float]:
    """Σ 1/(k + rank) over the rankings, best first (Cormack, Clarke and Büttcher, 2009); ranks count from 1."""
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (k + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _relative(values: Floats, *, least: float = 0.0) -> Floats:
    """Values over the largest, or `least` if that is larger; negative ones as 0, zeros where none is positive."""
    clipped = np.maximum(values, 0.0)
    top = max(float(clipped.max()), least) if clipped.size else 0.0
    return clipped / top if top > 0 else np.zeros_like(clipped)
