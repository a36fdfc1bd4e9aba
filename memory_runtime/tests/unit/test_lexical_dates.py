"""Dates in questions: which spans they mean, and what is left alone."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from memory_runtime.lexical import TimeWindow, closeness, time_windows

AT = datetime(2024, 3, 13, 15, 0, tzinfo=UTC).timestamp()  # a Wednesday


def span(first: str, end: str) -> TimeWindow:
    return TimeWindow(*(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in (first, end)))


@pytest.mark.parametrize(
    ("question", "first", "end"),
    [
        ("What did Ana do on 2023-05-07?", "2023-05-07", "2023-05-08"),
        ("What happened in 2023-05?", "2023-05-01", "2023-06-01"),
        ("Who called on 7 May 2023?", "2023-05-07", "2023-05-08"),
        ("Who called on May 7th, 2023?", "2023-05-07", "2023-05-08"),
        ("What was planned for the 3rd of Sept 2022?", "2022-09-03", "2022-09-04"),
        ("Who was born on 31 April 2023?", "2023-04-01", "2023-05-01"),
        ("What did they buy in May 2023?", "2023-05-01", "2023-06-01"),
        ("What did they buy in december 2023?", "2023-12-01", "2024-01-01"),
        ("Where did we live in 2019?", "2019-01-01", "2020-01-01"),
        ("What did I say yesterday?", "2024-03-12", "2024-03-13"),
        ("What did I say today?", "2024-03-13", "2024-03-14"),
        ("Where were we last week?", "2024-03-04", "2024-03-11"),
        ("Where are we this month?", "2024-03-01", "2024-04-01"),
        ("What broke last month?", "2024-02-01", "2024-03-01"),
        ("What broke last year?", "2023-01-01", "2024-01-01"),
        ("What did I eat 3 days ago?", "2024-03-10", "2024-03-11"),
        ("Who moved two months ago?", "2024-01-01", "2024-02-01"),
        ("Who moved a year ago?", "2023-01-01", "2024-01-01"),
        ("What did she paint last Monday?", "2024-03-11", "2024-03-12"),
        ("What did she paint last Wednesday?", "2024-03-06", "2024-03-07"),
    ],
)
def test_a_date_is_the_span_that_it_means(question: str, first: str, end: str) -> None:
    assert time_windows(question, AT) == (span(first, end),)


def test_a_month_without_a_year_may_be_of_any_recent_year() -> None:
    windows = time_windows("Where did they camp in July?", AT)
    assert span("2023-07-01", "2023-08-01") in windows
    assert len(windows) == 10


@pytest.mark.parametrize(
    "question",
    [
        "",
        "May I ask what the march was about?",
        "Which second sunset did she paint?",
        "What is 12345-67-89?",
        "How many days ahead is the exam?",
        "Who ran the marathon in 2 hours?",
        "Does the decision augur well?",
    ],
)
def test_what_is_no_date_gives_no_window(question: str) -> None:
    assert time_windows(question, AT) == ()


def test_closeness_is_whole_inside_fades_after_and_is_nothing_before() -> None:
    window = TimeWindow(1000.0, 1000.0 + 86_400)
    times = np.array([999.0, 1000.0, 50_000.0, window.end + 3.5 * 86_400, window.end + 8 * 86_400])
    np.testing.assert_allclose(closeness(times, (window,)), [0, 1, 1, 0.5, 0], atol=1e-9)


def test_closeness_without_a_window_is_zero() -> None:
    assert closeness(np.array([1.0, 2.0]), ()).tolist() == [0, 0]
