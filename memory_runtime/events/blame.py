"""A change that its sink cannot take: found among those of a delivery, tried a few times, then set aside for a person.

Whatever an encoder or a back end finds wrong with one change, the sink goes on. What passes by itself (a broker or a
store that is away) is raised as ever, and waited for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from memory_runtime.events.backoff import in_words
from memory_runtime.events.sinks import Sink
from memory_runtime.model.errors import SomaError
from memory_runtime.stores.contracts import Change
from memory_runtime.stores.resilience import is_of_an_item

log = logging.getLogger(__name__)

TRIES: Final = 3
TRIES_OF_ALL: Final = 10
"""Tries of a change while nothing else has passed either: then the sink itself may be what is wrong."""

SetAside = Callable[[str, Any, str, str], Awaitable[None]]
"""Keeps a change where a person finds it: the sink's name, the change, reason and error. Raises where it cannot."""


class Numbered(Protocol):
    """A change, or a line of the audit chain."""

    @property
    def seq(self) -> int: ...


class Blame:
    """One sink's deliveries, without the changes that it cannot take."""

    def __init__(self, sink: Sink, set_aside: SetAside) -> None:
        self._sink = sink
        self._set_aside = set_aside
        self._passed = True
        self._tried = (0, 0)

    async def deliver(self, changes: Sequence[Any]) -> int:
        """As `Sink.deliver`; fewer are taken where one of them is to blame for a failure."""
        try:
            taken = await self._sink.deliver(changes)
        except Exception as error:
            if not is_of_an_item(error):
                raise
            if len(changes) > 1:
                return await self.deliver(changes[: len(changes) // 2])
            return await self._judge(changes[0], error)
        self._passed = True
        return taken

    async def _judge(self, change: Numbered, error: Exception) -> int:
        seq, tries = self._tried
        tries = tries + 1 if seq == change.seq else 1
        self._tried = (change.seq, tries)
        if tries < (TRIES if self._passed else TRIES_OF_ALL):
            raise error
        reason = "invalid" if isinstance(error, SomaError) else "defect"
        log.error(
            "sink %s cannot take a change, which is set aside: %s",
            self._sink.name,
            in_words(error),
            extra={"sink": self._sink.name, "seq": change.seq, "id": str(getattr(change, "id", ""))},
            exc_info=None if isinstance(error, SomaError) else error,
        )
        await self._set_aside(self._sink.name, change, reason, in_words(error))
        self._passed = False
        return change.seq


async def only_logged(sink: str, change: Any, reason: str, error: str) -> None:
    """Where there is no dead-letter topic, the log and the metric are what is left of it."""


def body_of(change: Any) -> bytes:
    """What a letter keeps of the change; never raises."""
    if isinstance(change, Change):
        return (change.payload or "null").encode(errors="replace")
    return json.dumps(change, default=str).encode(errors="replace")
