"""The embedded ledger: one SQLite file, one writer thread that commits in groups, readers on connections of their own.

`opening` makes connections and translates errors; `writing` is what a unit does inside a transaction; `writer` is the
thread; `reading`, `fts`, `filters` and `graph` are queries; `ledger` is the async face. May import what stores may.
"""

from memory_runtime.stores.sqlite.ledger import SQLiteLedger

__all__ = ["SQLiteLedger"]
