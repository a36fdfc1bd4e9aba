"""The resync: lists everything now and then, because a watch may miss what happened while it was broken."""

from __future__ import annotations

import asyncio
import logging
import random

from soma_operator.catalog.kinds import CHILD_KINDS, PARENT_KINDS, SOMA_MEMORY, Kind, Ref
from soma_operator.catalog.names import CHILD_SELECTOR
from soma_operator.cluster.client import ClusterClient
from soma_operator.cluster.errors import ApiError
from soma_operator.observe.facts import Facts
from soma_operator.observe.store import Store
from soma_operator.reconcile.queue import KeyedQueue, Priority
from soma_operator.telemetry import metrics

log = logging.getLogger(__name__)


class Resync:
    """Repairs the store from lists, prunes what is gone, and remembers which kinds the API server serves to us."""

    def __init__(self, client: ClusterClient, store: Store, queue: KeyedQueue, mean_seconds: float) -> None:
        self._client = client
        self._store = store
        self._queue = queue
        self._mean = mean_seconds
        self.served: dict[Kind, bool] = {}

    async def run(self) -> None:
        """Until cancelled; jittered, so that replicas and clusters do not march in step."""
        while True:
            await asyncio.sleep(self._mean * (0.75 + 0.5 * random.random()))  # noqa: S311 not for secrets
            await self.once()

    async def once(self) -> None:
        """One list of each kind; a kind that cannot be listed is left as it is."""
        for kind in PARENT_KINDS + CHILD_KINDS:
            try:
                await self._kind(kind)
                self.served[kind] = True
            except ApiError as error:
                self.served[kind] = False
                metrics.RESYNCS.labels("failed").inc()
                log.warning(
                    "resync of a kind failed",
                    extra={"kind": kind.name, "reason": error.reason.value, "detail": error.message},
                )
        for parent in self._store.parents():
            self._queue.add(parent.ref, Priority.ROUTINE, random.random() * min(30.0, self._mean / 4))  # noqa: S311
        metrics.RESYNCS.labels("done").inc()

    async def _kind(self, kind: Kind) -> None:
        # What we learn while listing is newer than the list: only what is older than its beginning may be pruned.
        horizon = self._store.newest()
        listed: list[Ref] = []
        async for page in self._client.list(kind, "" if kind in PARENT_KINDS else CHILD_SELECTOR):
            for body in page:
                meta = body["metadata"]
                listed.append(Ref(kind, meta["namespace"], meta["name"]))
                if kind in PARENT_KINDS:
                    self._store.put_parent(kind, body)
                else:
                    self._store.put_child(kind, body)
        if kind in PARENT_KINDS:
            for ref in self._store.prune_parents(kind, listed, horizon):
                self._queue.add(ref, Priority.CHANGED)
        else:
            for facts in self._store.prune(kind, listed, horizon):
                self._wake(facts)

    def _wake(self, facts: Facts) -> None:
        if facts.memory:
            self._queue.add(Ref(SOMA_MEMORY, facts.ref.namespace, facts.memory), Priority.CHILD)
