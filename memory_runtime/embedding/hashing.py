"""The fallback without a model: signed feature hashing of words, word pairs and letter n-grams.

Each feature adds +w or -w to one component (Weinberger et al., "Feature hashing for large scale multitask learning",
2009), so that unrelated texts have an expected similarity of zero; the vector is then centred (zero mean) and scaled to
unit norm.
"""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from memory_runtime.embedding.contract import Vectors
from memory_runtime.model.threads import in_thread

_WORD = re.compile(r"\w+")
_NGRAM = 4
_WORD_WEIGHT, _PAIR_WEIGHT, _NGRAM_WEIGHT = 1.0, 0.5, 0.35
# English function words say little of what a text is about; without a corpus there is no other way to know.
_FUNCTION_WORD_LIST = """
    a about am an and any are as at be been being but by can could did do does doing for from had has have
    having he her him his how i if in into is it its just me my no not of on or our she should so some than
    that the their them then there they this to was we were what when where which who whom whose why will with
    would you your
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())
_FUNCTION_WORD_WEIGHT = 0.1
_LONGEST_TEXT = 100_000


class HashProvider:
    """Deterministic on every machine, needs no weights; finds shared words and stems, not meaning."""

    name = "hash"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.revision = f"signed-hash-v1/{dim}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [n, dim], computed off the event loop when there are many."""
        if len(texts) <= 4:
            return self.embed_now(texts)
        return await in_thread(self.embed_now, texts)

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [n, dim], in the calling thread."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[:] = _vector(text[:_LONGEST_TEXT], self.dim)
        return vectors

    def describe(self) -> dict[str, Any]:
        """Provider, revision and dimension."""
        return {"provider": self.name, "revision": self.revision, "dim": self.dim}

    def close(self) -> None:
        """Nothing to end."""


def _vector(text: str, dim: int) -> Vectors:
    counts: dict[str, float] = {}
    for feature, weight in _features(text):
        counts[feature] = counts.get(feature, 0.0) + weight
    raw = np.zeros(dim, dtype=np.float64)
    for feature, weight in counts.items():
        slot, sign = _slot(feature)
        raw[slot % dim] += sign * np.sqrt(weight)
    if not np.any(raw - raw.mean()):
        # No word at all, or every feature cancelled: the text itself decides, so that the norm is never zero.
        seed = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        raw = np.random.Generator(np.random.PCG64(seed)).standard_normal(dim)
    if dim > 1:
        raw -= raw.mean()
    unit: Vectors = (raw / np.linalg.norm(raw)).astype(np.float32)
    return unit


def _features(text: str) -> Iterator[tuple[str, float]]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    previous = ""
    for word in _WORD.findall(folded):
        common = word in _FUNCTION_WORDS
        yield f"w {word}", _FUNCTION_WORD_WEIGHT if common else _WORD_WEIGHT
        if common:
            continue
        if previous:
            yield f"p {previous} {word}", _PAIR_WEIGHT
        previous = word
        padded = f"<{word}>"
        for start in range(max(1, len(padded) - _NGRAM + 1)):
            yield f"g {padded[start : start + _NGRAM]}", _NGRAM_WEIGHT


@lru_cache(maxsize=65_536)
def _slot(feature: str) -> tuple[int, float]:
    digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    (value,) = struct.unpack("<Q", digest)
    return value >> 1, 1.0 if value & 1 else -1.0
