"""Latency of store and recall over HTTP and gRPC, with one client and with several, against a `soma serve` of its own.

Each client is a process with one kept connection; text is embedded by the hash provider, so the figures are those of
the surfaces, the ledger and the index rather than of a model. `hack/py -m hack.bench.surfaces --json` prints JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as stubs

WARM_UP = 20
Call = Callable[[int], None]


def http_call(port: int, token: str, kind: str, client: int) -> Call:
    """One request over a kept HTTP connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(number: int) -> None:
        if kind == "store":
            body: dict[str, Any] = {"coord": f"{client},{number}", "payload": {"text": sentence(client, number)}}
        else:
            body = {"query": f"topic {number % 17}", "top_k": 10}
        connection.request("POST", f"/{kind}", body=json.dumps(body), headers=headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(answer.decode())

    return call


def grpc_call(port: int, token: str, kind: str, client: int) -> Call:
    """One call over a kept gRPC channel, to soma.memory.v2."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
    stub = stubs.MemoryServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = (("authorization", f"Bearer {token}"),)

    def call(number: int) -> None:
        if kind == "store":
            payload = json.dumps({"text": sentence(client, number)})
            item = pb.Item(coordinate=[client, number, 0], payload_json=payload)
            stub.Store(pb.StoreRequest(item=item), metadata=metadata)
        else:
            stub.Recall(pb.RecallRequest(text=f"topic {number % 17}", top_k=10), metadata=metadata)

    return call


def sentence(client: int, number: int) -> str:
    """A short text, different for each memory."""
    return f"memory {number} of client {client} about topic {number % 17}"


def work(
    make: Callable[[int, str, str, int], Call], port: int, token: str, kind: str, client: int, count: int, results: Any
) -> None:
    """One client's requests; their seconds go into `results`."""
    call = make(port, token, kind, client)
    seconds = []
    for number in range(count + WARM_UP):
        began = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - began)
    results.put(seconds[WARM_UP:])


def measure(make: Any, port: int, token: str, kind: str, clients: int, count: int) -> dict[str, Any]:
    """p50, p95 in milliseconds and requests a second of `clients` processes at once."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    first = int(time.time() * 1000) % 10**9
    arguments = [(make, port, token, kind, first + client, count, results) for client in range(clients)]
    processes = [context.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    each = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    seconds = sorted(second for own in each for second in own)
    return {
        "surface": "http" if make is http_call else "grpc",
        "kind": kind,
        "clients": clients,
        "p50_ms": round(seconds[len(seconds) // 2] * 1e3, 2),
        "p95_ms": round(seconds[int(len(seconds) * 0.95)] * 1e3, 2),
        "per_second": round(sum(len(own) / sum(own) for own in each)),
    }


def start(folder: Path) -> tuple[subprocess.Popen[bytes], int, int, str]:
    """A server on free ports: process, HTTP port, gRPC port, token."""
    log = folder / "log"
    command = [sys.executable, "-m", "memory_runtime.surfaces.cli", "serve", "--data-dir", str(folder / "data")]
    command += ["--http-port", "0", "--grpc-port", "0", "--log-level", "INFO", "--log-format", "json"]
    environment = {**os.environ, "SOMA_EMBEDDING_PROVIDER": "hash"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stderr=file)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r'"http_port": (\d+), "grpc_port": (\d+), "data_dir"', log.read_text())
        if found and '"serving HTTP' in log.read_text():
            return process, int(found[1]), int(found[2]), (folder / "data" / "api-token").read_text().strip()
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"soma serve did not start:\n{log.read_text()[-2000:]}")


def main() -> int:
    """Prints a line for each surface, kind and number of clients."""
    parser = argparse.ArgumentParser(prog="hack/py -m hack.bench.surfaces", description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="requests of each client (default 400)")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, http_port, grpc_port, token = start(Path(folder))
        try:
            for make, port in ((http_call, http_port), (grpc_call, grpc_port)):
                for kind in ("store", "recall"):
                    for clients in (1, 8):
                        row = measure(make, port, token, kind, clients, arguments.count) | {"load": os.getloadavg()[0]}
                        print(json.dumps(row) if arguments.json else line(row), flush=True)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    return 0


def line(row: dict[str, Any]) -> str:
    """The row for a person."""
    return (
        f"{row['surface']:5}{row['kind']:7} clients {row['clients']}  p50 {row['p50_ms']:7.2f} ms"
        f"  p95 {row['p95_ms']:7.2f} ms  {row['per_second']:5}/s  (load {row['load']:.1f})"
    )


if __name__ == "__main__":
    sys.exit(main())
