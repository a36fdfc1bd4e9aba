"""gRPC: the old `somafractalmemory.MemoryService` bit for bit, `soma.memory.v2` beside it, health and reflection.

`proto` holds the contracts, `generated` what `hack/py -m hack.protos` makes of them. May import engine and access.
"""
