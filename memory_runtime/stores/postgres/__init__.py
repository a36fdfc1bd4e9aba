"""The distributed ledger: PostgreSQL by asyncpg, one writer's turn in the fleet, every replica following in order.

`connecting`, `links`, `link` and `errors` reach the server; `reading`, `words`, `filters`, `context`, `graph`,
`retaining`, `importance`, `reembedding` and `following` are queries, gathered in `view`; `loading`, `states`, `writing`
and `flushing` run a group's units in memory, set by set, for `transacting`; `committing`, `tracking` and `writer` are
the replica's thread; `migrating` and `migrations` its schema; `ledger` is the async face. May import what `stores` may.
"""

from memory_runtime.stores.postgres.ledger import PostgresLedger

__all__ = ["PostgresLedger"]
