"""The command `soma`: starts and checks a server, and talks to a running one over HTTP.

`parser` says what can be typed, `client` speaks HTTP, `local` starts things, `remote` asks a server, `transfer` moves
many memories. Modules that cost time to import are imported by the command that needs them.
"""

from memory_runtime.surfaces.cli.main import main

__all__ = ["main"]
