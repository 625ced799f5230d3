"""Sentences as numbers of whole words, and back: for models that write.

Cut as `codecs.text` cuts, but never into pieces of words, so that a sentence can be put together again, in lower case:
words stand apart, Chinese characters do not, and signs follow what is before them. What plain sentences write otherwise
comes back so: a quotation mark or a sign of percent stands alone. Book: chapter 4, "Sentences as bits".
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
_OWN = re.compile("|".join(map(re.escape, (PADDING, UNKNOWN))), re.IGNORECASE)


def learn_words(texts: Iterable[str], most: int, length: int) -> TextTokenizer:
    """A tokenizer of the at most `most` commonest words of `texts`, padding (0) and the unknown (1) among them."""
    engine = parted(models.WordLevel(unk_token=UNKNOWN), digits=False)
    trainer = trainers.WordLevelTrainer(vocab_size=most, special_tokens=[PADDING, UNKNOWN], show_progress=False)
    engine.train_from_iterator(map(_plain, texts), trainer)
    return TextTokenizer(engine, length)


def cut(text: str) -> list[str]:
    """The words of a text, each Chinese character one, without signs."""
    engine = parted(models.WordLevel(unk_token=UNKNOWN), digits=False)
    pieces = engine.pre_tokenizer.pre_tokenize_str(engine.normalizer.normalize_str(text))
    return [word for word, _ in pieces if any(letter.isalnum() for letter in word)]


def rows(tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Ids of each text, all as long as the tokenizer reads, [B, L] int64."""
    ids = tokenizer.ids([_plain(text) for text in texts])
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


def _plain(text: str) -> str:
    """A text whose words are none of the tokenizer's own."""
    return _OWN.sub(lambda found: found[0][1:-1], text)
