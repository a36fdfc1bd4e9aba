"""Raw importance r to normalised importance i in [floor, 1]: per tenant, deterministic, versioned, restartable.

i = floor + (1 - floor)·x, with x in [0, 1]. Up to 64 samples x is min-max over a winsorised range (what lies more than
five median absolute deviations from the median does not stretch it); from then on it is the logistic of source document
002, with k = ln 9/(q90 - q10), at most 25, and its centre at the median. Quantiles are those of a reservoir of 512,
taken every 64 samples. Neither is moved by a few values, however far out they lie.

A version's parameters never change, and the version that made an i is stored with it: i is fixed when a memory is
committed, so nothing already stored moves. Versions of older releases (no floor) still give what they gave.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from memory_runtime.model.errors import InvalidArgument

RESERVOIR: Final = 512
STRIDE: Final = 64
BOOTSTRAP: Final = 64
LOGISTIC_K_MAX: Final = 25.0
FENCE: Final = 5.0
"""In median absolute deviations: what lies further from the median is an outlier, and counts as lying there."""
NEUTRAL: Final = 1.0
DEFAULT_FLOOR: Final = 0.8
"""The least i. A memory whose text is the query's own is beaten only by similarity^beta above floor^alpha."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Mapping:
    """One version of the map from r to i: `low` and `high` bound the range, `k` and `centre` are the logistic's."""

    version: int
    method: Literal["minmax", "winsorised", "logistic"]
    low: float
    high: float
    k: float
    centre: float
    floor: float = 0.0

    def apply(self, raw: float) -> float:
        """i in [floor, 1]. A range without width maps all to 1: with nothing to compare, nothing is unimportant."""
        return min(max(self.floor + (1.0 - self.floor) * self._share(raw), self.floor), 1.0)

    def _share(self, raw: float) -> float:
        # Differences are taken of halves: they cannot overflow, and halving changes no digit
        if self.method == "logistic":
            x = min(max(2.0 * (self.k * (raw / 2.0 - self.centre / 2.0)), -700.0), 700.0)
            return 1.0 / (1.0 + math.exp(-x))
        width = self.high / 2.0 - self.low / 2.0
        if not width > 0:
            return NEUTRAL
        return min(max((raw / 2.0 - self.low / 2.0) / width, 0.0), 1.0)


def _quantile(ordered: list[float], q: float) -> float:
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return 2.0 * (ordered[below] / 2.0 + (ordered[above] / 2.0 - ordered[below] / 2.0) * (position - below))


def fit(samples: list[float], version: int, *, floor: float = 0.0) -> Mapping:
    """The map that these raw values call for. `samples` must be finite and not empty."""
    ordered = sorted(samples)
    q10, q50, q90 = (_quantile(ordered, q) for q in (0.1, 0.5, 0.9))
    half_spread = q90 / 2.0 - q10 / 2.0
    k = min(math.log(9.0) / 2.0 / half_spread, LOGISTIC_K_MAX) if half_spread > 0 else LOGISTIC_K_MAX
    if ordered[0] == ordered[-1]:
        return Mapping(version, "minmax", ordered[0], ordered[-1], k, q50, floor)
    half_deviation = _quantile(sorted(abs(value / 2.0 - q50 / 2.0) for value in ordered), 0.5)
    # where most values are one and the same, nothing says how far out is far
    if len(ordered) >= BOOTSTRAP or not half_deviation > 0:
        return Mapping(version, "logistic", ordered[0], ordered[-1], k, q50, floor)
    reach = 2.0 * FENCE * half_deviation
    low, high = max(ordered[0], q50 - reach), min(ordered[-1], q50 + reach)
    method: Literal["minmax", "winsorised"] = "minmax" if (low, high) == (ordered[0], ordered[-1]) else "winsorised"
    return Mapping(version, method, low, high, k, q50, floor)


class ImportanceNormaliser:
    """The normaliser of one tenant. Not thread-safe: the store's one writer calls it, in commit order.

    `observe(r)` → (i, version) counts a sample and maps it; the state after n calls depends on those n values and
    `floor` (the least i that new versions give) alone.
    """

    def __init__(self, floor: float = DEFAULT_FLOOR) -> None:
        self._floor = floor
        self._reservoir: list[float] = []
        self._seen = 0
        self._mapping: Mapping | None = None

    @property
    def version(self) -> int:
        """The version of the current map; 0 before the first sample."""
        return self._mapping.version if self._mapping else 0

    @property
    def mapping(self) -> Mapping | None:
        """The current map."""
        return self._mapping

    def observe(self, raw: float) -> tuple[float, int]:
        """Takes one raw importance in and gives (i, version). Raises InvalidArgument unless it is finite."""
        if not math.isfinite(raw):
            raise InvalidArgument(
                f"importance must be a finite number, not {raw!r}", field="importance", remedy="send a finite number"
            )
        self._sample(float(raw))
        current = self._mapping
        if current is None or self._is_due(current, raw):
            fitted = fit(self._reservoir, self.version + 1, floor=self._floor)
            if current is None or replace(fitted, version=current.version) != current:
                current = self._mapping = fitted
        return current.apply(float(raw)), current.version

    def _is_due(self, current: Mapping, raw: float) -> bool:
        """Whether the map is to be fitted anew: every 64 samples, or another floor is asked for; while there are few
        samples also whenever their number has doubled, or a value lies outside of the range.
        """
        if self._seen % STRIDE == 0 or current.floor != self._floor:
            return True
        few = self._seen < BOOTSTRAP
        return few and (self._seen & (self._seen - 1) == 0 or not current.low <= raw <= current.high)

    def preview(self, raw: float) -> float:
        """i by the current map, without counting the sample; neutral before the first one."""
        return self._mapping.apply(raw) if self._mapping else NEUTRAL

    def _sample(self, raw: float) -> None:
        self._seen += 1
        if len(self._reservoir) < RESERVOIR:
            self._reservoir.append(raw)
            return
        # Algorithm R with a counter-based generator (splitmix64): no state but the count, so a restart changes nothing
        slot = _splitmix(self._seen) % self._seen
        if slot < RESERVOIR:
            self._reservoir[slot] = raw

    def quantiles(self) -> dict[str, float]:
        """q10, q50, q90 and q99 of the reservoir, for the metrics; empty before the first sample."""
        ordered = sorted(self._reservoir)
        return {f"q{round(q * 100)}": _quantile(ordered, q) for q in (0.1, 0.5, 0.9, 0.99)} if ordered else {}

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as JSON-safe values (floats round-trip through repr)."""
        mapping = asdict(self._mapping) if self._mapping else None
        # beside the map, not in it: a release that knows no floor still reads this state
        floor = mapping.pop("floor") if mapping else 0.0
        return {
            "format": 1,
            "seen": self._seen,
            "reservoir": list(self._reservoir),
            "mapping": mapping,
            "floor": floor,
        }

    def dumps(self) -> str:
        """`state` as canonical JSON."""
        return json.dumps(self.state(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_state(cls, state: dict[str, Any], floor: float = DEFAULT_FLOOR) -> ImportanceNormaliser:
        """The normaliser that `state` describes. Raises InvalidArgument if it does not describe one."""
        made = cls(floor)
        try:
            known = {1: state}[state["format"]]
            made._seen = int(known["seen"])
            made._reservoir = [float(value) for value in state["reservoir"]]
            mapping = known["mapping"]
            made._mapping = Mapping(**{"floor": float(known.get("floor", 0.0)), **mapping}) if mapping else None
        except (KeyError, TypeError, ValueError) as bad:
            raise InvalidArgument(
                f"the stored importance normaliser cannot be read: {bad!r}",
                field="importance_normaliser",
                remedy="restore it from a backup, or delete it to start a new version",
            ) from bad
        return made

    @classmethod
    def loads(cls, text: str, floor: float = DEFAULT_FLOOR) -> ImportanceNormaliser:
        """The inverse of `dumps`."""
        try:
            return cls.from_state(json.loads(text), floor)
        except json.JSONDecodeError as bad:
            raise InvalidArgument(
                "the stored importance normaliser is not JSON",
                field="importance_normaliser",
                remedy="restore it from a backup",
            ) from bad


def _splitmix(n: int) -> int:
    z = (n * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
