"""Text for people: tables, trees and colour. Colour only on a terminal, and not where NO_COLOR is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubectl_soma.health import Health, Level

_MARKS = {Level.OK: ("✓", "32"), Level.PROGRESSING: ("…", "33"), Level.FAILED: ("✗", "31")}


def colourful() -> bool:
    """Whether standard output is a terminal that wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def mark(level: Level, *, colour: bool) -> str:
    """One character for a level."""
    sign, code = _MARKS[level]
    return f"\x1b[{code}m{sign}\x1b[0m" if colour else sign


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; empty where there are no rows."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    if len(every) == 1:
        return ""
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )


@dataclass(frozen=True)
class Node:
    """One line of a tree."""

    name: str
    health: Health
    children: tuple[Node, ...] = field(default=())

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        made: dict[str, object] = {"object": self.name, "health": self.health.level.value, "reason": self.health.why}
        if self.children:
            made["children"] = [child.as_json() for child in self.children]
        return made


def draw(node: Node, *, colour: bool) -> str:
    """The tree, one line a node."""
    return "\n".join(_lines(node, "", "", colour=colour))


def _lines(node: Node, first: str, rest: str, *, colour: bool) -> list[str]:
    made = [f"{first}{mark(node.health.level, colour=colour)} {node.name}  {node.health.why}"]
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        made += _lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), colour=colour)
    return made
