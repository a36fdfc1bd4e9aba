"""A broker behind a fleet, and a `soma consume` that copies what the fleet publishes into a ledger of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hack.services import Service
from hack.torture_harness.blame import Verdict
from hack.torture_harness.history import DIM
from hack.torture_harness.processes import Launcher, Running
from hack.torture_harness.witness import FileWitness, PostgresWitness

TOPICS: Final = ("memory.events", "memory.dlq", "config.updates")
PARTITIONS: Final = 3
CONVERGED_WITHIN_SECONDS: Final = 90.0


class Copy:
    """The consumer's process and its ledger."""

    def __init__(self, directory: Path, broker: str, launcher: Launcher) -> None:
        self.witness = FileWitness(directory / "data" / "ledger.sqlite3")
        self._directory = directory
        self._broker = broker
        self._launcher = launcher
        self._running: Running | None = None

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self._running is not None and self._running.status() is None:
            return
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOMA_")}
        environ = kept | {
            "SOMA_DATA_DIR": str(self._directory / "data"),
            "SOMA_KAFKA_BOOTSTRAP_SERVERS": self._broker,
            "CONSUMER_METRICS_PORT": "0",
            "SOMA_EMBEDDING_PROVIDER": "hash",
            "SOMA_VECTOR_DIM": str(DIM),
            "SOMA_LOG_LEVEL": "WARNING",
        }
        self._running = self._launcher.launch(["consume"], environ, self._directory / "consume.log")

    def kill(self) -> None:
        """SIGKILL, where it runs."""
        if self._running is not None and self._running.status() is None:
            os.kill(self._running.pid, signal.SIGKILL)
            self._running.status(10)


class StreamWitness(PostgresWitness):
    """The database of a fleet whose events are copied: in the end the copy holds what the database holds."""

    def __init__(self, dsn: str, copy: Copy) -> None:
        super().__init__(dsn)
        self._copy = copy

    def judge_whole(self, verdict: Verdict) -> None:
        """Waits until the copy has caught up, or says what it lacks; then looks for what was applied twice there."""
        self._copy.start()
        wanted = dict(self.look().rows)
        deadline = time.monotonic() + CONVERGED_WITHIN_SECONDS
        while (there := self._copied()) != wanted and time.monotonic() < deadline:
            time.sleep(0.5)
            self._copy.start()
        for key in wanted.keys() | (there or {}).keys():
            theirs, ours = (there or {}).get(key), wanted.get(key)
            if theirs is not None and ours is None:
                verdict.resurrect(f"{key}: the copy holds {theirs!r}, which was deleted")
            elif theirs != ours:
                verdict.lose(f"{key}: the copy holds {theirs!r}, published was {ours!r}")
        for text, times in self._copy.witness.look().repeated if there is not None else ():
            verdict.double(f"{text!r} was applied {times} times to the copy")

    def _copied(self) -> dict[str, str] | None:
        return dict(self._copy.witness.look().rows) if self._copy.witness.ready() else None


async def create_topics(broker: Service) -> None:
    """The topics that the fleet and the copy need."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in TOPICS])
    finally:
        await admin.close()


def prepare(broker: Service) -> None:
    """`create_topics`, blocking."""
    asyncio.run(create_topics(broker))
