"""`hack/bench/replicas`: commits a second of the ledger's replicas on one PostgreSQL, without a wire and without Redis.

All replicas write by turns, so they share one rate. Its peer is what PostgreSQL does with the same rows and nothing of
a ledger: as many connections, each upserting one row a commit into one table.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np

from hack.bench.durability_rates import fsync_p50, percentile
from hack.cluster.errors import ClusterError
from hack.interruption import interruptible
from hack.services import start_postgres
from hack.services.service import ServiceError
from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.records import Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Put, Unit
from memory_runtime.stores.postgres import PostgresLedger, migrating

DIM: Final = 384
PEER_TABLE: Final = "CREATE TABLE peer (id uuid PRIMARY KEY, payload text NOT NULL, vector bytea NOT NULL, at float8)"
PEER: Final = (
    "INSERT INTO peer VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (id) DO UPDATE SET payload = excluded.payload, vector = excluded.vector, at = excluded.at"
)
Store = Callable[[Put], Awaitable[object]]


def _puts(first: int) -> Callable[[], Put]:
    numbers, vector = itertools.count(first), np.full(DIM, DIM**-0.5, np.float32)

    def put() -> Put:
        number = next(numbers)
        coordinate, now = f"{float(number)!r}", time.time()
        payload = f'{{"text":"memory {number}"}}'
        identity = memory_id("bench", "bench", "episodic", coordinate)
        return Put(
            identity,
            Scope("bench", "bench"),
            "episodic",
            coordinate,
            payload,
            f"memory {number}",
            now,
            now,
            vector=vector,
        )

    return put


async def _load(stores: Sequence[Store], first: int, seconds: float, ready: Any) -> list[float]:
    """The seconds of each commit of as many clients as there are stores."""
    puts = [_puts(first + number * 1_000_000) for number in range(len(stores))]
    for store, put in zip(stores, puts, strict=True):
        await store(put())
    await asyncio.to_thread(ready.wait)
    until, took = time.perf_counter() + seconds, list[float]()

    async def client(store: Store, put: Callable[[], Put]) -> None:
        while (began := time.perf_counter()) < until:
            await store(put())
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(client(*pair) for pair in zip(stores, puts, strict=True)))
    return took


async def _ledger(dsn: str, clients: int, first: int, seconds: float, ready: Any) -> list[float]:
    settings = SMFSettings(mode="distributed", postgres_url=dsn, vector_dim=DIM)
    ledger = PostgresLedger(
        settings,
        normalisers=lambda state: ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state),
        observer=None,
    )
    await asyncio.to_thread(ledger.open)
    try:
        return await _load([lambda put: ledger.commit(Unit([put]))] * clients, first, seconds, ready)
    finally:
        await asyncio.to_thread(ledger.close)


async def _peer(dsn: str, clients: int, first: int, seconds: float, ready: Any) -> list[float]:
    connections = [await asyncpg.connect(dsn) for _ in range(clients)]

    def store_by(connection: Any) -> Store:
        def store(put: Put) -> Awaitable[object]:
            vector = b"" if put.vector is None else put.vector.tobytes()
            return connection.execute(PEER, put.id, put.payload, vector, put.event_time)  # type: ignore[no-any-return]

        return store

    try:
        return await _load([store_by(one) for one in connections], first, seconds, ready)
    finally:
        for one in connections:
            await one.close()


WAYS: Final = {"ledger": _ledger, "postgres_upsert": _peer}


def work(way: str, dsn: str, clients: int, first: int, seconds: float, ready: Any, results: Any) -> None:
    """One replica's process."""
    results.put(asyncio.run(WAYS[way](dsn, clients, first, seconds, ready)))


def measure(way: str, dsn: str, replicas: int, clients: int, first: int, seconds: float) -> list[float]:
    """Sorted seconds of the commits of all replicas."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(replicas), context.Queue()
    processes = [
        context.Process(
            target=work, args=(way, dsn, clients, first + number * 100_000_000, seconds, ready, results), daemon=True
        )
        for number in range(replicas)
    ]
    for process in processes:
        process.start()
    found = sorted(one for _ in processes for one in results.get(timeout=seconds + 120))
    for process in processes:
        process.join()
    return found


def main() -> int:
    """Exit status 0; 2 for bad flags; 3 where PostgreSQL does not start."""
    parser = argparse.ArgumentParser(prog="hack/bench/replicas", description=__doc__)
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8], help="of each replica (default 1 8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if min(*options.replicas, *options.clients) < 1 or options.seconds <= 0:
        parser.error("--replicas and --clients must be at least 1, --seconds more than 0")
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="soma-replicas-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another account, and must reach its own below it
        try:
            postgres = start_postgres(folder)
        except (ServiceError, ClusterError) as error:
            print(f"hack/bench/replicas: {error}", file=sys.stderr)
            return 3
        try:
            migrating.migrate(SMFSettings(mode="distributed", postgres_url=postgres.url, vector_dim=DIM))
            asyncio.run(_make_peer(postgres.url))
            shapes = itertools.product(options.replicas, options.clients, WAYS)
            for number, (replicas, clients, way) in enumerate(shapes, start=1):
                first = number * 1_000_000_000
                found = measure(way, postgres.url, replicas, clients, first, options.seconds)
                row = {
                    "way": way,
                    "replicas": replicas,
                    "clients": clients,
                    "commits_per_s": round(len(found) / options.seconds),
                    "p50_ms": percentile(found, 0.5),
                    "p95_ms": percentile(found, 0.95),
                    "fsync_p50_ms": fsync_p50(folder),
                }
                text = json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items())
                print(text, flush=True)
        finally:
            postgres.stop()
    return 0


async def _make_peer(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(PEER_TABLE)
    await connection.close()


if __name__ == "__main__":
    sys.exit(interruptible("hack/bench/replicas", main))
