"""`hack/bench/pipeline`: events a second from Kafka into the ledger, vectors given, end to end; lag after a spike.

A real broker, a real `soma consume`, and (`--mode distributed`) a real PostgreSQL, all on this machine. Durable means
that the consumer has committed the ledger's transaction: its own counter says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hack.interruption import interruptible
from hack.services import Service, start_kafka, start_postgres
from hack.services.service import free_port

DIM = 384
PROFILES = 512
"""Distinct vectors: their text is made once, so that making events is not what is measured."""


def events(start: int, count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of `count` version 1 events with vectors of 384 numbers (about 4.5 KB each)."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(size=(PROFILES, DIM)).astype(np.float32)
    texts = [json.dumps([round(float(value), 5) for value in row]) for row in rows]
    for number in range(start, start + count):
        payload = json.dumps({"text": f"note {number} of the bench", "n": number, "coordinate": [float(number), 1.0]})
        body = (
            f'{{"embedding":{texts[number % PROFILES]},"event_id":"bench-{number}","id":"m-{number}",'
            f'"importance":{random.random():.3f},"namespace":"bench","payload":{payload},'
            f'"timestamp":{1.7e9 + number},"type":"created"}}'
        )
        yield f"default:m-{number}".encode(), body.encode()


@dataclass
class Bench:
    """What runs, and where."""

    folder: Path
    kafka: Service
    topic: str
    settings: dict[str, str]
    port: int

    def applied(self) -> int:
        """Events that the consumer has made durable."""
        return int(self._metric('soma_consumer_events_total{outcome="applied"}'))

    def _metric(self, name: str) -> float:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    @contextlib.contextmanager
    def consumer(self) -> Iterator[subprocess.Popen[bytes]]:
        """A running `soma consume`."""
        command = [sys.executable, "-m", "memory_runtime.surfaces.cli", "consume"]
        with (self.folder / "consume.log").open("ab") as log:
            process = subprocess.Popen(command, env={**_clean(), **self.settings}, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)

    async def produce(self, start: int, count: int, rate: float = 0.0) -> float:
        """Sends events, at most `rate` a second where one is given; returns the seconds until all were acknowledged."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka.url, acks="all", linger_ms=5, max_batch_size=512 << 10, enable_idempotence=True
        )
        await producer.start()
        began, waiting = time.perf_counter(), []
        for number, (key, value) in enumerate(events(start, count), start=1):
            waiting.append(await producer.send(self.topic, value, key))
            if rate and number % 100 == 0:
                await asyncio.sleep(max(0.0, number / rate - (time.perf_counter() - began)))
        await asyncio.gather(*waiting)
        took = time.perf_counter() - began
        await producer.stop()
        return took

    async def until(self, count: int, started: float, seconds: float = 300.0) -> float:
        """Seconds from `started` until `count` events are durable."""
        while await asyncio.to_thread(self.applied) < count:
            if time.perf_counter() - started > seconds:
                raise SystemExit(f"hack/bench/pipeline: only {self.applied()} of {count} events in {seconds:.0f} s")
            await asyncio.sleep(0.05)
        return time.perf_counter() - started


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SOMA_", "KAFKA_"))}


def cpu_seconds(process: int) -> float:
    """CPU time that a process has used: what it would need on a machine that does nothing else."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(bench: Bench, count: int, spike: int) -> dict[str, Any]:
    """A backlog drained, then events as they come, then a spike on top of a steady stream."""
    await bench.produce(0, count)
    began = time.perf_counter()
    with bench.consumer() as process:
        await bench.until(1, began)
        first, before, spent = time.perf_counter(), bench.applied(), cpu_seconds(process.pid)
        drained = await bench.until(count, first)
        spent = cpu_seconds(process.pid) - spent
        backlog_rate = (count - before) / drained

        began = time.perf_counter()
        producing = asyncio.create_task(bench.produce(count, count))
        end_to_end = await bench.until(2 * count, began)
        await producing

        began = time.perf_counter()
        burst = await bench.produce(2 * count, spike)
        left = 2 * count + spike - await asyncio.to_thread(bench.applied)
        recovered = await bench.until(2 * count + spike, began)
    return {
        "events_per_s": round(backlog_rate),
        "consumer_cpu_us_per_event": round(1e6 * spent / max(1, count - before)),
        "end_to_end_events_per_s": round(count / end_to_end),
        "spike_events": spike,
        "spike_produced_s": round(burst, 2),
        "spike_lag_events": left,
        "spike_drained_s": round(recovered, 2),
    }


async def _topics(address: str, partitions: int, *names: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    await admin.close()


def main() -> int:
    """Exit status 0; 2 for bad flags."""
    parser = argparse.ArgumentParser(prog="hack/bench/pipeline", description=__doc__)
    parser.add_argument("--mode", choices=("embedded", "distributed"), default="embedded")
    parser.add_argument("--events", type=int, default=20_000, help="events of each part (default 20000)")
    parser.add_argument("--spike", type=int, default=10_000, help="events of the spike (default 10000)")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--batch", type=int, default=500, help="events of a ledger commit (default 500)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.events, options.spike, options.partitions, options.batch) < 1:
        parser.error("every number must be at least 1")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="soma-pipeline-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        (kafka,) = start_kafka(folder / "kafka")
        stack.callback(kafka.stop)
        asyncio.run(_topics(kafka.url, options.partitions, "memory.events", "memory.dlq"))
        port = free_port()
        settings = {
            "SOMA_MODE": options.mode,
            "SOMA_DATA_DIR": str(folder / "data"),
            "SOMA_VECTOR_DIM": str(DIM),
            "SOMA_EMBEDDING_PROVIDER": "hash",
            "SOMA_CONSUMER_BATCH_SIZE": str(options.batch),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.url,
            "CONSUMER_METRICS_PORT": str(port),
        }
        if options.mode == "distributed":
            postgres = start_postgres(folder / "postgres")
            stack.callback(postgres.stop)
            settings["POSTGRES_URL"] = postgres.url
            migrate = [sys.executable, "-m", "memory_runtime.surfaces.cli", "migrate"]
            subprocess.run(migrate, env={**_clean(), **settings}, check=True, stdout=subprocess.DEVNULL)
        bench = Bench(folder, kafka, "memory.events", settings, port)
        found = asyncio.run(measure(bench, options.events, options.spike))
    result = {
        "mode": options.mode,
        "clients": 1,
        "dim": DIM,
        "batch": options.batch,
        "load_average": round(load, 1),
    } | found
    print(json.dumps(result) if options.json else "  ".join(f"{key} {value}" for key, value in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(interruptible("hack/bench/pipeline", main))
