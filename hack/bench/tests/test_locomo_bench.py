"""The recall benchmark: what it reads, what it reports, and what it says of data that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack.bench import locomo_recall
from hack.bench.locomo_data import BadDataError, read_all

CONVERSATION: dict[str, Any] = {
    "session_2_date_time": "1:00 pm on 9 May, 2023",
    "session_2": [{"speaker": "Ben", "dia_id": "D2:1", "text": "I repaired the bicycle."}],
    "session_1_date_time": "12:09 am on 8 May, 2023",
    "session_1": [
        {"speaker": "Ana", "dia_id": "D1:1", "text": "Where is the kitten?"},
        {"speaker": "Ben", "dia_id": "D1:2", "text": "At my sister's."},
    ],
    "session_3_date_time": "1:00 pm on 10 May, 2023",
    "qa": [
        {"question": "Who has the kitten?", "evidence": ["D1:1; D1:2"], "category": 1},
        {"question": "What did Ben repair?", "evidence": ["D2:1", "D9:9"], "category": 4},
        {"question": "Without evidence?", "evidence": [], "category": 5},
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "07.json").write_text(json.dumps(CONVERSATION))
    return tmp_path


def test_turns_are_dated_and_in_order_and_evidence_is_taken_apart(data: Path) -> None:
    (found,) = read_all(data)
    assert [(turn.name, turn.text) for turn in found.turns][:2] == [
        ("D1:1", "Ana: Where is the kitten?"),
        ("D1:2", "Ben: At my sister's."),
    ]
    assert [turn.time for turn in found.turns] == [1683504540.0, 1683504540.0, 1683637200.0]
    assert [question.evidence for question in found.questions] == [{"D1:1", "D1:2"}, {"D2:1"}]


def test_each_method_has_a_row_and_the_mean_comes_last(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = locomo_recall.main(["--data", str(data), "--json", "--methods", "vector_hash,hybrid_hash"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [(row["conversation"], row["method"]) for row in rows] == [
        ("07", "vector_hash"),
        ("07", "hybrid_hash"),
        ("mean", "vector_hash"),
        ("mean", "hybrid_hash"),
    ]
    assert all(set(row) == {"conversation", "method", "evidence_recall_at_10", "p95_ms"} for row in rows)
    assert rows[1]["evidence_recall_at_10"] == 1.0


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"qa": 3}', '{"qa": [], "session_1": [{"speaker": "A"}]}'])
def test_a_file_in_another_format_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(BadDataError, match=r"broken\.json"):
        read_all(tmp_path)


def test_absent_data_is_one_sentence_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert locomo_recall.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_method_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        locomo_recall.main(["--methods", "magic"])
    assert caught.value.code == 2
    assert "hybrid" in capsys.readouterr().err
