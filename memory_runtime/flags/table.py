"""The flags: each is a reloadable setting that a whole fleet can be told to change, without a restart.

A flag's default is what its setting says in each process, so a fleet without etcd behaves as configured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

from memory_runtime.model.errors import InvalidArgument, NotFound


class Flag(NamedTuple):
    """One flag: its name, which is its setting's, and what it does."""

    name: str
    text: str


FLAGS: Final[tuple[Flag, ...]] = (
    Flag("cache_enabled", "Whether reads look in Redis before the ledger; false while the cache is in doubt."),
    Flag("graph_mirror_enabled", "Whether walks over links ask Neo4j or NetworkX; false: SQL answers all of them."),
    Flag("hybrid_boost", "How much a keyword hit counts in hybrid recall."),
    Flag("hybrid_recall_default", "Whether recall mixes in keyword hits unless told."),
    Flag("log_level", "The least severe level that is logged."),
    Flag("max_memory_size", "The most memories a tenant's namespace may hold; 0 is no cap."),
    Flag("rate_limit_max", "Requests per caller and window; 0 is no limit."),
    Flag("recall_sample_rate", "Share of recalls compared with the float64 oracle; 0 is none."),
    Flag("request_timeout_seconds", "The longest that a request may take."),
    Flag("top_k_max", "The largest top_k that a request may ask for."),
)
_BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}


def flag_named(name: str) -> Flag:
    """The flag. Raises NotFound that names those there are."""
    flag = _BY_NAME.get(name)
    if flag is None:
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise NotFound(
            f"flag: {shown!r} is not a flag", field="flag", remedy=f"the flags are {', '.join(sorted(_BY_NAME))}"
        )
    return flag


def parse_value(flag: Flag, text: str) -> Any:
    """The value that etcd's text stands for: JSON, or a bare word. Raises InvalidArgument naming the flag."""
    from pydantic import TypeAdapter, ValidationError

    from memory_runtime.settings import SMFSettings

    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text.strip()
    field = SMFSettings.model_fields[flag.name]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise InvalidArgument(f"flag {flag.name}: {reason}", field=flag.name, remedy=f"it says: {flag.text}") from None
