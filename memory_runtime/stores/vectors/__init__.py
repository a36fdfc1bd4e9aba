"""`IVectorStore` in this process's memory; the one on Qdrant lives in `stores.qdrant`."""

from memory_runtime.stores.vectors.memory import InMemoryVectorStore

__all__ = ["InMemoryVectorStore"]
