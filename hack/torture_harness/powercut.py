"""What a power cut may leave of the files below a directory, from a recording of what a process did to them.

Safe is what was written before a flush began that has ended; of the rest any part may have reached the disk, in any
order, down to single sectors. Names are safe once their directory was flushed; until then a prefix of their changes is.
"""

from __future__ import annotations

import enum
import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

SOURCE: Final = Path(__file__).with_name("powercut.c")
SECTOR: Final = 512
_HEAD: Final = struct.Struct("=IIQQ")


class Kind(enum.IntEnum):
    """As in powercut.c."""

    OPENED = 1
    WROTE = 2
    TRUNCATED = 3
    FLUSH_BEGAN = 4
    FLUSH_ENDED = 5
    UNLINKED = 6
    RENAMED = 7


class Record(NamedTuple):
    """One thing done. `file` numbers an opening; `offset` is also the size after a truncation."""

    kind: Kind
    file: int
    offset: int
    data: bytes


class Survival(enum.Enum):
    """What becomes of all that was not safe."""

    NOTHING = "nothing"
    ALL = "all"
    SOME = "some"


def build(directory: Path) -> Path:
    """The library that records, compiled into the directory. Raises CalledProcessError where it cannot be compiled."""
    library = directory / "powercut.so"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True, capture_output=True, text=True)
    return library


def environment(library: Path, directory: Path, log: Path) -> dict[str, str]:
    """The variables under which a process is recorded: what it does below `directory`, to `log`."""
    return {"LD_PRELOAD": str(library), "SOMA_POWERCUT_DIR": str(directory), "SOMA_POWERCUT_LOG": str(log)}


def read(log: Path) -> list[Record]:
    """The recording, in order."""
    return list(_records(log.read_bytes()))


def _records(raw: bytes) -> Iterator[Record]:
    at = 0
    while at < len(raw):
        kind, file, offset, size = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        yield Record(Kind(kind), file, offset, raw[at : at + size])
        at += size


@dataclass(slots=True)
class _Node:
    """A file whatever it is called: its safe bytes, and what was done since, of which some may be on the disk."""

    safe: bytearray = field(default_factory=bytearray)
    loose: list[Record] = field(default_factory=list)
    marked: int = 0


class _Change(NamedTuple):
    """A name that came, went or moved: `node` None for a name that went."""

    name: str
    node: _Node | None


class Disk:
    """The files below a directory while a recording is played."""

    def __init__(self, directory: Path) -> None:
        self._root = str(directory)
        self._now: dict[str, _Node] = {}
        self._safe: dict[str, _Node] = {}
        self._changes: list[_Change] = []
        self._paths: dict[int, str] = {}
        self._open: dict[int, _Node] = {}

    def play(self, record: Record) -> None:
        """Takes one record in."""
        kind, file = record.kind, record.file
        if kind is Kind.OPENED:
            self._opened(file, record.data.decode(), truncates=bool(record.offset))
        elif kind is Kind.UNLINKED:
            self._rename(record.data.decode(), None)
        elif kind is Kind.RENAMED:
            source, target = record.data.decode().split("\n")
            self._rename(source, target)
        elif file in self._open:
            self._touched(self._open[file], record)
        elif kind is Kind.FLUSH_ENDED and self._paths.get(file) == self._root:
            self._safe = dict(self._now)
            self._changes.clear()

    def _opened(self, file: int, path: str, *, truncates: bool) -> None:
        self._paths[file] = path
        if path == self._root:
            return
        node = self._now.get(path)
        if node is None:
            node = self._now[path] = _Node()
            self._changes.append(_Change(path, node))
        self._open[file] = node
        if truncates:
            node.loose.append(Record(Kind.TRUNCATED, file, 0, b""))

    def _rename(self, source: str, target: str | None) -> None:
        node = self._now.pop(source, None)
        self._changes.append(_Change(source, None))
        if target is not None and node is not None:
            self._now[target] = node
            self._changes.append(_Change(target, node))

    @staticmethod
    def _touched(node: _Node, record: Record) -> None:
        if record.kind is Kind.FLUSH_BEGAN:
            node.marked = len(node.loose)
        elif record.kind is Kind.FLUSH_ENDED:
            for done in node.loose[: node.marked]:
                _do(node.safe, done)
            del node.loose[: node.marked]
            node.marked = 0
        else:
            node.loose.append(record)

    def after_a_cut(self, survival: Survival, dice: random.Random) -> dict[str, bytes]:
        """File contents by name, relative to the directory, if the power went now."""
        names = dict(self._safe)
        kept = {
            Survival.NOTHING: 0,
            Survival.ALL: len(self._changes),
            Survival.SOME: dice.randrange(len(self._changes) + 1),
        }[survival]
        for name, node in self._changes[:kept]:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return {name.removeprefix(self._root + "/"): _left(node, survival, dice) for name, node in names.items()}


def _left(node: _Node, survival: Survival, dice: random.Random) -> bytes:
    content = bytearray(node.safe)
    for record in node.loose:
        if survival is Survival.ALL:
            _do(content, record)
        elif survival is Survival.SOME:
            for part in _torn(record, dice):
                _do(content, part)
    return bytes(content)


def _torn(record: Record, dice: random.Random) -> Sequence[Record]:
    """All of it, nothing, its beginning, or single sectors."""
    choice = dice.random()
    if choice < 0.35:
        return [record]
    if choice < 0.65 or record.kind is Kind.TRUNCATED:
        return []
    sectors = [(at, record.data[at : at + SECTOR]) for at in range(0, len(record.data), SECTOR)]
    if choice < 0.85:
        sectors = sectors[: dice.randrange(len(sectors) + 1)]
    else:
        sectors = [one for one in sectors if dice.random() < 0.5]
    return [Record(Kind.WROTE, record.file, record.offset + at, data) for at, data in sectors]


def _do(content: bytearray, record: Record) -> None:
    if record.kind is Kind.TRUNCATED:
        del content[record.offset :]
        content.extend(b"\0" * (record.offset - len(content)))
        return
    end = record.offset + len(record.data)
    content.extend(b"\0" * (end - len(content)))
    content[record.offset : end] = record.data
