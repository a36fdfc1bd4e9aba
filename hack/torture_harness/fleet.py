"""Several `soma serve` on one PostgreSQL, of which one lies behind a proxy; and what can be done to such a fleet."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from hack.services import Service, start_kafka, start_postgres
from hack.services.proxy import FaultProxy
from hack.services.service import ServiceError
from hack.torture_harness.history import DIM, Kind
from hack.torture_harness.processes import Launcher
from hack.torture_harness.stream import Copy, StreamWitness, prepare
from hack.torture_harness.target import READY_SECONDS, HostTarget, TargetError
from hack.torture_harness.witness import PostgresWitness, Witness
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import migrating

REPLICAS: Final = 2
_LET_WORK: Final = 0.4
"""Seconds of load after a fault has passed: what recovers must be seen to."""


class Fleet:
    """The first replica reaches PostgreSQL by way of the proxy, the others directly; failpoints go to the first."""

    ways: Sequence[Kind] = (Kind.GET,)
    """A recall may lag behind another replica's write, unless it names it (`min_seq`); reads by coordinate may not."""

    def __init__(
        self,
        postgres: Service,
        proxy: FaultProxy,
        members: Sequence[HostTarget],
        broker: Service | None = None,
        copy: Copy | None = None,
    ) -> None:
        self.postgres = postgres
        self.broker = broker
        self.copy = copy
        self.proxy = proxy
        self.members = members
        self.urls = [member.urls[0] for member in members]
        self.witness: Witness | None = PostgresWitness(postgres.url)
        if copy is not None:
            self.witness = StreamWitness(postgres.url, copy)

    @property
    def started(self) -> bool:
        """Whether there was a start."""
        return any(member.started for member in self.members)

    def start(self, failpoints: str = "") -> None:
        """Starts every replica; returns once all are ready. Raises TargetError."""
        for member in self.members:
            # which of them relays is for their lease to say
            trapped = member is self.members[0] or failpoints.startswith("mid-relay")
            member.begin(failpoints if trapped else "")
        for member in self.members:
            member.await_ready(READY_SECONDS)
        if self.copy is not None:
            self.copy.start()

    def alive(self) -> bool:
        """Whether all replicas run."""
        return all(member.alive() for member in self.members)

    def kill(self) -> None:
        """SIGKILL to all."""
        for member in self.members:
            if member.started:
                member.kill()

    def stop(self) -> None:
        """SIGTERM to all."""
        for member in self.members:
            if member.started:
                member.stop()

    def suffer(self, name: str) -> None:
        """The harm of this name while clients work. Blocking."""
        _HARMS[name](self)
        time.sleep(_LET_WORK)


def _kill_one(fleet: Fleet) -> None:
    fleet.members[0].kill()


def _pause_one(fleet: Fleet) -> None:
    os.kill(fleet.members[0].pid, signal.SIGSTOP)
    time.sleep(0.4)
    os.kill(fleet.members[0].pid, signal.SIGCONT)


def _kill_postgres(fleet: Fleet) -> None:
    fleet.postgres.kill()
    time.sleep(0.2)
    fleet.postgres.start()
    time.sleep(0.5)


def _partition(fleet: Fleet) -> None:
    fleet.proxy.cut()
    time.sleep(0.5)
    fleet.proxy.heal()


def _drop(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.proxy.drop()
        time.sleep(0.05)


def _slow_link(fleet: Fleet) -> None:
    fleet.proxy.latency = 0.03
    time.sleep(0.6)
    fleet.proxy.latency = 0.0


def _silence(fleet: Fleet) -> None:
    """The answers are lost, not the requests: a commit happens, and nobody hears of it."""
    fleet.proxy.stall("replies")
    time.sleep(0.3)
    fleet.proxy.cut()
    fleet.proxy.heal()


def _kill_broker(fleet: Fleet) -> None:
    if fleet.broker is not None:
        fleet.broker.kill()
        time.sleep(0.2)
        fleet.broker.start()


def _kill_copy(fleet: Fleet) -> None:
    if fleet.copy is not None:
        fleet.copy.kill()
        time.sleep(0.2)
        fleet.copy.start()


def _nothing(_: Fleet) -> None:
    """All are killed at once."""


_HARMS: Final[dict[str, Callable[[Fleet], None]]] = {
    "kill": _nothing,
    "slow": _nothing,
    "replica": _kill_one,
    "pause": _pause_one,
    "postgres": _kill_postgres,
    "partition": _partition,
    "drop": _drop,
    "link": _slow_link,
    "silence": _silence,
    "broker": _kill_broker,
    "consumer": _kill_copy,
}


@contextmanager
def fleet_on(directory: Path, token: str, launcher: Launcher, *, events: bool = False) -> Iterator[Fleet]:
    """A fleet that has not been started, on a PostgreSQL of its own; with `events` a broker and a consumer behind it.

    Raises TargetError where they cannot be had.
    """
    directory.chmod(0o755)  # PostgreSQL runs as another account, and must reach its own below it
    try:
        postgres = start_postgres(directory, settings={"max_connections": "60", "shared_buffers": "64MB"})
    except ServiceError as error:
        raise TargetError(str(error)) from error
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.stop)
        broker, copy, published = None, None, {}
        if events:
            broker, copy = events_behind(directory, launcher, stack)
            published = {"SOMA_KAFKA_BOOTSTRAP_SERVERS": broker.url}
        migrating.migrate(SMFSettings(mode="distributed", postgres_url=SecretStr(postgres.url), vector_dim=DIM))
        proxy = stack.enter_context(FaultProxy.before(postgres.url, 5432))
        members = []
        for number in range(REPLICAS):
            home = directory / f"replica-{number}"
            home.mkdir()
            dsn = postgres.url if number else proxy.url(postgres.url)
            settings = {
                "SOMA_MODE": "distributed",
                "SOMA_POSTGRES_URL": dsn,
                "SOMA_POSTGRES_POOL_SIZE": "6",
                "SOMA_POSTGRES_CONNECT_TIMEOUT_SECONDS": "2",
                "SOMA_POSTGRES_STATEMENT_TIMEOUT_SECONDS": "5",
            }
            members.append(HostTarget(home, token, launcher, settings | published))
        fleet = Fleet(postgres, proxy, members, broker, copy)
        stack.callback(fleet.kill)
        yield fleet


def events_behind(directory: Path, launcher: Launcher, stack: contextlib.ExitStack) -> tuple[Service, Copy]:
    """A broker with the topics, and a consumer that has not been started. Raises TargetError."""
    home = directory / "stream"
    home.mkdir()
    try:
        (broker,) = start_kafka(home)
    except ServiceError as error:
        raise TargetError(str(error)) from error
    stack.callback(broker.stop)
    prepare(broker)
    copy = Copy(home, broker.url, launcher)
    stack.callback(copy.kill)
    return broker, copy
