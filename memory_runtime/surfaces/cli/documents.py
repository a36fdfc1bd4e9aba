"""The items of a store-bulk file: a JSON list, an object with `items`, or JSON lines, each with its place."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from memory_runtime.surfaces.cli.input_file import Fault, InputFile, Line, parse, text_of

LARGEST_DOCUMENT: Final = 1 << 30
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_OPENS_DOCUMENT: Final = re.compile(rb'\[|\{\s*$|\{\s*"items"\s*:')


class Item(NamedTuple):
    """One item of a document. `number` counts items from 1; `line` is where it begins."""

    number: int
    line: int
    found: dict[str, Any]
    raw: bytes

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"item {self.number} (line {self.line})"

    def value(self) -> dict[str, Any]:
        """The JSON object."""
        return self.found


def items_of(file: InputFile) -> Iterator[Line | Item]:
    """The file's items. A document is read whole first, so that a fault in its JSON changes nothing.

    Raises CommandFailed for a document that is broken; a broken line raises Fault when its value is asked for.
    """
    if not _is_document(file.head()):
        yield from file.lines()
        return
    text = file.read_all(LARGEST_DOCUMENT)
    for _ in _document(file, text):
        pass
    yield from _document(file, text)


def _is_document(head: bytes) -> bool:
    if _OPENS_DOCUMENT.match(head):
        return True
    with contextlib.suppress(Fault):
        value = parse(text_of(head))
        return isinstance(value, dict) and isinstance(value.get("items"), list) and "coord" not in value
    return False


def _document(file: InputFile, text: str) -> Iterator[Item]:
    scan = _Scan(text)
    try:
        if scan.peek() == "{":
            yield from _members(scan)
        else:
            yield from _elements(scan)
        scan.end()
    except Fault as fault:
        raise file.failed(f"line {scan.line()}: {fault}; nothing was stored") from None


def _members(scan: _Scan) -> Iterator[Item]:
    """The items of an object with `items`; else the object itself."""
    begin, found, held = scan.at, False, {}
    first = scan.line()
    for _ in scan.separated("{", "}"):
        key = scan.value()
        scan.take(":")
        if key == "items" and scan.peek() == "[":
            found = True
            yield from _elements(scan)
        else:
            held[str(key)] = scan.value()
    if not found:
        yield Item(1, first, held, scan.text[begin : scan.at].encode("utf-8", "surrogatepass"))


def _elements(scan: _Scan) -> Iterator[Item]:
    numbers = itertools.count(1)
    for _ in scan.separated("[", "]"):
        scan.peek()
        begin, line = scan.at, scan.line()
        value = scan.value()
        if not isinstance(value, dict):
            raise Fault("expected a list of objects with coord and payload", "mend the file")
        yield Item(next(numbers), line, value, scan.text[begin : scan.at].encode("utf-8", "surrogatepass"))


class _Scan:
    """A place in a JSON text that moves on value by value, so that each one's line is known."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._line, self._counted = 1, 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse)

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def peek(self) -> str:
        match = _SPACE.match(self.text, self.at)
        assert match is not None  # noqa: S101 -- it matches nothing, too
        self.at = match.end()
        return self.text[self.at : self.at + 1]

    def take(self, mark: str) -> None:
        if self.peek() != mark:
            found = self.text[self.at : self.at + 1]
            raise Fault(f"not JSON: expected {mark!r}, found {found!r}" if found else "the file ends early", "mend it")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        try:
            found, self.at = self._decoder.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.at = min(error.pos, len(self.text))
            raise Fault(f"not JSON: {error.msg} at column {error.colno}", "mend it") from None
        except RecursionError:
            raise Fault("nested too deeply", "flatten it") from None
        except ValueError as error:
            raise Fault(f"not JSON: {error}", "mend it") from None
        return found

    def separated(self, opening: str, closing: str) -> Iterator[None]:
        """Stops before each of the values between two marks that commas separate."""
        self.take(opening)
        if self.peek() == closing:
            self.at += 1
            return
        while True:
            yield
            if self.peek() == closing:
                self.at += 1
                return
            self.take(",")

    def end(self) -> None:
        if self.peek():
            raise Fault("not JSON: something follows the end of the document", "mend it")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
