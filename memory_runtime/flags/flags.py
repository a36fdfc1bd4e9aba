"""What the flags are now: read from etcd, cached in Redis for five minutes, defaults when both are away.

A value is trusted for `flags_ttl_seconds` after etcd said it, in this process and in Redis alike; then the default is
in force again, because a flag that someone wanted gone must not live on where etcd cannot be asked. A value that cannot
be right is not taken: its flag keeps the default, and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memory_runtime.flags.table import FLAGS, flag_named, parse_value
from memory_runtime.model.errors import InvalidArgument, SomaError, Unavailable, Unprocessable
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.interfaces import IKeyValueStore, JsonValue
from memory_runtime.telemetry.supervision import Supervised, Supervisor

if TYPE_CHECKING:
    from memory_runtime.flags.etcd import Etcd

log = logging.getLogger(__name__)

KEY: Final = "flags"
_PAUSE_CAP_SECONDS: Final = 30.0


class Source(enum.StrEnum):
    """Where a flag's value is from."""

    ETCD = "etcd"
    REDIS = "redis"
    DEFAULT = "default"


class FlagState(NamedTuple):
    """One flag as it is in force. `age_seconds` is the time since etcd said it; None for a default."""

    name: str
    value: Any
    default: Any
    source: Source
    age_seconds: float | None
    text: str
    problem: str | None = None


class _Reading(NamedTuple):
    """What etcd said, when (epoch seconds), and whether we have it from etcd or from Redis."""

    values: Mapping[str, str]
    at: float
    source: Source


Apply = Callable[[SMFSettings], None]
"""Takes over settings in which flags differ from what was configured."""


class Flags:
    """The flags of one process. `apply` hears of every change; with no etcd configured nothing ever changes."""

    def __init__(
        self,
        settings: SMFSettings,
        apply: Apply,
        *,
        etcd: Etcd | None = None,
        cache: IKeyValueStore | None = None,
        clock: Callable[[], float] = time.time,
        tasks: Supervisor | None = None,
    ) -> None:
        self._settings = settings
        self._apply = apply
        self._etcd = etcd
        self._cache = cache
        self._clock = clock
        self._reading: _Reading | None = None
        self._revision = 0
        self._in_force: dict[str, Any] = {}
        self._problems: dict[str, str] = {}
        self._unknown: tuple[str, ...] = ()
        self._refreshing = asyncio.Lock()
        self._supervisor = tasks or Supervisor()
        self._tasks: tuple[Supervised, ...] = ()

    async def start(self) -> None:
        """Reads the flags once, waiting for etcd no longer than its time-out, and goes on watching."""
        if self._etcd is None:
            return
        await self.refresh()
        self._tasks = (
            self._supervisor.start("flags-watch", partial(self._watch, self._etcd)),
            self._supervisor.start("flags-tick", self._tick),
        )

    async def stop(self) -> None:
        """Ends watching, and the connections."""
        for task in self._tasks:
            await task.stop()
        if self._etcd is not None:
            await self._etcd.close()
        if self._cache is not None:
            await self._cache.close()

    async def refresh(self) -> None:
        """Reads the flags again, from etcd or else from Redis, and puts them in force. Raises nothing of theirs."""
        if self._etcd is None:
            return
        async with self._refreshing:
            found = await self._from_etcd(self._etcd) or await self._from_redis()
            if found is not None:
                self._reading = found
            self._settle()

    async def _from_etcd(self, etcd: Etcd) -> _Reading | None:
        try:
            values, self._revision = await etcd.read(self._settings.flags_prefix)
        except SomaError as error:
            log.warning("flags: %s", error.message)
            return None
        reading = _Reading(values, self._clock(), Source.ETCD)
        if self._cache is not None:
            kept: JsonValue = {"values": dict(values), "at": reading.at}
            with contextlib.suppress(SomaError):  # it costs a process that starts while etcd is away its flags
                await self._cache.put(KEY, kept, ttl=self._settings.flags_ttl_seconds)
        return reading

    async def _from_redis(self) -> _Reading | None:
        if self._cache is None:
            return None
        try:
            kept = await self._cache.get(KEY)
        except SomaError as error:
            log.warning("flags: %s", error.message)
            return None
        if not isinstance(kept, dict) or not isinstance(kept.get("values"), dict):
            return None
        values = {name: text for name, text in kept["values"].items() if isinstance(text, str)}  # type: ignore[union-attr]
        reading = _Reading(values, float(kept["at"]), Source.REDIS)  # type: ignore[arg-type]
        # another replica may have seen etcd later than this one; or this one later than what is cached
        return reading if self._reading is None or reading.at > self._reading.at else None

    def _trusted(self) -> _Reading | None:
        reading = self._reading
        old = reading is not None and self._clock() - reading.at > self._settings.flags_ttl_seconds
        return None if old else reading

    def rebase(self, settings: SMFSettings) -> None:
        """Takes over other configured settings; the flags in force stay in force above them."""
        self._settings = settings
        self._apply(settings.model_copy(update=self._in_force))

    @property
    def configured(self) -> SMFSettings:
        """The settings as configured, without flags."""
        return self._settings

    def _settle(self) -> None:
        """Puts what is trusted in force, where that differs from what is."""
        reading = self._trusted()
        texts = {} if reading is None else reading.values
        wanted, problems = {}, {}
        for flag in FLAGS:
            if flag.name in texts:
                try:
                    wanted[flag.name] = parse_value(flag, texts[flag.name])
                except InvalidArgument as error:
                    problems[flag.name] = error.message
        unknown = tuple(sorted(set(texts) - {flag.name for flag in FLAGS}))
        self._tell(problems, unknown)
        if wanted != self._in_force:
            changed = sorted(
                name for name in {*wanted, *self._in_force} if wanted.get(name) != self._in_force.get(name)
            )
            self._apply(self._settings.model_copy(update=wanted))
            log.info("flags changed: %s", ", ".join(changed))
            self._in_force = wanted

    def _tell(self, problems: dict[str, str], unknown: tuple[str, ...]) -> None:
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                log.warning("%s; its default stays in force", problem)
        if unknown and unknown != self._unknown:
            known = ", ".join(flag.name for flag in FLAGS)
            log.warning("flags: %s under %s are none; the flags are %s", unknown, self._settings.flags_prefix, known)
        self._problems, self._unknown = problems, unknown

    async def _watch(self, etcd: Etcd) -> None:
        failures = 0
        while True:
            try:
                revisions = etcd.watch(
                    self._settings.flags_prefix, self._revision + 1, idle=self._settings.flags_ttl_seconds / 2
                )
                async with contextlib.aclosing(revisions):
                    async for revision in revisions:
                        # lower, too: an etcd that was restored from a backup counts anew from there
                        if revision != self._revision:
                            await self.refresh()
                            if self._revision < revision:
                                raise Unavailable("etcd: it told of a change, but could not be read", retry_after=1.0)
                        failures = 0
            except SomaError as error:
                failures += 1
                log.debug("flags: %s", error.message)
                await asyncio.sleep(random.uniform(0.0, min(_PAUSE_CAP_SECONDS, 0.2 * 2.0 ** min(failures, 10))))  # noqa: S311
                await self.refresh()

    async def _tick(self) -> None:
        """Keeps the values' age below what is trusted while etcd is there, and drops them in time when it is not."""
        while True:
            await asyncio.sleep(self._settings.flags_ttl_seconds / 3)
            await self.refresh()

    async def set(self, name: str, value: Any) -> FlagState:
        """Writes a flag for the whole fleet, and waits until this process has it.

        Raises NotFound for an unknown flag, InvalidArgument for a value that cannot be, Unprocessable without etcd.
        """
        flag, etcd = flag_named(name), self._needed()
        text = value if isinstance(value, str) else json.dumps(value)
        parse_value(flag, text)
        await etcd.put(self._settings.flags_prefix + name, text)
        await self.refresh()
        return self.state(name)

    async def unset(self, name: str) -> FlagState:
        """Removes a flag: its default is in force again, everywhere."""
        flag, etcd = flag_named(name), self._needed()
        await etcd.delete(self._settings.flags_prefix + flag.name)
        await self.refresh()
        return self.state(name)

    def _needed(self) -> Etcd:
        if self._etcd is None:
            raise Unprocessable(
                "etcd_endpoints: none is set, so flags cannot be changed",
                field="etcd_endpoints",
                remedy="set SOMA_ETCD_ENDPOINTS, or change the setting itself",
            )
        return self._etcd

    def state(self, name: str) -> FlagState:
        """One flag. Raises NotFound."""
        flag, reading = flag_named(name), self._trusted()
        default = getattr(self._settings, name)
        if name not in self._in_force or reading is None:
            return FlagState(name, default, default, Source.DEFAULT, None, flag.text, self._problems.get(name))
        age = round(max(0.0, self._clock() - reading.at), 3)
        return FlagState(name, self._in_force[name], default, reading.source, age, flag.text)

    def states(self) -> list[FlagState]:
        """Every flag, by name."""
        return [self.state(flag.name) for flag in FLAGS]
