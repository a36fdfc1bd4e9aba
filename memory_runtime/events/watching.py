"""Listens to `config.updates`: each record there makes this process look again at what it was configured with.

Every process hears every record: there is no group. A record is a nudge, not the truth: what counts is read from where
it is kept (files, environment, etcd), so a lost or doubled record does no harm, and after each connection there is one
call for what may have been missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from pydantic_core import from_json

from memory_runtime.events.backoff import in_words, pause_after
from memory_runtime.events.connecting import client_options, reach, require_topics
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.telemetry.supervision import Supervised, Supervisor

log = logging.getLogger(__name__)

_POLL_MS: Final = 1000
_SELDOM_SECONDS: Final = 60.0


class ConfigUpdate(NamedTuple):
    """One record: its key as text, and its value as JSON where it is JSON (None where not)."""

    key: str
    value: Any


OnUpdates = Callable[[Sequence[ConfigUpdate]], Awaitable[None]]
"""Called with the updates of one poll, in order; with none of them after each connection. May raise: it is logged."""


class ConfigWatcher:
    """Runs until stopped; the brokers' absence only costs it news."""

    def __init__(self, settings: SMFSettings, *callbacks: OnUpdates, tasks: Supervisor | None = None) -> None:
        self._settings = settings
        self._callbacks = callbacks
        self._tasks = tasks or Supervisor()
        self._task: Supervised | None = None

    def start(self) -> None:
        """Begins to listen."""
        self._task = self._tasks.start("config-updates", self._run)

    async def stop(self) -> None:
        """Ends at once: nothing is in flight that would be missed."""
        if self._task is not None:
            await self._task.stop()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen()
            except (KafkaError, Unavailable, SettingsError, OSError) as error:
                failures = min(failures + 1, 10)
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "config updates are not heard: %s", in_words(error))
            # a topic that nobody has created yet need not be asked for often
            await asyncio.sleep(pause_after(failures) if failures < 5 else _SELDOM_SECONDS)

    async def _listen(self) -> None:
        topic = self._settings.kafka_config_updates_topic
        await reach(self._settings)
        await require_topics(self._settings, {"kafka_config_updates_topic": topic})
        consumer = AIOKafkaConsumer(
            topic, **client_options(self._settings), enable_auto_commit=False, auto_offset_reset="latest"
        )
        await consumer.start()
        try:
            for partition in consumer.assignment():
                await consumer.position(partition)  # fixes "latest" before the first call: nothing falls in between
            log.info("listening for config updates on %s", topic)
            await self._tell([])
            while True:
                polled = await consumer.getmany(timeout_ms=_POLL_MS)
                updates = [update_of(record) for records in polled.values() for record in records]
                if updates:
                    log.info("configuration updates: %s", ", ".join(sorted({one.key for one in updates})) or "unnamed")
                    await self._tell(updates)
        finally:
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    async def _tell(self, updates: Sequence[ConfigUpdate]) -> None:
        for callback in self._callbacks:
            try:
                await callback(updates)
            except Exception:
                # the last good configuration stays
                log.exception("a configuration update was not taken")


def update_of(record: Any) -> ConfigUpdate:
    """The update of a Kafka record, whatever it holds."""
    key = record.key.decode(errors="replace") if record.key else ""
    try:
        value = from_json(record.value or b"null")
    except ValueError:
        value = None
    return ConfigUpdate(key, value)
