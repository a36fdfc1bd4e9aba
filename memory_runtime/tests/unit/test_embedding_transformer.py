"""The transformer: reproduces the reference, stays off the event loop, refuses what is not pinned."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from hack import model_weights
from memory_runtime.embedding import build_provider
from memory_runtime.embedding.bert import gelu
from memory_runtime.embedding.lanes import Lane
from memory_runtime.embedding.weights import WEIGHTS
from memory_runtime.model.errors import DeadlineExceeded, Unavailable, Unprocessable
from memory_runtime.settings import SMFSettings

REFERENCE = json.loads((Path(__file__).parent / "embedding_reference.json").read_text())


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return model_weights.ensure()


@pytest.fixture(scope="module")
def provider(model_dir: Path):
    built = build_provider(SMFSettings(model_dir=model_dir))
    yield built
    built.close()


@pytest.fixture
def broken_dir(model_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; the weights are linked until then."""
    copy = tmp_path / "model"
    shutil.copytree(model_dir, copy, copy_function=lambda a, b: Path(b).symlink_to(a))
    return copy


async def test_vectors_are_those_of_the_reference_to_1e_4(provider):
    vectors = await provider.embed(REFERENCE["texts"])
    np.testing.assert_allclose(vectors, np.array(REFERENCE["vectors"]), atol=1e-4)
    assert provider.describe()["revision"] == "all-MiniLM-L6-v2@53aa51172d14"


async def test_a_vector_does_not_depend_on_the_batch_that_it_was_in(model_dir: Path):
    alone = build_provider(SMFSettings(model_dir=model_dir))
    together = build_provider(SMFSettings(model_dir=model_dir))
    texts = [" ".join(["memory"] * n) for n in (1, 90, 7, 7, 33, 1, 250)] + [f"text {n}" for n in range(80)]
    batch = await together.embed(texts)
    for n in (0, 1, 4, 6, 50):
        np.testing.assert_allclose((await alone.embed([texts[n]]))[0], batch[n], atol=2e-6)
    alone.close()
    together.close()


async def test_the_event_loop_runs_on_while_texts_are_embedded(provider):
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticker = asyncio.create_task(tick())
    await provider.embed([f"a text of its own, number {n}, long enough to take a while " * 3 for n in range(48)])
    ticker.cancel()
    assert ticks >= 10


async def test_repeated_texts_come_from_the_cache(provider):
    before = provider.describe()["cache"]["misses"]
    first = await provider.embed(["cached once", "cached once", "cached once"])
    assert provider.describe()["cache"]["misses"] <= before + 3
    hits = provider.describe()["cache"]["hits"]
    again = await provider.embed(["cached once"])
    assert provider.describe()["cache"]["hits"] == hits + 1
    np.testing.assert_array_equal(first[2], again[0])


async def test_no_texts_give_an_empty_matrix(provider):
    assert (await provider.embed([])).shape == (0, 384)


async def test_a_batch_that_takes_too_long_is_a_deadline_that_names_the_setting(model_dir: Path):
    slow = build_provider(SMFSettings(model_dir=model_dir, embedding_timeout_seconds=0.001))
    with pytest.raises(DeadlineExceeded) as caught:
        await slow.embed(["too slow " * 100] * 1)
    assert caught.value.field == "embedding_timeout_seconds"
    slow.close()


def test_a_flipped_byte_in_the_weights_is_refused(broken_dir: Path, model_dir: Path):
    weights = bytearray((model_dir / WEIGHTS).read_bytes())
    weights[40_000_000] ^= 1
    (broken_dir / WEIGHTS).unlink()
    (broken_dir / WEIGHTS).write_bytes(weights)
    with pytest.raises(Unprocessable, match="SHA-256") as caught:
        build_provider(SMFSettings(model_dir=broken_dir))
    assert caught.value.field == "model_name"


def test_known_weights_are_not_served_under_another_models_name(model_dir: Path):
    with pytest.raises(Unprocessable, match="all-MiniLM-L6-v2") as caught:
        build_provider(SMFSettings(model_dir=model_dir, model_name="microsoft/codebert-base"))
    assert caught.value.field == "model_name"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_missing_file_is_named(broken_dir: Path, name: str):
    (broken_dir / name).unlink()
    with pytest.raises(Unprocessable, match=name) as caught:
        build_provider(SMFSettings(model_dir=broken_dir))
    assert caught.value.field == "model_dir"
    assert caught.value.remedy


def test_torn_weights_of_an_unpinned_model_are_a_clear_error(broken_dir: Path, model_dir: Path):
    (broken_dir / WEIGHTS).unlink()
    with (model_dir / WEIGHTS).open("rb") as whole:
        (broken_dir / WEIGHTS).write_bytes(whole.read(1_000_000))
    with pytest.raises(Unprocessable, match=r"cannot read model\.safetensors"):
        build_provider(SMFSettings(model_dir=broken_dir, model_name="our/own-model"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_corrupt_side_file_is_named(broken_dir: Path, name: str):
    (broken_dir / name).unlink()
    (broken_dir / name).write_text("{")
    with pytest.raises(Unprocessable, match=name):
        build_provider(SMFSettings(model_dir=broken_dir))


@pytest.mark.parametrize("revision", ["c9745ed1d9f2", "53aa", "0" * 64])
def test_another_revision_than_the_pinned_is_refused(model_dir: Path, revision: str):
    with pytest.raises(Unprocessable, match="53aa51172d142c89") as caught:
        build_provider(SMFSettings(model_dir=model_dir, model_revision=revision))
    assert caught.value.field == "model_revision"


def test_the_right_revision_is_accepted(model_dir: Path):
    provider = build_provider(SMFSettings(model_dir=model_dir, model_revision="53aa51172d142c89"))
    assert provider.revision == "all-MiniLM-L6-v2@53aa51172d14"
    provider.close()


def test_a_model_of_another_dimension_names_vector_dim(model_dir: Path):
    with pytest.raises(Unprocessable) as caught:
        build_provider(SMFSettings(model_dir=model_dir, vector_dim=768))
    assert caught.value.field == "vector_dim"
    assert "384" in (caught.value.remedy or "")


def test_gelu_is_the_erf_form():
    x = np.linspace(-12, 12, 4801, dtype=np.float32)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    result = np.vstack([x] * 130)
    gelu(result)
    np.testing.assert_allclose(result, np.vstack([exact] * 130), atol=5e-6)


def test_what_arrives_while_a_lane_works_is_one_batch():
    sizes: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def encode(texts):
        sizes.append(len(texts))
        started.set()
        go_on.wait(10)
        return np.arange(len(texts), dtype=np.float32)[:, None]

    lane = Lane("test", encode, 8)
    first = lane.submit(["x"])
    started.wait(10)
    rest = [lane.submit(["a", "b"]) for _ in range(3)]
    cancelled = lane.submit(["never"])
    cancelled.cancel()
    go_on.set()
    assert first.result(10).tolist() == [[0]]
    assert rest[2].result(10).tolist() == [[4], [5]]
    lane.close()
    assert sizes == [1, 6]
    with pytest.raises(Unavailable):
        lane.submit(["late"]).result(1)


def test_a_failure_reaches_every_caller_and_the_lane_lives_on():
    def encode(texts):
        if "bad" in texts:
            raise ValueError("broken")
        return np.ones((len(texts), 1), dtype=np.float32)

    lane = Lane("test", encode, 8)
    with pytest.raises(ValueError, match="broken"):
        lane.submit(["bad"]).result(10)
    assert lane.submit(["good"]).result(10).shape == (1, 1)
    lane.close()
