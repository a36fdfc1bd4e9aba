"""What an idempotency key was answered: kept in its unit's transaction, found by tenant, namespace and operation."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Collection, Sequence
from typing import Final

from memory_runtime.model.errors import Conflict
from memory_runtime.stores.contracts import IdempotencyKey, Receipt, left_versions

_REPLY: Final = json.JSONEncoder(separators=(",", ":"))
_AT_ONCE: Final = 500

KeyPlace = tuple[str, str, str, str]
"""Tenant, namespace, operation and key: where a reply is kept."""


def place_of(key: IdempotencyKey) -> KeyPlace:
    return key.scope.tenant, key.scope.namespace, key.operation, key.key


def find_reply(connection: sqlite3.Connection, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
    """The reply that this key was given before, if it may be given again. Raises Conflict for another body."""
    row = connection.execute(
        "SELECT body_hash, reply FROM idempotency WHERE tenant = ? AND namespace = ? AND operation = ? AND key = ?",
        (key.scope.tenant, key.scope.namespace, key.operation, key.key),
    ).fetchone()
    if row is None:
        return None
    if row[0] != key.body_hash:
        raise Conflict(
            "the idempotency key was used before with another body",
            field="idempotency_key",
            remedy="send the first body again, or a new key",
        )
    receipts = tuple(
        Receipt(uuid.UUID(hex=found[0]), found[1], found[2], created=found[3], changed=found[4])
        for found in json.loads(row[1])
    )
    return None if key.implicit and not _stands(connection, receipts, key.at) else receipts


def _stands(connection: sqlite3.Connection, receipts: Sequence[Receipt], now: float) -> bool:
    """Whether every memory is as these receipts left it: of that version, neither deleted nor expired."""
    wanted = {identity.bytes: version for identity, version in left_versions(receipts).items()}
    ids, there = list(wanted), 0
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        sql = (
            f"SELECT id, version FROM memories WHERE id IN ({','.join('?' * len(part))}) AND deleted = 0"  # noqa: S608
            " AND (expires_at IS NULL OR expires_at > ? OR pinned OR hold)"
        )
        there += sum(wanted[identity] == version for identity, version in connection.execute(sql, (*part, now)))
    return there == len(ids)


def keep_reply(connection: sqlite3.Connection, key: IdempotencyKey, receipts: Sequence[Receipt]) -> None:
    reply = _REPLY.encode([[r.id.hex, r.version, r.seq, r.created, r.changed] for r in receipts])
    # over the reply that no longer stands, where the key is implicit
    verb = "INSERT OR REPLACE" if key.implicit else "INSERT"
    connection.execute(
        f"{verb} INTO idempotency (tenant, namespace, operation, key, body_hash, reply, at) VALUES (?,?,?,?,?,?,?)",
        (key.scope.tenant, key.scope.namespace, key.operation, key.key, key.body_hash, reply, key.at),
    )


def used(connection: sqlite3.Connection, keys: Collection[KeyPlace]) -> set[KeyPlace]:
    """Those of the keys for which a reply is kept."""
    found: set[KeyPlace] = set()
    by_operation: dict[tuple[str, str, str], list[str]] = {}
    for tenant, namespace, operation, key in keys:
        by_operation.setdefault((tenant, namespace, operation), []).append(key)
    for where, texts in by_operation.items():
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            sql = (
                "SELECT key FROM idempotency WHERE tenant = ? AND namespace = ? AND operation = ?"  # noqa: S608
                f" AND key IN ({','.join('?' * len(part))})"
            )
            found.update((*where, key) for (key,) in connection.execute(sql, (*where, *part)))
    return found
