"""Raw importance r to normalised importance i in [0, 1]: per tenant, deterministic, versioned, restartable.

The rules are those of the service we replace (reservoir of 512, quantiles every 64 inserts): min-max until 64 samples
and for light tails; min-max over a winsorised range for medium tails; else a logistic with k = ln 9/(q90 - q10) (at
most 25) and its centre at the median. A version's parameters never change, and the
version that made an i is stored with it: i is fixed when a memory is committed, so nothing already stored moves.
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
WINSOR_DELTA: Final = 0.25
LIGHT_TAIL: Final = 1.5
MEDIUM_TAIL: Final = 3.0
NEUTRAL: Final = 1.0

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

    def apply(self, raw: float) -> float:
        """i in [0, 1]. A range without width maps everything to 1: with nothing to compare, nothing is unimportant."""
        if self.method == "logistic":
            x = min(max(self.k * (raw - self.centre), -700.0), 700.0)
            return 1.0 / (1.0 + math.exp(-x))
        width = self.high - self.low
        if not width > 0:
            return NEUTRAL
        return min(max((raw - self.low) / width, 0.0), 1.0)


def _quantile(ordered: list[float], q: float) -> float:
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def fit(samples: list[float], version: int) -> Mapping:
    """The map that these raw values call for. `samples` must not be empty."""
    ordered = sorted(samples)
    low, high = ordered[0], ordered[-1]
    q10, q50, q90, q99 = (_quantile(ordered, q) for q in (0.1, 0.5, 0.9, 0.99))
    spread = q90 - q10
    # A tail is as heavy as the reach of q99 beyond q90, in units of the body's width; no width at all is no tail
    tail = max(q99 - q90, 0.0) / spread if spread > 0 else 0.0
    k = min(math.log(9.0) / spread, LOGISTIC_K_MAX) if spread > 0 else LOGISTIC_K_MAX
    if len(ordered) < BOOTSTRAP or tail <= LIGHT_TAIL:
        return Mapping(version, "minmax", low, high, k, q50)
    if tail <= MEDIUM_TAIL:
        return Mapping(version, "winsorised", q10 - WINSOR_DELTA * spread, q90 + WINSOR_DELTA * spread, k, q50)
    return Mapping(version, "logistic", low, high, k, q50)


class ImportanceNormaliser:
    """The normaliser of one tenant. Not thread-safe: the store's one writer calls it, in commit order.

    `observe(r)` → (i, version) counts a sample and maps it; the state after n calls depends on those n values alone.
    """

    def __init__(self) -> None:
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
        bootstrapping = self._seen <= BOOTSTRAP
        if current is None or self._seen % STRIDE == 0 or (bootstrapping and not current.low <= raw <= current.high):
            fitted = fit(self._reservoir, self.version + 1)
            if current is None or replace(fitted, version=current.version) != current:
                current = self._mapping = fitted
        return current.apply(float(raw)), current.version

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
        return {
            "format": 1,
            "seen": self._seen,
            "reservoir": list(self._reservoir),
            "mapping": asdict(self._mapping) if self._mapping else None,
        }

    def dumps(self) -> str:
        """`state` as canonical JSON."""
        return json.dumps(self.state(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ImportanceNormaliser:
        """The normaliser that `state` describes. Raises InvalidArgument if it does not describe one."""
        made = cls()
        try:
            known = {1: state}[state["format"]]
            made._seen = int(known["seen"])
            made._reservoir = [float(value) for value in state["reservoir"]]
            made._mapping = Mapping(**state["mapping"]) if state["mapping"] else None
        except (KeyError, TypeError, ValueError) as bad:
            raise InvalidArgument(
                f"the stored importance normaliser cannot be read: {bad!r}",
                field="importance_normaliser",
                remedy="restore it from a backup, or delete it to start a new version",
            ) from bad
        return made

    @classmethod
    def loads(cls, text: str) -> ImportanceNormaliser:
        """The inverse of `dumps`."""
        try:
            return cls.from_state(json.loads(text))
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
