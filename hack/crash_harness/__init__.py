"""Kill -9 during stores: every acknowledged memory is there once, with its content; nothing is there by half.

`target` starts and kills what is tested, a `soma serve` on this host or what is behind a URL; `load` writes and
remembers what was acknowledged; `verdict` compares. May import the runtime's ledger queries, to look into a dead
server's file.
"""
