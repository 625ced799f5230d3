"""CLIP's reading of a text: lower-case byte pairs, a row of 77 ids with a start and an end.

Radford et al. 2021 (arXiv 2103.00020, §2.4), byte pairs after Sennrich et al. 2016 (arXiv 1508.07909) by the
`tokenizers` library: HTML's entities become letters, white space is folded, everything is in small letters; then runs
of letters, single digits, runs of signs and English endings ('s, 't ...) are words, and merges are applied to the
bytes of each. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from huggingvis.codecs.clip_vocabulary import (
    END,
    START,
    WORD_END,
    ClipFolder,
    Vocabulary,
    bundled,
    read_folder,
    write_folder,
)
from huggingvis.codecs.token_rows import filled, overflow

if TYPE_CHECKING:
    from torch import Tensor


@final
class CLIPTokens:
    """Text to ids. `start`, `end` and `pad` are ids; a row is start, at most `length - 2` pieces, end, padding.
    `comma` is the id of a comma; `lengths` says of a word of several ids, by its first, how many they are.

    SD 1 pads with the end, OpenCLIP's towers (SD 2, the second of XL) with "!", id 0. A "!" written in a text is read
    as 256, the word it was in OpenCLIP's own training, whatever pads (transformers takes it for padding there).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        pad: str = END,
        length: int = 77,
        words: Mapping[str, Sequence[int]] | None = None,
    ):
        """`words`: words with ids of their own, see `with_words`. Raises `FileProblem` if there is no token `pad`."""
        self.vocabulary, self.length, self._pad = vocabulary, length, pad
        self.start, self.end, self.pad = vocabulary.id(START), vocabulary.id(END), vocabulary.id(pad)
        self.words = {word: tuple(ids) for word, ids in (words or {}).items() if word}
        self.comma = vocabulary.ids.get(f",{WORD_END}")
        self.lengths = {ids[0]: len(ids) for ids in self.words.values() if len(ids) > 1}
        self._longest_first = sorted(self.words, key=len, reverse=True)
        self._finder = _finder(self._longest_first)

    @classmethod
    def bundled(cls, *, pad: str = END, length: int = 77) -> CLIPTokens:
        """With the vocabulary that comes with this package. `pad`: "!" for the OpenCLIP towers."""
        return cls(bundled(), pad=pad, length=length)

    @classmethod
    def load(cls, folder: Path) -> CLIPTokens:
        """From a `tokenizer` folder, padding, length and added words as it says. Raises `FileProblem`."""
        told = read_folder(folder)
        return cls(
            told.vocabulary, pad=told.pad, length=told.length, words={word: (id,) for word, id in told.words.items()}
        )

    def save(self, folder: Path) -> Path:
        """Write the folder that `load` and diffusers read. Words of several ids have no place in it."""
        single = {word: ids[0] for word, ids in self.words.items() if len(ids) == 1}
        return write_folder(folder, ClipFolder(self.vocabulary, self._pad, self.length, single))

    def with_words(self, words: Mapping[str, Sequence[int]]) -> CLIPTokens:
        """The same tokenizer in which each of `words` is read as the ids it is given; case does not count.

        A word counts where it stands alone ("cat" not in "catalogue"), the longest where several would. This is how
        textual inversion gets its ids, from `size` on.
        """
        return CLIPTokens(self.vocabulary, pad=self._pad, length=self.length, words={**self.words, **words})

    @property
    def size(self) -> int:
        """Number of ids, added words included; an id from here on is free."""
        return max([*self.vocabulary.ids.values(), *(id for ids in self.words.values() for id in ids)]) + 1

    @property
    def room(self) -> int:
        """How many pieces a row has room for: 75 of 77."""
        return self.length - 2

    def pieces(self, text: str) -> list[int]:
        """The ids of `text`, without start and end, however many."""
        text, engine = _clean(text), self.vocabulary.engine
        ids: list[int] = []
        at = 0
        for found in self._finder.finditer(text) if self._finder else ():
            ids += engine.encode(text[at : found.start()]).ids
            ids += self.words[self._longest_first[(found.lastindex or 1) - 1]]
            at = found.end()
        return ids + list(engine.encode(text[at:]).ids)

    def rows(self, pieces: Sequence[Sequence[int]]) -> Tensor:
        """Start, as many pieces as there is room for, end, padding: [B, length] int64."""
        return filled([[self.start, *row[: self.room], self.end] for row in pieces], self.length, self.pad)[0]

    def ids(self, texts: Sequence[str]) -> Tensor:
        """The ids of each text, cut and padded: [B, length] int64."""
        return self.rows([self.pieces(text) for text in texts])

    def fits(self, text: str) -> bool:
        """Whether all of `text` is read."""
        return len(self.pieces(text)) <= self.room

    def overflow(self, text: str) -> str:
        """The end of `text` that is not read, from the first word that is cut; "" if it fits."""
        return overflow(text, self.pieces, self.room)


def _clean(text: str) -> str:
    """Without HTML's entities, which captions from the web carry (at times twice over); lone surrogates become "?"."""
    return html.unescape(html.unescape(text)).encode("utf-8", "replace").decode()


def _finder(words: Sequence[str]) -> re.Pattern[str] | None:
    """Finds the first of `words` that fits at each place, as group 1, 2, ...; an edge that is a letter stands alone."""
    if not words:
        return None
    alone = []
    for word in words:
        before = r"(?<!\w)" if re.match(r"\w", word) else ""
        after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
        alone.append(f"({before}{re.escape(word)}{after})")
    return re.compile("|".join(alone), re.IGNORECASE)
