"""Where memories are kept: the contracts and every adapter behind them.

`contracts` says what a ledger promises, `sessions` how it is asked, `values` what passes between. `sqlite` and
`postgres` are the two ledgers, with their schemas' histories. `interfaces` says what key-value, vector and graph stores
promise; `keyvalue`, `redis`, `vectors`, `qdrant` and `graph` keep it. Every call that leaves the process goes through
`resilience`. May import model, settings and telemetry.
"""
