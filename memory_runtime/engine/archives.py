"""Archive files: what retention takes out of the ledger, as compressed JSON lines that `archive restore` puts back.

A file appears whole or not at all (draft, fsync, rename, fsync of the directory) and is named by the hash of its
content: the sweep that a crash cut short writes the same file again instead of a second one. The first line says
whose memories follow; the last how many there were, with the SHA-256 of everything before it. Memory lines are those
of `soma export-memories`, with what only an archive keeps (i, times, accesses, links) beside.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from memory_runtime.model.coordinates import make_coordinate
from memory_runtime.model.errors import Conflict, NotFound, Unavailable
from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.stores.sqlite.opening import sync_directory
from memory_runtime.stores.values import Kept

SCHEMA: Final = 1
NAME: Final = re.compile(r"^archive-[0-9a-f]{32}\.jsonl\.gz$")


class Archive(NamedTuple):
    """One file: its name within the scope, bytes on disk, when it was written (epoch seconds), memories in it."""

    name: str
    bytes: int
    written_at: float
    memories: int


class Archives:
    """The archive files under one directory, a folder for each scope. Blocking: call it from a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, scope: Scope, kept: Sequence[Kept]) -> Archive:
        """Writes the memories durably; returns only then. Raises Unavailable where the disk refuses."""
        data = _lines(scope, kept)
        path = self._folder(scope) / f"archive-{hashlib.sha256(data).hexdigest()[:32]}.jsonl.gz"
        try:
            if not self._whole(path):
                self._put(path, gzip.compress(data, compresslevel=6, mtime=0))
            status = path.stat()
        except OSError as error:
            raise Unavailable(
                f"retention_archive_dir: cannot write {path}: {error.strerror}",
                field="retention_archive_dir",
                remedy="make room or make it writable; nothing is purged before it is archived",
            ) from None
        return Archive(path.name, status.st_size, status.st_mtime, len(kept))

    def _put(self, path: Path, packed: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.draft")
        # memories are private: the archive is the server's alone
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
        sync_directory(path.parent.parent)

    def _whole(self, path: Path) -> bool:
        try:
            _verified(path)
        except (NotFound, Conflict):
            return False
        return True

    def listed(self, scope: Scope) -> list[Archive]:
        """The scope's archives, oldest first. One that cannot be read counts -1 memories."""
        found = []
        for path in sorted(self._folder(scope).glob("archive-*.jsonl.gz")):
            status = path.stat()
            try:
                memories = _verified(path)[1]["count"]
            except (NotFound, Conflict):
                memories = -1
            found.append(Archive(path.name, status.st_size, status.st_mtime, memories))
        return sorted(found, key=lambda one: (one.written_at, one.name))

    def total_bytes(self) -> int:
        """Bytes of all archives on disk."""
        return sum(path.stat().st_size for path in self.directory.glob("*/archive-*.jsonl.gz"))

    def read(self, scope: Scope, name: str) -> list[Kept]:
        """The memories of an archive of this scope.

        Raises NotFound for a name that is none of the scope's, Conflict for a file that is not what was written.
        """
        if not NAME.match(name):
            raise NotFound("archive: no such archive in this scope", field="archive", remedy="see: soma archive list")
        lines, _ = _verified(self._folder(scope) / name)
        head = json.loads(lines[0])
        if (head["tenant"], head["namespace"]) != (scope.tenant, scope.namespace):
            raise NotFound("archive: no such archive in this scope", field="archive", remedy="see: soma archive list")
        return [_kept(scope, json.loads(line)) for line in lines[1:]]

    def _folder(self, scope: Scope) -> Path:
        # a hash, because a tenant may be named `../x`
        return self.directory / hashlib.sha256(f"{scope.tenant}\x1f{scope.namespace}".encode()).hexdigest()[:24]


def _lines(scope: Scope, kept: Sequence[Kept]) -> bytes:
    head = {"kind": "archive", "schema": SCHEMA, "tenant": scope.tenant, "namespace": scope.namespace}
    data = "".join(map(_text, [head, *map(_line, kept)])).encode()
    end = {"kind": "end", "count": len(kept), "sha256": hashlib.sha256(data).hexdigest()}
    return data + _text(end).encode()


def _text(line: dict[str, Any]) -> str:
    # not canonical_json: a payload as deep as it may be is one level deeper here
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def _line(kept: Kept) -> dict[str, Any]:
    record = kept.record
    return {
        "kind": "memory",
        "schema": SCHEMA,
        "id": str(record.id),
        "coordinate": list(record.coordinate),
        "memory_type": record.memory_type,
        "payload": record.payload,
        "timestamp": record.event_time,
        "ingested": record.ingest_time,
        "accessed": record.access_time,
        "access_count": record.access_count,
        "importance": record.importance,
        "importance_norm": record.importance_norm,
        "normaliser_version": record.normaliser_version,
        "features": record.features,
        "pinned": record.pinned,
        "hold": record.hold,
        "expires_at": record.expires_at,
        "model_revision": record.model_revision,
        # nine digits read back as the same float32
        "vector": None if record.vector is None else [float(f"{value:.9g}") for value in record.vector.tolist()],
        "version": record.version,
        "links": [[list(one.source), list(one.target), one.link_type, one.weight, one.metadata] for one in kept.links],
    }


def _kept(scope: Scope, line: dict[str, Any]) -> Kept:
    vector = line["vector"]
    record = MemoryRecord(
        id=uuid.UUID(line["id"]),
        tenant=scope.tenant,
        namespace=scope.namespace,
        memory_type=line["memory_type"],
        coordinate=make_coordinate(line["coordinate"]),
        payload=line["payload"],
        importance=line["importance"],
        importance_norm=line["importance_norm"],
        normaliser_version=line["normaliser_version"],
        event_time=line["timestamp"],
        ingest_time=line["ingested"],
        access_time=line["accessed"],
        access_count=line["access_count"],
        features=line["features"],
        vector=None if vector is None else np.array(vector, np.float32),
        model_revision=line["model_revision"],
        # archives of before these were written hold neither pinned nor held memories
        pinned=line.get("pinned", False),
        hold=line.get("hold", False),
        expires_at=line["expires_at"],
        version=line["version"],
    )
    return Kept(record, [_edge(*link) for link in line["links"]])


def _edge(source: list[float], target: list[float], link_type: str, weight: float, metadata: dict[str, Any]) -> Edge:
    return Edge(make_coordinate(source), make_coordinate(target), link_type, weight, metadata)


def _verified(path: Path) -> tuple[list[bytes], dict[str, Any]]:
    """The lines before the last one, and the last one. Raises NotFound, or Conflict where they do not fit."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            "archive: no such archive in this scope", field="archive", remedy="see: soma archive list"
        ) from None
    except OSError as error:
        raise _damaged(path, error.strerror or "cannot be read") from None
    try:
        lines = gzip.decompress(packed).splitlines(keepends=True)
        end = json.loads(lines[-1])
        head = json.loads(lines[0])
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(end, dict) or end.get("kind") != "end" or head.get("schema") != SCHEMA:
        raise _damaged(path, "it is not an archive of this version")
    before = lines[:-1]
    if hashlib.sha256(b"".join(before)).hexdigest() != end.get("sha256") or end.get("count") != len(before) - 1:
        raise _damaged(path, "its checksum does not fit")
    return before, end


def _damaged(path: Path, why: str) -> Conflict:
    return Conflict(
        f"archive: {path.name} is damaged: {why}", field="archive", remedy="take the file from a backup of the volume"
    )
