"""Sentences as numbers of whole words, and back: for models that write.

Cut as `codecs.text` cuts, but never into pieces of words, so that a sentence can be put together again: words stand
apart, Chinese characters do not, and signs follow what is before them. Book: chapter 4, "Sentences as bits".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tokenizers import models, trainers

from huggingvis.codecs.text import CHARACTERS, PADDING, UNKNOWN, TextTokenizer, parted

if TYPE_CHECKING:
    from torch import Tensor

_TOGETHER = re.compile(rf"(?<=[{CHARACTERS}]) (?=\S)|(?<=\S) (?=[{CHARACTERS}])| (?=[,.;:!?)’'-])|(?<=[(’'-]) ")
_WIDE = {",": "，", ":": "：", ";": "；", "!": "！", "?": "？"}
"""What compatibility forms have made of the signs of Chinese."""


def learn_words(texts: Iterable[str], most: int, length: int) -> TextTokenizer:
    """A tokenizer of the at most `most` commonest words of `texts`, padding (0) and the unknown (1) among them."""
    engine = parted(models.WordLevel(unk_token=UNKNOWN))
    trainer = trainers.WordLevelTrainer(vocab_size=most, special_tokens=[PADDING, UNKNOWN], show_progress=False)
    engine.train_from_iterator(texts, trainer)
    return TextTokenizer(engine, length)


def rows(tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Ids of each text, all as long as the tokenizer reads, [B, L] int64."""
    ids = tokenizer.ids(texts)
    out = ids.new_zeros(len(texts), tokenizer.length)
    out[:, : ids.shape[1]] = ids
    return out


def sentences(tokenizer: TextTokenizer, ids: Tensor) -> list[str]:
    """What the rows of ids [B, L] say, each up to its first padding."""
    return [_joined(tokenizer, row) for row in ids.tolist()]


def _joined(tokenizer: TextTokenizer, row: list[int]) -> str:
    said = row[: row.index(0)] if 0 in row else row
    text = _TOGETHER.sub("", " ".join(tokenizer.engine.id_to_token(number) or UNKNOWN for number in said))
    return re.sub(rf"(?<=[{CHARACTERS}])[,:;!?] ?", lambda sign: _WIDE[sign[0][0]], text)
