"""Log lines as JSON objects, one a line, on standard error; as text for a person who asks for it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, TextIO

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
MAX_TRACE: Final = 8000


class JsonFormatter(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message, what `extra` gave, and the exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in record.__dict__.items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-MAX_TRACE:]
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Sends every logger's lines to `stream` (standard error): `form` is `json` or `text`. Safe to repeat."""
    handler = logging.StreamHandler(stream or sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else plain)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # they repeat what our own lines say, or say it of every request
    for name in ("uvicorn.access", "asyncio", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # it shouts for as long as a broker is away, and our own lines say so once
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
