"""Providers: the choice, the hash fallback, client vectors, and which text is embedded."""

from __future__ import annotations

import numpy as np
import pytest

from memory_runtime.embedding import build_provider, payload_text
from memory_runtime.embedding.cache import VectorCache
from memory_runtime.model.errors import InvalidArgument, Unprocessable
from memory_runtime.settings import SMFSettings


def settings(**values: object) -> SMFSettings:
    return SMFSettings.model_validate(values)


def test_auto_without_a_model_directory_is_the_hash_fallback_and_says_so():
    provider = build_provider(settings())
    assert provider.describe()["provider"] == "hash"


def test_transformer_without_a_model_directory_names_the_setting():
    with pytest.raises(Unprocessable) as caught:
        build_provider(settings(embedding_provider="transformer"))
    assert caught.value.field == "model_dir"
    assert "hack/model" in (caught.value.remedy or "")


async def test_hash_vectors_are_unit_centred_and_signed():
    vectors = await build_provider(settings(embedding_provider="hash")).embed(
        ["the quick brown fox", "a", "", "!!!", "北京大学", "the the the", "\ud800"]
    )
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(vectors.mean(axis=1), 0.0, atol=1e-7)
    assert (vectors < 0).any(axis=1).all()


async def test_hash_vectors_are_the_same_in_every_process():
    vector = (await build_provider(settings(embedding_provider="hash")).embed(["deterministic on every machine"]))[0]
    top = set(np.argsort(-np.abs(vector))[:4].tolist())
    assert top == {72, 276, 374, 79}, (
        "the vectors changed: give the fallback a new revision, or stored ones are misread"
    )
    assert float(vector[72]) == pytest.approx(-0.438927, abs=1e-5)


async def test_hash_similarity_finds_shared_words_and_ignores_unrelated_texts():
    provider = build_provider(settings(embedding_provider="hash"))
    base, related, inflected, unrelated = await provider.embed(
        ["Ana adopted a puppy", "the puppy that Ana adopted", "adopting puppies", "quarterly tax statement"]
    )
    assert base @ related > 0.6
    assert base @ inflected > base @ unrelated + 0.15
    assert abs(base @ unrelated) < 0.15


async def test_unrelated_hash_vectors_are_not_similar_on_average():
    provider = build_provider(settings(embedding_provider="hash"))
    letters = np.random.default_rng(1).integers(97, 123, size=(60, 4, 6)).tolist()
    texts = [" ".join("".join(map(chr, word)) for word in words) for words in letters]
    vectors = await provider.embed(texts)
    similarity = vectors @ vectors.T
    assert abs(similarity[~np.eye(60, dtype=bool)].mean()) < 0.02


@pytest.mark.parametrize("dim", [1, 2, 3, 384, 768])
async def test_hash_vectors_have_any_dimension(dim: int):
    vectors = await build_provider(settings(embedding_provider="hash", vector_dim=dim)).embed(["some text", ""])
    assert vectors.shape == (2, dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


async def test_client_provider_asks_for_a_vector():
    provider = build_provider(settings(embedding_provider="client"))
    assert (await provider.embed([])).shape == (0, 384)
    with pytest.raises(InvalidArgument) as caught:
        await provider.embed(["text"])
    assert caught.value.field == "vector"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text": "a", "content": "b"}, "a"),
        ({"text": "  ", "content": "b"}, "b"),
        ({"task": "c", "n": 1}, "c"),
        ({"text": 3, "n": 1}, '{"n":1,"text":3}'),
        ({}, "{}"),
    ],
)
def test_payload_text(payload: dict[str, object], text: str):
    assert payload_text(payload) == text


def test_cache_drops_the_least_recently_used_and_keeps_copies():
    cache = VectorCache(2, 4)
    batch = np.eye(4, dtype=np.float32)
    for name, row in zip("abc", batch, strict=False):
        cache.put(name, row)
        if name == "b":
            assert cache.get("a") is not None
    batch[:] = 9
    kept = cache.get("a")
    assert cache.get("b") is None
    assert kept is not None
    assert kept.tolist() == [1, 0, 0, 0]
    assert kept.base is None
    assert cache.memory_limit_bytes == 2 * (16 + 320)
