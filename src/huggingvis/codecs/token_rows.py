"""What tokenizers of a fixed length share: which words of a text are cut off, and rows of ids filled up to the length.

Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Pieces = Callable[[str], Sequence[int]]


def overflow(text: str, pieces: Pieces, room: int) -> str:
    """The end of `text` that `room` pieces do not reach, from the first word that is not read whole; "" if all is read.

    Found by bisection: the pieces of the first words are the first pieces, so their number grows with the words.
    """
    if len(pieces(text)) <= room:
        return ""
    words = list(re.finditer(r"\S+", text))
    first = bisect_right(words, room, key=lambda word: len(pieces(text[: word.end()])))
    return text[words[min(first, len(words) - 1)].start() :].strip() if words else text


def filled(rows: Sequence[Sequence[int]], length: int, pad: int) -> tuple[Tensor, Tensor]:
    """Rows of ids side by side, [B, length] int64, and where they are ids and not padding, [B, length] bool."""
    import torch  # only here: texts are looked at without it

    ids = torch.full((len(rows), length), pad, dtype=torch.int64)  # [B, L]
    mask = torch.zeros(len(rows), length, dtype=torch.bool)  # [B, L]
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[index, : len(row)] = True
    return ids, mask
