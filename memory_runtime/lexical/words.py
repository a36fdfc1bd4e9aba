"""Which words of a question are looked for."""

from __future__ import annotations

import re

MAX_WORDS = 24
_WORD = re.compile(r"[^\W_]+")
# English function words and the remains of contractions ("don't" is "don" and "t" to the index).
_FUNCTION_WORD_LIST = """
    a about above after again against all also am an and any are aren as at be because been before being below between
    both but by can cannot could couldn did didn do does doesn doing don down during each few for from further had hadn
    has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just let
    me more most my myself no nor not of off on once only or other ought our ours ourselves out over own same shan she
    should shouldn so some such than that the their theirs them themselves then there these they this those through to
    too under until up very was wasn we were weren what when where which while who whom whose why will with won would
    wouldn you your yours yourself yourselves d ll m re s t ve
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())


def question_words(text: str) -> list[str]:
    """The first 24 distinct words of `text`, lower case, without function words; if it has no other, all of them."""
    words = list(dict.fromkeys(_WORD.findall(text.casefold())))
    telling = [word for word in words if word not in FUNCTION_WORDS]
    return (telling or words)[:MAX_WORDS]
