"""Conversations: both formats are read, and a bad file is answered by the line or field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hack.demo.__main__ import SHIPPED, main
from hack.demo.conversation import load
from hack.demo.errors import DemoError

LOCOMO = {
    "speaker_a": "Ann",
    "session_2_date_time": "1:56 pm on 8 May, 2023",
    "session_2": [{"speaker": "Ann", "dia_id": "D2:1", "text": "I moved to Lisbon"}],
    "session_1_date_time": "9:05 am on 3 January, 2023",
    "session_1": [{"speaker": "Bo", "dia_id": "D1:1", "text": "I play chess"}],
    "qa": [
        {"question": "Where does Ann live?", "answer": "Lisbon", "evidence": ["D2:1"], "category": 2},
        {"question": "What did nobody say?", "evidence": [], "category": 5},
    ],
}


def written(folder: Path, content: object) -> Path:
    path = folder / "input"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "shape", [LOCOMO, {"conversation": LOCOMO, "qa": LOCOMO["qa"]}, [LOCOMO, {}]], ids=["flat", "nested", "list"]
)
def test_locomo_sessions_are_read_in_their_order_with_their_dates(tmp_path: Path, shape: object) -> None:
    read = load(written(tmp_path, shape))
    assert [turn.text for turn in read.turns] == ["Bo: I play chess", "Ann: I moved to Lisbon"]
    assert read.turns[0].when < read.turns[1].when == pytest.approx(1_683_554_160 + 30)
    assert [question.text for question in read.questions] == ["Where does Ann live?"]
    assert read.questions[0].evidence == ("D2:1",)


def test_json_lines_hold_memories_and_questions(tmp_path: Path) -> None:
    lines = [
        {"text": "I moved to Lisbon", "timestamp": "2023-05-08T13:56:00Z", "speaker": "Ann", "id": "a"},
        {"text": "I play chess", "timestamp": 1_683_554_160, "pinned": True},
        {"question": "Where does Ann live?", "evidence": ["a"]},
    ]
    read = load(written(tmp_path, "\n\n".join(json.dumps(line) for line in lines)))
    assert [(turn.key, turn.text, turn.when, turn.pinned) for turn in read.turns] == [
        ("a", "Ann: I moved to Lisbon", 1_683_554_160.0, False),
        ("2", "I play chess", 1_683_554_160.0, True),
    ]
    assert read.questions[0].evidence == ("a",)
    assert len({turn.coordinate for turn in read.turns}) == 2


def test_without_questions_what_was_said_is_asked_for(tmp_path: Path) -> None:
    read = load(written(tmp_path, json.dumps({"text": "one", "timestamp": "2024-01-01"})))
    assert [(question.text, question.evidence) for question in read.questions] == [("one", ("1",))]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no memory"),
        ("[]", "holds no memory"),
        ("{}", "neither LoCoMo's format"),
        ("12", "line 1: expected an object"),
        ('{"text": "x", "timestamp": 1}\n{"text": "y", "timest', "line 2: no JSON"),
        ('{"text": "x"}', "line 1, field timestamp: None is no time"),
        (
            '{"text": "x", "timestamp": "yesterday"}\n{"text": "y", "timestamp": 1}',
            "line 1, field timestamp: 'yesterday'",
        ),
        ('{"text": "x", "timestamp": true}\n', "field timestamp: True"),
        ('{"text": "x", "timestamp": 1e300}\n', "field timestamp: 1e+300"),
        ('{"text": 5, "timestamp": 1}\n', "field text: expected some text, found 5"),
        ({"session_1": [{"text": "x"}]}, "field session_1_date_time: None is no time like"),
        ({"session_1": "x", "session_1_date_time": "1:56 pm on 8 May, 2023"}, "session_1: expected a list"),
        ({"session_1": [{}], "session_1_date_time": "1:56 pm on 8 May, 2023"}, "session_1, turn 1, field text"),
        ({**LOCOMO, "qa": [{"question": "q", "evidence": "D1"}]}, "qa 1, evidence: expected a list"),
    ],
)
def test_a_bad_file_is_answered_by_what_is_wrong_in_it(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(DemoError) as caught:
        load(written(tmp_path, content))
    assert told in str(caught.value)
    assert caught.value.usage


def test_bytes_that_are_no_text_are_called_that(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(DemoError, match="not UTF-8"):
        load(path)


def test_the_program_ends_with_2_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.json")]) == 2
    printed = capsys.readouterr().out
    assert "cannot be read: No such file" in printed
    assert "[1/" not in printed


def test_shipped_conversation_has_evidence_for_every_question_over_months() -> None:
    shipped = load(SHIPPED)
    keys = {turn.key for turn in shipped.turns}
    assert len(keys) == len(shipped.turns) == 25
    assert all(set(question.evidence) <= keys and question.evidence for question in shipped.questions)
    assert shipped.end - min(turn.when for turn in shipped.turns) > 180 * 86_400
