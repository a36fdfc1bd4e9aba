"""Histories that are lost: fail-overs without the last commits, restored volumes, clones beside their originals.

One run: replicas write, a moment is kept, they write on (this is what will be lost, and all caches, indexes and sinks
know of it); some replicas are paused, so that they look late; the kept moment comes back, and the others write about
as many changes as were lost. Whatever is answered from then on must be of the surviving history, and in the end every
replica, and every sink, must hold what the ledger holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from qdrant_client import QdrantClient

from hack.services import Service, keep_snapshot, restore_snapshot, start_clone, start_postgres, start_standby
from hack.services.proxy import FaultProxy
from hack.services.qdrant_rest import start_qdrant_rest
from hack.services.redis import start_redis
from hack.services.service import ServiceError
from hack.torture_harness.blame import Verdict
from hack.torture_harness.clients import vector_of
from hack.torture_harness.fleet import events_behind
from hack.torture_harness.history import DIM
from hack.torture_harness.processes import Launcher
from hack.torture_harness.stream import Copy
from hack.torture_harness.target import READY_SECONDS, HostTarget, TargetError
from hack.torture_harness.witness import PostgresWitness
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import migrating

LOSSES: Final = ("failover", "restore", "clone")
REPLICAS: Final = 3
KEYS: Final = 12
"""Coordinates of a run: few, so that the lost and the surviving history change the same ones."""
CONVERGED_WITHIN_SECONDS: Final = 60.0
COLLECTION: Final = "lost"


_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):  # noqa: N818 -- an answer, not a failure of the harness
    """The replica does not answer this now: nothing is known."""


@dataclass(slots=True)
class Losses:
    """What the runs showed."""

    runs: int = 0
    acknowledged: int = 0
    lost_writes: int = 0
    reads: int = 0
    refused: int = 0
    harms: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)


class Caller:
    """Talks to one replica."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def _ask(self, method: str, path: str, body: Any = None, seconds: float = 10.0) -> tuple[int, Any, dict[str, str]]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method=method)  # noqa: S310 -- loopback
        try:
            with _DIRECT.open(request, timeout=seconds) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return 404, None, {}
            raise Refused(f"{error.code} {error.read(200)!r}") from None
        except (OSError, ValueError) as error:
            raise Refused(type(error).__name__) from None

    def store(self, key: str, text: str) -> int:
        """Stores; the seq. Raises Refused."""
        body = {"coord": key, "payload": {"text": text}, "vector": vector_of(key, DIM)}
        _, _, headers = self._ask("POST", "/memories", body)
        return int({name.lower(): value for name, value in headers.items()}.get("x-soma-seq", 0))

    def delete(self, key: str) -> None:
        """Deletes. Raises Refused."""
        self._ask("DELETE", f"/memories/{key}")

    def get(self, key: str, seconds: float = 10.0) -> str | None:
        """The text at the coordinate. Raises Refused."""
        status, body, _ = self._ask("GET", f"/memories/{key}", seconds=seconds)
        return None if status == 404 else str(body["memory"]["payload"]["text"])

    def recall(self, key: str, min_seq: int, seconds: float = 10.0) -> str | None:
        """The text that a recall by the coordinate's own vector finds there. Raises Refused."""
        wanted = {"vector": vector_of(key, DIM), "top_k": KEYS, "min_seq": min_seq}
        _, body, _ = self._ask("POST", "/memories/search", wanted, seconds)
        for one in body["memories"]:
            if ",".join(map(repr, map(float, one["coordinate"]))) == key:
                return str(one["payload"]["text"])
        return None

    def vectors(self) -> int:
        """How many rows its index has. Raises Refused."""
        _, body, _ = self._ask("GET", "/stats")
        return int(body["vector_count"])


class Ledger:
    """One PostgreSQL, whichever server that is now, and the replicas on it: they reach it by one address."""

    def __init__(self, server: Service, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.model: dict[str, str] = {}
        """What the surviving history has acknowledged, by coordinate."""
        self.doubt: set[str] = set()
        """Coordinates of which the last write was not answered."""
        self.seq = 0

    def rows(self) -> dict[str, str]:
        """What it holds."""
        return dict(PostgresWitness(self.server.url).look().rows)


class LostHistories:
    """A series of runs on one fleet."""

    def __init__(self, directory: Path, token: str, launcher: Launcher, seed: int, *, events: bool) -> None:
        self.findings = Losses()
        self._directory, self._token, self._launcher, self._seed = directory, token, launcher, seed
        self._dice = random.Random(seed)
        self._events = events
        self._stack = contextlib.ExitStack()
        self._written = self._run = 0
        self._settings: dict[str, str] = {}
        self._copy: Copy | None = None

    def __enter__(self) -> LostHistories:
        directory = self._directory
        directory.chmod(0o755)
        try:
            server = start_postgres(
                directory, settings={"max_connections": "60", "shared_buffers": "32MB", "wal_keep_size": "16MB"}
            )
            self._stack.callback(lambda: self._ledger.server.stop(grace=0.1))
            redis = self._start(lambda: start_redis(directory / "redis"))
            qdrant = self._start(lambda: start_qdrant_rest(directory / "qdrant"))
        except ServiceError as error:
            raise TargetError(str(error)) from error
        migrating.migrate(SMFSettings(mode="distributed", postgres_url=SecretStr(server.url), vector_dim=DIM))
        self._ledger = Ledger(server, self._stack.enter_context(FaultProxy.before(server.url, 5432)))
        self._qdrant = QdrantClient(url=qdrant.url, check_compatibility=False)
        self._settings = {"SOMA_REDIS_URL": redis.url, "SOMA_QDRANT_URL": qdrant.url}
        self._settings |= {"SOMA_QDRANT_COLLECTION": COLLECTION, "SOMA_QDRANT_PREFER_GRPC": "false"}
        if self._events:
            broker, self._copy = events_behind(directory, self._launcher, self._stack)
            self._copy.start()
            self._settings["SOMA_KAFKA_BOOTSTRAP_SERVERS"] = broker.url
        self._members = [self._member(f"replica-{n}", self._ledger, self._settings) for n in range(REPLICAS)]
        for member in self._members:
            member.begin()
        for member in self._members:
            member.await_ready(READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, start: Callable[[], Service]) -> Service:
        service = start()
        self._stack.callback(service.kill)
        return service

    def _member(self, name: str, ledger: Ledger, more: dict[str, str]) -> HostTarget:
        home = self._directory / name
        home.mkdir()
        settings = {
            "SOMA_MODE": "distributed",
            "SOMA_POSTGRES_URL": ledger.proxy.url(ledger.server.url),
            "SOMA_POSTGRES_POOL_SIZE": "5",
            "SOMA_POSTGRES_CONNECT_TIMEOUT_SECONDS": "2",
            "SOMA_POSTGRES_STATEMENT_TIMEOUT_SECONDS": "5",
        }
        member = HostTarget(home, self._token, self._launcher, settings | more)
        member.data.mkdir()
        self._stack.callback(lambda: member.kill() if member.started else None)
        return member

    # ---- what a run is made of ----

    def run(self, kind: str) -> None:
        """One run of this kind. Raises TargetError where the fleet does not come back."""
        self._run += 1
        ledger, before = self._ledger, len(self.findings.verdict.complaints)
        self._write(ledger, self._members, self._dice.randrange(3, 9))
        self._read_all(self._members)
        (self._clone if kind == "clone" else self._lose)(kind)
        for member in self._members:
            member.await_ready(READY_SECONDS)
        self._compare(ledger, self._members)
        self._compare_sinks(ledger)
        self.findings.runs += 1
        self.findings.harms[kind] += 1
        if len(self.findings.verdict.complaints) > before:
            self.findings.verdict.complaints.append(f"(run {self._run}, {kind}, seed {self._seed})")

    def _lose(self, kind: str) -> None:
        ledger, dice = self._ledger, self._dice
        kept, standby = None, None
        if kind == "restore":
            ledger.server.kill()
            kept = keep_snapshot(ledger.server)
            ledger.server.start()
            for member in self._members:
                member.await_ready(READY_SECONDS)
        else:
            standby = start_standby(ledger.server, self._directory)
            execute(standby.url, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
            execute(ledger.server.url, _UNTIL_NOBODY_STREAMS)
        surviving = dict(execute_rows(standby.url)) if standby is not None else dict(ledger.rows())
        lost = dice.randrange(1, 7)
        self._write(ledger, self._members, lost)
        self.findings.lost_writes += lost
        self._read_all(self._members)
        late = dice.sample(self._members, dice.randrange(0, REPLICAS))
        for member in late:
            os.kill(member.pid, signal.SIGSTOP)
        awake = [member for member in self._members if member not in late]
        try:
            if standby is not None:
                ledger.server.kill()
                execute(standby.url, "SELECT pg_promote(true, 30)")
                execute(standby.url, "ALTER SYSTEM RESET primary_conninfo")
                ledger.server = standby
                ledger.proxy.lead_to(*_address(standby.url))
            elif kept is not None:
                ledger.server.kill()
                restore_snapshot(ledger.server, kept)
                ledger.server.start()
            ledger.model, ledger.doubt, ledger.seq = surviving, set(), 0
            restarted = [member for member in awake if dice.random() < 0.25]
            for member in dice.sample(restarted, len(restarted)):
                member.kill()
                member.begin()
            self._write(ledger, awake, max(1, lost + dice.randrange(-1, 3)), patient=True)
        finally:
            for member in late:
                os.kill(member.pid, signal.SIGCONT)
        # at once: what is answered before the next look must be right, or a refusal
        for member in late:
            self._judge_answers(ledger, member)
        for member in [one for one in late if dice.random() < 0.3]:
            member.kill()
            member.begin()
        self._write(ledger, self._members, dice.randrange(0, 4), patient=True)

    def _clone(self, kind: str) -> None:
        del kind
        ledger = self._ledger
        ledger.server.kill()
        kept = keep_snapshot(ledger.server)
        ledger.server.start()
        server = start_clone(ledger.server, kept, self._directory)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: server.stop(grace=0.1))
            other = Ledger(server, stack.enter_context(FaultProxy.before(server.url, 5432)))
            other.model = other.rows()
            # the same Redis: what the two cache must not meet
            redis = {"SOMA_REDIS_URL": self._settings["SOMA_REDIS_URL"]}
            member = self._member(f"clone-{self._run}", other, redis)
            stack.callback(member.kill)
            member.start()
            for one in self._members:
                one.await_ready(READY_SECONDS)
            for _ in range(self._dice.randrange(2, 5)):
                self._write(ledger, self._members, self._dice.randrange(1, 4), patient=True)
                self._write(other, [member], self._dice.randrange(1, 4), patient=True)
                self._judge_answers(ledger, self._dice.choice(self._members))
                self._judge_answers(other, member)
            self._compare(other, [member])

    def _key(self) -> str:
        return f"{float(self._dice.randrange(KEYS))},7.0"

    def _write(self, ledger: Ledger, members: Sequence[HostTarget], count: int, *, patient: bool = False) -> None:
        """So many acknowledged writes, by any of the members; read back from the one that acknowledged."""
        deadline, done = time.monotonic() + READY_SECONDS, 0
        while done < count:
            if time.monotonic() > deadline:
                raise TargetError("no write is taken any more")
            caller, key = self._caller(self._dice.choice(members)), self._key()
            self._written += 1
            text: str | None = f"w{self._seed}n{self._written}"
            try:
                if self._dice.random() < 0.25:
                    text = None
                    caller.delete(key)
                else:
                    ledger.seq = caller.store(key, str(text))
            except Refused as refused:
                ledger.doubt.add(key)
                if not patient and "URLError" not in str(refused):
                    self.findings.refused += 1
                time.sleep(0.05)
                continue
            done += 1
            self.findings.acknowledged += 1
            ledger.doubt.discard(key)
            ledger.model.pop(key, None)
            if text is not None:
                ledger.model[key] = text
            self._judge(ledger, key, caller, "its own writer")

    def _caller(self, member: HostTarget) -> Caller:
        return Caller(member.urls[0], self._token)

    def _read_all(self, members: Sequence[HostTarget]) -> None:
        """So that every cache has every coordinate, and every index its newest row."""
        for member in members:
            for n in range(KEYS):
                with contextlib.suppress(Refused):
                    self._caller(member).get(f"{float(n)},7.0")

    def _judge_answers(self, ledger: Ledger, member: HostTarget) -> None:
        """Some reads of any kind, at once."""
        caller = self._caller(member)
        for n in self._dice.sample(range(KEYS), 5):
            self._judge(ledger, f"{float(n)},7.0", caller, member.directory.name)

    def _judge(self, ledger: Ledger, key: str, caller: Caller, who: str) -> None:
        if key in ledger.doubt:
            return
        wanted = ledger.model.get(key)
        for way in ("get", "recall"):
            if way == "recall" and not ledger.seq:
                continue
            try:
                self.findings.reads += 1
                found = caller.get(key, 5.0) if way == "get" else caller.recall(key, ledger.seq, 5.0)
            except Refused:
                self.findings.refused += 1
                continue
            if found != wanted:
                self.findings.verdict.age(f"{key}: {who} answers {found!r} to {way}, {wanted!r} is there")

    def _compare(self, ledger: Ledger, members: Sequence[HostTarget]) -> None:
        """Ledger against what was acknowledged, then every replica against the ledger."""
        verdict, rows = self.findings.verdict, ledger.rows()
        for key in {*rows, *ledger.model} - ledger.doubt:
            if rows.get(key) != ledger.model.get(key):
                verdict.lose(f"{key}: the ledger holds {rows.get(key)!r}, acknowledged was {ledger.model.get(key)!r}")
        ledger.model, ledger.doubt = dict(rows), set()
        for member in members:
            caller, last = self._caller(member), ""
            deadline = time.monotonic() + CONVERGED_WITHIN_SECONDS
            while (last := self._difference(caller, rows)) and time.monotonic() < deadline:
                if last.startswith("stale"):
                    break
                time.sleep(0.1)
            if last:
                verdict.age(f"{member.directory.name}: {last}")

    def _difference(self, caller: Caller, rows: dict[str, str]) -> str:
        """What the replica says otherwise than the ledger; empty where it says nothing else."""
        try:
            for n in range(KEYS):
                key = f"{float(n)},7.0"
                if (found := caller.get(key)) != rows.get(key):
                    return f"stale: {key} by coordinate is {found!r}, the ledger holds {rows.get(key)!r}"
            if caller.vectors() != len(rows):
                return f"its index has {caller.vectors()} rows, the ledger {len(rows)}"
            for key, text in rows.items():
                if (found := caller.recall(key, 0)) != text:
                    return f"{key} by recall is {found!r}, the ledger holds {text!r}"
        except Refused as refused:
            return f"refuses: {refused}"
        return ""

    def _compare_sinks(self, ledger: Ledger) -> None:
        verdict, deadline = self.findings.verdict, time.monotonic() + CONVERGED_WITHIN_SECONDS
        wanted = {identity.hex: seq for identity, seq in execute_stamps(ledger.server.url)}
        while (points := self._points()) != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        if points != wanted:
            verdict.age(f"Qdrant holds {points}, the ledger {wanted}")
        if self._copy is not None:
            rows = ledger.rows()
            while (there := dict(self._copy.witness.look().rows)) != rows and time.monotonic() < deadline:
                time.sleep(0.2)
            if there != rows:
                verdict.age(f"the copy holds {there}, the ledger {rows}")

    def _points(self) -> dict[str, int]:
        found: dict[str, int] = {}
        if not self._qdrant.collection_exists(COLLECTION):
            return found
        records, _ = self._qdrant.scroll(COLLECTION, limit=1000, with_payload=True)
        for record in records:
            payload = record.payload or {}
            if not payload.get("gone"):
                found[str(record.id).replace("-", "")] = int(payload["seq"])
        return found


_UNTIL_NOBODY_STREAMS: Final = (
    "DO $$ BEGIN WHILE EXISTS (SELECT 1 FROM pg_stat_replication) LOOP PERFORM pg_sleep(0.02);"
    " PERFORM pg_stat_clear_snapshot(); END LOOP; END $$"
)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("@")[2].partition("/")[0].partition(":")
    return host, int(port)


def execute(url: str, *statements: str) -> list[Any]:
    """Runs statements on a connection of their own; what the last one gives."""
    import asyncio

    import asyncpg

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            found: list[Any] = []
            for one in statements:
                found = await connection.fetch(one)
            return found
        finally:
            await connection.close()

    return asyncio.run(run())


def execute_rows(url: str) -> Iterator[tuple[str, str]]:
    """Coordinate and text of the live memories."""
    for one in execute(url, "SELECT coordinate, payload::json ->> 'text' FROM memories WHERE NOT deleted"):
        yield one[0], one[1]


def execute_stamps(url: str) -> Iterator[tuple[Any, int]]:
    """Id and seq of the live memories."""
    for one in execute(url, "SELECT id, seq FROM memories WHERE NOT deleted"):
        yield one[0], one[1]
