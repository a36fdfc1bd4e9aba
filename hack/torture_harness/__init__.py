"""Kill -9, full disks and other harm while clients work; then every answer is checked against what is left.

`target` starts and kills what is tested; `clients` work and record; `linearizable`, `sessions` and `blame` judge the
history alone; `verdict` compares it with the server and its file; `faults` and `runs` put it together. May import the
runtime's ledger queries, to look into a server's file.
"""
