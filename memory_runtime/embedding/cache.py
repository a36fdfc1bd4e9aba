"""The vectors of recent texts, in bounded memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from memory_runtime.embedding.contract import Vectors

# A dictionary entry, its key's and its array's headers, measured on CPython 3.11.
_OVERHEAD_BYTES = 320


class VectorCache:
    """The least recently used texts leave first; keys are digests, so long texts cost no more than short ones."""

    def __init__(self, entries: int, dim: int) -> None:
        self.entries = entries
        self.dim = dim
        self.hits = 0
        self.misses = 0
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def memory_limit_bytes(self) -> int:
        """The most memory that the cache takes when it is full."""
        return self.entries * (self.dim * 4 + _OVERHEAD_BYTES)

    def get(self, text: str) -> Vectors | None:
        """The vector of `text`, float32 [dim], or None."""
        key = _key(text)
        with self._lock:
            vector = self._vectors.get(key)
            if vector is None:
                self.misses += 1
            else:
                self.hits += 1
                self._vectors.move_to_end(key)
            return vector

    def put(self, text: str, vector: Vectors) -> None:
        """Remembers a copy of `vector`: a view would keep its whole batch alive."""
        kept = np.array(vector, dtype=np.float32)
        kept.flags.writeable = False
        key = _key(text)
        with self._lock:
            self._vectors[key] = kept
            self._vectors.move_to_end(key)
            while len(self._vectors) > self.entries:
                self._vectors.popitem(last=False)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
