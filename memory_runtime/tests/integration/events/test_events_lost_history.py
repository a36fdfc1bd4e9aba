"""A ledger that was restored to an earlier moment, and the topic and copies that know of what it lost since."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.engine.identity import identity_of
from memory_runtime.events.codec import EPOCH, HISTORY
from memory_runtime.tests.integration.events.conftest import NewSite, Site, eventually, read_all
from memory_runtime.tests.integration.events.test_events_pipeline import deleted, stored

pytestmark = pytest.mark.integration


async def contents(site: Site) -> dict[str, Any]:
    """What a ledger holds, by id."""
    ids = [one for rows in site.intake.ledger.scan(site.settings.vector_dim) for one in rows.ids]
    found = await site.intake.ledger.read(lambda view: view.by_ids(ids))
    return {record.id.hex: record.payload for record in found.values()}


async def equal(copy: Site, expected: dict[str, Any]) -> None:
    """Waits until the copy holds that."""

    async def same() -> bool:
        return await contents(copy) == expected

    await eventually(same, seconds=60)


async def shut(site: Site) -> Path:
    await asyncio.to_thread(site.intake.close)
    return site.settings.data_dir


@pytest.mark.parametrize("published", ["all of it", "none of the restored"])
async def test_after_a_restore_every_copy_is_what_the_ledger_is(
    new_site: NewSite, tmp_path: Path, published: str
) -> None:
    kept, copy = tmp_path / "kept", await new_site()
    one = await new_site()
    async with copy.consuming():
        for number in range(2, 6):
            await stored(one, number)
        if published == "all of it":
            async with one.relaying() as relay:
                await relay.caught_up()
        data = await shut(one)
        shutil.copytree(data, kept)
        lost = await new_site(data_dir=data)
        async with lost.relaying() as relay:
            # what is lost: a change, a delete, and memories of which the restored ledger knows nothing
            await stored(lost, 2, text="of an abandoned future")
            await deleted(lost, 3)
            await stored(lost, 7, text="of an abandoned future")
            await stored(lost, 8, text="of an abandoned future")
            await relay.caught_up()
        expected = await contents(lost)
        await equal(copy, expected)
        await shut(lost)
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        again = await new_site(data_dir=data)
        async with again.relaying() as relay:
            # the same sequences once more, for other changes of other memories, one of them deleted in the lost one
            await stored(again, 3, text="acknowledged after the restore")
            await stored(again, 8, text="acknowledged after the restore")
            await stored(again, 9, text="acknowledged after the restore")
            await relay.caught_up()
            expected = await contents(again)
            assert len(expected) == 6
            await equal(copy, expected)
            # and from then on as ever
            await stored(again, 2, text="later")
            await deleted(again, 9)
            await relay.caught_up()
            expected = await contents(again)
            await equal(copy, expected)
    records = await read_all(copy.settings.kafka_bootstrap_servers or "", copy.settings.kafka_memory_events_topic)
    told = [(dict(one.headers), one.value.partition(b'"event_id":"')[2][:36]) for one in records]
    facts = {(event, headers.get(HISTORY), headers[EPOCH]) for headers, event in told}
    assert len({event for _, event in told}) == len(facts), "no id stands for two facts"
    assert all(EPOCH in headers for headers, _ in told)
    assert len({headers[EPOCH] for headers, _ in told}) == 3
    assert copy.count("dead") == 0


async def test_a_clone_that_goes_on_beside_its_original_repeats_no_event_id(new_site: NewSite, tmp_path: Path) -> None:
    one = await new_site()
    await stored(one, 2)
    data = await shut(one)
    shutil.copytree(data, tmp_path / "clone")
    original, clone = await new_site(data_dir=data), await new_site(data_dir=tmp_path / "clone")
    assert await identity_of(original.intake.ledger) == await identity_of(clone.intake.ledger)
    async with original.relaying() as first, clone.relaying() as second:
        for number in range(3, 6):
            await stored(original, number)
            await stored(clone, number + 10)
        await first.caught_up()
        await second.caught_up()
    records = await read_all(one.settings.kafka_bootstrap_servers or "", one.settings.kafka_memory_events_topic)
    events: dict[bytes, set[bytes]] = {}
    for record in records:
        token = dict(record.headers).get(HISTORY, b"")
        events.setdefault(record.value.partition(b'"event_id":"')[2][:36], set()).add(token + record.key)
    assert all(len(told) == 1 for told in events.values())
