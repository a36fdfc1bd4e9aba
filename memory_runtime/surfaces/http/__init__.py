"""HTTP on FastAPI: the routes of eras E1 and E2, the probes, and the guard that every request passes.

`guard` bounds and authenticates, `requests` says what is accepted, `rendering` how the engine's answers look on the
wire, `errors` the one error body, `routes_*` the routes. May import engine and access.
"""
