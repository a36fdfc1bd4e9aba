"""What does not fit a replica's memory: the byte budget, the store that holds every vector, the answers from it.

`residency` keeps the index within its budget and knows what it gave up; `placement` says where a row belongs in the
store; `feed` is the relay's sink, `reconcile` proves that store and ledger agree; `route` completes an answer that the
index alone cannot certify, and `truth` measures what it misses. May import what the engine may; the store itself is
behind `IVectorStore` and what `backing` adds to it, so that nothing here knows Qdrant.
"""
