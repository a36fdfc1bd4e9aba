"""Feature flags: a typed table, values from etcd, cached in Redis, safe defaults where both are away.

`table` says what flags there are; `etcd` speaks etcd's JSON gateway; `flags` keeps what is in force and hands it on.
May import stores, telemetry, settings and model: what a flag changes is told to it by whoever builds it.
"""

from memory_runtime.flags.build import build_flags
from memory_runtime.flags.flags import Flags, FlagState, Source
from memory_runtime.flags.table import FLAGS, Flag, flag_named

__all__ = ["FLAGS", "Flag", "FlagState", "Flags", "Source", "build_flags", "flag_named"]
