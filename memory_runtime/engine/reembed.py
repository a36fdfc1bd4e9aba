"""Another embedding for what is stored: made in the background, resumed after a crash, put in place in one step.

Until that step every query and every vector is of the old revision, after it of the new one: `Gate.alone` lets no
request be between the two. The old index and the new one are both in memory while the new one is filled.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from memory_runtime.embedding import EmbeddingProvider, payload_text
from memory_runtime.embedding.providers import build_previous
from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine.following import Follower
from memory_runtime.engine.gate import Gate
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.threads import in_thread
from memory_runtime.scoring import ExactIndex
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import TailTrimmed
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.stores.values import CLIENT_REVISION, Facts, Pending
from memory_runtime.telemetry.supervision import Supervised, Supervisor

log = logging.getLogger(__name__)

BATCH: Final = 64
LAST_ROWS: Final = 256
"""What may be embedded while requests wait; more is done before."""
CLEAR_ROWS: Final = 1000
RETRY_SECONDS: Final = 5.0
REFILL_ROWS: Final = 20_000


def choose(facts: dict[str, str], provider: SwitchingProvider, settings: SMFSettings) -> None:
    """Serves with the embedding that the ledger's vectors have. Raises SettingsError where it cannot be had.

    With `reembed`, another one in the settings becomes the target; without it, it is refused.
    """
    kept = facts.get(Facts.EMBEDDING)
    if kept is None or provider.name == "client" or kept == provider.revision:
        return
    if not settings.reembed:
        raise SettingsError(
            f"embedding_provider: this memory was embedded by {kept}, this process would use {provider.revision}",
            setting="embedding_provider",
            remedy="restore that model (SOMA_MODEL_DIR, SOMA_EMBEDDING_PROVIDER), or set SOMA_REEMBED=true",
        )
    try:
        previous = build_previous(settings, kept)
    except SomaError as error:
        raise SettingsError(error.message, setting=error.field, remedy=error.remedy) from None
    provider.serve_with(previous)


class Reembedder:
    """The background task of one engine; it ends when nothing is left to do."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        provider: SwitchingProvider,
        gate: Gate,
        clock: Callable[[], float],
        tasks: Supervisor | None = None,
    ) -> None:
        self._ledger = ledger
        self._follower = follower
        self._provider = provider
        self._gate = gate
        self._clock = clock
        self._tasks = tasks or Supervisor()
        self._task: Supervised | None = None
        self.note = ""

    def start(self) -> None:
        """Begins, or goes on, where there is something to do."""
        self._task = self._tasks.start("reembedding", self._run)

    async def stop(self) -> None:
        """Stops after the batch in hand; what was made is kept for the next start."""
        if self._task is not None:
            await self._task.stop()

    async def follow_switch(self, rebuild: Callable[[], Awaitable[None]]) -> None:
        """Runs `rebuild`, and serves with the embedding that the ledger's vectors have by then.

        Another replica may have put the target's vectors in force: then no request may be between the old provider
        and the new index. Raises Unavailable where this process was started with another embedding than that.
        """
        stored = (await self._ledger.read(lambda view: view.facts())).get(Facts.EMBEDDING)
        target = self._provider.target
        if stored is None or self._provider.name == "client" or stored == self._provider.revision:
            await rebuild()
            return
        if target is None or target.revision != stored:
            self._follower.in_step = False
            raise Unavailable(
                f"the memory's vectors are of {stored} now, this process embeds with {self._provider.revision}",
                remedy="restart it with the model that the other replicas use",
            )
        async with self._gate.alone():
            await rebuild()
            self._provider.switch()

    async def wait(self) -> None:
        """Returns once the work is done."""
        if self._task is not None:
            await self._task.wait()

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except SomaError as error:
                self.note = f"re-embedding was put off: {error}"
                log.warning("%s", self.note)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _work(self) -> None:
        target = self._provider.target
        facts = await self._ledger.read(lambda view: view.facts())
        if target is None and Facts.REEMBEDDING_TO in facts:
            await self._ledger.transact(lambda transaction: transaction.discard_reembedding())
        if target is not None:
            await self._ledger.transact(lambda transaction: transaction.begin_reembedding(target.revision))
            await self._prepare(target)
        if target is not None or Facts.REEMBEDDED_FROM in facts:
            await self._clear_up()
        self.note = ""

    async def _clear_up(self) -> None:
        finished = False
        while not finished:
            finished = await self._ledger.transact(lambda transaction: transaction.finish_reembedding(CLEAR_ROWS))

    async def _prepare(self, target: EmbeddingProvider) -> None:
        began = time.monotonic()
        # another replica that was quicker has switched this one too
        while self._provider.target is target:
            await self._embed_missing(target)
            seq = self._ledger.head_seq
            index = ExactIndex(target.dim, self._follower.params, self._clock)
            await in_thread(self._fill, index)
            async with self._gate.alone():
                if self._provider.target is target and await self._swap(target, index, seq):
                    log.info("re-embedded to %s in %.1f s", target.revision, time.monotonic() - began)
                    return

    async def _swap(self, target: EmbeddingProvider, index: ExactIndex, seq: int) -> bool:
        """Runs alone: the last memories, the tables, the index, the provider. False where there was too much left."""
        left = await self._ledger.read(lambda view: view.pending(0, LAST_ROWS + 1))
        if len(left) > LAST_ROWS:
            return False
        await self._embed(target, left)
        if not await self._ledger.transact(lambda transaction: transaction.swap_vectors()):
            return False
        self._provider.switch()
        self._follower.replace_index(index, None)
        await self._ledger.exclusively(partial(self._renew, index, [one.id for one in left]))
        await self._catch_up(index, seq)
        self._follower.facts = await self._ledger.read(lambda view: view.facts())
        return True

    async def _embed_missing(self, target: EmbeddingProvider) -> None:
        last = 0
        while found := await self._ledger.read(partial(_pending, last)):
            await self._embed(target, found)
            last = found[-1].row
            made, total = await self._ledger.read(lambda view: view.progress())
            self.note = f"re-embedding to {target.revision}: {made} of {total}"

    async def _embed(self, target: EmbeddingProvider, found: Sequence[Pending]) -> None:
        """Clients' own vectors stay as they are: no model of ours made them."""
        ours = [one for one in found if one.revision != CLIENT_REVISION]
        vectors = await target.embed([payload_text(json.loads(one.payload)) for one in ours])
        made = [(one, vector.tobytes()) for one, vector in zip(ours, vectors, strict=True)]
        made += [(one, one.vector) for one in found if one.revision == CLIENT_REVISION]
        if made:
            await self._ledger.transact(lambda transaction: transaction.keep_vectors(made))

    def _fill(self, index: ExactIndex) -> None:
        for run in self._ledger.scan(index.dim, table="vectors_next"):
            self._follower.fill(index, run)

    async def _catch_up(self, index: ExactIndex, seq: int) -> None:
        """What changed since the new index was filled; a stream that was trimmed meanwhile means filling it again.

        Exclusively, so that no delete comes between reading a memory and putting it into the index.
        """
        try:
            while changes := await self._ledger.tail(seq):
                ids = list({change.id.bytes for change in changes})
                await self._ledger.exclusively(partial(self._renew, index, ids))
                seq = changes[-1].seq
        except TailTrimmed:
            fresh = ExactIndex(index.dim, self._follower.params, self._clock)
            await self._ledger.exclusively(partial(self._refill, fresh))

    def _renew(self, index: ExactIndex, ids: Sequence[bytes], view: LedgerView) -> None:
        index.delete(ids)
        for run in view.some(ids, index.dim):
            self._follower.fill(index, run)

    def _refill(self, index: ExactIndex, view: LedgerView) -> None:
        for run in view.scan(index.dim, REFILL_ROWS):
            self._follower.fill(index, run)
        self._follower.replace_index(index, view.facts())


def _pending(after: int, view: LedgerView) -> list[Pending]:
    return view.pending(after, BATCH)
