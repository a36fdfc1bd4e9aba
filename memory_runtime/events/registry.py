"""A Confluent-compatible schema registry, where one is configured: it is told the schema at the first connection."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import httpx

from memory_runtime.events.schema import schema_text
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings

_TIMEOUT_SECONDS: Final = 5.0
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"


async def register(settings: SMFSettings) -> int | None:
    """The registry's id of the event schema, which it now has; None where no registry is configured.

    Raises SettingsError where the registry refuses it (another schema of the topic that this one is not compatible
    with, or no permission), Unavailable where it does not answer.
    """
    if settings.kafka_schema_registry_url is None:
        return None
    subject = f"{settings.kafka_memory_events_topic}-value"
    base = settings.kafka_schema_registry_url.get_secret_value().rstrip("/")
    body = {"schemaType": "JSON", "schema": json.dumps(json.loads(schema_text()))}
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, headers={"Content-Type": _MEDIA_TYPE}) as client:
            answer = await client.post(f"{base}/subjects/{quote(subject, safe='')}/versions", content=json.dumps(body))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"the schema registry does not answer: {type(error).__name__}",
            field="kafka_schema_registry_url",
            remedy="see that it runs, and correct KAFKA_SCHEMA_REGISTRY_URL",
            retry_after=5.0,
        ) from None
    if answer.status_code >= 500:
        raise Unavailable(
            f"the schema registry answers {answer.status_code}", field="kafka_schema_registry_url", retry_after=5.0
        )
    if answer.status_code != 200:
        raise SettingsError(
            f"kafka_schema_registry_url: the registry refuses the schema of {subject}: {_reason(answer)}",
            setting="kafka_schema_registry_url",
            remedy="look at the subject's schemas and its compatibility level, or leave the registry out",
        )
    return int(answer.json()["id"])


def _reason(answer: httpx.Response) -> str:
    try:
        said: Any = answer.json()
    except ValueError:
        return f"status {answer.status_code}"
    message = said.get("message") if isinstance(said, dict) else None
    return str(message or f"status {answer.status_code}")[:300]
