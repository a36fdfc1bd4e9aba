"""Benchmarks: each prints a readable table, or one JSON object a line with `--json`. May import everything of ours."""
