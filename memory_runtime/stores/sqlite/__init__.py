"""The embedded ledger: one SQLite file, one writer thread that commits in groups, readers on connections of their own.

`opening` makes connections and puts errors into words; `writing` is what a unit does inside a transaction; `writer` is
`opening` makes connections and puts errors into words; `writing` is what a unit does inside a transaction; `writer` the
thread; `reading`, `fts`, `filters`, `graph` and `following` are queries; `ledger` is the async face. May import what
"""

from memory_runtime.stores.sqlite.ledger import SQLiteLedger

__all__ = ["SQLiteLedger"]
