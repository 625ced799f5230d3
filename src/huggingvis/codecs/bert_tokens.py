"""BERT's reading of a text: lower-case WordPiece between [CLS] and [SEP], for the text tower of latent diffusion.

Devlin et al. 2019 (arXiv 1810.04805, §3) by the `tokenizers` library; accents are taken off, every Chinese character
is a word. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine
from torch import Tensor

from huggingvis.codecs.token_rows import filled, overflow
from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@final
class BERTTokens:
    """Text to ids. `start`, `end` and `pad` are the ids of [CLS], [SEP] and [PAD]; a row is `length` ids."""

    def __init__(self, vocabulary: Sequence[str], length: int = 77):
        """`vocabulary`: the token of each id. Raises `FileProblem` if a special token is missing."""
        table = {token: id for id, token in enumerate(vocabulary)}
        missing = [token for token in SPECIAL if token not in table]
        if missing:
            raise FileProblem(f"A BERT vocabulary should hold {missing[0]}, but this one of {len(table)} does not.")
        self._engine = Engine(models.WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=100))
        self._engine.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        known = [token for token in (*SPECIAL, "[MASK]") if token in table]
        self._engine.add_special_tokens([AddedToken(token, normalized=False) for token in known])
        self.pad, _, self.start, self.end = (table[token] for token in SPECIAL)
        self.size, self.length = len(vocabulary), length

    @classmethod
    def load(cls, path: Path, length: int = 77) -> BERTTokens:
        """From a vocab.txt (one token a line), a tokenizer.json, or a folder with either. Raises `FileProblem`."""
        fast = path / "tokenizer.json"
        path = path / "vocab.txt" if path.is_dir() else path
        if path.suffix == ".json" or (fast.is_file() and not path.is_file()):
            return cls(_fast(fast if fast.is_file() else path), length)
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            raise FileProblem(f"There is no BERT vocabulary at {path}. Fetch the model's tokenizer folder.") from None
        except OSError as error:
            raise explain(error, path, "read") from error
        except UnicodeDecodeError as error:
            raise FileProblem(f"{path} should be text, one token a line, but is not ({error}).") from error
        return cls([line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])], length)

    def pieces(self, text: str) -> list[int]:
        """The ids of `text`, without start and end, however many."""
        return list(self._engine.encode(text.encode("utf-8", "replace").decode()).ids)

    def ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The ids of each text, cut and padded, [B, length] int64, and where they are not padding, [B, length] bool."""
        return self.rows([self.pieces(text) for text in texts])

    def rows(self, pieces: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Start, as many pieces as there is room for, end, padding; and where there is none. As `ids`."""
        return filled([[self.start, *row[: self.length - 2], self.end] for row in pieces], self.length, self.pad)

    def fits(self, text: str) -> bool:
        """Whether all of `text` is read."""
        return len(self.pieces(text)) <= self.length - 2

    def overflow(self, text: str) -> str:
        """The end of `text` that is not read, from the first word that is cut; "" if it fits."""
        return overflow(text, self.pieces, self.length - 2)


def _fast(path: Path) -> list[str]:
    """The vocabulary in a tokenizer.json, as `tokenizers` writes it."""
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        ids = {int(id): str(token) for token, id in model["vocab"].items()}
        kind = str(model["type"])
    except OSError as error:
        raise explain(error, path, "read") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileProblem(f"{path} is no tokenizer of BERT's kind ({error!r}). Fetch it again.") from error
    if kind != "WordPiece" or sorted(ids) != list(range(len(ids))):
        raise FileProblem(
            f"{path} should hold WordPiece's vocabulary with ids from 0 on, found {kind} and {len(ids)} tokens. "
            "It belongs to another kind of model."
        )
    return [ids[id] for id in range(len(ids))]
