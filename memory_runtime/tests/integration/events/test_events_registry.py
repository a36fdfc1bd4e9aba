"""Events under a real schema registry: its id before each of them, and no event where it refuses the schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, ServiceError, start_registry
from memory_runtime.events.registry import register
from memory_runtime.events.schema import schema_text
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.tests.integration.events.conftest import NewSite, eventually, read_all
from memory_runtime.tests.integration.events.test_events_pipeline import stored

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kafka_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An empty registry."""
    try:
        service = start_registry(tmp_path_factory.mktemp("registry"))
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield service
    service.kill()


def ask(base: str, path: str) -> Any:
    return httpx.get(f"{base}/{path}").raise_for_status().json()


def tell(base: str, method: str, path: str, body: dict[str, Any]) -> None:
    httpx.request(method, f"{base}/{path}", json=body).raise_for_status()


async def test_events_are_framed_with_the_id_of_their_schema(kafka_registry: Service, new_site: NewSite) -> None:
    one, two = await new_site(kafka_schema_registry_url=kafka_registry.url), await new_site()
    topic = one.settings.kafka_memory_events_topic
    await stored(one)
    async with one.relaying() as relay, two.consuming():
        await asyncio.wait_for(relay.caught_up(), 20)
        await eventually(lambda: two.count("applied") == 1)
    (record,) = await read_all(one.settings.kafka_bootstrap_servers or "", topic)
    number = int.from_bytes(record.value[1:5], "big")
    assert record.value[0] == 0
    kept = ask(kafka_registry.url, f"schemas/ids/{number}")
    assert json.loads(kept["schema"]) == json.loads(schema_text())
    assert f"{topic}-value" in ask(kafka_registry.url, "subjects")


async def test_the_schema_is_registered_once(kafka_registry: Service) -> None:
    settings = SMFSettings(kafka_schema_registry_url=kafka_registry.url, kafka_memory_events_topic="once")
    assert await register(settings) == await register(settings)
    assert ask(kafka_registry.url, "subjects/once-value/versions") == [1]


async def test_a_topic_whose_schema_is_another_is_refused_with_the_setting(kafka_registry: Service) -> None:
    other = json.dumps({"type": "object", "properties": {"event_id": {"type": "integer"}}, "required": ["event_id"]})
    base = kafka_registry.url
    tell(base, "POST", "subjects/taken-value/versions", {"schemaType": "JSON", "schema": other})
    tell(base, "PUT", "config/taken-value", {"compatibility": "FULL"})
    settings = SMFSettings(kafka_schema_registry_url=base, kafka_memory_events_topic="taken")
    with pytest.raises(SettingsError, match=r"kafka_schema_registry_url.*taken-value"):
        await register(settings)


async def test_a_registry_that_does_not_answer_keeps_changes_in_the_outbox(new_site: NewSite) -> None:
    site = await new_site(kafka_schema_registry_url="http://user:hidden@127.0.0.1:1")
    with pytest.raises(Unavailable, match="schema registry does not answer") as caught:
        await register(site.settings)
    assert "hidden" not in str(caught.value)
    await stored(site)
    async with site.relaying() as relay:
        await eventually(lambda: relay.failures)
        assert relay.lag == 1
