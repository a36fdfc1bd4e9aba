"""`kubectl soma`: looks at SomaMemory resources, and does the few things that people do to them by hand.

Lives here: one module a command, `cluster` (the kubectl program, the only way to the API server), and pure functions
that judge health and draw trees. Imports nothing of the operator: it is installed beside kubectl, not in a cluster.
"""
