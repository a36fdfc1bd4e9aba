"""Differential fuzz of the exact index: random stores, random operations, every answer against the float64 oracle.

    hack/py -m hack.kernel_fuzz --seconds 60 [--seed N]        (SOMA_KERNEL chooses what scans)

Random, clustered and adversarial vectors (duplicates, opposite ones, whole-number grids full of ties), half-lives from
a minute to ten years and none, exponents, features, tenants, types, expiry, future times, as_of, allow-lists, updates,
deletes, merges and snapshots. Exit status 1 names the seed that fails. The tests run a few seeds of it; the sanitizers
run it too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import ExactIndex, Partition, Profile, RowBatch, ScoringParams, kernel
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.rows import last_of_each

NOW = 1.7e9
HALF_LIVES = (None, 60.0, 3600.0, 86400.0, 30 * 86400.0, 3.156e8)


class Mismatch(AssertionError):  # noqa: N818 -- reads as what it says
    """An answer that is not the oracle's; says how to see it again."""


def _ids(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    ids = np.zeros((len(numbers), 2), np.uint64)
    ids[:, 1] = numbers
    return ids


class Case:
    """One random store and what should be in it."""

    def __init__(self, seed: int, most_rows: int = 9000) -> None:
        self.seed = seed
        self.rng = rng = np.random.default_rng(seed)
        self.most_rows = most_rows
        self.dim = int(rng.choice([3, 8, 33, 64, 96]))
        self.features = int(rng.integers(0, 3))
        self.span = float(rng.choice([1.0, 3600.0, 86400.0 * 30, 86400.0 * 365 * 30]))
        self.shape = str(rng.choice(["random", "clustered", "grid", "opposite"]))
        self.centres = rng.normal(size=(10, self.dim))
        self.pool = int(rng.choice([50, 500, 20000]))
        self.params = ScoringParams(
            default=self._profile(),
            by_type={1: self._profile()} if rng.random() < 0.4 else {},
            by_tenant={1: self._profile()} if rng.random() < 0.2 else {},
            feature_names=tuple("abc"[: self.features]),
        )
        self.index = ExactIndex(self.dim, self.params, clock=lambda: NOW)
        self.live: RowBatch | None = None

    def _profile(self) -> Profile:
        rng = self.rng
        return Profile(
            half_life=HALF_LIVES[int(rng.integers(len(HALF_LIVES)))],
            importance_exponent=float(rng.choice([0, 0.5, 1, 2])),
            similarity_exponent=float(rng.choice([1, 1, 1, 0.5, 2])),
            feature_weights=tuple(rng.random(self.features) / max(self.features, 1)),
        )

    def _vectors(self, n: int) -> npt.NDArray[np.float64]:
        rng = self.rng
        vectors = rng.normal(size=(n, self.dim))
        if self.shape == "clustered":
            vectors = self.centres[rng.integers(10, size=n)] + 0.2 * vectors
        elif self.shape == "grid":
            vectors = np.rint(vectors)
        elif self.shape == "opposite":
            vectors = self.centres[rng.integers(2, size=n)] * rng.choice([-1.0, 1.0], size=(n, 1))
        vectors[~vectors.any(axis=1), 0] = 1.0
        return vectors

    def _rows(self, n: int) -> RowBatch:
        rng = self.rng
        times = NOW - rng.random(n) * self.span
        kind = rng.random()
        if kind < 0.2:
            times += self.span * 0.3
        elif kind < 0.4:
            times[:] = NOW
        importance = rng.random(n) ** rng.choice([1, 8, 60]) if rng.random() < 0.7 else np.full(n, 0.5)
        return self.index.batch(
            _ids(rng.integers(0, self.pool, n)),
            self._vectors(n),
            event_time=times,
            importance=importance,
            tenant=rng.integers(0, 2, n) if rng.random() < 0.3 else 0,
            memory_type=rng.integers(0, 2, n),
            expires_at=np.where(rng.random(n) < 0.1, NOW - 5, np.inf) if rng.random() < 0.3 else None,
            features=rng.random((n, self.features)),
        )

    def step(self) -> None:
        """One random operation on the index and on what should be in it."""
        choice = self.rng.random()
        if choice < 0.65 or self.live is None:
            rows = self._rows(min(self.most_rows, int(self.rng.choice([1, 17, 300, 3000, 9000]))))
            self.index.upsert(rows)
            self.live = last_of_each(rows if self.live is None else RowBatch.concatenate([self.live, rows]))
        elif choice < 0.8:
            gone = self.rng.integers(0, self.pool, self.pool // 5 + 1)
            self.index.delete(_ids(gone))
            self.live = self.live.take(~np.isin(self.live.ids[:, 1], gone))
        elif choice < 0.88:
            while self.index.maintain():
                pass
        elif choice < 0.94:
            self.index.compact()
        else:
            with tempfile.TemporaryDirectory() as directory:
                self.index.save(Path(directory), 7)
                self.index, _ = ExactIndex.load(Path(directory), self.dim, self.params, clock=lambda: NOW)
        if len(self.index) != len(self.live):
            raise Mismatch(f"seed {self.seed}: {len(self.index)} rows instead of {len(self.live)}")

    def ask(self) -> int:
        """One random search, compared with the oracle; returns the number of queries."""
        rng = self.rng
        count = int(rng.choice([1, 1, 3]))
        queries = self.centres[:count] if rng.random() < 0.3 else self._vectors(count)
        asked: dict[str, Any] = {"partition": Partition(int(rng.integers(0, 2)), 0)}
        if rng.random() < 0.3:
            asked["as_of"] = NOW + float(rng.normal() * self.span)
        if rng.random() < 0.2:
            asked["half_life"] = HALF_LIVES[int(rng.integers(len(HALF_LIVES)))]
        if rng.random() < 0.3:
            asked["types"] = {int(rng.integers(0, 2))}
        if rng.random() < 0.15:
            asked["only"] = _ids(rng.integers(0, self.pool, int(rng.choice([3, self.pool]))))
        now = NOW + float(rng.choice([0, 0, -3600, 3600]))
        k = int(rng.choice([1, 10, 10, 100]))
        assert self.live is not None
        answers = self.index.search(queries, top_k=k, now=now, **asked)
        truth = brute_force(self.live, queries, params=self.params, k=k, now=now, **asked)
        for mine, true in zip(answers, truth, strict=True):
            if [(row.id, row.log2_score) for row in mine] != [(row.id, row.log2_score) for row in true]:
                raise Mismatch(f"seed {self.seed} ({self.shape}, {self.dim} dimensions, {kernel.variant()}): {asked}")
        return count


def run(seed: int, *, steps: int = 6, most_rows: int = 9000) -> int:
    """One case, several steps, three searches after each; returns the number of queries. Raises Mismatch."""
    case = Case(seed, most_rows)
    asked = 0
    for _ in range(int(case.rng.integers(1, steps + 1))):
        case.step()
        asked += sum(case.ask() for _ in range(3))
    return asked


def main() -> int:
    """Exit status 0, or 1 with the seed that failed."""
    parser = argparse.ArgumentParser(
        prog="hack/py -m hack.kernel_fuzz", description="Fuzz the index against the oracle"
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first seed; the rest follow")
    options = parser.parse_args()
    seed, asked, end = options.seed, 0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        try:
            asked += run(seed)
        except Mismatch as found:
            print(f"hack.kernel_fuzz: {found}", file=sys.stderr)
            return 1
        seed += 1
    stores = f"{seed - options.seed} stores (from seed {options.seed})"
    print(f"{kernel.variant()}: {asked} queries over {stores} agree with the oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
