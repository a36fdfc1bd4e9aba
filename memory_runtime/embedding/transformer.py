"""The pinned sentence transformer: offline, on the CPU, off the event loop, with a time-out and a bounded cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from memory_runtime.embedding.blas import limit_threads
from memory_runtime.embedding.cache import VectorCache
from memory_runtime.embedding.contract import Vectors
from memory_runtime.embedding.lanes import Lane
from memory_runtime.embedding.weights import REMEDY, LoadedModel
from memory_runtime.model.errors import DeadlineExceeded, Unprocessable

CACHE_ENTRIES = 4096
"""7.6 MB at 384 dimensions when full."""
# Larger batches gain little (104 texts/s at 64, 97 at 16), and a batch is what the time-out bounds on a busy machine.
_BATCH = 16
# A request of at most this many texts is a query or a single store: it must not wait behind a bulk store's batches.
_INTERACTIVE = 4
# Far beyond 256 tokens of any language: what follows could not change the vector, only cost time.
_LONGEST_TEXT = 20_000


class TransformerProvider:
    """Two worker threads: one for single texts, one for bulk; each batch runs on one core."""

    name = "transformer"

    def __init__(self, model: LoadedModel, *, timeout_seconds: float, cache_entries: int = CACHE_ENTRIES) -> None:
        self.dim = model.encoder.shape.hidden
        self.revision = model.revision
        self._encoder = model.encoder
        self.timeout_seconds = timeout_seconds
        self._tokenizer = _tokenizer(model)
        self._cache = VectorCache(cache_entries, self.dim)
        limit_threads(1)
        self._single = Lane("soma-embed-single", self._encode, _BATCH)
        self._bulk = Lane("soma-embed-bulk", self._encode, _BATCH)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [n, dim]. Raises DeadlineExceeded when a batch is not done in `embedding_timeout_seconds`.

        The time-out is counted for each batch of 16 texts, so that a large bulk store is not refused for its size.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        wanted: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            known = self._cache.get(text)
            if known is None:
                wanted.setdefault(text, []).append(row)
            else:
                vectors[row] = known
        # Texts of like length make the best batches; order does not change a vector.
        missing = sorted(wanted, key=len)
        lane = self._single if len(missing) <= _INTERACTIVE else self._bulk
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            for text, vector in zip(batch, await self._in_time(lane, batch), strict=True):
                self._cache.put(text, vector)
                vectors[wanted[text]] = vector
        return vectors

    def describe(self) -> dict[str, Any]:
        """Provider, revision, dimension, and the cache's hits, misses and memory limit in bytes."""
        cache = self._cache
        return {
            "provider": self.name,
            "revision": self.revision,
            "dim": self.dim,
            "cache": {"hits": cache.hits, "misses": cache.misses, "memory_limit_bytes": cache.memory_limit_bytes},
        }

    def close(self) -> None:
        """Ends both threads after the batch in hand."""
        self._single.close()
        self._bulk.close()

    async def _in_time(self, lane: Lane, texts: Sequence[str]) -> Vectors:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(lane.submit(texts)), self.timeout_seconds)
        except TimeoutError:
            raise DeadlineExceeded(
                f"embedding: {len(texts)} texts were not embedded in {self.timeout_seconds:g} s",
                field="embedding_timeout_seconds",
                remedy="raise embedding_timeout_seconds, give the service more CPU, or send vectors",
            ) from None

    def _encode(self, texts: Sequence[str]) -> Vectors:
        # One by one: encode_batch would start a thread pool of its own, as large as the machine.
        return self._encoder.encode([self._tokenizer.encode(text[:_LONGEST_TEXT]).ids for text in texts])


def _tokenizer(model: LoadedModel) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(model.tokenizer))
    except Exception as error:  # the Rust binding raises bare Exception
        raise Unprocessable(
            f"model_dir: cannot read {model.tokenizer.name}: {error}", field="model_dir", remedy=REMEDY
        ) from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_tokens)
    if tokenizer.get_vocab_size() > model.encoder.shape.vocabulary:
        raise Unprocessable(
            "model_dir: tokenizer.json has more tokens than the weights", field="model_dir", remedy=REMEDY
        )
    return tokenizer
