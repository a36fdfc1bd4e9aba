"""One holder at a time, kept in the ledger's facts: of several replicas only one relays to a sink."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Final

from memory_runtime.events.sinks import SinkLedger, SinkTransaction

SECONDS: Final = 15.0


class Lease:
    """A right that runs out by itself: when its time has passed, or when nobody has renewed it for that long.

    It bounds waste, not safety: two holders (skewed clocks, a paused process) only deliver twice what is idempotent,
    and the cursor moves in a transaction that asks `held_in` again.
    """

    def __init__(
        self, ledger: SinkLedger, name: str, clock: Callable[[], float], *, seconds: float = SECONDS, holder: str = ""
    ) -> None:
        """`seconds` is how long it lasts unless renewed; `holder` tells replicas apart (drawn where left out)."""
        self.holder = holder or uuid.uuid4().hex
        self.seconds = seconds
        self._ledger = ledger
        self._key = f"lease:{name}"
        self._clock = clock
        self._renew_at = 0.0
        self._seen: tuple[str | None, float] = (None, 0.0)

    async def hold(self) -> bool:
        """Takes or renews it; False while another holder has it. One small commit, a third of its time at most."""
        if time.monotonic() < self._renew_at:
            return True
        began = time.monotonic()
        held = await self._ledger.transact(self._take)
        self._renew_at = began + self.seconds / 3 if held else 0.0
        return held

    def _take(self, transaction: SinkTransaction) -> bool:
        text = transaction.view.facts().get(self._key)
        if text is not None and not self._over(text):
            return False
        transaction.remember(self._key, json.dumps([self.holder, self._clock() + self.seconds]))
        return True

    def _over(self, text: str) -> bool:
        """Whether this lease no longer keeps us out. A holder's clock may have stepped: then only silence counts."""
        holder, until = json.loads(text)
        now = time.monotonic()
        if text != self._seen[0]:
            self._seen = (text, now)
        return holder == self.holder or until <= self._clock() or now - self._seen[1] > self.seconds

    def held_in(self, transaction: SinkTransaction) -> bool:
        """Whether this transaction sees it as ours: what depends on it is committed with it."""
        text = transaction.view.facts().get(self._key)
        return text is not None and json.loads(text)[0] == self.holder

    async def release(self) -> None:
        """Gives it back, so that another need not wait for it to run out."""
        self._renew_at = 0.0
        await self._ledger.transact(self._drop)

    def _drop(self, transaction: SinkTransaction) -> None:
        if self.held_in(transaction):
            transaction.forget(self._key)
