"""What turns text into unit vectors: clients' own vectors, a pinned transformer without a framework, or signed hashing.

`build_provider(settings)` chooses; `payload_text(payload)` says which text of a memory is embedded. May import model.
"""

from memory_runtime.embedding.contract import EmbeddingProvider, EmbeddingSettings
from memory_runtime.embedding.providers import build_provider
from memory_runtime.model.payload_text import payload_text

__all__ = ["EmbeddingProvider", "EmbeddingSettings", "build_provider", "payload_text"]
