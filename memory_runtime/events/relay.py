"""The relay: reads the outbox from a sink's cursor, hands it over, and moves the cursor once the sink has it.

No request waits for it. While the sink is away the outbox keeps what it has not seen, whatever that grows to, and the
relay knocks with full jitter; what was handed over and not yet counted comes again, with the same event ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from memory_runtime.events.backoff import in_words, pause_after
from memory_runtime.events.blame import Blame, SetAside, only_logged
from memory_runtime.events.lease import Lease
from memory_runtime.events.sinks import Positioned, Reconciles, Sink, SinkLedger, SinkTransaction
from memory_runtime.model import failpoints
from memory_runtime.model.errors import SomaError
from memory_runtime.stores.contracts import HistoryLost, Lineage, TailTrimmed
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

BATCH: Final = 1000
IDLE_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 1.0
"""How often the outbox is asked although this process has written nothing: another replica may have."""
REPUBLISH: Final = "republish"
"""The fact that asks the replica that relays to publish all that the ledger holds."""
REPUBLISHED: Final = "kafka"
BREAKER_FAILURES: Final = 5
"""After so many failures in a row the breaker is open: one change is tried at a time until one passes."""


class Standing(NamedTuple):
    """Where a sink stands by its ledger: the cursor, the ledger's lines, the one it was fed under, its own position."""

    seq: int
    chain: list[Lineage]
    line: str
    position: str | None


class Relay:
    """Feeds one sink from one ledger. Begun by `start`, ended by `stop`; several sinks have a relay each."""

    def __init__(
        self,
        ledger: SinkLedger,
        sink: Sink,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        *,
        lease: Lease | None = None,
        batch: int = BATCH,
        set_aside: SetAside = only_logged,
    ) -> None:
        """`lease` is one of the sink's name unless given; `batch` is the most changes of one delivery; `set_aside`
        keeps a change that the sink cannot take.
        """
        self.sink = sink
        self.failures = 0
        self._ledger = ledger
        self._clock = clock
        self._batch = batch
        self._metrics = metrics
        self._keep_aside = set_aside
        self._blame = Blame(sink, self._set_aside)
        self._lease = lease or Lease(ledger, f"sink:{sink.name}", clock)
        self._cursor: int | None = None
        self._token = self._line = ""
        self._unconfirmed = ""
        """The line of history of a delivery that the cursor does not count: it may come to the sink after its time."""
        self._passed = 0
        self._looked = self._asked = 0.0
        self._stopping = asyncio.Event()
        self._tasks = metrics.tasks
        self._task: Supervised | None = None
        self._lag = metrics.sink_lag.labels(sink.name)
        self._delivered = metrics.sink_delivered.labels(sink.name)
        self._failed = metrics.sink_failures.labels(sink.name)
        self._open = metrics.sink_breaker_open.labels(sink.name)
        self._lag.set_function(lambda: self.lag)

    @property
    def lag(self) -> int:
        """Changes of the ledger that the sink has not been seen to hold."""
        return max(0, self._ledger.head_seq - self._passed)

    @property
    def open(self) -> bool:
        """Whether the breaker is open."""
        return self.failures >= BREAKER_FAILURES

    def start(self) -> None:
        """Begins; the ledger must be open."""
        self._task = self._tasks.start(f"relay-{self.sink.name}", self._run)

    async def stop(self, grace: float = 5.0) -> None:
        """Finishes the delivery in flight, within `grace` seconds, and gives the lease back."""
        self._stopping.set()
        if self._task is not None:
            await self._task.stop(grace)
        # what cannot be given back runs out by itself
        with contextlib.suppress(SomaError):
            await self._lease.release()
        await self.sink.close()

    async def caught_up(self) -> None:
        """Returns once the sink holds what the ledger holds now; the caller sets the time limit."""
        target = self._ledger.head_seq
        while self._passed < target:  # noqa: ASYNC110 -- another replica may be the one that moves the cursor
            await asyncio.sleep(IDLE_SECONDS / 5)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                moved = await self._pass()
            except Exception as error:
                await self._after_failure(error)
                continue
            if self.failures:
                log.info("sink %s takes changes again", self.sink.name, extra={"failures": self.failures})
            self.failures = 0
            self._open.set(0)
            if not moved:
                await self._rest(IDLE_SECONDS)

    async def _after_failure(self, error: Exception) -> None:
        self.failures += 1
        self._failed.inc()
        self._open.set(self.open)
        pause = pause_after(self.failures)
        details = {"sink": self.sink.name, "lag": self.lag, "failures": self.failures, "pause_seconds": round(pause, 2)}
        level = logging.WARNING if self.failures in {1, BREAKER_FAILURES} else logging.DEBUG
        log.log(level, "sink %s does not take changes: %s", self.sink.name, in_words(error), extra=details)
        await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _pass(self) -> bool:
        """One look, one delivery; whether anything moved."""
        if not await self._lease.hold():
            self._cursor = None
            if self._unconfirmed and self._unconfirmed != self._ledger.lineage:
                # this process was paused, say, while another one went on in another line: what it has sent is a stray
                await self._take_up()
                self._cursor = None
            self._passed = (await self._ledger.read(lambda view: view.sinks())).get(self.sink.name, 0)
            await self._rest(self._lease.seconds / 3)
            return False
        if self._ledger.lineage != self._line:
            # a cursor counts in one history: the ledger says where the sink stands in this one
            self._cursor = None
        if self._cursor is None:
            await self._take_up()
        assert self._cursor is not None  # noqa: S101 -- just taken up
        await self._republish_if_asked()
        now = time.monotonic()
        if self._ledger.head_seq <= self._cursor and now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        try:
            changes = await self._ledger.tail(self._cursor, 1 if self.open else self._batch, self._token)
        except HistoryLost:
            log.warning("sink %s was fed what the ledger has lost: its cursor is read again", self.sink.name)
            self._cursor = None
            return False
        except TailTrimmed:
            log.warning("sink %s is further back than the outbox: it is rebuilt", self.sink.name)
            await self._advance(await self.sink.rebuild())
            return True
        if not changes:
            return False
        before, self._unconfirmed = self._cursor, self._line
        taken = await self._blame.deliver(changes)
        failpoints.reach("mid-relay")
        await self._advance(taken)
        self._token = next((change.history for change in changes if change.seq == self._cursor), "")
        self._delivered.inc(sum(change.seq <= (self._cursor or 0) for change in changes))
        return self._cursor != before

    async def _republish_if_asked(self) -> None:
        """Gives the sink all that the ledger holds, where someone asked for it; the cursor stays where it is."""
        if self.sink.name != REPUBLISHED or time.monotonic() - self._asked < LOOK_SECONDS:
            return
        self._asked = time.monotonic()
        asked = (await self._ledger.read(lambda view: view.facts())).get(REPUBLISH)
        if asked is None:
            return
        log.info("publishing every memory and every delete again, as was asked")
        head = await self.sink.rebuild()
        await self._ledger.transact(lambda transaction: transaction.forget(REPUBLISH))
        log.info("published every memory and every delete again", extra={"seq": head})

    async def _set_aside(self, sink: str, change: Any, reason: str, error: str) -> None:
        await self._keep_aside(sink, change, reason, error)
        self._metrics.dead_letters.labels("relay", reason).inc()

    async def _take_up(self) -> None:
        """Reads where the sink stands, and lets it undo what it holds of a future that was abandoned."""
        self._line, self._token = self._ledger.lineage, ""
        standing = await self._ledger.transact(self._register)
        if isinstance(self.sink, Positioned):
            self.sink.resume(standing.position)
        newest = standing.chain[-1].id if standing.chain else ""
        stray = self._unconfirmed not in ("", newest)
        if newest != standing.line or stray:
            if isinstance(self.sink, Reconciles) and len(standing.chain) > 1:
                since = self._unconfirmed if stray else standing.line
                await self.sink.reconcile(standing.chain, since, standing.seq, standing.position)
            self._unconfirmed = ""
            await self._ledger.transact(lambda transaction: self._remember_line(transaction, newest))
        self._cursor = self._passed = standing.seq

    def _register(self, transaction: SinkTransaction) -> Standing:
        """Where the sink stands; a new one stands at the beginning, and from here on keeps the outbox from trimming."""
        view = transaction.view
        kept, facts = view.sinks().get(self.sink.name), view.facts()
        if kept is None:
            transaction.advance_sink(self.sink.name, 0, self._clock())
        line, position = facts.get(f"sink_line:{self.sink.name}", ""), facts.get(f"sink_position:{self.sink.name}")
        return Standing(kept or 0, view.lineages(), line, position)

    def _remember_line(self, transaction: SinkTransaction, line: str) -> None:
        if self._lease.held_in(transaction):
            transaction.remember(f"sink_line:{self.sink.name}", line)

    async def _advance(self, seq: int) -> None:
        if not await self._ledger.transact(lambda transaction: self._move(transaction, seq)):
            # another replica took over while this delivery was under way: its cursor is the one that counts
            self._cursor = None
            return
        self._unconfirmed = ""
        self._cursor = self._passed = seq

    def _move(self, transaction: SinkTransaction, seq: int) -> bool:
        if not self._lease.held_in(transaction):
            return False
        kept = transaction.view.sinks().get(self.sink.name, 0)
        if kept != self._cursor:
            # the ledger was restored, or failed over with a loss, while this delivery was under way
            return False
        if kept < seq:
            transaction.advance_sink(self.sink.name, seq, self._clock())
            if isinstance(self.sink, Positioned):
                transaction.remember(f"sink_position:{self.sink.name}", self.sink.position)
        return True
