"""How the engine is reached: `http`, `grpc` and `cli`. Transports only: they translate, guard and answer.

A rule about memories belongs in the engine, a rule about callers in access. May import every other room of the runtime.
"""
