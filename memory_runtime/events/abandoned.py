"""What a topic holds of a future that its ledger has lost: read back, so that the truth can be said in its place.

After a restore, or a fail-over that lost commits, the topic tells of changes that are in the ledger no more. Consumers
keep what they were told. The relay reads these events back from where its cursor stood, once for each line of history,
and the sink publishes what the ledger holds now of each memory that they tell of: its state, or its delete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from memory_runtime.engine.ingesting import IncomingEvent
from memory_runtime.events.codec import decode, origin_of, told_of
from memory_runtime.events.connecting import client_options
from memory_runtime.events.poison import Poison
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Lineage
from memory_runtime.stores.lineages import abandoned

log = logging.getLogger(__name__)

_POLL_MS: Final = 500
_FETCH_BYTES: Final = 8 << 20


async def abandoned_events(
    settings: SMFSettings, topic: str, origin: str, chain: Sequence[Lineage], position: str | None
) -> dict[str, IncomingEvent]:
    """The newest event of each memory of which the topic tells what no line of `chain` holds, by the memory's id.

    `position` is JSON: the offset after the last event that the cursor stands for, by partition; a partition that it
    lacks is read from its beginning. Cost: the events after it. Raises what the brokers' client raises.
    """
    since: dict[str, int] = json.loads(position) if position else {}
    consumer = AIOKafkaConsumer(
        **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_bytes=_FETCH_BYTES
    )
    await consumer.start()
    try:
        numbers = await _partitions(consumer, topic)
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for one in partitions:
            # where the topic was made anew, or is kept for less long, the offset is not there: all of it is read
            kept = since.get(str(one.partition), 0)
            consumer.seek(one, kept if begins[one] <= kept <= ends[one] else begins[one])
        return await _read(consumer, ends, origin, chain, settings.default_tenant)
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    # asked for by name: a consumer that subscribes to nothing has no metadata of it yet
    await consumer._client.add_topic(topic)  # noqa: SLF001 -- `topics()` alone tells all topics, and needs the right to
    await consumer._client.force_metadata_update()  # noqa: SLF001
    return sorted(consumer.partitions_for_topic(topic) or ())


async def _read(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], origin: str, chain: Sequence[Lineage], tenant: str
) -> dict[str, IncomingEvent]:
    lines = [(one.epoch, one.forked) for one in chain]
    epochs = {epoch for epoch, _ in lines}
    found: dict[str, IncomingEvent] = {}
    open_ = {one for one, end in ends.items() if await consumer.position(one) < end}
    while open_:
        for records in (await consumer.getmany(*open_, timeout_ms=_POLL_MS)).values():
            for record in records:
                if origin_of(record.headers) != origin:
                    continue
                epoch, seq = told_of(record.headers)
                if not epoch or (epoch in epochs and not abandoned(lines, epoch, seq)):
                    continue
                try:
                    event = decode(record.value, record.headers, tenant)
                except Poison as poison:
                    log.warning("an event of an abandoned future cannot be read: %s", poison)
                    continue
                found[event.id] = event
        open_ = {one for one in open_ if await consumer.position(one) < ends[one]}
    return found
