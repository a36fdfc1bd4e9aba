"""Reads conversations in LoCoMo's format: dated sessions of turns, and questions with the turns that answer them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_TURN = re.compile(r"D\d+:\d+")


class BadDataError(Exception):
    """The data is absent or not in LoCoMo's format; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One memory, `speaker: text`: the turn's name (`D3:7`), its place, and its session's start in epoch seconds."""

    name: str
    session: int
    place: int
    time: float
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the names of the turns that are its evidence."""

    text: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One file."""

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def read_all(directory: Path) -> list[Conversation]:
    """Every `*.json` of the directory, by name. Raises BadDataError."""
    files = sorted(directory.glob("*.json")) if directory.is_dir() else []
    if not files:
        raise BadDataError(
            f"--data: no conversations in {directory}: name a directory of LoCoMo's files, one JSON file each"
        )
    return [_read(file) for file in files]


def _read(file: Path) -> Conversation:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        turns = tuple(_turns(document))
        questions = tuple(_questions(document, frozenset(turn.name for turn in turns)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataError(f"--data: {file.name} is not in LoCoMo's format: {error!r}") from None
    if not turns or not questions:
        raise BadDataError(f"--data: {file.name} holds no sessions, or no questions with evidence")
    return Conversation(file.stem, turns, questions)


def _turns(document: dict[str, Any]) -> list[Turn]:
    numbers = sorted(int(key.split("_")[1]) for key, value in document.items() if _is_session(key, value))
    return [
        Turn(said["dia_id"], number, place, _time(document[f"session_{number}_date_time"]), _memory(said))
        for number in numbers
        for place, said in enumerate(document[f"session_{number}"])
    ]


def _is_session(key: str, value: Any) -> bool:
    return re.fullmatch(r"session_\d+", key) is not None and isinstance(value, list)


def _memory(said: dict[str, Any]) -> str:
    return f"{said['speaker']}: {said['text']}"


def _time(text: str) -> float:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp()


def _questions(document: dict[str, Any], known: frozenset[str]) -> list[Question]:
    """Some evidence holds several names in one text, and a few names of no turn: those are left out."""
    found = []
    for asked in document["qa"]:
        names = frozenset(name for text in asked.get("evidence") or () for name in _TURN.findall(text)) & known
        if names:
            found.append(Question(str(asked["question"]), names))
    return found
