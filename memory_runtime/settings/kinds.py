"""The kinds of values that settings have: how each is written, and what is refused with which words."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from memory_runtime.model import failpoints
from memory_runtime.model.duration import parse_duration, parse_half_life
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import check_name

_LEGACY_MODES: Final = {
    "evented_enterprise": "distributed",
    "development": "embedded",
    "dev": "embedded",
    "test": "embedded",
    "on_demand": "embedded",
    "local_agent": "embedded",
    "enterprise": "embedded",
    "cloud_managed": "embedded",
}


def mode(value: Any) -> Any:
    """A mode in small letters; the names that the service we replace had stand for one of ours."""
    return _LEGACY_MODES.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _half_life(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("a half-life is a number with a unit, such as 30d, or none")
    try:
        return parse_half_life(value)
    except InvalidArgument as error:
        raise ValueError(f"{error.message} ({error.remedy})") from None


def _duration(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a duration is a number with a unit, such as 30d")  # noqa: TRY004 -- pydantic reports ValueError
    try:
        return parse_duration(value)
    except InvalidArgument as error:
        raise ValueError(f"{error.message} ({error.remedy})") from None


def _name(value: str) -> str:
    try:
        return check_name(value, field="name")
    except InvalidArgument as error:
        raise ValueError(error.message) from None


def known_failpoints(value: str) -> str:
    """Refuses failpoints that cannot be armed."""
    try:
        failpoints.parse(value)
    except InvalidArgument as error:
        raise ValueError(f"{error.message} ({error.remedy})") from None
    return value


def _no_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError("a topic's name has letters, digits, dots, underscores and hyphens")
    return value


HalfLife = Annotated[float | None, BeforeValidator(_half_life)]
OptionalDuration = Annotated[float | None, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Name = Annotated[str, AfterValidator(_name)]
Topic = Annotated[str, AfterValidator(_topic)]
OptionalTopic = Annotated[Topic | None, BeforeValidator(_no_blank)]
Secret = Annotated[SecretStr | None, BeforeValidator(_no_blank)]
Port = Annotated[int, Field(ge=0, le=65535)]
Weight = Annotated[float, Field(ge=0.0, le=1.0)]
