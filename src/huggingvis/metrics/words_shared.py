"""How much two sentences share.

The F1 score of words, as answers to questions are compared by (Rajpurkar et al. 2016, arXiv 1606.05250, Sec. 6.1), but
with articles, which captions are about too. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def word_f1(said: Sequence[str], told: Sequence[str]) -> float:
    """Words that two sentences have in common, twice their number over that of both; 1 for two without any."""
    a, b = Counter(said), Counter(told)
    return 2 * (a & b).total() / (a.total() + b.total()) if a or b else 1.0
