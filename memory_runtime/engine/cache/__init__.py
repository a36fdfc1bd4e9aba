"""The cache of hot reads: memories in Redis, checked against what this replica has heard of the ledger.

`changes` remembers what changed lately, `entries` writes a memory as text, `reading` asks Redis first and the ledger
for the rest, `building` makes it from settings. Without Redis there is none, and every read asks the ledger.
"""

from memory_runtime.engine.cache.building import build_cache, wants_cache
from memory_runtime.engine.cache.reading import RecordCache

__all__ = ["RecordCache", "build_cache", "wants_cache"]
