"""The index on disk: immutable, memory-mapped segment files under one manifest, every byte under a checksum.

A save writes only segments that are not yet on disk, then the manifest, by write, fsync, rename, fsync: a crash leaves
the old snapshot whole. A load checks everything but the vectors at once; those are checked block by block, before they
are first used. Nothing that fails is served: `SnapshotUnusable` says to rebuild from the ledger, which is the truth.
"""

from __future__ import annotations

import json
import mmap
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import Unavailable
from memory_runtime.model.failpoints import reach
from memory_runtime.scoring import basis as bases
from memory_runtime.scoring import codes
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.params import ScoringParams
from memory_runtime.scoring.segment import Runs, Segment

FORMAT: Final = 2
MANIFEST: Final = "manifest.json"
_ALIGN: Final = 64
_EAGER_BLOCK: Final = 1 << 20
VECTOR_BLOCK: Final = 1 << 14
_RUN_COLUMNS: Final = ("tenant", "namespace", "memory_type", "start", "zone", "partition")
_COLUMNS: Final = (
    "ids", "importance", "features", "records", "prefix", "head", "weight", "zone_start", "zone_reference", "latest",
    "hashes", "hash_order",
)  # fmt: skip

Array = npt.NDArray[Any]


class SnapshotUnusable(Unavailable):
    """The snapshot is absent, torn, damaged or of another configuration: rebuild the index from the ledger."""


def _unusable(what: str) -> SnapshotUnusable:
    return SnapshotUnusable(
        f"the index snapshot cannot be used: {what}", field="snapshot", remedy="the index is rebuilt from the ledger"
    )


def params_digest(params: ScoringParams, dim: int) -> str:
    """What a snapshot's order depends on; a snapshot of another digest is not loaded."""
    tables = [sorted(table.items()) for table in (params.by_type, params.by_tenant, params.by_tenant_type)]
    text = repr((FORMAT, dim, params.default, tables, params.feature_names, params.vector_storage))
    return f"{zlib.crc32(text.encode()):08x}"


# ---- writing ----


def save(
    directory: Path,
    segments: Sequence[Segment],
    params: ScoringParams,
    dim: int,
    seq: int,
    dead: list[Array],
    header: Mapping[str, Any],
) -> None:
    """Makes `directory` hold exactly these segments as of ledger sequence `seq`; `dead`: dead positions of each.

    `header` is the caller's own (JSON): it comes back from `load`, under the manifest's checksum.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = []
    for segment, positions in zip(segments, dead, strict=True):
        if segment.file is None or segment.file.parent != directory or not segment.file.exists():
            segment.file, segment.layout = _write_segment(directory, segment)
        entries.append({"name": segment.name, "layout": segment.layout, "dead": positions.tolist()})
    body = {"format": FORMAT, "digest": params_digest(params, dim), "seq": seq, "header": dict(header)}
    body["segments"] = entries
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    _write_durably(
        directory / MANIFEST, [json.dumps({"crc32": zlib.crc32(text.encode())}).encode(), b"\n", text.encode()]
    )
    kept = {segment.file for segment in segments}
    for path in [*directory.glob("*.seg"), *directory.glob(".*.unfinished")]:
        if path not in kept:
            path.unlink(missing_ok=True)


def _write_segment(directory: Path, segment: Segment) -> tuple[Path, dict[str, Any]]:
    path = directory / f"{segment.name}-{uuid.uuid4().hex[:12]}.seg"
    columns: dict[str, Array] = {name: getattr(segment, name) for name in _COLUMNS}
    if segment.dead:
        # Deaths go into the manifest: the file must not change while the index lives on
        columns["records"] = columns["records"].copy()
        codes.deaths(columns["records"])[:] = 0
    columns |= {f"run_{name}": getattr(segment.runs, name) for name in _RUN_COLUMNS}
    columns["vectors"] = segment.vectors
    if segment.basis.rows is not None:
        columns["basis"] = segment.basis.rows
    layout: dict[str, Any] = {
        "file": path.name,
        "error": segment.error,
        "norm": segment.norm,
        "slack": segment.basis.slack,
        "dim": segment.basis.dim,
        "columns": {},
    }
    chunks: list[bytes | memoryview] = []
    offset = 0
    for name, column in columns.items():
        data = np.ascontiguousarray(column)
        block = VECTOR_BLOCK if name == "vectors" else _EAGER_BLOCK
        view = _bytes_of(data)
        layout["columns"][name] = {
            "offset": offset,
            "dtype": data.dtype.str,
            "shape": list(data.shape),
            "crc": _checksums(view, block).tobytes().hex() if name != "vectors" else "",
        }
        chunks.append(view)
        offset += len(view)
        if name == "vectors":
            # Too many for the manifest: they follow the vectors, under a checksum of their own
            sums = _checksums(view, block).tobytes()
            layout["vector_sums"] = {"offset": offset, "size": len(sums), "crc": zlib.crc32(sums)}
            chunks.append(sums)
            offset += len(sums)
        padding = -offset % _ALIGN
        chunks.append(b"\0" * padding)
        offset += padding
    layout["size"] = offset
    _write_durably(path, chunks)
    return path, layout


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")  # type: ignore[arg-type]


def _checksums(view: memoryview, block: int) -> npt.NDArray[np.uint32]:
    return np.array([zlib.crc32(view[at : at + block]) for at in range(0, len(view), block)], np.uint32)


def _write_durably(path: Path, chunks: Sequence[bytes | memoryview]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    with unfinished.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    reach("mid-snapshot")
    unfinished.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- reading ----


class Loaded(NamedTuple):
    """What a snapshot held: segments mapped from its files, the ledger sequence, and the caller's header."""

    segments: list[Segment]
    seq: int
    header: dict[str, Any]


def load(directory: Path, params: ScoringParams, dim: int) -> Loaded:
    """What was saved. Raises SnapshotUnusable, saying what is wrong."""
    body = _manifest(directory, params, dim)
    shared: dict[bytes, Basis] = {}
    try:
        segments = [_read_segment(directory, entry, shared) for entry in body["segments"]]
    except (KeyError, ValueError, TypeError, OSError) as bad:
        raise _unusable(f"a segment does not match its manifest ({bad})") from bad
    return Loaded(segments, int(body["seq"]), dict(body["header"]))


def _manifest(directory: Path, params: ScoringParams, dim: int) -> dict[str, Any]:
    try:
        head, text = (directory / MANIFEST).read_text("utf-8").split("\n", 1)
        intact = json.loads(head)["crc32"] == zlib.crc32(text.encode())
        body = json.loads(text)
    except FileNotFoundError:
        raise _unusable("there is none") from None
    except (OSError, ValueError, KeyError, TypeError) as bad:
        raise _unusable("its manifest cannot be read") from bad
    if not intact:
        raise _unusable("its manifest is damaged")
    if body["digest"] != params_digest(params, dim):
        raise _unusable("it was made with other scoring parameters or dimensions")
    return dict(body)


def _read_segment(directory: Path, entry: dict[str, Any], shared: dict[bytes, Basis]) -> Segment:
    layout = entry["layout"]
    path = directory / layout["file"]
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != layout["size"]:
            raise _unusable(f"{path.name} has {size} bytes instead of {layout['size']}")
        # Copy on write: deaths are marked in memory, the file stays as it was checked
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    raw = np.frombuffer(mapped, np.uint8)
    columns: dict[str, Any] = {name: _column(raw, place) for name, place in layout["columns"].items()}
    _verify(raw, layout["columns"], path.name)
    # Checking has touched every page; those that searches need come back by themselves, from the page cache
    mapped.madvise(mmap.MADV_DONTNEED)
    sums_at = layout["vector_sums"]
    sums = raw[sums_at["offset"] : sums_at["offset"] + sums_at["size"]].tobytes()
    if zlib.crc32(sums) != sums_at["crc"]:
        raise _unusable(f"{path.name}: the vectors' checksums are damaged")
    rows = columns.pop("basis", None)
    basis = Basis(layout["dim"])
    if rows is not None:
        basis = shared.setdefault(rows.tobytes(), bases.from_rows(np.array(rows)))
    runs = Runs(*(np.array(columns.pop(f"run_{name}")) for name in _RUN_COLUMNS))
    for name in ("zone_start", "zone_reference", "latest"):
        columns[name] = np.array(columns[name])
    segment = Segment(name=entry["name"], basis=basis, error=layout["error"], norm=layout["norm"], runs=runs, **columns)
    segment.file, segment.layout = path, layout
    segment.check = VectorGuard(segment.vectors, np.frombuffer(sums, np.uint32), path.name)
    codes.deaths(segment.records)[np.array(entry["dead"], np.int64)] = 1
    segment.dead = len(entry["dead"])
    return segment


def _column(raw: Array, place: dict[str, Any]) -> Array:
    kind = np.dtype(place["dtype"])
    size = int(np.prod(place["shape"])) * kind.itemsize
    part = raw[place["offset"] : place["offset"] + size]
    if len(part) != size:
        raise _unusable("a segment file is shorter than its manifest says")
    return part.view(kind).reshape(place["shape"])  # type: ignore[no-any-return]


def _blocks(raw: Array, columns: dict[str, Any]) -> Iterator[tuple[str, memoryview, int]]:
    for name, place in columns.items():
        sums = np.frombuffer(bytes.fromhex(place["crc"]), np.uint32)
        if name == "vectors":
            continue
        data = _bytes_of(_column(raw, place))
        for number, start in enumerate(range(0, len(data), _EAGER_BLOCK)):
            yield name, data[start : start + _EAGER_BLOCK], int(sums[number])


def _verify(raw: Array, columns: dict[str, Any], file: str) -> None:
    # zlib releases the GIL: two threads read and check at about twice the speed of one
    with ThreadPoolExecutor(2, thread_name_prefix="soma-verify") as pool:
        for name, good in pool.map(lambda job: (job[0], zlib.crc32(job[1]) == job[2]), _blocks(raw, columns)):
            if not good:
                raise _unusable(f"{file}: the column {name} is damaged")


class VectorGuard:
    """Checks blocks of mapped vectors before their first use; raises SnapshotUnusable where a byte has changed.

    `broken` stays True from then on.
    """

    def __init__(self, vectors: Array, sums: npt.NDArray[np.uint32], file: str) -> None:
        self._bytes = _bytes_of(vectors)
        self._row = vectors.shape[1] * vectors.dtype.itemsize
        self._sums, self._file = sums, file
        self._good = np.zeros(len(sums), np.bool_)
        self.broken = False

    def __call__(self, rows: npt.NDArray[np.int64]) -> None:
        """Checks the blocks that these rows lie in."""
        first, last = rows * self._row // VECTOR_BLOCK, ((rows + 1) * self._row - 1) // VECTOR_BLOCK
        spread = int((last - first).max()) + 1 if len(rows) else 0
        wanted = (
            np.unique(np.concatenate([np.minimum(first + step, last) for step in range(spread)])) if spread else first
        )
        for block in wanted[~self._good[wanted]].tolist():
            if zlib.crc32(self._bytes[block * VECTOR_BLOCK : (block + 1) * VECTOR_BLOCK]) != self._sums[block]:
                self.broken = True
                raise _unusable(f"{self._file}: vectors are damaged")
            self._good[block] = True
