"""A process that has imported the runtime and forks servers of it: a start then costs a tenth of a second, not two.

`python -m hack.torture_harness.zygote` obeys JSON lines on standard input and answers each with one on standard output.
What it forks is a whole `soma serve`, with a process, a log and an environment of its own; kill -9 meets it as any.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Imported only when a server needs them, otherwise: every fork would pay for them again
_WARM = (
    "memory_runtime.surfaces.serve",
    "memory_runtime.stores.migrating",
    "memory_runtime.stores.migrations.env",
    "memory_runtime.stores.sqlite",
    "memory_runtime.stores.postgres",
    "memory_runtime.stores.postgres.migrating",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "memory_runtime.events.consumer",
    "memory_runtime.events.kafka_sink",
    "memory_runtime.telemetry.logs",
    "alembic.command",
    "sqlalchemy.dialects.sqlite",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.loops.asyncio",
    "uvicorn.lifespan.off",
    "httptools",
)


def main() -> int:
    """Obeys until standard input ends; then ends what it forked."""
    for name in _WARM:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    children: dict[int, int | None] = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_obey(order, children)), flush=True)
    for pid in [pid for pid, status in children.items() if status is None]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    return 0


def _obey(order: Mapping[str, Any], children: dict[int, int | None]) -> dict[str, Any]:
    if order["do"] == "start":
        pid = _fork(order["arguments"], order["environ"], order["log"])
        children[pid] = None
        return {"pid": pid}
    pid, deadline = int(order["pid"]), time.monotonic() + float(order.get("seconds", 0))
    while children[pid] is None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() >= deadline:
            break
        else:
            time.sleep(0.002)
    return {"status": children[pid]}


def _fork(arguments: Sequence[str], environ: Mapping[str, str], log: str) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        null, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.clear()
        os.environ.update(environ)
        from memory_runtime.surfaces.cli import main as soma

        status = soma(list(arguments))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"the server failed: {error!r}", file=sys.stderr, flush=True)
        status = 70
    sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    raise SystemExit(main())
