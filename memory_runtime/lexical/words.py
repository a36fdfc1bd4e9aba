"""Which words of a question are looked for."""

from __future__ import annotations

from memory_runtime.lexical import function_words
from memory_runtime.model.words import MAX_TERMS, terms

MAX_WORDS = 24
"""Of more words than this, those that the fewest memories hold are looked for."""


def question_words(text: str) -> list[str]:
    """The first 64 distinct words of `text`, folded (of scripts without spaces: every two or three characters in a
    row), without the function words of its language; if it has no other, all of them.
    """
    words = terms(text)
    function = function_words.of(words)
    telling = [word for word in words if word not in function]
    return (telling or words)[:MAX_TERMS]
