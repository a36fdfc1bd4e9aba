"""`IKeyValueStore` four times: in memory, in Redis, in PostgreSQL, and in PostgreSQL with Redis before it.

`memory` needs nothing; `redis`, `postgres` and `hybrid` need the `distributed` extra, so import the modules, or ask
`building` for the one that the settings name. What is a key, a value and a time to live is decided once, in `values`.
docs/stores.md compares them.
"""
