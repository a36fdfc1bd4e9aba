"""The process: builds every part, starts and stops them, and answers probes and scrapes. Knows nothing of kopf."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from soma_operator.catalog.kinds import PARENT_KINDS, SOMA_MEMORY, SOMA_MEMORY_BACKUP, WATCHED_KINDS, Kind, Ref
from soma_operator.cluster.client import ClusterClient
from soma_operator.cluster.connection import client as api_client
from soma_operator.cluster.connection import configuration
from soma_operator.cluster.streams import Streams, session
from soma_operator.cluster.throttle import Throttle
from soma_operator.desired.inputs import Defaults
from soma_operator.election.lease import Leadership
from soma_operator.events.recorder import Recorder
from soma_operator.observe.store import Store
from soma_operator.policy.addresses import Addresses, networks
from soma_operator.policy.rules import Policy
from soma_operator.probes.names import Names
from soma_operator.probes.prober import Prober
from soma_operator.reconcile.queue import KeyedQueue, Priority
from soma_operator.reconcile.resync import Resync
from soma_operator.reconcile.slots import RolloutSlots
from soma_operator.reconcile.workbench import Workbench
from soma_operator.reconcile.workers import Workers
from soma_operator.settings import OperatorSettings
from soma_operator.telemetry import metrics
from soma_operator.telemetry.connections import IDLE_SECONDS, MOST, Connections

log = logging.getLogger(__name__)
_HEARTBEAT = 1.0
_HEARTBEAT_LIMIT = 30.0


class OperatorProcess:
    """One replica of the operator. `open`, then `start`, then events by `saw`; `stop` in the end."""

    def __init__(self, settings: OperatorSettings, policy: Policy, agent: str) -> None:
        self._settings = settings
        self._policy = policy
        self._agent = agent
        self._store = Store()
        self._queue = KeyedQueue(clock=time.monotonic)
        self._streams = Streams(WATCHED_KINDS)
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self._beat = time.monotonic()
        self._configuration: Configuration | None = None
        self.failure: Exception | None = None
        """Why it could not be opened."""

    async def open(self) -> None:
        """Find the cluster and build the parts; raises NoClusterError."""
        settings = self._settings
        self._configuration = await configuration()
        self._api = api_client(self._configuration, self._agent)
        self._client = ClusterClient(self._api, Throttle(settings.api_rate))
        self._recorder = Recorder(self._client, settings.identity, time.monotonic)
        defaults = Defaults(settings.runtime_image, settings.default_version, settings.progress_deadline_seconds)
        slots = RolloutSlots(settings.rollout_slots, settings.rollout_delay_seconds, time.monotonic)
        addresses = self._addresses(self._configuration.host)
        self._prober = self._new_prober(addresses)
        self._bench = Workbench(
            self._client, self._store, self._recorder, defaults, slots, self._prober, self._policy, addresses
        )
        self._workers = Workers(self._bench, self._queue, settings.workers)
        self._resync = Resync(self._client, self._store, self._queue, settings.resync_seconds)
        # The Lease has a client of its own: renewing it must never wait for a turn behind a thousand applies.
        self._lease_api = api_client(self._configuration, self._agent)
        self._leadership = Leadership(self._lease_api, settings, self._lead)

    async def start(self) -> None:
        """Answer probes, and stand for election."""
        await self._serve(self._settings.health_port, {"/livez": self._livez, "/readyz": self._readyz})
        await self._serve(self._settings.metrics_port, {"/metrics": self._metrics})
        self._spawn(self._heart(), "heartbeat")
        self._spawn(self._resync.run(), "resync")
        self._spawn(self._recorder.run(), "events")
        if self._prober is not None:
            self._spawn(self._prober.run(), "probes")
        self._spawn(self._leadership.run(), "election")

    def _addresses(self, api_server: str) -> Addresses:
        """Where back ends may be: not at the API server, nor on our node."""
        own = (urlsplit(api_server).hostname, os.environ.get("KUBERNETES_SERVICE_HOST"), self._settings.node_address)
        return Addresses(networks(text for text in own if text), self._policy.networks())

    def _new_prober(self, addresses: Addresses) -> Prober | None:
        every = self._settings.probe_seconds
        if not every:
            return None
        names = Names(admits=addresses.admit)
        return Prober(every, lambda memory: self._queue.add(memory, Priority.CHILD), time.monotonic, names=names)

    async def stop(self) -> None:
        """Stop the work, let go of the Lease, close the connections."""
        if self._configuration is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leadership.release(), 5.0)
        for server in self._servers:
            server.close()
        for runner in self._runners:
            await runner.cleanup()
        await self._lease_api.close()  # type: ignore[no-untyped-call]
        await self._client.close()

    def watch_session(self) -> tuple[str, aiohttp.ClientSession]:
        """Server and session for the watches."""
        if self._configuration is None:
            raise RuntimeError("open() comes first")
        return self._configuration.host, session(self._configuration, self._streams, self._agent)

    def saw(self, kind: Kind, change: str | None, body: Mapping[str, Any]) -> None:
        """Take in one watch event: None (listed), ADDED, MODIFIED or DELETED."""
        meta = body["metadata"]
        ref = Ref(kind, meta["namespace"], meta["name"])
        if kind in PARENT_KINDS:
            self._saw_parent(ref, change, body)
        else:
            self._saw_child(ref, change, body)

    def _saw_parent(self, ref: Ref, change: str | None, body: Mapping[str, Any]) -> None:
        before = self._store.parent(ref)
        if change == "DELETED":
            self._store.remove_parent(ref, body["metadata"]["uid"])
        elif not self._store.put_parent(ref.kind, body):
            return
        self._queue.add(ref, _urgency(before.generation if before else None, change, body))
        if ref.kind is SOMA_MEMORY and (before is None or change == "DELETED"):
            # Backups tell whether their memory exists.
            for parent in self._store.parents():
                if parent.ref.kind is SOMA_MEMORY_BACKUP and parent.ref.namespace == ref.namespace:
                    self._queue.add(parent.ref, Priority.ROUTINE)
        for kind, count in self._store.counts().items():
            metrics.RESOURCES.labels(kind).set(count)

    def _saw_child(self, ref: Ref, change: str | None, body: Mapping[str, Any]) -> None:
        before = self._store.child(ref)
        if change == "DELETED":
            after = self._store.remove_child(ref, body["metadata"]["uid"])
        else:
            after = self._store.put_child(ref.kind, body)
        if after is None or (before is not None and change != "DELETED" and after.tells_nothing_beyond(before)):
            return
        for facts in (before, after):
            if facts is not None and facts.memory:
                self._queue.add(Ref(SOMA_MEMORY, ref.namespace, facts.memory), Priority.CHILD)

    async def _lead(self) -> None:
        """What the leader does: the standby has the same picture, so that it can go on at once."""
        await self._streams.wait_synced()
        for parent in self._store.parents():
            self._queue.add(parent.ref, Priority.ROUTINE)
        await self._workers.run()

    async def _heart(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_HEARTBEAT)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_of_failure)
        self._tasks.append(task)

    def ailments(self) -> list[str]:
        """Why this process should be restarted; nothing that a restart does not mend is among them."""
        found = [f"{task.get_name()} has ended" for task in self._tasks if task.done()]
        if time.monotonic() - self._beat > _HEARTBEAT_LIMIT:
            found.append("the event loop is stuck")
        if self._leadership.abandoned:
            found.append("the leader's work has ended")
        if self._workers.stuck():
            found.append("a reconcile is stuck")
        found += [f"the watch of {kind} is dead" for kind in self._streams.dead(self._resync.served)]
        return found

    async def _serve(self, port: int, routes: Mapping[str, Any]) -> None:
        application = web.Application()
        application.add_routes([web.get(path, handler) for path, handler in routes.items()])
        runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=1.0, keepalive_timeout=IDLE_SECONDS / 2, lingering_time=1.0
        )
        await runner.setup()
        self._runners.append(runner)
        if runner.server is None:
            raise RuntimeError("the runner was not set up")
        listener = Connections(runner.server)
        self._servers.append(
            await asyncio.get_running_loop().create_server(listener, self._settings.listen, port, backlog=MOST)
        )

    async def _livez(self, _: web.Request) -> web.Response:
        ailments = self.ailments()
        return web.Response(text="\n".join(ailments or ["ok"]) + "\n", status=500 if ailments else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        waiting = self._streams.unready()
        role = "leading" if self._leadership.leading else "standing by"
        text = f"waiting for {', '.join(waiting)}" if waiting else f"ok, {role}"
        return web.Response(text=text + "\n", status=503 if waiting else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("%s has failed", task.get_name(), exc_info=task.exception())


def _urgency(known: int | None, change: str | None, body: Mapping[str, Any]) -> Priority:
    if change is None:
        return Priority.ROUTINE
    meta = body["metadata"]
    urgent = change in ("ADDED", "DELETED") or meta.get("deletionTimestamp") or meta.get("generation") != known
    return Priority.CHANGED if urgent else Priority.CHILD
