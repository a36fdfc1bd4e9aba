"""A batch answers each query bit for bit as that query alone is answered, whoever else is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_runtime.engine import UNSET, MemoryEngine, RecallRequest, RecallResult
from memory_runtime.engine.build import build_engine
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring import kernel
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.samples import DAY, Clock

SCOPES = (Scope("ana", "notes"), Scope("ana", "mail"), Scope("ben", "notes"))
WORDS = ("zebra", "kitten", "bicycle", "train", "late", "home")
HALF_LIVES: dict[str, Any] = {"half_life": "2d", "half_life_by_type": {"facts": "30d"}}


def memories() -> list[StoreItem]:
    rng = np.random.default_rng(5)
    return [
        StoreItem(
            (float(n),),
            {"text": " ".join(rng.choice(WORDS, 3)), "tag": [1, 1.0, True, "1"][n % 4], "n": n % 5},
            memory_type=["episodic", "facts", "rare"][n % 3],
            # pairs of equal vectors: ties are part of what must not change
            vector=np.random.default_rng(n // 2).normal(size=8).astype(np.float32),
            timestamp=Clock().now - float(n % 7) * DAY,
            importance=float(n % 4),
            pinned=n % 11 == 0,
        )
        for n in range(60)
    ]


@pytest.fixture(scope="module", params=["kernel", "numpy"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """(event loop's runner, engine that holds the memories in every scope)."""
    patch = pytest.MonkeyPatch()
    if request.param == "numpy":
        patch.setattr(kernel, "load", lambda: None)
    elif kernel.load() is None:
        pytest.fail("build the kernel first: hack/py -m hack.kernel")
    directory: Path = tmp_path_factory.mktemp("batches")
    values = {"data_dir": directory, "embedding_provider": "hash", "vector_dim": 8} | HALF_LIVES
    engine = build_engine(SMFSettings(**values), clock=Clock())

    async def begin() -> None:
        await engine.start()
        for scope in SCOPES:
            await engine.store_bulk(scope, memories())

    with asyncio.Runner() as loop:
        loop.run(begin())
        yield loop, engine
        loop.run(engine.close())
    patch.undo()


OPTIONS: dict[str, list[Any]] = {
    "top_k": [1, 3, 5, 100],
    "memory_type": ["episodic", "facts", "unknown"],
    "filters": [{"tag": 1}, {"tag": 1.0}, {"tag": True}, {"tag": "1"}, {"n": 3}, {}],
    "half_life": [UNSET, None, DAY, 3600.0],
    "as_of": [Clock().now - 3 * DAY, Clock().now - 1.0],
    "explain": [True, False],
    "hybrid": [None, True, False],
    "terms": [None, ("zebra",), ("kitten", "home"), ()],
    "boost": [None, 1.0, 7.5],
}


@st.composite
def requests(draw: st.DrawFn, least: int, most: int) -> list[RecallRequest]:
    """Requests that are alike but for one or two options, as those of a batch are: what differs is what could be
    mixed up.
    """
    vector = st.integers(0, 9).map(lambda seed: np.random.default_rng(seed).normal(size=8).astype(np.float32))
    text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
    asked = draw(st.sampled_from([vector.map(lambda one: {"vector": one}), text.map(lambda one: {"query": one})]))
    names = draw(st.permutations(sorted(OPTIONS)))
    several, varied = draw(st.integers(0, 3)), draw(st.integers(1, 2))
    shared = {name: draw(st.sampled_from(OPTIONS[name])) for name in names[:several]}
    if draw(st.booleans()):
        shared["hybrid"] = True
    differs = [name for name in names if name not in shared][:varied]
    own = st.fixed_dictionaries({name: st.sampled_from(OPTIONS[name]) for name in differs})
    made = st.builds(lambda one, more: RecallRequest(**one, **(shared | more)), asked, own)
    return draw(st.lists(made, min_size=least, max_size=most))


def told(result: RecallResult) -> Any:
    hits = [
        (
            hit.record.id,
            hit.score,
            hit.log2_score,
            hit.lexical,
            hit.approximate,
            hit.explanation and astuple(hit.explanation),
            hit.fusion and astuple(hit.fusion),
        )
        for hit in result.hits
    ]
    return hits, result.seq, result.as_of, result.route, [astuple(one) for one in result.suppressed]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=requests(4, 8))
def test_a_batch_is_answered_as_each_of_its_queries_alone(runner: Any, batch: list[RecallRequest]) -> None:
    loop, engine = runner

    async def both() -> tuple[list[RecallResult], list[RecallResult]]:
        together = await engine.recall_batch(SCOPES[0], batch)
        return together, [await engine.recall(SCOPES[0], one) for one in batch]

    together, alone = loop.run(both())
    assert [told(one) for one in together] == [told(one) for one in alone]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=requests(3, 12).flatmap(
        lambda found: st.tuples(*(st.tuples(st.sampled_from(SCOPES), st.just(one)) for one in found))
    )
)
def test_recalls_that_come_at_once_are_answered_as_each_alone(
    runner: Any, calls: tuple[tuple[Scope, RecallRequest], ...]
) -> None:
    loop, engine = runner

    async def both(engine: MemoryEngine) -> tuple[list[RecallResult], list[RecallResult]]:
        at_once = await asyncio.gather(*(engine.recall(scope, one) for scope, one in calls))
        return at_once, [await engine.recall(scope, one) for scope, one in calls]

    at_once, alone = loop.run(both(engine))
    assert [told(one) for one in at_once] == [told(one) for one in alone]
