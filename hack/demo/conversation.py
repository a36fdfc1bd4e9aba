"""Reads a dated conversation: LoCoMo's format, or JSON lines.

LoCoMo: `session_N` is a list of `{speaker, dia_id, text}`, `session_N_date_time` its time, `qa` a list of
`{question, answer, evidence}`; alone, under `conversation`, or the first of a list. A turn may also carry `pinned`.

JSON lines: one object a line, either a memory `{"text": …, "timestamp": …, "speaker"?, "id"?, "pinned"?}`, its time in
ISO 8601 or epoch seconds, or a question `{"question": …, "answer"?, "evidence"?: [id, …], "lasting"?}`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hack.demo.errors import DemoError

SESSION = re.compile(r"session_(\d+)")
SESSION_TIME = "%I:%M %p on %d %B, %Y"
SECONDS_BETWEEN_TURNS = 30.0
MOST_TURNS = 10_000
SHOWN = 60  # characters of what was wrong that an error quotes


@dataclass(frozen=True, slots=True)
class Turn:
    """One dated thing that was said. `when` is in epoch seconds."""

    key: str
    coordinate: str
    text: str
    when: float
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What to recall, and the keys of the turns that hold the answer, where they are known.

    `lasting`: about what does not change, so that it is best asked without a half-life.
    """

    text: str
    answer: str = ""
    evidence: tuple[str, ...] = ()
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in the order of the file, and questions about them."""

    source: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]

    @property
    def end(self) -> float:
        """The moment of the last turn: ages are told from here, so that an old conversation is not all forgotten."""
        return max(turn.when for turn in self.turns)


def load(path: Path) -> Conversation:
    """Raises DemoError, naming the line or the field, where the file is not what it should be."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, f"is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None
    whole = _whole(text)
    if isinstance(whole, dict) and not _is_line(whole):
        turns, questions = _locomo(path, whole)
    elif isinstance(whole, list) and not (whole and isinstance(whole[0], dict) and not _is_line(whole[0])):
        turns, questions = _lines(path, [(f"item {number}", item) for number, item in enumerate(whole, 1)])
    elif isinstance(whole, list):
        turns, questions = _locomo(path, whole[0])
    else:
        turns, questions = _lines(path, _parsed_lines(path, text))
    if not turns:
        raise _bad(path, "holds no memory")
    if len(turns) > MOST_TURNS:
        raise _bad(path, f"holds {len(turns)} memories; the demo takes at most {MOST_TURNS}")
    return Conversation(path.name, tuple(turns), tuple(questions or _questions_from(turns)))


def _bad(path: Path, why: str) -> DemoError:
    return DemoError(f"DEMO_INPUT: {path} {why}", "docs/demo.md shows both formats that are read", usage=True)


def _whole(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_line(item: dict[str, Any]) -> bool:
    return "text" in item or "question" in item


# --- LoCoMo
# ----------------------------------------------------------------------------------------------------------


def _locomo(path: Path, sample: Any) -> tuple[list[Turn], list[Question]]:
    nested = sample.get("conversation", sample)
    conversation = nested if isinstance(nested, dict) else {}
    numbers = sorted(int(found[1]) for name in conversation if (found := SESSION.fullmatch(name)))
    if not numbers:
        raise _bad(path, "is JSON, but neither LoCoMo's format (no 'session_1') nor memories with 'text'")
    turns = [turn for number in numbers for turn in _session(path, conversation, number)]
    asked = sample.get("qa", conversation.get("qa", []))
    return turns, [_question(path, f"qa {index}", item) for index, item in enumerate(asked, 1) if _answerable(item)]


def _session(path: Path, conversation: dict[str, Any], number: int) -> list[Turn]:
    name = f"session_{number}"
    said = conversation.get(f"{name}_date_time")
    try:
        start = datetime.strptime(str(said), SESSION_TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        expected = "'1:56 pm on 8 May, 2023'"
        raise _bad(path, f"field {name}_date_time: {_quoted(said)} is no time like {expected}") from None
    turns = []
    for index, item in enumerate(_list(path, name, conversation[name]), 1):
        text = _text(path, f"{name}, turn {index}", item, "text")
        speaker = item.get("speaker", "")
        key = str(item.get("dia_id", f"D{number}:{index}"))
        when = start + index * SECONDS_BETWEEN_TURNS
        spoken = f"{speaker}: {text}" if speaker else text
        turns.append(Turn(key, f"{number},{index},0", spoken, when, item.get("pinned") is True))
    return turns


def _answerable(item: Any) -> bool:
    # LoCoMo's category 5 asks for what was never said.
    return not (isinstance(item, dict) and item.get("category") == 5)


# --- JSON lines
# ------------------------------------------------------------------------------------------------------


def _parsed_lines(path: Path, text: str) -> list[tuple[str, Any]]:
    parsed = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                parsed.append((f"line {number}", json.loads(line)))
            except ValueError as error:
                raise _bad(path, f"line {number}: no JSON: {_quoted(line)} ({error})") from None
    return parsed


def _lines(path: Path, items: list[tuple[str, Any]]) -> tuple[list[Turn], list[Question]]:
    turns: list[Turn] = []
    questions = []
    for place, item in items:
        if not isinstance(item, dict) or not _is_line(item):
            raise _bad(path, f"{place}: expected an object with 'text' and 'timestamp', or with 'question'")
        if "question" in item:
            questions.append(_question(path, place, item))
            continue
        text = _text(path, place, item, "text")
        spoken = f"{item['speaker']}: {text}" if item.get("speaker") else text
        number = len(turns) + 1
        key = str(item.get("id", number))
        turns.append(Turn(key, f"{number},0,0", spoken, _when(path, place, item), item.get("pinned") is True))
    return turns, questions


def _when(path: Path, place: str, item: dict[str, Any]) -> float:
    value = item.get("timestamp")
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).timestamp()
        read = datetime.fromisoformat(str(value))
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        wanted = "ISO 8601 such as 2026-05-08T13:56, or epoch seconds"
        raise _bad(path, f"{place}, field timestamp: {_quoted(value)} is no time ({wanted})") from None


# --- both
# ------------------------------------------------------------------------------------------------------------


def _question(path: Path, place: str, item: Any) -> Question:
    text = _text(path, place, item, "question")
    evidence = _list(path, f"{place}, evidence", item.get("evidence") or [])
    lasting = item.get("lasting") is True
    return Question(text, str(item.get("answer", "")), tuple(str(one) for one in evidence), lasting)


def _questions_from(turns: list[Turn]) -> list[Question]:
    """Without questions in the file, what was said first, midway and last is asked for in its own words."""
    ordered = sorted(turns, key=lambda turn: turn.when)
    chosen = dict.fromkeys((ordered[0], ordered[len(ordered) // 2], ordered[-1]))
    return [Question(turn.text, evidence=(turn.key,)) for turn in chosen]


def _text(path: Path, place: str, item: Any, field: str) -> str:
    value = item.get(field) if isinstance(item, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise _bad(path, f"{place}, field {field}: expected some text, found {_quoted(value)}")
    return value


def _list(path: Path, place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _bad(path, f"{place}: expected a list, found {_quoted(value)}")
    return value


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
