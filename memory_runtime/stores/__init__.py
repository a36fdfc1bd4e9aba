"""Where memories are kept: the contracts (ledger, key-value, vector, graph) and every adapter behind them.

`contracts` says what a ledger promises, `sqlite` keeps the embedded ledger, `migrations` its schema's history.
May import model and settings.
"""
