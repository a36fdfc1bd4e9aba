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
        ("what happened on 2023-05-07T10:30:00Z", "2023-05-07", "2023-05-08"),
        ("Who met on 2023/5/7?", "2023-05-07", "2023-05-08"),
        ("Who met on 25/12/2023?", "2023-12-25", "2023-12-26"),
        ("Who met on 12/25/2023?", "2023-12-25", "2023-12-26"),
        ("Who met on 7.5.2023?", "2023-05-07", "2023-05-08"),
        ("Who met on 5/5/2023?", "2023-05-05", "2023-05-06"),
        ("Who met on 5/5/23?", "2023-05-05", "2023-05-06"),
        ("what did we do on may 5, 2023", "2023-05-05", "2023-05-06"),
        ("what did we do on 5 may 2023", "2023-05-05", "2023-05-06"),
        ("May 5, 2023: who came?", "2023-05-05", "2023-05-06"),
        ("Who came on the 5th of May 2023?", "2023-05-05", "2023-05-06"),
        ("Where were we May 5-7, 2023?", "2023-05-05", "2023-05-08"),
        ("Where were we on 5 to 7 May 2023?", "2023-05-05", "2023-05-08"),
        ("what did they buy in may 2023", "2023-05-01", "2023-06-01"),
        ("What did they buy in March of 2023?", "2023-03-01", "2023-04-01"),
        ("What happened between March and May 2023?", "2023-03-01", "2023-06-01"),
        ("What happened from November to January 2023?", "2022-11-01", "2023-02-01"),
        ("Where did we live from 2019 to 2021?", "2019-01-01", "2022-01-01"),
        ("Where did we live between 2019 and 2021?", "2019-01-01", "2022-01-01"),
        ("Where did we live in 2019-2021?", "2019-01-01", "2022-01-01"),
        ("Where did we live in 2000?", "2000-01-01", "2001-01-01"),
        ("In 2000 we lived where?", "2000-01-01", "2001-01-01"),
        ("In 2023 people moved where?", "2023-01-01", "2024-01-01"),
        ("In 2023, who won?", "2023-01-01", "2024-01-01"),
        ("Was it in 2023 or later?", "2023-01-01", "2024-01-01"),
        ("Which songs of 2019 does she like?", "2019-01-01", "2020-01-01"),
        ("What did he plan in early 2023?", "2023-01-01", "2024-01-01"),
        ("What did he plan in mid-2023?", "2023-01-01", "2024-01-01"),
        ("the march of 2020, who led it?", "2020-01-01", "2021-01-01"),
        ("What shipped in Q3 2023?", "2023-07-01", "2023-10-01"),
        ("What shipped in the third quarter of 2023?", "2023-07-01", "2023-10-01"),
        ("What did they see in summer 2023?", "2023-06-01", "2023-09-01"),
        ("What did they see in the summer of 2023?", "2023-06-01", "2023-09-01"),
        ("What did they see last summer?", "2023-06-01", "2023-09-01"),
        ("What did she wear in the 1990s?", "1990-01-01", "2000-01-01"),
        ("What did she wear in the '90s?", "1990-01-01", "2000-01-01"),
        ("What did I say last night?", "2024-03-12", "2024-03-13"),
        ("What did I say this morning?", "2024-03-13", "2024-03-14"),
        ("What did I say the day before yesterday?", "2024-03-11", "2024-03-12"),
        ("What did I say YESTERDAY", "2024-03-12", "2024-03-13"),
        ("Where were we last weekend?", "2024-03-09", "2024-03-11"),
        ("Where were we two weeks ago?", "2024-02-26", "2024-03-04"),
        ("Where were we a couple of weeks ago?", "2024-02-26", "2024-03-04"),
        ("Where were we a few days ago?", "2024-03-10", "2024-03-11"),
        ("Where were we 10 years ago?", "2014-01-01", "2015-01-01"),
        ("What broke last quarter?", "2023-10-01", "2024-01-01"),
        ("What did she paint on Monday?", "2024-03-11", "2024-03-12"),
        ("what did she paint on monday", "2024-03-11", "2024-03-12"),
        ("What did she paint on Sat?", "2024-03-09", "2024-03-10"),
        ("What did we discuss Monday?", "2024-03-11", "2024-03-12"),
        ("What did we discuss Monday morning?", "2024-03-11", "2024-03-12"),
        ("Was geschah am 7. Mai 2023?", "2023-05-07", "2023-05-08"),
        ("Was geschah im März 2023?", "2023-03-01", "2023-04-01"),
        ("Was habe ich gestern gesagt?", "2024-03-12", "2024-03-13"),
        ("Qu'est-il arrivé le 7 août 2023 ?", "2023-08-07", "2023-08-08"),
        ("¿Qué pasó el 7 de mayo de 2023?", "2023-05-07", "2023-05-08"),
        ("¿Qué pasó ayer?", "2024-03-12", "2024-03-13"),
        ("Che cosa è successo il 7 maggio 2023?", "2023-05-07", "2023-05-08"),
        ("O que aconteceu em março de 2023?", "2023-03-01", "2023-04-01"),
        ("Wat gebeurde er op 7 mei 2023?", "2023-05-07", "2023-05-08"),
        ("2023年5月7日发生了什么？", "2023-05-07", "2023-05-08"),
        ("2023年5月に何がありましたか", "2023-05-01", "2023-06-01"),
        ("2023년 5월 7일에 무슨 일이?", "2023-05-07", "2023-05-08"),
        ("昨天谁来了？", "2024-03-12", "2024-03-13"),
        ("Что я сказал вчера?", "2024-03-12", "2024-03-13"),
    ],
)
def test_a_date_is_the_span_that_it_means(question: str, first: str, end: str) -> None:
    assert time_windows(question, AT) == (span(first, end),)


@pytest.mark.parametrize(
    ("question", "first", "end"),
    [
        ("Where did they camp in July?", "2023-07-01", "2023-08-01"),
        ("Where did they camp in May?", "2023-05-01", "2023-06-01"),
        ("where did they camp in may", "2023-05-01", "2023-06-01"),
        ("In May we went where?", "2023-05-01", "2023-06-01"),
        ("Where did they camp during March?", "2023-03-01", "2023-04-01"),
        ("Where did they camp last March?", "2023-03-01", "2023-04-01"),
        ("where did they camp last march?", "2023-03-01", "2023-04-01"),
        ("Where did they camp this May?", "2023-05-01", "2023-06-01"),
        ("Where did they camp at the end of May?", "2023-05-01", "2023-06-01"),
        ("Where did they camp in late August?", "2023-08-01", "2023-09-01"),
        ("Where did they camp on May 5?", "2023-05-05", "2023-05-06"),
        ("where did they camp on may 5", "2023-05-05", "2023-05-06"),
        ("where did they camp on may 5 in paris", "2023-05-05", "2023-05-06"),
        ("May 5 was when they camped where?", "2023-05-05", "2023-05-06"),
        ("Where did they camp on the 5th of May?", "2023-05-05", "2023-05-06"),
        ("where did they camp on 5 march", "2023-03-05", "2023-03-06"),
        ("On 7 May people met where?", "2023-05-07", "2023-05-08"),
        ("Yesterday or, say, May 5, who called?", "2023-05-05", "2023-05-06"),
        ("Who met on 12/25?", "2023-12-25", "2023-12-26"),
    ],
)
def test_without_a_year_it_may_be_of_any_recent_year(question: str, first: str, end: str) -> None:
    windows = time_windows(question, AT)
    assert span(first, end) in windows
    assert len(windows) == 10


def test_figures_that_may_be_read_in_two_ways_are() -> None:
    assert time_windows("Who met on 5/7/2023?", AT) == (
        span("2023-05-07", "2023-05-08"),
        span("2023-07-05", "2023-07-06"),
    )
    assert time_windows("Who met on 5.7.2023?", AT) == (span("2023-07-05", "2023-07-06"),)


def test_spans_that_end_now() -> None:
    (since,) = time_windows("Where have we lived since 2019?", AT)
    assert since == (span("2019-01-01", "2020-01-01").start, AT)
    (days,) = time_windows("What did I eat in the last 3 days?", AT)
    assert days == (AT - 3 * 86_400, AT)
    (months,) = time_windows("What did I eat in the past two months?", AT)
    assert months == (span("2024-01-01", "2024-02-01").start, AT)
    (hour,) = time_windows("What did I say an hour ago?", AT)
    assert hour.start < AT - 3600 < hour.end


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
        "may i call ana",
        "What may be wrong with the boiler?",
        "Who may have taken the keys?",
        "what may 5 people need?",
        "May 5 people join the trip?",
        "may 2000 people enter the hall?",
        "The last may be the best: which?",
        "this may be wrong",
        "it may well rain",
        "you may 3 times a week",
        "Did they march 10 miles?",
        "march 5 steps ahead",
        "on the march to the sea",
        "the soldiers march in step",
        "the long march through the institutions",
        "this march was for peace",
        "who joined the last march for peace?",
        "an august body",
        "who walked 2000 steps?",
        "How did she get to 2000 steps?",
        "who can do it in 2000 steps?",
        "an essay of 2000 words",
        "an essay in 1950 words",
        "a total of 2000 was paid",
        "a crowd of 2000",
        "a budget of 2000",
        "the price of 1999 dollars",
        "it costs $2000",
        "it costs in 2000$ or so",
        "a room of 2000 sq. ft. and 1999 ft",
        "in 2048 tokens",
        "of 1920 pixels",
        "in 2000 copies",
        "room 2023",
        "flight 1999",
        "call 555-2023-1234",
        "version 2023.1",
        "upgrade from 2019.2 to 2021.3",
        "since 2.0.2023.4",
        "Python 3.11.2",
        "192.168.20.23",
        "the train at 20:23",
        "at 7:30 in the morning",
        "open 24/7",
        "I ate 3/4 of it",
        "on 3/4 of the pages",
        "a ratio of 16:9",
        "5/5 stars",
        "score 12-10-2",
        "who sat on the chair?",
        "the sun on sun damaged skin",
        "on sun Microsystems",
        "who will wed in church?",
        "mon ami",
        "the second time",
        "wait a second",
        "last minute plans",
        "how many days a week?",
        "he is 30 years old",
        "for three weeks",
        "a 5 year plan",
        "Who is April?",
        "Did June call?",
        "what does August like?",
        "Jan 5 times a champion",
        "the dec 10 computer has 36 bits",
        "iPhone 15",
        "Catch 22",
        "the 7 dwarfs",
        "chapter 12, page 1984",
        "2x4 planks",
        "Wer ist hier?",
        "im Mais",
        "Marsmission",
        "in 5 months",
        "next week",
        "tomorrow",
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
