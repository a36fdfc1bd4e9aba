"""What a score depends on besides row and query: exponents, half-lives, feature weights, per type and tenant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from typing import Final, Literal

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.weights import exceed_one


class Unset(Enum):
    """The type of `UNSET`: 'the caller said nothing', where None already means 'no decay'."""

    UNSET = 0


UNSET: Final = Unset.UNSET

FACTOR_FLOOR: Final = 2.0**-20
"""i and f below this count as this: 0 would be log2 -inf, a memory that nothing can recall. Decided once, here."""


def check_half_life(half_life: float | None, field_name: str = "half_life") -> float | None:
    """The half-life in seconds, or None for no decay. Raises InvalidArgument unless it is finite and positive."""
    if half_life is None or half_life == math.inf:
        return None
    if not (math.isfinite(half_life) and half_life > 0):
        raise InvalidArgument(
            f"{field_name} must be a positive number of seconds, not {half_life!r}",
            field=field_name,
            remedy="give a duration such as 30d, or leave it out for no decay",
        )
    return float(half_life)


def _check_exponent(value: float, name: str, *, zero_allowed: bool) -> None:
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
        least = "zero or more" if zero_allowed else "greater than zero"
        raise InvalidArgument(f"{name} must be {least}, not {value!r}", field=name, remedy="1.0 is neutral")


PINNED: Final = 1 << 30
"""This bit in a row's type code says that the memory is pinned: it does not decay, whatever half-life is asked for."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One set of parameters: score = sim^beta · i^alpha · 2^(-age/half_life) · Π f_j^w_j (source document 002, 3).

    `half_life` is in seconds, None switches decay off (gate G6). `feature_weights` are the w_j in the order of
    `ScoringParams.feature_names`; missing ones are 0. A `pinned` profile has no half-life, nor does a request give it
    one.
    """

    importance_exponent: float = 1.0
    similarity_exponent: float = 1.0
    half_life: float | None = None
    feature_weights: tuple[float, ...] = ()
    pinned: bool = False

    def __post_init__(self) -> None:
        _check_exponent(self.importance_exponent, "importance_exponent", zero_allowed=True)
        _check_exponent(self.similarity_exponent, "similarity_exponent", zero_allowed=False)
        object.__setattr__(self, "half_life", check_half_life(self.half_life))
        if any(not math.isfinite(w) or w < 0 for w in self.feature_weights) or exceed_one(self.feature_weights):
            raise InvalidArgument(
                f"feature_weights must be non-negative and sum to at most 1, not {list(self.feature_weights)}",
                field="feature_weights",
                remedy="lower the weights until their sum is at most 1",
            )

    @property
    def key_half_life(self) -> float | None:
        """The half-life of score^(1/beta): ordering by it is the same, and keeps similarity linear."""
        return None if self.half_life is None else self.half_life * self.similarity_exponent


@dataclass(frozen=True, slots=True)
class ScoringParams:
    """The profiles of one index. Keys are the integer codes that rows carry; the most specific one wins:
    (tenant, type), then tenant, then type, then `default`.

    `vector_storage` float16 halves the rows' memory (gate G4); the index is then exact over the rounded vectors.
    `residual_penalty` is a factor on the scores that an approximate back end finds (gate G5); the index has none.
    """

    default: Profile = Profile()
    by_type: Mapping[int, Profile] = field(default_factory=dict)
    by_tenant: Mapping[int, Profile] = field(default_factory=dict)
    by_tenant_type: Mapping[tuple[int, int], Profile] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()
    vector_storage: Literal["float32", "float16"] = "float32"
    residual_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.residual_penalty <= 1:
            raise InvalidArgument(
                f"residual_penalty must be above 0 and at most 1, not {self.residual_penalty!r}",
                field="residual_penalty",
                remedy="1 is neutral; the measured recall of the back end is a fair value",
            )
        if len(set(self.feature_names)) != len(self.feature_names):
            raise InvalidArgument("feature_names repeats a name", field="feature_names", remedy="name each once")
        for profile in self.profiles():
            if len(profile.feature_weights) > len(self.feature_names):
                raise InvalidArgument(
                    f"{len(profile.feature_weights)} feature_weights for {len(self.feature_names)} feature_names",
                    field="feature_weights",
                    remedy="give at most one weight for each feature name",
                )

    def profiles(self) -> list[Profile]:
        """Every profile that some row may have."""
        return [self.default, *self.by_type.values(), *self.by_tenant.values(), *self.by_tenant_type.values()]

    def profile(self, tenant: int, memory_type: int) -> Profile:
        """The profile of the rows of one tenant and memory type, whose code may have the bit `PINNED`."""
        pinned = memory_type >= 0 and bool(memory_type & PINNED)
        kind = memory_type & ~PINNED if pinned else memory_type
        found = self.by_tenant_type.get((tenant, kind)) or self.by_tenant.get(tenant) or self.by_type.get(kind)
        return _without_decay(found or self.default) if pinned else found or self.default


@cache
def _without_decay(profile: Profile) -> Profile:
    return replace(profile, half_life=None, pinned=True)
