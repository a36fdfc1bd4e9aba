"""The presets answer exactly: the threshold algorithm against the definition, over every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import ExactIndex, Partition, ScoringParams, presets
from memory_runtime.scoring.formula import exact_dot
from memory_runtime.scoring.rows import id_bytes, unit_rows

NOW = 1.7e9
DAY = 86400.0


def a_store(n: int, seed: int) -> ExactIndex:
    rng = np.random.default_rng(seed)
    index = ExactIndex(24, ScoringParams(), clock=lambda: NOW)
    ids = np.zeros((n, 2), np.uint64)
    ids[:, 1] = np.arange(n)
    rows = index.batch(
        ids,
        np.rint(rng.normal(size=(n, 24)) * 2) + 0.25,
        event_time=NOW - np.rint(rng.random(n) * 60) * DAY,
        importance=np.rint(rng.random(n) * 4) / 4,
        tenant=rng.integers(0, 2, n),
    )
    index.upsert(rows)
    index.upsert(index.batch(ids[:200], rng.normal(size=(200, 24)), event_time=NOW - DAY, importance=0.5))
    index.delete(ids[300:400])
    return index


def by_definition(index: ExactIndex, query: Any, preset: presets.Preset, k: int) -> list[tuple[bytes, float]]:
    rows = index.live_rows()
    rows = rows.take(rows.tenant == 0)
    similarity = np.clip(exact_dot(rows.vectors, query), 0, 1)
    scores = preset.score(preset.standing(rows.importance, np.maximum(NOW - rows.event_time, 0)), similarity)
    found = [(key, float(score)) for key, score in zip(id_bytes(rows.ids), scores, strict=True) if score > 0]
    return sorted(found, key=lambda row: (-row[1], row[0]))[:k]


@pytest.mark.parametrize(
    "preset", [presets.WeightedSum(), presets.WeightedSum(0.2, 3, 0.5), presets.LinearDecay(20 * DAY)]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_preset_gives_the_rows_of_its_definition(preset: Any, seed: int) -> None:
    index = a_store(6000, seed)
    query = unit_rows(np.random.default_rng(seed).normal(size=24), 24)[0]
    found = presets.search(index.view(), query, preset, k=15, partition=Partition(0, 0), at=NOW)
    assert [(row.id, row.score) for row in found] == by_definition(index, query, preset, 15)
    assert {row.preset for row in found} == {preset.name}


def test_a_memory_past_its_window_is_gone() -> None:
    index = ExactIndex(2, ScoringParams(), clock=lambda: NOW)
    index.upsert(index.batch([b"a" * 16, b"b" * 16], [[1, 0], [1, 0]], event_time=[NOW - DAY, NOW - 3 * DAY]))
    query = unit_rows([1, 0], 2)[0]
    found = presets.search(index.view(), query, presets.LinearDecay(2 * DAY), k=5, partition=Partition(0, 0), at=NOW)
    assert [(row.id, row.score) for row in found] == [(b"a" * 16, 0.5)]


@pytest.mark.parametrize("wrong", [{"recency": -1.0}, {"hourly": 1.5}])
def test_a_bad_weight_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        presets.WeightedSum(**wrong)
    assert refused.value.field in wrong
    with pytest.raises(InvalidArgument):
        presets.LinearDecay(0.0)
