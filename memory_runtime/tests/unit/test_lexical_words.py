"""Words in any script: cut and folded alike on both sides of a search, and written so that no parser can differ."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.lexical import question_words
from memory_runtime.model import words
from memory_runtime.tests.languages import LANGUAGES

letters = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cs"]),
        st.sampled_from("ßẞİıſςΣΐﬁﬃŉǰⅫ①²½ÅK\u0301\u0308\u0327\u3099ｶﾞ가각ก็ำक़्\u200b\u200c\u00ad\ufe0f٣७"),
    ),
    max_size=40,
)


@pytest.mark.parametrize(
    "same",
    [
        ("Straße", "STRASSE", "strasse", "STRAẞE"),
        ("café", "cafe\u0301", "CAFÉ", "cafe"),
        ("Ὀδυσσεύς", "ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
        ("İstanbul", "istanbul", "ISTANBUL", "ıstanbul"),
        ("ﬁnance", "finance", "ｆｉｎａｎｃｅ"),
        ("Đà Nẵng", "da nang"),
        ("smørrebrød", "smorrebrod"),
        ("٢٠٢١", "2021", "२०२१", "２０２１"),
        ("don’t", "don't", "donʼt"),
        ("co\u00adoperate", "cooperate", "co\u2060operate"),
        ("ガラス", "ｶﾞﾗｽ"),
        ("한글", unicodedata.normalize("NFD", "한글")),
        ("مُحَمَّد", "محمد"),
        ("شָלוֹם", "شלום"),
        ("बाज़ार", "बाजार"),
    ],
    ids=lambda same: same[0],
)
def test_spellings_of_one_word_are_one_word(same: tuple[str, ...]) -> None:
    assert len({tuple(words.tokens(one)) for one in same}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("がっこう", "かつこう"), ("किताब", "कताब"), ("ข้าว", "ขาว"), ("сон", "сын"), ("ばし", "はし")],
)
def test_marks_that_make_another_word_count(one: str, other: str) -> None:
    assert words.tokens(one) != words.tokens(other)


def test_scripts_without_spaces_are_searched_by_characters_in_a_row() -> None:
    assert words.terms("我吃拉面。") == ["我吃", "吃拉", "拉面"]
    assert words.terms("面") == ["面"]
    assert words.terms("東京tower 2号") == ["東京", "tower", "2", "号"]
    assert words.terms("ร่มสีแดง") == ["ร่มสี", "มสีแ", "สีแด", "แดง"]
    assert words.holds_phrase(words.indexed("昨天吃了拉面。").words, words.phrase("拉面"))
    assert not words.holds_phrase(words.indexed("拉了一碗面").words, words.phrase("拉面"))


@given(letters)
def test_what_a_ledger_is_given_is_plain_words_of_ascii(text: str) -> None:
    found = words.indexed(text)
    assert found.words.isascii()
    assert all(one.isalnum() and one == one.lower() for one in found.words.split(" ") if found.words)
    assert found.length == (len(found.words.split(" ")) if found.words else 0) == len(words.tokens(text))


@given(letters)
def test_forms_and_case_do_not_count(text: str) -> None:
    expected = words.indexed(text)
    for form in ("NFC", "NFD"):
        assert words.indexed(unicodedata.normalize(form, text)) == expected
    assert words.indexed(text.casefold()) == expected


@given(letters, letters)
def test_words_are_alike_only_if_their_characters_are(one: str, other: str) -> None:
    assert (words.tokens(one) == words.tokens(other)) == (words.indexed(one) == words.indexed(other))


@given(letters, letters, letters)
def test_every_term_of_a_part_stands_in_the_whole(before: str, part: str, after: str) -> None:
    held = words.indexed(f"{before} {part} {after}").words
    assert all(words.holds_phrase(held, one) for one in words.phrases(part))


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_ascii_takes_the_short_way_to_the_same_words(text: str) -> None:
    assert words.tokens(text) == words.tokens(f"{text}\u2060")
    assert words.terms(text) == words.terms(f"{text}\u2060")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_is_asked_by_its_telling_words(language: str) -> None:
    asked = LANGUAGES[language]
    telling = question_words(asked.question)
    held = words.indexed(asked.memories[0]).words
    assert any(words.holds_phrase(held, words.phrase(one)) for one in telling)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Wann hat Anna die Katze adoptiert?", ["anna", "katze", "adoptiert"]),
        ("Wo schläft Mimi?", ["schlaft", "mimi"]),
        ("¿Cuándo adoptó Ana el gato?", ["adopto", "ana", "gato"]),
        ("Quand est-ce qu'Anne a adopté le chat ?", ["anne", "adopte", "chat"]),
        ("Когда Анна завела кошку?", ["анна", "завела", "кошку"]),
        ("Who won the war and where did the die fall?", ["war", "die", "fall"]),
        ("What does Melanie's son want?", ["melanie", "son", "want"]),
        ("When?", ["when"]),
        ("wer war das", ["wer", "war", "das"]),
    ],
)
def test_function_words_are_left_out_in_the_question_s_own_language(question: str, expected: list[str]) -> None:
    assert question_words(question) == expected
