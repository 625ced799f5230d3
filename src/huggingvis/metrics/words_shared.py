"""How much two sentences share.

The F1 score of words as of answers to questions (Rajpurkar et al. 2016, arXiv 1606.05250, Sec. 6.1). Book: chapter 9,
"Judges".
"""

from __future__ import annotations

from collections import Counter


def word_f1(said: str, told: str) -> float:
    """Words that two sentences have in common, twice their number over that of both; 0 where neither has any."""
    a, b = Counter(said.lower().split()), Counter(told.lower().split())
    return 2 * (a & b).total() / max(1, a.total() + b.total())
