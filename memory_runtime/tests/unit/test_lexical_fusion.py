"""Fusion of words, vectors and neighbours: bounds, order, and what each part may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_runtime.lexical import Evidence, Near, fuse, question_words, reciprocal_rank_fusion

ALONE = Near.of([])


def evidence(similarity: list[float], words: list[list[float]] | None = None, **rest: object) -> Evidence:
    table = np.array(words or [], dtype=float).reshape(len(words or []), len(similarity))
    values = {"near": ALONE, "dates": np.zeros(len(similarity)), "floor": 0.0} | rest
    return Evidence(similarity=np.array(similarity), words=table, **values)  # type: ignore[arg-type]


def order(found: np.ndarray) -> list[int]:
    return np.argsort(-found, kind="stable").tolist()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_part_stays_between_zero_and_one(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 8))
    w = data.draw(st.integers(0, 4))
    floats = st.floats(-1, 1)
    steps = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(1, 2)), max_size=12))
    links = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.floats(0, 9)), max_size=6))
    found = fuse(
        Evidence(
            similarity=np.array(data.draw(st.lists(floats, min_size=n, max_size=n))),
            words=np.array(
                data.draw(st.lists(st.lists(st.floats(0, 30), min_size=n, max_size=n), min_size=w, max_size=w))
            )
            .astype(float)
            .reshape(w, n),
            near=Near.of(steps, links),
            dates=np.array(data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))),
            floor=data.draw(floats),
        ),
        boost=data.draw(st.floats(0, 100)),
    )
    for part in (found.vector, found.words, found.total):
        assert np.isfinite(part).all()
        assert (part >= 0).all()
        assert (part <= 1 + 1e-12).all()
    np.testing.assert_allclose(found.reach.sum(axis=0), found.words, atol=1e-9)


def test_without_words_the_order_is_that_of_the_vectors() -> None:
    assert order(fuse(evidence([0.1, 0.9, -0.5, 0.4])).total) == [1, 3, 0, 2]


def test_boost_zero_is_vectors_alone_and_a_large_boost_is_words_alone() -> None:
    given_ = evidence([0.9, 0.1], [[0.0, 5.0]])
    assert order(fuse(given_, boost=0.0).total) == [0, 1]
    assert order(fuse(given_, boost=100.0).total) == [1, 0]


def test_words_spread_over_neighbours_beat_one_word_alone() -> None:
    """The question's two words: one here and one in the answer that follows, against one of them far away."""
    words = [[4.0, 0.0, 4.0], [0.0, 4.0, 0.0]]
    near = Near.of([(0, 1, 1)])
    found = fuse(evidence([0.3, 0.3, 0.3], words, near=near))
    assert found.words[0] > found.words[2]
    assert order(found.total)[-1] == 2


def test_a_word_counts_once_however_often_the_neighbours_repeat_it() -> None:
    words = [[4.0, 4.0, 4.0, 4.0]]
    near = Near.of([(0, 1, 1), (1, 2, 1), (0, 2, 2)])
    found = fuse(evidence([0.0] * 4, words, near=near))
    assert found.words.tolist() == [1, 1, 1, 1]


def test_a_linked_memory_gains_and_a_heavier_link_gains_more() -> None:
    none = fuse(evidence([1.0, 0.2])).total[1]
    light = fuse(evidence([1.0, 0.2], near=Near.of([], [(1, 0, 0.5)]))).total[1]
    heavy = fuse(evidence([1.0, 0.2], near=Near.of([], [(1, 0, 5.0)]))).total[1]
    assert none < light < heavy


def test_a_date_raises_what_is_relevant_and_nothing_else() -> None:
    found = fuse(evidence([0.5, 0.5, 0.0], dates=np.array([0.0, 1.0, 1.0])))
    assert found.total[1] > found.total[0]
    assert found.total[2] == 0.0


def test_what_is_no_better_than_the_floor_has_no_vector_part() -> None:
    assert fuse(evidence([0.2, 0.6], floor=0.2)).vector.tolist() == [0.0, 1.0]


def test_reciprocal_rank_fusion_is_the_published_sum() -> None:
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]])
    assert list(fused) == ["b", "a", "c"]
    assert fused["b"] == pytest.approx(1 / 62 + 1 / 61)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("When did Caroline go to the LGBTQ group?", ["caroline", "go", "lgbtq", "group"]),
        ("Who was that?", ["who", "was", "that"]),
        ("dog Dog DOG", ["dog"]),
        ("?!", []),
        ("où est l'été", ["ete"]),
        ("snake_case", ["snake", "case"]),
    ],
)
def test_the_words_of_a_question(question: str, words: list[str]) -> None:
    assert question_words(question) == words


def test_noise_beside_the_word_does_not_outrank_the_memory_that_holds_it() -> None:
    """Seen with 拉面 over hashed vectors: nothing is similar, and a neighbour's 0.10 counted as a full vector match."""
    found = fuse(evidence([0.10, 0.0], [[0.0, 4.0]], near=Near.of([(0, 1, 2)])))
    assert order(found.total) == [1, 0]
    assert found.vector.tolist() == pytest.approx([0.5, 0.0])


def test_a_similarity_that_says_something_is_relative_to_the_best() -> None:
    assert fuse(evidence([0.6, 0.3, -0.1])).vector.tolist() == pytest.approx([1.0, 0.5, 0.0])
