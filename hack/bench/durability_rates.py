"""`hack/bench/durability`: latency of durable stores and of recalls, and rows a second of durable bulks, over the wire.

A `soma serve` of its own, 384 dimensions, vectors given; the clients run in two processes on the same machine. Beside
each figure stands what a flush of this disk costs: a durable store cannot be faster.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt

from hack.bench.datasets import NoRoom, dataset
from hack.cluster.errors import ClusterError
from hack.interruption import interruptible
from hack.model_weights import WeightsUnavailableError
from hack.services import start_kafka, start_postgres, start_redis
from hack.services.service import Service, ServiceError, free_port
from hack.torture_harness.target import TargetError, wait_ready
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as pb

DIM: Final = 384
WARM_UP: Final = 10
PROCESSES: Final = 2
FLUSHES: Final = 200
BULK: Final = 500
SPREAD_SECONDS: Final = 180 * 86_400
"""The age that the memories which are there beforehand reach, evenly."""
SOURCE_ROWS: Final = 100_000
JITTER: Final = 0.3
LOADED_AT_ONCE: Final = 80_000
TOKEN: Final = "durability-bench"  # noqa: S105 -- of a server on loopback that lives for a minute
Call = Callable[[int], None]
Vector = npt.NDArray[np.float32]


def drawn(vectors: str, kind: str, dice: np.random.Generator) -> Callable[[], Vector]:
    """Draws vectors as the benchmarks of recall have them (see datasets.py), questions from those that no row is near
    by construction; `random` has no structure at all, which real embeddings never lack.
    """
    if vectors == "random":
        return lambda: dice.standard_normal(DIM, dtype=np.float32)
    data = dataset(SOURCE_ROWS, DIM, "uniform", vectors, "equal")
    rows, jitter = (data.queries, 0.0) if kind == "recall" else (data.vectors, JITTER)

    def draw() -> Vector:
        row = rows[dice.integers(len(rows))]
        moved: Vector = row + np.float32(jitter / DIM**0.5) * dice.standard_normal(DIM, dtype=np.float32)
        return moved

    return draw


def over_http(port: int, kind: str, client: int, count: int, vectors: str) -> Call:
    """One request over a kept HTTP connection; the bodies are made before anything is timed."""
    connection, dice = http.client.HTTPConnection("127.0.0.1", port), np.random.default_rng(client)
    draw = drawn(vectors, kind, dice)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def body_of(number: int) -> bytes:
        vector = draw().tolist()
        body: dict[str, Any] = {"query": None, "vector": vector, "top_k": 10}
        if kind == "store":
            body = {"coord": f"{client},{number}", "payload": {"text": f"memory {number}"}, "vector": vector}
        return json.dumps(body).encode()

    bodies = [body_of(number) for number in range(count)]

    def call(number: int) -> None:
        connection.request("POST", f"/{kind}", body=bodies[number], headers=headers)
        answer = connection.getresponse()
        words = answer.read()
        if answer.status != 200:
            raise RuntimeError(words.decode())

    return call


def over_grpc(port: int, kind: str, client: int, count: int, vectors: str) -> Call:
    """One call over a gRPC channel of its own, to soma.memory.v2; `bulk` sends `BULK` rows, `past` too, of all ages.

    The messages are made and serialised before anything is timed: on two cores a client's work is the server's delay.
    """
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
    dice = np.random.default_rng(client)
    draw = drawn(vectors, kind, dice)
    options: dict[str, Any] = {"metadata": (("authorization", f"Bearer {TOKEN}"),), "timeout": 60.0}

    def item(number: int) -> pb.Item:
        payload = json.dumps({"text": f"memory {number}"})
        at = time.time() - dice.uniform(0, SPREAD_SECONDS) if kind == "past" else None
        return pb.Item(coordinate=[client, number], payload_json=payload, vector=draw().tolist(), timestamp=at)

    def message(number: int) -> tuple[str, Any]:
        if kind == "store":
            return "Store", pb.StoreRequest(item=item(number))
        if kind in {"bulk", "past"}:
            return "StoreBulk", pb.StoreBulkRequest(items=[item(number * BULK + n) for n in range(BULK)])
        return "Recall", pb.RecallRequest(vector=draw().tolist(), top_k=10)

    made = [message(number) for number in range(count)]
    sent = [one.SerializeToString() for _, one in made]
    method = channel.unary_unary(f"/soma.memory.v2.MemoryService/{made[0][0]}")

    def call(number: int) -> None:
        method(sent[number], **options)

    return call


MAKERS: Final = {"http": over_http, "grpc": over_grpc}


def work(
    transport: str, port: int, kind: str, clients: Sequence[int], count: int, vectors: str, ready: Any, results: Any
) -> None:
    """A process with a thread for each client; the seconds of all requests but the first go into `results`."""
    warm_up = 1 if kind in {"bulk", "past"} else WARM_UP
    calls = [MAKERS[transport](port, kind, number, count + warm_up, vectors) for number in clients]
    seconds: list[float] = []
    ready.wait()

    def client(call: Call) -> None:
        for turn in range(count + warm_up):
            began = time.perf_counter()
            call(turn)
            if turn >= warm_up:
                seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(seconds)


def measure(transport: str, port: int, kind: str, clients: int, count: int, vectors: str = "random") -> list[float]:
    """Sorted seconds of the requests of so many clients at once; each begins when all have their requests made."""
    context = multiprocessing.get_context("spawn")
    results, first = context.Queue(), int(time.time() * 1000) % 10**9
    shares = [list(range(first + start, first + clients, PROCESSES)) for start in range(min(PROCESSES, clients))]
    ready = context.Barrier(len(shares))
    processes = [
        context.Process(target=work, args=(transport, port, kind, share, count, vectors, ready, results))
        for share in shares
    ]
    for process in processes:
        process.start()
    seconds = sorted(second for _ in processes for second in _next(results, processes))
    for process in processes:
        process.join()
    return seconds


def _next(results: Any, processes: Sequence[Any]) -> list[float]:
    """What the next process has measured. Raises TargetError as soon as one of them has failed."""
    while True:
        try:
            return list(results.get(timeout=1.0))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.terminate()  # the others wait for it at the barrier
                raise TargetError("a client process failed: what it said stands above") from None


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return round(seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1e3, 2)


def fsync_p50(directory: Path) -> float:
    """Milliseconds of a write of 4 KiB with its flush, in the directory that the ledger lies in; the median of many."""
    took, path = [], directory / "flush-probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(FLUSHES):
            began = time.perf_counter()
            os.write(descriptor, b"\0" * 4096)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(statistics.median(took) * 1e3, 3)


@contextlib.contextmanager
def server(folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """A `soma serve` while the context lasts: its HTTP port and its gRPC port."""
    ports, log = (free_port(), free_port()), folder / "server.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SOMA_")} | {
        "SOMA_API_TOKEN": TOKEN,
        "SOMA_DATA_DIR": str(folder / "data"),
        "SOMA_HTTP_HOST": "127.0.0.1",
        "SOMA_GRPC_HOST": "127.0.0.1",
        "SOMA_HTTP_PORT": str(ports[0]),
        "SOMA_GRPC_PORT": str(ports[1]),
        "SOMA_EMBEDDING_PROVIDER": "hash",
        "SOMA_VECTOR_DIM": str(DIM),
        "SOMA_LOG_LEVEL": "WARNING",
    }
    command, environ = [sys.executable, "-m", "memory_runtime.surfaces.cli"], {**environ, **settings}
    migrated = subprocess.run([*command, "migrate"], env=environ, capture_output=True, text=True, check=False)
    if migrated.returncode != 0:
        raise TargetError(f"soma migrate failed: {migrated.stderr.strip()[-500:]}")
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "serve"], env=environ, stdout=file, stderr=file)

    def ended() -> str | None:
        return None if process.poll() is None else f"the server ended: {log.read_text(errors='replace')[-1500:]}"

    try:
        wait_ready("127.0.0.1", ports[0], 60.0, ended)
        yield ports
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def back_ends(folder: Path, mode: str) -> Iterator[dict[str, str]]:
    """The settings of the mode, with its back ends up while the context lasts."""
    if mode == "embedded":
        yield {}
        return
    with contextlib.ExitStack() as stack:
        services: list[Service] = []
        stack.callback(_stop_all, services)
        services.append(start_postgres(folder))
        services.append(start_redis(folder / "redis"))
        services += start_kafka(folder / "kafka")
        postgres, redis, kafka = (service.url for service in services)
        yield {
            "SOMA_MODE": "distributed",
            "SOMA_POSTGRES_URL": postgres,
            "SOMA_REDIS_URL": redis,
            "SOMA_KAFKA_BOOTSTRAP_SERVERS": kafka,
        }


def _stop_all(services: Sequence[Service]) -> None:
    for service in services:
        service.stop()


def load(port: int, memories: int, vectors: str = "random") -> None:
    """Stores so many memories, or a few more, as the past 180 days would have left them."""
    bulks, left = LOADED_AT_ONCE // BULK // PROCESSES, memories
    while left > 0:
        share = max(1, min(bulks, -(-left // BULK // PROCESSES)))
        measure("grpc", port, "past", PROCESSES, share - 1, vectors)
        left -= share * BULK * PROCESSES


def rows(mode: str, folder: Path, ports: tuple[int, int], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each transport and number of clients, and one for bulks."""
    load(ports[1], options.memories, options.vectors)
    time.sleep(options.settle if options.memories else 0.0)
    for transport, port in zip(("http", "grpc"), ports, strict=True):
        for clients in options.clients:
            count = max(20, options.count // clients)
            stores = measure(transport, port, "store", clients, count, options.vectors)
            recalls = measure(transport, port, "recall", clients, count, options.vectors)
            yield {
                "mode": mode,
                "transport": transport,
                "clients": clients,
                "memories_before": options.memories,
                "vectors": options.vectors,
                "store_p50_ms": percentile(stores, 0.5),
                "store_p95_ms": percentile(stores, 0.95),
                "recall_p50_ms": percentile(recalls, 0.5),
                "recall_p95_ms": percentile(recalls, 0.95),
                "recalls_per_s": round(clients / statistics.fmean(recalls)),
                "fsync_p50_ms": fsync_p50(folder),
            }
    began = time.perf_counter()
    bulks = max(4, options.rows // BULK // PROCESSES)
    seconds = measure("grpc", ports[1], "bulk", PROCESSES, bulks)
    rate = len(seconds) * BULK / (sum(seconds) / PROCESSES)
    yield {
        "mode": mode,
        "transport": "grpc",
        "clients": PROCESSES,
        "rows_per_s": round(rate),
        "fsync_p50_ms": fsync_p50(folder),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> int:
    """Exit status 0; 2 for bad flags; 3 where a server or a back end does not start."""
    parser = argparse.ArgumentParser(prog="hack/bench/durability", description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=("embedded", "distributed"), default=["embedded"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--count", type=int, default=2000, help="requests of all clients together (default 2000)")
    parser.add_argument("--rows", type=int, default=40_000, help="rows of the bulks (default 40000)")
    parser.add_argument("--memories", type=int, default=0, help="memories that are there beforehand (default 0)")
    parser.add_argument("--vectors", choices=("random", "clustered", "real"), default="random", help="see datasets.py")
    parser.add_argument(
        "--settle", type=float, default=0.0, help="seconds to wait once the memories are there (default 0)"
    )
    parser.add_argument("--half-life", default="", help="the server's, such as 7d (default: no decay)")
    parser.add_argument("--dir", type=Path, help="where the ledger lies (default: a temporary directory)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if min(options.clients) < 1 or options.count < 1 or options.rows < 1 or options.memories < 0:
        parser.error("--clients, --count and --rows must be at least 1, --memories at least 0")
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    try:
        # made here, once: of two client processes each would make it
        drawn(options.vectors, "recall", np.random.default_rng())
        for mode in options.modes:
            with tempfile.TemporaryDirectory(prefix="soma-durability-", dir=options.dir) as name:
                folder = Path(name)
                folder.chmod(0o755)  # PostgreSQL runs as another account, and must reach its own below it
                decay = {"SOMA_HALF_LIFE": options.half_life} if options.half_life else {}
                with back_ends(folder, mode) as settings, server(folder, {**settings, **decay}) as ports:
                    for row in rows(mode, folder, ports, options):
                        print(json.dumps(row) if options.json else line(row), flush=True)
    except (ServiceError, TargetError, ClusterError, NoRoom, WeightsUnavailableError) as error:
        print(f"hack/bench/durability: {error}", file=sys.stderr)
        return 3
    print(f"load average at the end: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return 0


def line(row: Mapping[str, Any]) -> str:
    """The row for a person."""
    return "  ".join(f"{name} {value}" for name, value in row.items())


if __name__ == "__main__":
    sys.exit(interruptible("hack/bench/durability", main))
