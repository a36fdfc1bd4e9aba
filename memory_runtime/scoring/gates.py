"""The gates of source document 002, section 7: what was measured, whether it calls for a change, and which.

Pure: `advise` turns measurements into findings, `compare` two sets of answers into the effect on order. Nothing here
changes anything; docs/gates.md says what each gate means to whoever runs the service.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from memory_runtime.scoring.params import FACTOR_FLOOR, Profile, ScoringParams
from memory_runtime.scoring.rows import Floats, ScoredRow

MANY_ROWS: Final = 200_000
SLOW_SECONDS: Final = 0.025
SKEW_LIMIT: Final = 4.0
SKEW_AIM: Final = 2.0
TIE: Final = math.log2(1.001)
TIES_LIMIT: Final = 0.2
MEMORY_LIMIT: Final = 0.8
AGING_LIMIT: Final = 0.1
BETA_MOST: Final = 8.0
PENALTY_LEAST: Final = 0.5
PENALTY_STEP: Final = 0.01
USUAL_HALF_LIFE: Final = 30 * 86400.0

Change = Mapping[str, Any]


class Gate(enum.StrEnum):
    """The six gates."""

    G1 = "G1"
    G2 = "G2"
    G3 = "G3"
    G4 = "G4"
    G5 = "G5"
    G6 = "G6"


@dataclass(frozen=True, slots=True)
class Measured:
    """What the gates look at. Seconds and bytes; `importance` is a sample of i, float64 [n].

    `ties` is the share of neighbours in recent answers whose scores differ by less than 0.1 %, equal ones apart
    (`equal`), as no exponent parts those; `asks` the share of recent recalls that asked for a half-life of their own,
    and `asked_half_life` their median.
    """

    rows: int
    p95: float | None
    importance: Floats
    ties: float
    equal: float
    memory_used: int
    memory_limit: int | None
    approximate: bool
    recall: float | None
    asks: float
    asked_half_life: float | None
    params: ScoringParams
    retention_enabled: bool
    retention_bounded: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One gate: its condition in words, what was measured, whether it holds, and the change that it asks for.

    `change` names settings and their new values; it is None where there is nothing (more) to change, and `remark`
    then says why.
    """

    gate: Gate
    condition: str
    measured: Mapping[str, float | str | None]
    tripped: bool
    change: Change | None
    remark: str = ""


def advise(m: Measured) -> list[Finding]:
    """A finding for each gate, in order."""
    return [_g1(m), _g2(m), _g3(m), _g4(m), _g5(m), _g6(m)]


def _g1(m: Measured) -> Finding:
    tripped = m.rows > MANY_ROWS and m.p95 is not None and m.p95 > SLOW_SECONDS
    change: Change | None = None if m.retention_enabled or not m.retention_bounded else {"retention_enabled": True}
    remark = "the hot tier is built in: rows are kept in order of weight, and a scan stops as soon as it can"
    if not m.retention_bounded:
        remark += "; set retention_ttl, retention_max_rows or retention_max_bytes to have something to enable"
    measured = {"rows": m.rows, "p95_ms": None if m.p95 is None else m.p95 * 1000}
    return Finding(Gate.G1, "more than 200,000 rows and p95 above 25 ms", measured, tripped, change, remark)


def skew(importance: Floats) -> float:
    """How far the body of the importances is spread: log2 of q90 over q10."""
    if not len(importance):
        return 0.0
    low, high = np.quantile(np.maximum(importance, FACTOR_FLOOR), [0.1, 0.9])
    return float(np.log2(high / low))


def _g2(m: Measured) -> Finding:
    spread = skew(m.importance)
    alpha = m.params.default.importance_exponent
    proposed = round(SKEW_AIM / spread, 3) if spread > 0 else alpha
    tripped = spread * alpha > SKEW_LIMIT
    change = {"importance_exponent": proposed} if tripped and proposed < alpha else None
    measured = {"log2_q90_over_q10": spread, "importance_exponent": alpha}
    condition = "importance spreads scores more than 16-fold (alpha·log2(q90/q10) above 4)"
    return Finding(
        Gate.G2, condition, measured, tripped, change, "" if change else "importance does not drown similarity"
    )


def _g3(m: Measured) -> Finding:
    beta = m.params.default.similarity_exponent
    tripped = m.ties > TIES_LIMIT
    change = {"similarity_exponent": min(BETA_MOST, 2 * beta)} if tripped and beta < BETA_MOST else None
    measured = {"near_ties": m.ties, "equal": m.equal, "similarity_exponent": beta}
    remark = "equal scores stay equal under every exponent; they are ordered by id" if m.equal else ""
    return Finding(
        Gate.G3,
        "more than a fifth of neighbours in answers differ by less than 0.1 %",
        measured,
        tripped,
        change,
        remark,
    )


def _g4(m: Measured) -> Finding:
    share = m.memory_used / m.memory_limit if m.memory_limit else 0.0
    stored = m.params.vector_storage
    change = {"vector_storage": "float16"} if stored == "float32" else None
    measured: dict[str, float | str | None] = {"memory_used": m.memory_used, "memory_limit": m.memory_limit}
    measured |= {"share": share, "vector_storage": stored}
    remark = "" if change else "vectors are float16 already: give the process more memory, or bound what is kept"
    return Finding(
        Gate.G4, "more than 80 % of the memory limit is used", measured, share > MEMORY_LIMIT, change, remark
    )


def _g5(m: Measured) -> Finding:
    penalty = m.params.residual_penalty
    measured: dict[str, float | str | None] = {"route": "approximate" if m.approximate else "exact", "recall": m.recall}
    measured["residual_penalty"] = penalty
    change: Change | None = None
    if not m.approximate:
        remark = "every answer is exact: there is no residual to penalise"
    elif m.recall is None:
        remark = "no approximate answer has been compared with the oracle yet"
    else:
        proposed = round(max(PENALTY_LEAST, min(1.0, m.recall)), 3)
        change = {"residual_penalty": proposed} if abs(proposed - penalty) >= PENALTY_STEP else None
        remark = "" if change else "the penalty is what the measured recall asks for"
    return Finding(Gate.G5, "answers come from an approximate back end", measured, m.approximate, change, remark)


def _g6(m: Measured) -> Finding:
    half_life = m.params.default.half_life
    change = {"half_life": m.asked_half_life or USUAL_HALF_LIFE} if half_life is None else None
    measured = {"asks": m.asks, "asked_half_life": m.asked_half_life, "half_life": half_life}
    condition = "more than a tenth of recalls ask for a half-life of their own, or the operator asks for one"
    remark = "" if change else "a half-life is in force"
    return Finding(Gate.G6, condition, measured, half_life is None and m.asks > AGING_LIMIT, change, remark)


def changed(params: ScoringParams, change: Change) -> ScoringParams:
    """The parameters under a change of an exponent, half_life, vector_storage or residual_penalty.

    Exponents hold for every profile, a half-life for the default one: a type's own is what somebody chose.
    Raises InvalidArgument for a value that no profile may have.
    """
    exponents = {name: change[name] for name in ("importance_exponent", "similarity_exponent") if name in change}

    def under(profile: Profile) -> Profile:
        return replace(profile, **exponents)

    default = under(params.default)
    if "half_life" in change:
        default = replace(default, half_life=change["half_life"])
    return replace(
        params,
        default=default,
        by_type={kind: under(one) for kind, one in params.by_type.items()},
        by_tenant={tenant: under(one) for tenant, one in params.by_tenant.items()},
        by_tenant_type={pair: under(one) for pair, one in params.by_tenant_type.items()},
        vector_storage=change.get("vector_storage", params.vector_storage),
        residual_penalty=change.get("residual_penalty", params.residual_penalty),
    )


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to recent queries, asked again under both: means over queries unless it says otherwise.

    `overlap` is the share of the old top k that is in the new one, `order` Kendall's tau of what both hold (1: the
    same order, -1: reversed); times in milliseconds. `rows` says on how many rows this was tried.
    """

    queries: int
    rows: int
    overlap: float
    worst_overlap: float
    order: float
    unchanged: float
    p50_ms: tuple[float, float] = field(default=(0.0, 0.0))
    p95_ms: tuple[float, float] = field(default=(0.0, 0.0))


def compare(before: Sequence[Sequence[ScoredRow]], after: Sequence[Sequence[ScoredRow]], rows: int) -> Effect:
    """The effect on order, answer by answer."""
    pairs = [([a.id for a in old], [b.id for b in new]) for old, new in zip(before, after, strict=True) if old]
    if not pairs:
        return Effect(0, rows, 1.0, 1.0, 1.0, 1.0)
    overlaps = [len(set(old) & set(new)) / len(old) for old, new in pairs]
    return Effect(
        queries=len(pairs),
        rows=rows,
        overlap=sum(overlaps) / len(pairs),
        worst_overlap=min(overlaps),
        order=sum(kendall(old, new) for old, new in pairs) / len(pairs),
        unchanged=sum(old == new for old, new in pairs) / len(pairs),
    )


def penalty_effect(answers: Sequence[Sequence[tuple[ScoredRow, bool]]], ratio: float) -> Effect:
    """What another residual penalty (`ratio` times the one in force) does to the order of approximate answers.

    Each row says whether an approximate back end found it. What a lower penalty would let in from outside is unknown.
    """
    shift = math.log2(ratio)
    before = [[row for row, _ in answer] for answer in answers]
    after = [
        [row for row, found in sorted(answer, key=lambda one: (-one[0].log2_score - shift * one[1], one[0].id))]
        for answer in answers
    ]
    return compare(before, after, sum(len(answer) for answer in answers))


def kendall(old: Sequence[bytes], new: Sequence[bytes]) -> float:
    """Kendall's tau of the rows that both orders hold, in [-1, 1]; 1 where they share fewer than two."""
    place = {one: at for at, one in enumerate(new)}
    shared = [place[one] for one in old if one in place]
    if len(shared) < 2:
        return 1.0
    pairs = len(shared) * (len(shared) - 1) // 2
    agreeing = sum(a < b for at, a in enumerate(shared) for b in shared[at + 1 :])
    return 2.0 * agreeing / pairs - 1.0


def ties(answers: Sequence[Sequence[ScoredRow]]) -> tuple[float, float]:
    """(near, equal): shares of neighbours in answers whose scores differ by less than 0.1 %, and not at all."""
    steps = [a.log2_score - b.log2_score for one in answers for a, b in itertools.pairwise(one)]
    if not steps:
        return 0.0, 0.0
    return sum(0 < step < TIE for step in steps) / len(steps), sum(step == 0 for step in steps) / len(steps)


def quantile_of(buckets: Sequence[tuple[float, float]], q: float) -> float | None:
    """A quantile from cumulative histogram buckets (upper bound, count), linear inside its bucket; None if empty."""
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return None
    below, counted = 0.0, 0.0
    for bound, count in buckets:
        if count >= q * total:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (q * total - counted) / max(count - counted, 1.0)
        below, counted = bound, count
    return below
