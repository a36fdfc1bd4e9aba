"""A new memory in one statement: record, change and vector, by a trigger of the writer's own connection.

Python lets go of the interpreter at each statement, and every time another thread may take it for a while: with four
statements a memory, a bulk and the event loop spent half their time on handing it to and fro. Temporary, so it is no
part of the file.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_COLUMNS: Final = (
    "seq", "id", "collection", "tenant", "namespace", "memory_type", "coordinate", "coordinate_first",
    "importance_raw", "importance_norm", "normaliser_version", "event_time", "ingest_time", "expires_at", "pinned",
    "hold", "model_revision", "features", "payload", "text", "origin", "trace", "history", "row", "vector",
)  # fmt: skip
_VIEW: Final = "CREATE TEMP VIEW arriving AS SELECT " + ", ".join(f"NULL AS {name}" for name in _COLUMNS)
_TRIGGER: Final = """
CREATE TEMP TRIGGER arrive INSTEAD OF INSERT ON arriving BEGIN
  INSERT INTO outbox (seq, operation, id, collection, tenant, namespace, memory_type, version, at, payload, created,
    coordinate, event_time, importance, model_revision, origin, trace, history)
  VALUES (NEW.seq, 'put', NEW.id, NEW.collection, NEW.tenant, NEW.namespace, NEW.memory_type, 1, NEW.ingest_time,
    NEW.payload, 1, NEW.coordinate, NEW.event_time, NEW.importance_raw, NEW.model_revision, NEW.origin, NEW.trace,
    NEW.history);
  INSERT INTO memories (row, id, collection, tenant, namespace, memory_type, coordinate, coordinate_first,
    importance_raw, importance_norm, normaliser_version, event_time, ingest_time, expires_at, pinned, hold,
    model_revision, features, payload, text, version, seq, access_time, access_count, deleted)
  VALUES (NEW.row, NEW.id, NEW.collection, NEW.tenant, NEW.namespace, NEW.memory_type, NEW.coordinate,
    NEW.coordinate_first, NEW.importance_raw, NEW.importance_norm, NEW.normaliser_version, NEW.event_time,
    NEW.ingest_time, NEW.expires_at, NEW.pinned, NEW.hold, NEW.model_revision, NEW.features, NEW.payload, NEW.text,
    1, NEW.seq, NEW.ingest_time, 0, 0);
  INSERT INTO vectors (row, vector) SELECT NEW.row, NEW.vector WHERE NEW.vector IS NOT NULL;
END
"""
INSERT: Final = "INSERT OR FAIL INTO arriving VALUES (" + ", ".join("?" * len(_COLUMNS)) + ")"  # noqa: S608 -- marks
"""Takes the values in the order of the view's columns: seq first, the vector's bytes or None last.

FAIL, because the default, ABORT, keeps a copy of each page that it changes, to undo this one statement; here a failure
undoes the whole group. The words are not among it, as a statement with a virtual table is always prepared to be undone.
"""


def install(connection: sqlite3.Connection) -> None:
    """Makes view and trigger, which end with the connection."""
    connection.execute(_VIEW).close()
    connection.execute(_TRIGGER).close()


def remove(connection: sqlite3.Connection) -> None:
    """Takes them away: before a table that they name is renamed, as SQLite would rename it in them too."""
    connection.execute("DROP TRIGGER temp.arrive").close()
    connection.execute("DROP VIEW temp.arriving").close()
