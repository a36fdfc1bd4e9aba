"""Structured logs: one JSON object a line, each with the id of the reconcile that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from soma_operator.settings import LogFormat, OperatorSettings

RECONCILE_ID: ContextVar[str] = ContextVar("reconcile_id", default="")
RESOURCE: ContextVar[str] = ContextVar("resource", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Their messages hold whole request URLs or bodies; what matters of them is in our metrics.
_CHATTY = (
    "kopf.activities",
    "kopf.objects",
    "kopf._core.engines.activities",
    "aiohttp.access",
    "aiohttp_retry",
    "asyncio",
)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra=`; kopf passes its settings and the object's reference, which say nothing to a
    reader."""
    found = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {key: value for key, value in found.items() if not key.startswith("k8s_") and key != "settings"}


class TextFormatter(logging.Formatter):
    """For people: `extra=` fields follow the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback if there is one."""
        fields = {**({"resource": RESOURCE.get()} if RECONCILE_ID.get() else {}), **_extra(record)}
        told = " ".join(f"{key}={value}" for key, value in fields.items())
        head, newline, traceback = super().format(record).partition("\n")
        return f"{head} {told}".rstrip() + newline + traceback


class JsonFormatter(logging.Formatter):
    """`extra=` fields become keys of the object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if RECONCILE_ID.get():
            entry["reconcile_id"] = RECONCILE_ID.get()
            entry["resource"] = RESOURCE.get()
        entry.update(_extra(record))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(settings: OperatorSettings) -> None:
    """Send all logs to standard error, in the chosen format."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.value)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
