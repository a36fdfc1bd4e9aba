"""The words of a text, in any script: cut and folded here, once, for both ledgers and for both sides of a search.

Folding is Unicode's NFKC and full case folding; accents do not count, nor do vowel points, and digits of any script
are the same digits. Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are written without spaces, or glue
particles to words: there, each character (with the marks on it) is indexed by itself, and a search asks for two of
them in a row, or three where the script is an alphabet.

The ledgers' own parsers would cut each script differently, and PostgreSQL's by its locale. So they are given words of
ASCII letters and digits alone: `indexed` writes any other word down by the numbers of its characters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

MAX_TERMS: Final = 64
"""More words of one search are not looked for."""

_ASCII_WORD: Final = re.compile(r"[a-z0-9]+")
_CJK: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\u1100-\u11ff"
    "\U0001aff0-\U0001b16f\U00020000-\U000323af"
)
_ALPHABETS: Final = (
    "\u0e01-\u0e7f\u0e80-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df"  # Tai, Balinese, Javanese
)
_UNSPACED: Final = re.compile(f"[{_CJK}{_ALPHABETS}]")
_PARTS: Final = re.compile(rf"[{_CJK}{_ALPHABETS}]\W*|[^{_CJK}{_ALPHABETS}]+")
_ALPHABET: Final = re.compile(f"[{_ALPHABETS}]")
_ESCAPE: Final = "q9"
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORT: Final = 35 * 36 * 36
# Letters that no decomposition takes apart, and those that writers of one language use for another
_LIKE: Final = {
    "ı": "i", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ŋ": "n", "æ": "ae", "œ": "oe", "þ": "th",
    "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ۀ": "ه", "ہ": "ه", "ـ": "",
}  # fmt: skip
_ZERO_WIDTH_SPACE: Final = "\u200b"


class Indexed(NamedTuple):
    """A text's words as a ledger indexes them, of ASCII letters and digits and one space apart, and how many."""

    words: str
    length: int


class _Folding(dict[int, str]):
    """What becomes of each character of a text that is decomposed and case-folded; learnt as it is met."""

    def __missing__(self, code: int) -> str:
        made = self[code] = _folded_character(chr(code))
        return made


def _folded_character(one: str) -> str:
    if one in _LIKE:
        return _LIKE[one]
    category = unicodedata.category(one)
    if category == "Nd":
        return str(unicodedata.decimal(one))
    if category[0] == "M":
        return one if _is_part_of_the_letter(one, category) else ""
    if category == "Cf":
        return " " if one == _ZERO_WIDTH_SPACE else ""
    if category == "Lm" and "\u02b0" <= one <= "\u02ff":
        return " "  # the apostrophes among these stand where others type a plain one
    return one if one.isalnum() else " "


def _is_part_of_the_letter(mark: str, category: str) -> bool:
    """Vowel signs, viramas, voicing and the tones of unspaced scripts are; accents and vowel points are not."""
    place = unicodedata.combining(mark)
    if place == 0:
        return category != "Me" and not "\ufe00" <= mark <= "\ufe0f" and mark not in "\u034f\u180b\u180c\u180d\u180f"
    if place == 7:  # a nukta is often left out; the same sign is a tone in Burmese
        return "\u1000" <= mark <= "\u109f"
    return place in {6, 8, 9} or 40 <= place < 200


_FOLDING: Final = _Folding()


def _folded(text: str) -> str:
    """The text's words, folded, with spaces between them."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", plain).translate(_FOLDING))


def tokens(text: str) -> list[str]:
    """The words of the text in order, as they are indexed: of unspaced scripts, each character is one."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for chunk in _folded(text).split():
        if _UNSPACED.search(chunk):
            found.extend(_PARTS.findall(chunk))
        else:
            found.append(chunk)
    return found


def terms(text: str) -> list[str]:
    """What a search for any word of the text looks for, without repetition: words, and of unspaced scripts every two or
    three characters in a row. Each is one phrase of `tokens`.
    """
    if text.isascii():
        return list(dict.fromkeys(_ASCII_WORD.findall(text.lower())))
    found: dict[str, None] = {}
    for chunk in _folded(text).split():
        run: list[str] = []
        for part in _PARTS.findall(chunk):
            if _UNSPACED.match(part):
                run.append(part)
                continue
            found.update(dict.fromkeys(_grams(run)))
            run = []
            found[part] = None
        found.update(dict.fromkeys(_grams(run)))
    return list(found)


def _grams(run: list[str]) -> list[str]:
    if not run:
        return []
    size = min(len(run), 3 if _ALPHABET.match(run[0]) else 2)
    return ["".join(run[at : at + size]) for at in range(len(run) - size + 1)]


def indexed(text: str) -> Indexed:
    """What a ledger's index is given of the text."""
    words = tokens(text)
    if not text.isascii():
        words = [word if word.isascii() else _written(word) for word in words]
    return Indexed(" ".join(words), len(words))


def phrase(text: str) -> str:
    """The first 64 words of the text as `indexed` writes them: what a search for them in a row asks a ledger for."""
    words = indexed(text).words
    return " ".join(words.split(" ", MAX_TERMS)[:MAX_TERMS])


def phrases(text: str) -> list[str]:
    """The first 64 of `terms`, each as a `phrase`."""
    return [phrase(term) for term in terms(text)[:MAX_TERMS]]


def holds_phrase(words: str, sought: str) -> bool:
    """Whether the words of `sought` stand in `words` one after the other; both as `indexed` writes them."""
    return f" {sought} " in f" {words} "


@lru_cache(maxsize=16_384)
def _written(word: str) -> str:
    """The word in ASCII, no two alike; it ends in a digit, so that no English stemmer touches it."""
    return _ESCAPE + "".join(_number(ord(one)) for one in word) + "0"


def _number(code: int) -> str:
    """Three digits to the base of 36, or z and four."""
    digits = "" if code < _SHORT else "z"
    for power in (2, 1, 0) if code < _SHORT else (3, 2, 1, 0):
        digits += _BASE36[code // 36**power % 36]
    return digits
