"""What is odd about a prompt, told with a mark under the letter."""

from __future__ import annotations

import unicodedata
from typing import final

from huggingvis.core.errors import UsageError

AROUND = 32
"""Letters that are shown on each side of the one that is meant."""


@final
class PromptProblem(UsageError):
    """Something in a prompt that has no reading. `at`: the letter's place in `text`, from 0."""

    def __init__(self, said: str, text: str, at: int):
        super().__init__(pointed(said, text, at))
        self.at = at


def pointed(said: str, text: str, at: int) -> str:
    """`said`, which letter of `text` is meant, and a line with a mark under it."""
    low, high = max(0, at - AROUND), min(len(text), at + AROUND)
    before = ("... " if low else "") + _flat(text[low:at])
    shown = before + _flat(text[at:high]) + (" ..." if high < len(text) else "")
    return f"{said} (Letter {at + 1} of the prompt.)\n    {shown}\n    {' ' * _columns(before)}^"


def _flat(text: str) -> str:
    return "".join(" " if letter.isspace() else letter for letter in text)


def _columns(text: str) -> int:
    """How wide a terminal shows `text`: Chinese letters take two places, accents none."""
    wide = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return wide - sum(unicodedata.combining(letter) > 0 for letter in text)
