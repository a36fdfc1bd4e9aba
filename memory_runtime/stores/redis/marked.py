"""Cache entries in Redis that cannot overtake a write: whoever writes marks the key first, and a mark stops fills.

The race that every cache has: a reader takes the old value from the truth, a writer changes the truth and drops the
entry, the reader puts the old value in. Here the writer leaves a mark in the entry's place before the truth changes,
and while it is there nothing can be put in. What takes the mark's place, the new value or a floor, stops the late
reader too: every entry has an order, and only a higher one replaces it. A mark that nobody settles goes by itself
after `MARK_SECONDS`.

In Redis: `=` order text, an entry; `f` order, nothing yet and only what is at least of that order may come; `!` tokens,
writers under way, with `*` where two of them overlap: which of them the truth took last is not known, so neither may
put its value in.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster

from memory_runtime.model.errors import Internal
from memory_runtime.stores.keyvalue.values import batches
from memory_runtime.stores.redis.connecting import RedisClient
from memory_runtime.stores.resilience import Guard, Retry

Command = tuple[str, ...]
PATIENCE_SECONDS: Final = 0.01
"""How long the end of a write waits for another write's mark to go with."""
AT_ONCE: Final = 1000
"""Commands of one round trip."""
MARK_SECONDS: Final = 30.0
"""Longer than a reader may hold a value between the truth and its fill, and a writer may take to commit."""

_FILL: Final = """
local there = redis.call('GET', KEYS[1])
if there then
  local kind = string.sub(there, 1, 1)
  if kind == '!' then return 0 end
  local mine, theirs = string.sub(ARGV[1], 2, 21), string.sub(there, 2, 21)
  if mine < theirs or (kind == '=' and mine == theirs) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_DO_MARK: Final = """
local there, others = redis.call('GET', KEYS[1]), ''
if there and string.sub(there, 1, 1) == '!' then others = string.gsub(string.sub(there, 2), '^%*', '') end
redis.call('SET', KEYS[1], (others == '' and '!' or '!*' .. others) .. ARGV[1], 'PX', ARGV[2])
return 1
"""
_OUTDATE: Final = """
local ttl = ARGV[#ARGV]
for i, key in ipairs(KEYS) do
  local there = redis.call('GET', key)
  if there and string.sub(there, 1, 1) == '!' then
    local writers = string.gsub(string.sub(there, 2), '^%*', '')
    if writers ~= '' then redis.call('SET', key, '!*' .. writers, 'PX', ttl) end
  elseif not there or string.sub(there, 2, 21) < string.sub(ARGV[i], 2, 21) then
    redis.call('SET', key, ARGV[i], 'PX', ttl)
  end
end
return 1
"""
_SETTLE: Final = """
local there = redis.call('GET', KEYS[1])
if not there or string.sub(there, 1, 1) ~= '!' then return 0 end
local from, to = string.find(there, ARGV[1], 2, true)
if not from then return 0 end
local contended = string.sub(there, 2, 2) == '*'
local others = string.gsub(string.sub(there, 2, from - 1) .. string.sub(there, to + 1), '^%*', '')
if others ~= '' then
  redis.call('SET', KEYS[1], '!*' .. others, 'PX', ARGV[4])
elseif contended or ARGV[2] == '' then
  redis.call('SET', KEYS[1], '!', 'PX', ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is put in: a text, its order (0 to 2^63), and for how many seconds."""

    text: str
    ttl: float
    order: int = 0


class MarkedEntries:
    """Entries by key. Raises what the guard raises, and nothing is repeated: callers go on without the cache."""

    def __init__(self, client: RedisClient, guard: Guard, *, prefix: str) -> None:
        """Does not own `client`. The guard's attempt time-out is the longest that a reader or writer waits for it."""
        self._client, self._guard, self._prefix = client, guard, prefix
        self._sharded = isinstance(client, RedisCluster)
        self._writes = _Line(lambda together: self._send_now("cache_mark", together))
        self._floors = _Line(self._outdate_now)
        self._tokens = (f"{one:x}," for one in itertools.count(secrets.randbits(63)))

    async def look(self, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        """The entries there are: order and text by key. One round trip for each 1,000 keys, as all of these."""
        found = {}
        for run in batches(keys):
            names = [self._prefix + key for key in run]
            if self._sharded:
                texts = await self._send("cache_look", [("GET", name) for name in names])
            else:
                # one answer to wait for and to read, not one a key: half of what a cached recall costs the event loop
                (texts,) = await self._send("cache_look", [("MGET", *names)])
            for key, text in zip(run, texts, strict=True):
                if text is not None and text.startswith("="):
                    found[key] = (int(text[1:21]), text[21:])
        return found

    async def fill(self, entries: Mapping[str, Entry]) -> None:
        """Puts in what no mark, no floor and no entry of at least that order stops."""
        for run in batches(list(entries.items())):
            commands = [("EVAL", _FILL, "1", self._prefix + key, _coded(one), _millis(one.ttl)) for key, one in run]
            await self._send("cache_fill", commands)

    async def fill_texts(self, texts: Mapping[str, str], order: int, ttl: float) -> None:
        """`fill`, of one order and time to live."""
        await self.fill({key: Entry(text, ttl, order) for key, text in texts.items()})

    async def mark(self, keys: Sequence[str]) -> str:
        """Marks the keys, and gives the token to settle them with. Must return before the truth changes."""
        token = next(self._tokens)
        for run in batches(keys):
            commands = [("EVAL", _DO_MARK, "1", self._prefix + key, token, _millis(MARK_SECONDS)) for key in run]
            await self._send("cache_mark", commands)
        return token

    async def settle(self, token: str, keys: Mapping[str, Entry | None]) -> None:
        """Ends the write: its value takes the mark's place, unless another writer overlapped; None leaves the mark."""
        await self._settle(
            token,
            [
                (key, "" if one is None else _coded(one), MARK_SECONDS if one is None else one.ttl)
                for key, one in keys.items()
            ],
        )

    async def outdate(self, keys: Sequence[str], order: int) -> None:
        """After a write: what is of a lower order goes, and from now on only fills of at least this order may come."""
        floor = f"f{order:020d}"
        for run in batches(keys):
            await self._floors.send([(self._prefix + key, floor) for key in run])

    async def _outdate_now(self, floors: Sequence[Command]) -> list[Any]:
        """One command for all of them, where all keys are on one server."""
        runs = [[one] for one in floors] if self._sharded else [floors]
        ttl = _millis(MARK_SECONDS)
        commands = [
            ("EVAL", _OUTDATE, str(len(run)), *(key for key, _ in run), *(floor for _, floor in run), ttl)
            for run in runs
        ]
        await self._send_now("cache_outdate", commands)
        return [None] * len(floors)

    async def _settle(self, token: str, settled: Sequence[tuple[str, str, float]]) -> None:
        for run in batches(settled):
            commands = [
                ("EVAL", _SETTLE, "1", self._prefix + key, token, text, _millis(ttl), _millis(MARK_SECONDS))
                for key, text, ttl in run
            ]
            await self._send("cache_settle", commands)

    async def _send(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        if operation not in {"cache_mark", "cache_settle"}:
            return await self._send_now(operation, commands)
        # a mark is waited for, its end is not: that goes with the next marks, or a little later
        return await self._writes.send(commands, PATIENCE_SECONDS if operation == "cache_settle" else 0.0)

    async def _send_now(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        async def send() -> list[Any]:
            if len(commands) == 1:
                return [await self._client.execute_command(*commands[0])]
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())

        return await self._guard.run(operation, send, retry=Retry.NEVER)


class _Line:
    """Commands in their order: what comes while others are on their way goes after them, in one round trip.

    Under load a write would else cost two round trips of its own, and more of the event loop than all the rest of it.
    """

    def __init__(self, send: Callable[[Sequence[Command]], Awaitable[list[Any]]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def send(self, commands: Sequence[Command], patience: float = 0.0) -> list[Any]:
        """The answers to these commands. Raises what sending them, or those that went with them, raises.

        With `patience` they wait for others to go with, at most for so many seconds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((commands, future))
        if patience:
            loop.call_later(patience, self._begin)
        else:
            self._begin()
        return await future

    def _begin(self) -> None:
        if self._waiting and (self._task is None or self._task.done()):
            # of no caller: neither the deadline nor the trace of one is that of what goes together
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="redis-line", context=contextvars.Context())

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            count = len(batch[0][0])
            while self._waiting and count + len(self._waiting[0][0]) <= AT_ONCE:
                batch.append(self._waiting.popleft())
                count += len(batch[-1][0])
            try:
                answers = await self._send([command for commands, _ in batch for command in commands])
                if len(answers) != count:
                    raise Internal(f"redis answered {len(answers)} of {count} commands")  # noqa: TRY301 -- told to all
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error) if isinstance(error, Exception) else future.cancel()
                if not isinstance(error, Exception):
                    raise
                continue
            start = 0
            for commands, future in batch:
                mine = answers[start : start + len(commands)]
                start += len(commands)
                if not future.done():
                    future.set_result(mine)


def _coded(entry: Entry) -> str:
    return f"={entry.order:020d}{entry.text}"


def _millis(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
