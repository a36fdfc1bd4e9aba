"""The workers: take a key from the queue, reconcile it, and let it wait according to how that ended."""

from __future__ import annotations

import asyncio
import logging
import secrets

from soma_operator.api import Reason
from soma_operator.catalog.kinds import SOMA_MEMORY, Ref
from soma_operator.cluster.errors import ApiError
from soma_operator.reconcile.backup import reconcile_backup
from soma_operator.reconcile.memory import GoneError, reconcile_memory
from soma_operator.reconcile.queue import KeyedQueue, Priority
from soma_operator.reconcile.workbench import Outcome, Workbench
from soma_operator.telemetry import metrics
from soma_operator.telemetry.logs import RECONCILE_ID, RESOURCE

log = logging.getLogger(__name__)
_DEADLINE = 120.0


class Workers:
    """Runs `count` workers; `busy_since` tells a stuck one."""

    def __init__(self, bench: Workbench, queue: KeyedQueue, count: int) -> None:
        self._bench = bench
        self._queue = queue
        self._count = count
        self._busy: dict[int, float] = {}
        # By uid, because a namespace of the same name may follow: its resources are others.
        self._doomed: dict[Ref, str] = {}

    def stuck(self) -> bool:
        """Whether a worker works on one key for far longer than it may."""
        limit = self._bench.clock() - 2 * _DEADLINE
        return any(since < limit for since in self._busy.values())

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(number), name=f"worker {number}")

    async def _work(self, number: int) -> None:
        while True:
            key = await self._queue.get()
            self._busy[number] = self._bench.clock()
            RECONCILE_ID.set(secrets.token_hex(4))
            RESOURCE.set(f"{key.kind.name}/{key.namespace}/{key.name}")
            try:
                await self._one(key)
            finally:
                self._queue.done(key)
                self._busy.pop(number, None)
                RECONCILE_ID.set("")

    async def _one(self, key: Ref) -> None:
        started = self._bench.clock()
        result = "error"
        try:
            outcome = await asyncio.wait_for(self._reconcile(key), _DEADLINE)
            result = outcome.result
            self._next(key, outcome)
        except GoneError:
            result = "gone"
            self._queue.add(key, Priority.ROUTINE, 5.0)
        except ApiError as error:
            result = self._refused(key, error)
        except TimeoutError:
            metrics.RECONCILE_ERRORS.labels("Deadline").inc()
            log.warning("reconcile took too long; will retry", extra={"retry_in": self._queue.retry(key)})
        except Exception:
            # A defect must neither kill the worker nor starve the other resources.
            metrics.RECONCILE_ERRORS.labels("Defect").inc()
            log.exception("reconcile failed", extra={"retry_in": self._queue.retry(key)})
        finally:
            elapsed = self._bench.clock() - started
            metrics.RECONCILE_SECONDS.labels(key.kind.name, result).observe(elapsed)
            log.debug("reconciled", extra={"result": result, "seconds": round(elapsed, 4)})

    async def _reconcile(self, key: Ref) -> Outcome:
        parent = self._bench.store.parent(key)
        if parent is None or parent.deleting:
            self._forget(key)
            return Outcome(result="gone")
        if self._doomed.get(key) == parent.uid:
            return Outcome(result="terminating")
        if key.kind is SOMA_MEMORY:
            return await reconcile_memory(self._bench, parent)
        return await reconcile_backup(self._bench, parent)

    def _next(self, key: Ref, outcome: Outcome) -> None:
        if outcome.failed:
            self._queue.retry(key, outcome.again_in or 0.0)
            return
        self._queue.succeeded(key)
        if outcome.again_in is not None:
            self._queue.add(key, Priority.ROUTINE, outcome.again_in)

    def _refused(self, key: Ref, error: ApiError) -> str:
        metrics.RECONCILE_ERRORS.labels(error.reason.value).inc()
        if error.reason is Reason.NAMESPACE_TERMINATING:
            log.info("the namespace is being deleted: nothing is done any more")
            self._queue.succeeded(key)
            parent = self._bench.store.parent(key)
            if parent is not None:
                self._doomed[key] = parent.uid
            return "terminating"
        if error.not_found:
            # The resource went away between the watch and the write.
            self._queue.succeeded(key)
            return "gone"
        wait = self._queue.retry(key, error.retry_after or 0.0)
        log.warning(
            "reconcile put off",
            extra={"reason": error.reason.value, "detail": error.message, "retry_in": round(wait, 1)},
        )
        return "blind" if error.blind else "refused"

    def _forget(self, key: Ref) -> None:
        self._queue.forget(key)
        self._bench.slots.release(key)
        if self._bench.prober is not None:
            self._bench.prober.forget(key)
        self._doomed.pop(key, None)
