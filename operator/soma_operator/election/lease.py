"""Leader election with a Lease, by the official client's implementation, made fit for an API server that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import V1Lease, V1ObjectMeta
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from soma_operator.settings import OperatorSettings
from soma_operator.telemetry import metrics

log = logging.getLogger(__name__)
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class PatientLock(LeaseLock):
    """A LeaseLock whose requests end in time, and to which no answer is an answer: not renewed."""

    def __init__(self, name: str, namespace: str, identity: str, api_client: ApiClient, timeout: float) -> None:
        super().__init__(name, namespace, identity, api_client)
        self._timeout = timeout

    async def get(self, name: str, namespace: str) -> Any:
        """The record, or the error as an ApiException, which is all that the election understands."""
        try:
            return await asyncio.wait_for(super().get(name, namespace), self._timeout)
        except _NO_ANSWER as error:
            return False, ApiException(status=0, reason=type(error).__name__)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Whether the Lease was created. The client's own (37.0) passes `pretty` in a way that its validation
        refuses."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await asyncio.wait_for(self.api_instance.create_namespaced_lease(namespace, lease), self._timeout)
        except (ApiException, *_NO_ANSWER) as error:
            log.warning(
                "the lease was not created", extra={"detail": f"{getattr(error, 'status', '')} {type(error).__name__}"}
            )
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Whether the Lease was updated; it was not, if somebody else was faster."""
        return await self._in_time(super().update(name, namespace, updated_record))

    async def release(self) -> None:
        """Let go of the Lease, so that another replica need not wait for it to expire."""
        held, record = await self.get(self.name, self.namespace)
        lease = self.lease_reference
        if not held or record.holder_identity != self.identity or lease is None or lease.spec is None:
            return
        lease.spec.holder_identity = ""
        lease.spec.lease_duration_seconds = 1
        with contextlib.suppress(ApiException, *_NO_ANSWER):
            replaced = self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
            await asyncio.wait_for(replaced, self._timeout)

    async def _in_time(self, request: Awaitable[bool]) -> bool:
        try:
            return await asyncio.wait_for(request, self._timeout)
        except _NO_ANSWER:
            return False


class Leadership:
    """Runs `lead` while this replica holds the Lease; cancels it when the Lease is lost, and stands by again."""

    def __init__(self, api: ApiClient, settings: OperatorSettings, lead: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._lead = lead
        duration = settings.lease_duration_seconds
        self._lock = PatientLock(
            settings.lease_name, settings.namespace, settings.identity, api, timeout=max(1.0, duration / 5)
        )
        self.leading = False
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        if not self._settings.leader_election:
            await self._leading()
            return
        try:
            while True:
                await LeaderElection(self._config()).run()
        finally:
            await self._stop_leading()

    @property
    def abandoned(self) -> bool:
        """Whether the Lease may be held although the work that it stands for has failed."""
        task = self._task
        return task is not None and task.done() and not task.cancelled() and task.exception() is not None

    async def release(self) -> None:
        """To be called after `run` was cancelled."""
        if self._settings.leader_election:
            await self._lock.release()

    def _config(self) -> Config:
        duration = self._settings.lease_duration_seconds
        return Config(
            self._lock,
            lease_duration=duration,
            renew_deadline=duration * 2 / 3,
            retry_period=max(1.0, duration / 7.5),
            onstarted_leading=self._leading,
            onstopped_leading=self._stopped,
        )

    async def _stop_leading(self) -> None:
        # A cancelled election leaves the task that leads behind, and with it two replicas that write.
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stopped(self) -> None:
        log.warning("lost the lease; standing by")

    async def _leading(self) -> None:
        self._task = asyncio.current_task() if self._settings.leader_election else None
        log.info("leading", extra={"identity": self._settings.identity})
        self.leading = True
        metrics.LEADER.set(1)
        try:
            await self._lead()
        finally:
            self.leading = False
            metrics.LEADER.set(0)
