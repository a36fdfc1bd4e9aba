"""Flags and settings while `serve` runs: etcd's own watch, and `config.updates` where a fleet announces changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memory_runtime.flags import Flags
from memory_runtime.settings import LoadedSettings, SettingsError, SMFSettings, reload_settings
from memory_runtime.telemetry.supervision import Supervisor, stop_all

if TYPE_CHECKING:
    from memory_runtime.events.watching import ConfigUpdate, ConfigWatcher

log = logging.getLogger(__name__)

Reread = Callable[[], LoadedSettings]
"""Reads file, secrets and environment again. Raises SettingsError."""


class FlagWatch:
    """Begun before the first request is served, so that it already meets the flags."""

    def __init__(
        self, settings: SMFSettings, flags: Flags, reread: Reread | None = None, tasks: Supervisor | None = None
    ) -> None:
        """`reread` is called at each configuration update; without it the settings stay as they are."""
        self._flags = flags
        self._reread = reread
        self._tasks = tasks
        self._watcher = self._listener(settings)

    async def start(self) -> None:
        """Reads the flags, waiting for etcd no longer than its time-out, and goes on listening."""
        await self._flags.start()
        if self._watcher is not None:
            self._watcher.start()

    async def stop(self) -> None:
        """Ends listening."""
        await stop_all(*([self._watcher.stop] if self._watcher is not None else []), self._flags.stop)

    def _listener(self, settings: SMFSettings) -> ConfigWatcher | None:
        if settings.kafka_bootstrap_servers is None or not (settings.etcd_endpoints or self._reread):
            return None
        try:
            from memory_runtime.events.watching import ConfigWatcher
        except ImportError:  # the extra is not installed: the relay says so
            return None
        return ConfigWatcher(settings, self._read_settings, self._read_flags, tasks=self._tasks)

    async def _read_flags(self, updates: Sequence[ConfigUpdate]) -> None:
        await self._flags.refresh()

    async def _read_settings(self, updates: Sequence[ConfigUpdate]) -> None:
        if self._reread is None or not updates:
            return
        try:
            loaded = await asyncio.to_thread(self._reread)
        except SettingsError as error:
            log.error("the settings stay as they were: %s", error)  # noqa: TRY400 -- one sentence says it all
            return
        reload = reload_settings(self._flags.configured, loaded)
        if reload.need_restart:
            log.warning("these settings need a restart to change: %s", ", ".join(reload.need_restart))
        if reload.changed:
            log.info("settings changed: %s", ", ".join(reload.changed))
            self._flags.rebase(reload.settings)
