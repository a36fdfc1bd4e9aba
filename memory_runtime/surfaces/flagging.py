"""Flags and settings while `serve` runs: etcd's own watch, and every way to say that the settings are to be read again.

These are SIGHUP, a changed settings file or mounted secret, and `config.updates` where a fleet announces changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from memory_runtime.flags import Flags
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import LoadedSettings, SettingsError, SMFSettings, reload_settings
from memory_runtime.telemetry.supervision import Supervisor, stop_all

if TYPE_CHECKING:
    from memory_runtime.events.watching import ConfigUpdate, ConfigWatcher

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""From one look at the settings' files to the next. The kubelet itself takes up to a minute to renew a mounted one."""

Reread = Callable[[], LoadedSettings]
"""Reads file, secrets and environment again. Raises SettingsError."""
Stamp = Callable[[], Hashable]
"""What tells whether the settings' files have changed since."""


class FlagWatch:
    """Begun before the first request is served, so that it already meets the flags."""

    def __init__(
        self,
        settings: SMFSettings,
        flags: Flags,
        reread: Reread | None = None,
        tasks: Supervisor | None = None,
        stamp: Stamp | None = None,
    ) -> None:
        """`reread` is called when `reload` is, at each configuration update and when `stamp` changes.

        Without it the settings stay as they are.
        """
        self._flags = flags
        self._reread = reread
        self._tasks = tasks
        self._stamp = stamp
        self._reading = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._refused: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._watcher = self._listener(settings)

    async def start(self) -> None:
        """Reads the flags, waiting for etcd no longer than its time-out, and goes on listening."""
        await self._flags.start()
        if self._watcher is not None:
            self._watcher.start()
        if self._reread is not None:
            self._task = asyncio.create_task(self._look(), name="settings-watch")

    async def stop(self) -> None:
        """Ends listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await stop_all(*([self._watcher.stop] if self._watcher is not None else []), self._flags.stop)

    def reload(self) -> None:
        """Has the settings read again, soon: what SIGHUP does. May be called before `start`."""
        self._wanted.set()

    async def _look(self) -> None:
        seen = await self._stamped()
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                found = await self._stamped()
                if found == seen:
                    continue
            self._wanted.clear()
            # stamped before they are read: what changes meanwhile is read once more
            seen = await self._stamped()
            try:
                await self._read_settings_again()
            except Exception:  # the watch must outlive any single failure
                log.exception("the settings could not be taken over")

    async def _stamped(self) -> Hashable:
        return None if self._stamp is None else await in_thread(self._stamp)

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
        if updates:
            await self._read_settings_again()

    async def _read_settings_again(self) -> None:
        if self._reread is None:
            return
        async with self._reading:
            try:
                loaded = await in_thread(self._reread)
            except SettingsError as error:
                log.error("the settings stay as they were: %s", error)  # noqa: TRY400 -- one sentence says it all
                return
            reload = reload_settings(self._flags.configured, loaded)
            if reload.need_restart and reload.need_restart != self._refused:
                log.warning("these settings need a restart to change: %s", ", ".join(reload.need_restart))
            self._refused = reload.need_restart
            if reload.changed:
                self._flags.rebase(reload.settings)
                log.info("settings changed: %s", ", ".join(reload.changed))
