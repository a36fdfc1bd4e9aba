"""Files that a user hands us, read as bytes. A line ends at \\n alone; every fault is a sentence with its line.

Text mode would end lines at U+2028 or a lone carriage return, and fail on the first wrong byte without saying where.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed

LONGEST_LINE: Final = 64 << 20
"""Bytes; a longer line is no memory (the server takes 5 MB at once), and must not fill this process's memory."""
_HEAD: Final = 1 << 16
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_NOT_TEXT: Final = {
    b"\xff\xfe": ("is UTF-16 or UTF-32", "iconv -f utf-16 -t utf-8"),
    b"\xfe\xff": ("is UTF-16", "iconv -f utf-16 -t utf-8"),
    b"\x00\x00\xfe\xff": ("is UTF-32", "iconv -f utf-32 -t utf-8"),
    b"PK\x03\x04": ("is a ZIP archive", "unzip -p"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "zstd -dc"),
    b"BZh": ("is compressed with bzip2", "bzip2 -dc"),
    b"\xfd7zXZ\x00": ("is compressed with xz", "xz -dc"),
    b"SQLite format 3\x00": ("is a SQLite database", "soma export-memories"),
}


class Fault(Exception):  # noqa: N818 -- a line's fault, which may be set aside rather than raised to the user
    """Why a line cannot be used, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class Line(NamedTuple):
    """A line without its ending. `number` counts from 1, empty lines included; `cut` says that it was too long."""

    number: int
    raw: bytes
    cut: bool = False

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"line {self.number}"

    def value(self) -> dict[str, Any]:
        """The JSON object that it holds. Raises Fault."""
        if self.cut:
            raise Fault(f"longer than {LONGEST_LINE >> 20} MiB", "was a line break lost?")
        value = parse(text_of(self.raw))
        if not isinstance(value, dict):
            raise Fault("expected a JSON object", "write one object a line")
        return value


def text_of(raw: bytes) -> str:
    """Bytes as text. Raises Fault with the first byte that is no UTF-8, and with a NUL byte."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"byte {raw[error.start]:#04x} at column {error.start + 1} is not UTF-8"
        raise Fault(reason, "save the file as UTF-8, such as by `iconv -f latin1 -t utf-8`") from None
    if "\0" in text:
        raise Fault(f"a NUL byte at column {text.index(chr(0)) + 1}", "is the file UTF-16, or was it cut by a crash?")
    return text


def parse(text: str) -> Any:
    """The JSON value of one line. Raises Fault with the column."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise Fault(f"not JSON at column {error.colno}: {error.msg}", "mend the line") from None
    except RecursionError:
        raise Fault("nested too deeply", "flatten it") from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise Fault(f"not JSON: {error}", "mend the line") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


class InputFile:
    """A file that was opened for reading; its faults are CommandFailed with exit code 2."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = "standard input" if name == "-" else name
        self._file = file
        self._held = b""

    def lines(self) -> Iterator[Line]:
        """Each line that is not blank. What is no UTF-8 text at all is refused at its first bytes."""
        number = 0
        while True:
            raw, cut = self._next(number + 1)
            if not raw:
                return
            number += 1
            if number == 1:
                self._check_start(raw)
                raw = raw.removeprefix(_BOM)
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
            if raw.strip():
                yield Line(number, raw, cut)

    def head(self) -> bytes:
        """The first line that is not blank, its first 64 KiB at most; it is read again by whoever reads on."""
        with self._failing("line 1"):
            while not self._held.removeprefix(_BOM).strip() and (more := self._file.readline(_HEAD)):
                self._held += more
        return self._held.removeprefix(_BOM).strip()

    def read_all(self, most: int) -> str:
        """The whole file as text."""
        with self._failing("the file"):
            raw = self._held + self._file.read(most + 1 - len(self._held))
        if len(raw) > most:
            raise self.failed(f"larger than {most >> 20} MiB; write one JSON object a line instead")
        self._check_start(raw)
        raw = raw.removeprefix(_BOM)
        try:
            return text_of(raw)
        except Fault:
            for number, line in enumerate(raw.split(b"\n"), start=1):
                try:
                    text_of(line)
                except Fault as fault:
                    raise self.failed(f"line {number}: {fault}") from None
            raise

    def failed(self, words: str) -> CommandFailed:
        """What is wrong with the file, to be raised."""
        return CommandFailed(f"{self.name}: {words}", EXIT_USAGE)

    def _next(self, number: int) -> tuple[bytes, bool]:
        with self._failing(f"line {number}"):
            raw = self._read_line()
            rest = raw
            while rest and not rest.endswith(b"\n") and len(rest) > LONGEST_LINE:
                rest = self._file.readline(LONGEST_LINE + 2)  # passed over, never held
            return raw, len(raw) > LONGEST_LINE + 1

    def _read_line(self) -> bytes:
        if not self._held:
            return self._file.readline(LONGEST_LINE + 2)
        line, ending, self._held = self._held.partition(b"\n")
        return line + ending if ending else line + self._file.readline(LONGEST_LINE + 2 - len(line))

    def _check_start(self, raw: bytes) -> None:
        for start, (what, remedy) in _NOT_TEXT.items():
            if raw.startswith(start):
                raise self.failed(f"the file {what}, not UTF-8 text; make it so with `{remedy}`")

    @contextlib.contextmanager
    def _failing(self, where: str) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.failed(f"{where}: the gzip data is cut off or damaged ({error}); copy the file again") from None
        except OSError as error:
            raise self.failed(f"{where}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def reading(name: str) -> Iterator[InputFile]:
    """The file, unpacked if it is gzip whatever its name; `-` is standard input. Raises CommandFailed."""
    with reading_bytes(name) as file:
        yield InputFile(name, file)


@contextlib.contextmanager
def reading_bytes(name: str) -> Iterator[IO[bytes]]:
    """As `reading`, for what is no lines. Raises CommandFailed."""
    with contextlib.ExitStack() as stack:
        try:
            file: Any = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
            packed = file.peek(2)[:2] == _GZIP
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            why = getattr(error, "strerror", None) or str(error)
            raise CommandFailed(f"cannot read {name}: {why}; correct the path", EXIT_USAGE) from None
        unpacked: Any = stack.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
        yield unpacked
