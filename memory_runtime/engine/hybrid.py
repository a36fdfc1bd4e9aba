"""Hybrid recall: candidates by vector and by word, their surroundings, one fused relevance, then decay and importance.

The relevance takes the place of max(0, q·v) in the formula, so what holds for vector recall (tenant and filters first,
half-lives by type, `as_of`, ties by id, no zero scores) holds here too. Unlike it, the candidates are bounded: exact
over the union of the best by vector, the best by word, and what stands next to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory_runtime.engine.following import Follower
from memory_runtime.engine.types import Fusion, RecallRequest
from memory_runtime.lexical import MAX_WORDS, Evidence, Near, Relevance, closeness, fuse, question_words, time_windows
from memory_runtime.lexical.fusion import NEAR_RELEVANCE, REACH
from memory_runtime.model.records import Scope, Vector
from memory_runtime.scoring import PINNED, UNSET, Explanation, Partition, Profile, ScoredRow, formula
from memory_runtime.scoring.ranking import Candidates, top_k
from memory_runtime.scoring.rows import as_ids
from memory_runtime.stores.sessions import LedgerView
from memory_runtime.stores.values import Row, Visible

BY_VECTOR: Final = 200
BY_WORDS: Final = 200
COMMON_WORD: Final = 5000
"""A word that more memories hold finds no candidates (a microsecond each), but counts for those that are found."""
EMPTY_WORD: Final = 100_000
"""A word that more memories hold than this says nothing."""
SEEDS: Final = 60
SITTING_GAP_SECONDS: Final = 1800.0
LINKS: Final = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A text, its unit vector, when and of whom it is asked; `only` are the ids that its filters allow.

    `deadline` is on the monotonic clock.
    """

    scope: Scope
    request: RecallRequest
    text: str
    vector: Vector
    now: float
    deadline: float
    boost: float
    partition: Partition
    types: list[int] | None
    only: Sequence[bytes] | None

    @property
    def at(self) -> float:
        """The T of the formula."""
        return self.now if self.request.as_of is None else self.request.as_of

    @property
    def visible(self) -> Visible:
        """What the ledger may show it."""
        return Visible(
            self.scope,
            self.at,
            hide_later=self.request.as_of is not None,
            memory_type=self.request.memory_type,
            filters=self.request.filters or {},
        )


@dataclass(frozen=True, slots=True)
class FusedHit:
    """One answer: its score at T, both parts of its relevance, and every factor where they were asked for."""

    row: ScoredRow
    fusion: Fusion
    explanation: Explanation | None


class HybridRecaller:
    """Answers questions that have words; one per engine."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def answer(self, view: LedgerView, question: Question) -> list[FusedHit]:
        """The best `top_k`, best first."""
        counts = {word: view.frequency(word, limit=EMPTY_WORD) for word in question_words(question.text)}
        words = _rarest([word for word, count in counts.items() if 0 < count <= EMPTY_WORD], counts)
        telling = [word for word in words if counts[word] <= COMMON_WORD]
        by_vector, floor = self._by_vector(question)
        by_words = view.best_by_words(question.visible, telling, limit=BY_WORDS)
        rows = view.rows(question.visible, list(dict.fromkeys([*by_vector, *by_words])))
        seeds = _seeds(rows, by_vector, by_words, floor)
        pool = _Pool(rows)
        near = _surroundings(view, question.visible, pool, seeds)
        if not pool.rows:
            return []
        evidence = Evidence(
            similarity=_similarities(view, question.vector, pool.rows, by_vector),
            words=_word_table(view, words, pool.rows),
            near=near,
            dates=closeness(np.array([row.event_time for row in pool.rows]), time_windows(question.text, question.at)),
            floor=floor,
        )
        relevance = fuse(evidence, boost=question.boost)
        ranked = self._ranked(question, pool.rows, relevance.total)
        place = {row.id: at for at, row in enumerate(pool.rows)}
        return [
            self._hit(question, hit, pool.rows[place[hit.id]], _fusion(relevance, evidence, place[hit.id], words))
            for hit in ranked
        ]

    def _by_vector(self, question: Question) -> tuple[dict[bytes, float], float]:
        """Cosines of the best by vector, with and without decay, and the cosine that counts as none."""
        request = question.request
        count = max(BY_VECTOR, request.top_k)
        found: list[list[ScoredRow]] = []
        if question.only is None or question.only:
            for half_life in (None, request.half_life) if self._decays(request) else (None,):
                found += self._follower.index.search(
                    question.vector[None, :],
                    top_k=count,
                    partition=question.partition,
                    types=question.types,
                    now=question.now,
                    as_of=request.as_of,
                    half_life=half_life,
                    only=question.only,
                    deadline=question.deadline,
                )
        similarities = {row.id: row.similarity for rows in reversed(found) for row in rows}
        timeless = [row.similarity for row in found[0]] if found else []
        # The fewer there are to compare with, the less the least of them says of what "unrelated" looks like.
        floor = min(timeless, default=0.0) * min(1.0, len(timeless) / BY_VECTOR)
        return similarities, floor

    def _decays(self, request: RecallRequest) -> bool:
        if request.half_life is UNSET:
            return any(profile.half_life is not None for profile in self._follower.params.profiles())
        return request.half_life is not None

    def _ranked(self, question: Question, rows: Sequence[Row], relevance: Floats) -> list[ScoredRow]:
        """The formula with `relevance` for max(0, q·v), over rows of any type, and its top k."""
        by_type: dict[tuple[str, bool], list[int]] = {}
        for at, row in enumerate(rows):
            by_type.setdefault((row.memory_type, row.pinned), []).append(at)
        groups = []
        for (memory_type, pinned), places in by_type.items():
            profile, half_life = self._profile(question, memory_type, pinned)
            members = [rows[at] for at in places]
            key_half_life = None if half_life is None else half_life * profile.similarity_exponent
            static = formula.static_log(
                np.array([row.importance for row in members]),
                np.stack([self._features(row) for row in members]),
                profile,
            )
            moments = np.minimum([row.event_time for row in members], question.at)
            weight = formula.log_weight(static, moments, key_half_life)
            ids = as_ids([row.id for row in members])
            groups.append(Candidates(ids, relevance[places], weight, key_half_life, profile.similarity_exponent))
        return top_k(groups, question.request.top_k, question.at)

    def _profile(self, question: Question, memory_type: str, pinned: bool) -> tuple[Profile, float | None]:
        # a type that the index has not seen yet has no parameters of its own, and no code that another type has
        plain, with_pin = self._follower.type_codes(memory_type) or (PINNED - 1, 2 * PINNED - 1)
        profile = self._follower.params.profile(question.partition.tenant, with_pin if pinned else plain)
        return profile, formula.effective_half_life(profile, question.request.half_life)

    def _features(self, row: Row) -> Floats:
        return np.array([row.features.get(name, 1.0) for name in self._follower.params.feature_names], dtype=float)

    def _hit(self, question: Question, hit: ScoredRow, row: Row, fusion: Fusion) -> FusedHit:
        if not question.request.explain:
            return FusedHit(hit, fusion, None)
        profile, half_life = self._profile(question, row.memory_type, row.pinned)
        explanation = formula.explain(
            similarity=fusion.relevance,
            importance=row.importance,
            features=self._features(row),
            feature_names=self._follower.params.feature_names,
            event_time=row.event_time,
            at=question.at,
            profile=profile,
            half_life=half_life,
            segment="hybrid",
        )
        return FusedHit(hit, fusion, explanation)


def _rarest(words: list[str], counts: Mapping[str, int]) -> list[str]:
    """Those of the words, in their order, that the fewest memories hold."""
    kept = set(sorted(words, key=lambda word: counts[word])[:MAX_WORDS])
    return [word for word in words if word in kept]


class _Pool:
    """The candidates, each once, in order of first sight."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows: list[Row] = []
        self._place: dict[bytes, int] = {}
        for row in sorted(rows, key=lambda one: one.row):
            self.place(row)

    def place(self, row: Row) -> int:
        """The row's number in the pool; a row that was not in it is added."""
        at = self._place.setdefault(row.id, len(self.rows))
        if at == len(self.rows):
            self.rows.append(row)
        return at


def _seeds(rows: Sequence[Row], by_vector: dict[bytes, float], by_words: dict[bytes, float], floor: float) -> list[Row]:
    """The rows whose surroundings are worth reading: the best on their own."""
    most = max(by_words.values(), default=0.0) or 1.0
    highest = max((value - floor for value in by_vector.values()), default=1.0)
    scale = highest if highest > 0 else 1.0

    def own(row: Row) -> float:
        return max(0.0, by_vector.get(row.id, floor) - floor) / scale + by_words.get(row.id, 0.0) / most

    return sorted(rows, key=lambda row: (-own(row), row.id))[:SEEDS]


def _surroundings(view: LedgerView, visible: Visible, pool: _Pool, seeds: Sequence[Row]) -> Near:
    """Adds what stands around the seeds to the pool, and says who is near whom."""
    steps: set[tuple[int, int, int]] = set()
    for seed in seeds:
        before, after = view.around(visible, seed, reach=REACH, gap=SITTING_GAP_SECONDS)
        line = [pool.place(row) for row in (*reversed(before), seed, *after)]
        for distance in range(1, len(NEAR_RELEVANCE) + 1):
            steps.update((a, b, distance) for a, b in zip(line, line[distance:], strict=False))
    links: dict[tuple[int, int], float] = {}
    by_id = {seed.id: seed for seed in seeds}
    for identity, other, weight in view.linked(visible, seeds, limit=LINKS):
        pair = (pool.place(other), pool.place(by_id[identity]))
        links[pair] = max(weight, links.get(pair, 0.0))
    return Near.of(sorted(steps), [(row, other, weight) for (row, other), weight in sorted(links.items())])


def _similarities(view: LedgerView, query: Vector, rows: Sequence[Row], known: dict[bytes, float]) -> Floats:
    """Cosines of all rows: as the index gave them, or from the ledger's vector."""
    missing = [row.row for row in rows if row.id not in known]
    vectors = view.vectors(missing)
    computed: dict[int, float] = {}
    if vectors:
        numbers = list(vectors)
        products = formula.exact_dot(np.stack([vectors[number] for number in numbers]), query)
        computed = dict(zip(numbers, products.tolist(), strict=True))
    return np.array([known.get(row.id, computed.get(row.row, 0.0)) for row in rows])


def _word_table(view: LedgerView, words: Sequence[str], rows: Sequence[Row]) -> Floats:
    """BM25 of each word in each row, [words, rows]."""
    numbers = [row.row for row in rows]
    table = np.zeros((len(words), len(rows)))
    for line, word in zip(table, words, strict=True):
        found = view.word_scores(word, numbers)
        line[:] = [max(0.0, found.get(number, 0.0)) for number in numbers]
    return table


def _fusion(relevance: Relevance, evidence: Evidence, at: int, words: Sequence[str]) -> Fusion:
    return Fusion(
        relevance=float(relevance.total[at]),
        similarity=float(evidence.similarity[at]),
        vector=float(relevance.vector[at]),
        words=float(relevance.words[at]),
        words_share=relevance.share,
        around=float(relevance.around[at]),
        dates=float(relevance.dates[at]),
        matched={word: float(part) for word, part in zip(words, relevance.reach[:, at], strict=True) if part > 0},
    )
