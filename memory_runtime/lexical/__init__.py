"""Words and vectors together: what a question asks for, and how evidence of several kinds becomes one relevance.

Pure functions of values: no store, no clock, no event loop. May import model, and NumPy. The method: docs/recall.md.
"""

from memory_runtime.lexical.dates import TimeWindow, closeness, time_windows
from memory_runtime.lexical.fusion import Evidence, Near, Relevance, fuse, reciprocal_rank_fusion
from memory_runtime.lexical.words import MAX_WORDS, question_words

__all__ = [
    "MAX_WORDS",
    "Evidence",
    "Near",
    "Relevance",
    "TimeWindow",
    "closeness",
    "fuse",
    "question_words",
    "reciprocal_rank_fusion",
    "time_windows",
]
