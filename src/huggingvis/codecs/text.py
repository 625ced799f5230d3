"""Text to token ids: byte-pair encoding learnt from captions of any language.

Sennrich et al. 2016 (arXiv 1508.07909), by the `tokenizers` library. Latin words are cut into pieces; every Chinese
character is a word of its own, as Chinese writes no spaces. Id 0 is padding, 1 stands for the unknown.
Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

PADDING, UNKNOWN = "[pad]", "[unk]"
CHARACTERS = r"\u2e80-\u9fff\uf900-\ufaff\u3000-\u303f"
"""Chinese ones and their signs, as a range of patterns."""


def parted(model: models.Model, *, digits: bool = True) -> Engine:
    """A tokenizer of `model` for lower-case text, cut at spaces and around signs and Chinese characters, and with
    `digits` around each of these too."""
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    cuts = [
        pre_tokenizers.Split(Regex(f"[{CHARACTERS}]"), "isolated"),
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Punctuation(),
    ]
    engine.pre_tokenizer = pre_tokenizers.Sequence([*cuts, *([pre_tokenizers.Digits(True)] if digits else [])])
    return engine


@final
class TextTokenizer:
    """`ids(texts)` -> [B, L] int64, padded with 0 to the longest (at most `length`)."""

    def __init__(self, engine: Engine, length: int = 64):
        self.engine, self.length = engine, length

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int = 2000, length: int = 64) -> TextTokenizer:
        """Learn merges from `texts`; at most `vocabulary` ids.

        Words carry no mark of their ends: the engine would number marked letters in any order, so that the same texts
        would teach another tokenizer each time.
        """
        engine = parted(models.BPE(unk_token=UNKNOWN))
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[PADDING, UNKNOWN], show_progress=False)
        engine.train_from_iterator(texts, trainer)
        return cls(engine, length)

    @classmethod
    def load(cls, path: Path, length: int = 64) -> TextTokenizer:
        """From a tokenizer.json; `FileProblem` if it is none."""
        try:
            return cls(Engine.from_str(path.read_text(encoding="utf-8")), length)
        except FileNotFoundError:
            raise FileProblem(f"There is no tokenizer at {path}. Give the folder of a complete model.") from None
        except Exception as error:  # the library raises a plain Exception for every kind of damage
            raise FileProblem(f"{path} is no tokenizer: {error}. Fetch it again, or use another copy.") from error

    def save(self, path: Path) -> None:
        """Write tokenizer.json, all or nothing. Raises `FileProblem`."""
        write_atomically(path, lambda file: file.write(self.engine.to_str().encode()))

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return int(self.engine.get_vocab_size())

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Ids of each text, [B, L]; what does not fit into `length` is left out."""
        return self.rows([encoding.ids for encoding in self.engine.encode_batch(list(texts))])

    def pieces(self, text: str) -> list[int]:
        """Ids of `text`, however many."""
        return list(self.engine.encode(text).ids)

    def rows(self, pieces: Sequence[Sequence[int]]) -> Tensor:
        """Rows of ids side by side, cut and padded, [B, L]."""
        import torch  # only here: texts are looked at without it

        rows = [row[: self.length] for row in pieces]
        out = torch.zeros(len(rows), max([1, *map(len, rows)]), dtype=torch.int64)
        for row, target in zip(rows, out, strict=True):
            target[: len(row)] = torch.tensor(row, dtype=torch.int64)
        return out  # [B, L]

    def fits(self, text: str) -> bool:
        """Whether all of `text` is read."""
        return len(self.engine.encode(text).ids) <= self.length
