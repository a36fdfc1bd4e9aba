"""The score, in one place: every other module of this room, the oracle included, calls these functions.

    score(q, m, T) = max(0, q·v)^β · i^alpha · Π f_j^{w_j} · 2^(-max(0, T - t)/τ)        (source document 002, section
    3)

Rows are ordered by key = score^(1/β) · 2^(T/τβ) = max(0, q·v) · 2^L with L = (alpha·log2 i + Σ w_j·log2 f_j)/β +
t/(τβ), which does not depend on T. L is held as a whole number and a fraction in [0, 1): `fmod` is exact, so no
precision is lost to large epochs or short half-lives, T + τ halves a score exactly, and nothing overflows
(docs/scoring.md, "Numbers").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.params import FACTOR_FLOOR, Profile, Unset, check_half_life
from memory_runtime.scoring.portable import exp2_fraction, log2
from memory_runtime.scoring.rows import Floats, Singles

LANES: Final = 32
LEAST_SCORE: Final = math.ulp(0.0)
"""What a score is given as that is smaller than a float can say (4.9e-324): 0 means that there is no score."""


class LogWeight(NamedTuple):
    """L as `whole` + `fraction`: float64 arrays, whole numbers and fractions in [0, 1)."""

    whole: Floats
    fraction: Floats

    def take(self, index: npt.NDArray[np.intp]) -> LogWeight:
        """The entries at these positions."""
        return LogWeight(self.whole[index], self.fraction[index])


class Keys(NamedTuple):
    """What rows are ordered by: mantissa · 2^exponent, mantissa in [0.5, 1), or 0 where similarity is not positive."""

    mantissa: Floats
    exponent: Floats


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every factor of one score at the moment `at`: `score` is their product, recomputed bit for bit by the same build.

    `suppressed` is the share that decay took away: 1 - 2^(-age/τ). `stored_order_log2` is L, what the index sorted by.
    `residual_penalty` is 1 but for rows that an approximate back end found (gate G5).
    """

    similarity: float
    similarity_exponent: float
    importance: float
    importance_exponent: float
    age_seconds: float
    half_life_seconds: float | None
    decay: float
    features: dict[str, tuple[float, float]]
    score: float
    log2_score: float
    suppressed: float
    stored_order_log2: float
    segment: str
    at: float
    residual_penalty: float = 1.0


def exact_dot(rows: npt.NDArray[np.floating], query: Singles) -> Floats:
    """float64 [n]: the dot products of float32 (or float16) rows with a float32 query, in one fixed order of summation.

    A product of two float32 is exact in float64, so only the order matters: 32 lanes, each summed front to back, then
    folded in halves. Whatever computes a score (NumPy, the C kernel, fused or not) does it in this order and gets the
    same bits.
    """
    n, dim = rows.shape
    padded = -(-dim // LANES) * LANES
    products = np.zeros((n, padded))
    products[:, :dim] = rows.astype(np.float64) * query.astype(np.float64)
    chunks = products.reshape(n, padded // LANES, LANES)
    lanes = np.zeros((n, LANES))
    for chunk in range(chunks.shape[1]):
        lanes += chunks[:, chunk]
    width = LANES // 2
    while width:
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
        width //= 2
    return np.ascontiguousarray(lanes[:, 0])


def static_log(importance: Floats, features: Floats, profile: Profile) -> Floats:
    """(alpha·log2 i + Σ w_j·log2 f_j)/β, i and f floored at `FACTOR_FLOOR`: the part of L that no clock touches."""
    total = profile.importance_exponent * log2(np.maximum(importance, FACTOR_FLOOR))
    for column, weight in enumerate(profile.feature_weights):
        total = total + weight * log2(np.maximum(features[:, column], FACTOR_FLOOR))
    return total / profile.similarity_exponent


def turns(time: Floats, half_life: float | None) -> tuple[Floats, Floats]:
    """time/half_life as whole turns and a remainder in [0, 1]; (0, 0) without decay."""
    if half_life is None:
        return np.zeros_like(time), np.zeros_like(time)
    rest = np.fmod(time, half_life)
    rest = np.where(rest < 0, rest + half_life, rest)
    return np.rint((time - rest) / half_life), rest / half_life


def turn_of(time: float, half_life: float | None) -> tuple[float, float]:
    """`turns` of one moment, to the same bits."""
    if half_life is None:
        return 0.0, 0.0
    rest = math.fmod(time, half_life)
    rest = rest + half_life if rest < 0 else rest
    return float(round((time - rest) / half_life)), rest / half_life


def log_weight(static: Floats, time: Floats, half_life: float | None) -> LogWeight:
    """L = static + time/half_life. `half_life` is the profile's `key_half_life` (already multiplied by β)."""
    whole, part = turns(time, half_life)
    part = part + static
    floor = np.floor(part)
    return LogWeight(whole + floor, part - floor)


def keys(similarity: Floats, weight: LogWeight) -> Keys:
    """The ordering keys of rows with these similarities; where the similarity is not positive, mantissa 0."""
    product = np.maximum(similarity, 0.0) * exp2_fraction(weight.fraction)
    mantissa, exponent = np.frexp(product)
    return Keys(mantissa, np.where(mantissa > 0, exponent + weight.whole, -np.inf))


def scores_at(key: Keys, at: float, half_life: float | None, beta: float) -> tuple[Floats, Floats]:
    """(score, log2 score) of keys at the moment `at`; `half_life` is the key's.

    Scores are at most 1, and at least `LEAST_SCORE` where the similarity is positive; else 0.
    """
    elapsed, rest = turn_of(at, half_life)
    # 2^(-rest) as 2^(1-rest)/2 keeps the fraction in the table's range; rest = 0 must stay exactly 1
    fade = 1.0 if rest == 0 else float(exp2_fraction(np.array([1.0 - rest]))[0]) / 2
    mantissa, shift = np.frexp(key.mantissa * fade)
    exponent = np.where(mantissa > 0, key.exponent - elapsed + shift, -np.inf)
    logs = np.where(mantissa > 0, log2(np.maximum(mantissa, 0.5)) + exponent, -np.inf)
    if beta == 1.0:
        linear = np.ldexp(mantissa, np.clip(exponent, -1100, 1).astype(np.int64))
    else:
        logs = logs * beta
        linear = np.exp2(np.maximum(logs, -1100.0))
    return np.where(mantissa > 0, np.clip(linear, LEAST_SCORE, 1.0), 0.0), np.minimum(logs, 0.0)


def checked_override(override: float | Unset | None) -> float | Unset | None:
    """A request's own half-life, checked; UNSET stays. Raises InvalidArgument."""
    return override if isinstance(override, Unset) else check_half_life(override)


def effective_half_life(profile: Profile, override: float | Unset | None) -> float | None:
    """The half-life of a request, in seconds: its own if it named one (None: no decay), else the profile's.

    A pinned memory has none, whatever is asked.
    """
    if profile.pinned:
        return None
    return profile.half_life if isinstance(override, Unset) else check_half_life(override)


def penalised_score(score: float, penalty: float) -> float:
    """A positive score times the penalty of an approximate back end, in (0, 1]; it stays positive."""
    return max(score * penalty, LEAST_SCORE)


def penalised(explanation: Explanation, penalty: float) -> Explanation:
    """The explanation of a row that an approximate back end found: its score carries the penalty, in (0, 1]."""
    return replace(
        explanation,
        score=penalised_score(explanation.score, penalty),
        log2_score=explanation.log2_score + math.log2(penalty),
        residual_penalty=penalty,
    )


def explain(
    *,
    similarity: float,
    importance: float,
    features: Floats,
    feature_names: tuple[str, ...],
    event_time: float,
    at: float,
    profile: Profile,
    half_life: float | None,
    segment: str = "",
) -> Explanation:
    """Every factor of one row's score at the moment `at` (epoch seconds), by the same steps that ordered it."""
    beta = profile.similarity_exponent
    key_half_life = None if half_life is None else half_life * beta
    moment = min(event_time, at)
    static = static_log(np.array([importance]), np.atleast_2d(features), profile)
    weight = log_weight(static, np.array([moment]), key_half_life)
    score, logs = scores_at(keys(np.array([similarity]), weight), at, key_half_life, beta)
    age = at - moment
    decay = 1.0 if half_life is None else math.exp2(-age / half_life)
    channels = {
        name: (float(value), weight_j)
        for name, value, weight_j in zip(feature_names, np.ravel(features), profile.feature_weights, strict=False)
    }
    return Explanation(
        similarity=similarity,
        similarity_exponent=beta,
        importance=importance,
        importance_exponent=profile.importance_exponent,
        age_seconds=age,
        half_life_seconds=half_life,
        decay=decay,
        features=channels,
        score=float(score[0]),
        log2_score=float(logs[0]),
        suppressed=1.0 - decay,
        stored_order_log2=float(weight.whole[0] + weight.fraction[0]),
        segment=segment,
        at=at,
    )
