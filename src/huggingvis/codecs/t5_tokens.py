"""T5's reading of a text: SentencePiece, an end and no start, with a mask of what is text.

Kudo 2018 (arXiv 1804.10959: the unigram model) and Kudo & Richardson 2018 (arXiv 1808.06226) by the `sentencepiece`
library; Raffel et al. 2020 (arXiv 1910.10683, §2.2) for T5's vocabulary. Letters it does not know are read as one
unknown id 2, so most scripts but Latin are lost: PixArt reads English. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Engine
from torch import Tensor

from huggingvis.codecs.token_rows import filled, overflow
from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain


@final
class T5Tokens:
    """Text to ids and a mask. A row is at most `length - 1` pieces and the end (id 1), then padding (id 0)."""

    end, pad = 1, 0

    def __init__(self, split: Callable[[str], list[int]], size: int):
        """`split`: the ids of a text without an end, below `size`. Made by `load`."""
        self._split, self.size = split, size

    @classmethod
    def load(cls, folder: Path) -> T5Tokens:
        """From a `tokenizer` folder: spiece.model, or tokenizer.json; or one of these files. Raises `FileProblem`."""
        model, fast = folder / "spiece.model", folder / "tokenizer.json"
        if folder.is_file():
            return _fast(folder) if folder.suffix == ".json" else _sentencepiece(folder)
        if model.is_file():
            return _sentencepiece(model)
        if fast.is_file():
            return _fast(fast)
        raise FileProblem(
            f"There is no T5 tokenizer in {folder}: expected spiece.model or tokenizer.json. It is the folder "
            "`tokenizer` of the model; fetch that with it."
        )

    def pieces(self, text: str) -> list[int]:
        """The ids of `text`, without the end, however many."""
        return self._split(text.encode("utf-8", "replace").decode())

    def ids(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """The ids of each text, cut and padded, [B, length] int64, and where they are not padding, [B, length] bool."""
        return self.rows([self.pieces(text) for text in texts], length)

    def rows(self, pieces: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
        """As many pieces as there is room for, the end, padding; and where there is none. As `ids`."""
        return filled([[*row[: length - 1], self.end] for row in pieces], length, self.pad)

    def fits(self, text: str, length: int) -> bool:
        """Whether all of `text` is read in a row of `length` ids."""
        return len(self.pieces(text)) < length

    def overflow(self, text: str, length: int) -> str:
        """The end of `text` that is not read in `length` ids, from the first word that is cut; "" if it fits."""
        return overflow(text, self.pieces, length - 1)


def _sentencepiece(path: Path) -> T5Tokens:
    try:
        engine = SentencePieceProcessor()
        engine.LoadFromSerializedProto(path.read_bytes())  # refuses an empty file, as the constructor does not
    except OSError as error:
        raise explain(error, path, "read") from error
    except RuntimeError as error:
        raise FileProblem(f"{path} is no SentencePiece model: {error}. Fetch it again.") from error
    _check(path, engine.pad_id(), engine.eos_id())
    return T5Tokens(engine.encode, engine.get_piece_size())


def _fast(path: Path) -> T5Tokens:
    try:
        engine = Engine.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain(error, path, "read") from error
    except Exception as error:  # the library raises a plain Exception for every kind of damage
        raise FileProblem(f"{path} is no tokenizer: {error}. Fetch it again, or use another copy.") from error
    _check(path, engine.token_to_id("<pad>"), engine.token_to_id("</s>"))
    engine.no_truncation()
    return T5Tokens(lambda text: list(engine.encode(text, add_special_tokens=False).ids), engine.get_vocab_size())


def _check(path: Path, pad: int | None, end: int | None) -> None:
    if (pad, end) != (T5Tokens.pad, T5Tokens.end):
        raise FileProblem(
            f"{path} is no T5 tokenizer: T5 pads with id 0 and ends with id 1, but this one has {pad} and {end}. "
            "It belongs to another kind of model."
        )
