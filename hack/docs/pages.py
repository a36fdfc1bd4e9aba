"""The pages of the documentation, and what they name: code spans, commands, links. Pure functions of text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
_SPAN: Final = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s\[]+)\)")
_FENCE: Final = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Said(NamedTuple):
    """A piece of a page and the line that it begins on."""

    text: str
    line: int


def spans(text: str) -> Iterator[Said]:
    """What stands between backticks, outside of blocks."""
    for match in _SPAN.finditer(_without_blocks(text)):
        yield Said(" ".join(match[2].split()), text.count("\n", 0, match.start()) + 1)


def blocks(text: str) -> Iterator[Said]:
    """The lines of fenced blocks, those that end with a backslash joined with the next."""
    for match in _FENCE.finditer(text):
        first = text.count("\n", 0, match.start(1)) + 1
        joined = re.sub(r"\\\n\s*", " ", match[1])
        for number, line in enumerate(joined.splitlines()):
            yield Said(line, first + number)


def code(text: str) -> Iterator[Said]:
    """Spans and lines of blocks."""
    yield from spans(text)
    yield from blocks(text)


def links(text: str) -> Iterator[Said]:
    """Where the links lead."""
    plain = _SPAN.sub(lambda match: "\n" * match[0].count("\n"), _without_blocks(text))
    for match in _LINK.finditer(plain):
        yield Said(match[1], plain.count("\n", 0, match.start()) + 1)


def anchors(text: str) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", _without_blocks(text), re.MULTILINE):
        plain = re.sub(r"[`*]", "", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def commands(text: str, program: str) -> Iterator[tuple[Said, list[str]]]:
    """Command lines of a program, as words: in blocks with or without a prompt, and in spans."""
    for said in code(text):
        line = re.sub(r"^\s*(?:\$ |[A-Z_]+=\S+ )*", "", said.text)
        if not line.startswith(f"{program} "):
            continue
        line = re.split(r"\s#|[|;&]|\s{2,}\S*#", line)[0]
        try:
            yield said, shlex.split(line)[len(program.split()) :]
        except ValueError:  # a quotation that is cut off: prose, no command
            yield said, line.split()[len(program.split()) :]


def _without_blocks(text: str) -> str:
    """The text with the same lines, those of blocks empty."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
