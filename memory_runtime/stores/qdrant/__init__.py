"""Qdrant as a vector store: points scaled inside bands of L, newest sequence wins, asked best band first.

`layout` is arithmetic and needs no server; `schema` makes and checks the collection; `writing` and `searching` are what
is sent; `failures` turns a driver's errors into ours; `store` puts them together behind `IVectorStore`. May import
`memory_runtime.model`, `settings`, `telemetry` and the neighbours in `stores`.
"""

from memory_runtime.stores.qdrant.options import QdrantOptions, connect, options_of
from memory_runtime.stores.qdrant.store import QdrantVectorStore

__all__ = ["QdrantOptions", "QdrantVectorStore", "connect", "options_of"]
