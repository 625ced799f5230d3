"""Textual inversion: new words for a text tower, each a few learnt vectors in the place of token embeddings.

Gal et al. 2022 (arXiv 2208.01618), §4: a picture's concept is a vector v* that the tower is given where the prompt has
the word S*; here v* may be several vectors in a row, and one set for each tower of the model. The new words get ids
after the vocabulary's, `embed` looks those up here and all others in the tower, of which nothing is changed: to take
an embedding off is not to use it. Book: chapter 5, "Textual inversion".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError, unknown

SYSTEM = {
    "name": "Textual inversion",
    "chapter": 8,
    "paper": "2208.01618",
    "files": ["checkpoints/embedding_formats.py", "checkpoints/embedding_pictures.py"],
    "built": "tests/interop/test_adapters_at_work.py::test_an_embedding_is_a_word_of_the_prompt",
    "exact": ["tests/interop/test_embeddings.py::test_a_prompt_is_read_as_diffusers_reads_it"],
    "trained": None,
    "explained": None,
    "usable": None,
}

BASES: Mapping[frozenset[int], str] = {
    frozenset({768}): "Stable Diffusion 1",
    frozenset({1024}): "Stable Diffusion 2",
    frozenset({768, 1280}): "Stable Diffusion XL",
}
"""Whose text towers have these widths."""

SUFFIXES = (".pt", ".bin", ".safetensors", ".png")


def base_of(widths: Iterable[int]) -> str | None:
    """The base model whose text towers have these widths; None for any other."""
    return BASES.get(frozenset(widths))


@final
@dataclass(frozen=True)
class Embedding:
    """A learnt word, as it was in a file.

    Attributes:
        name: what it is called, by A1111's custom the file's name without its ending (a picture says it inside).
        vectors: [N, D] for each tower, N the same for all. A file that names no tower says which by the width D:
            768 `clip_l`, 1024 `clip_h`, 1280 `clip_g`, others `width_D`.
        token: the word that the file itself gives it (`<cat-toy>`); "" if it gives none.
        metadata: what else the file says: step, the model it was trained on ...
    """

    name: str
    vectors: Mapping[str, Tensor]
    token: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """How many vectors it is, and so how many places it takes in a prompt."""
        return next(iter(self.vectors.values())).shape[0]

    @property
    def widths(self) -> dict[str, int]:
        """Width of the vectors for each tower."""
        return {tower: vectors.shape[1] for tower, vectors in self.vectors.items()}

    @property
    def base(self) -> str | None:
        """The base model it is for, as far as widths tell."""
        return base_of(self.widths.values())

    @property
    def triggers(self) -> tuple[str, ...]:
        """Words that call it in a prompt: its name, the file's own word, and ComfyUI's `embedding:name`."""
        comfy = f"embedding:{self.name}"
        words = (self.name, self.token, comfy, *(comfy + suffix for suffix in SUFFIXES))
        return tuple(word for word in dict.fromkeys(words) if word)


def vectors_for(embedding: Embedding, tower: str, width: int) -> Tensor | None:
    """The vectors [N, D] that `embedding` has for a tower: those under its name, or the only ones of its width."""
    if tower in embedding.vectors:
        found = embedding.vectors[tower]
        return found if found.shape[1] == width else None
    fitting = [vectors for vectors in embedding.vectors.values() if vectors.shape[1] == width]
    return fitting[0] if len(fitting) == 1 else None


def misfit(embedding: Embedding, widths: Mapping[str, int]) -> str | None:
    """Why `embedding` cannot be used with text towers of these widths (by tower); None if it can."""
    mine, needed = embedding.base, base_of(widths.values())
    lacks = [tower for tower, width in widths.items() if vectors_for(embedding, tower, width) is None]
    if not lacks and (mine is None or needed is None or mine == needed):
        return None
    has = " and ".join(str(width) for width in embedding.widths.values())
    wants = " and ".join(str(width) for width in widths.values())
    return (
        f"The embedding {embedding.name!r} is for {mine or 'another model'} (vectors of width {has}), but the text "
        f"towers of this model{f', {needed},' if needed else ''} have width {wants}. Use it with "
        f"{f'a model of {mine}' if mine else 'the model it was trained on'}, or get the version made for this one."
    )


class TokenTower(Protocol):
    """What is needed of a text tower: ids [B, L] to their embeddings [B, L, D] without positions."""

    def embed(self, ids: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


Tokens = TypeVar("Tokens", bound="ReadsWords")


class ReadsWords(Protocol):
    """What is needed of a tokenizer: that it can be given words with ids of their own."""

    @property
    def size(self) -> int: ...

    def with_words(self: Tokens, words: Mapping[str, Sequence[int]]) -> Tokens: ...

    def pieces(self, text: str) -> list[int]: ...


@final
class TextualInversions(Generic[Tokens]):
    """Embeddings in use with the text towers of one model.

    `tokens` is the given tokenizer with the new words in it; `words` gives them to another one, that of a second tower
    which pads differently: `other.with_words(inversions.words)`.
    """

    def __init__(self, tokens: Tokens, towers: Mapping[str, TokenTower], embeddings: Sequence[Embedding]):
        """Raises `UsageError` for an embedding that does not fit the towers, and for two with the same trigger."""
        self._towers, self._first = dict(towers), tokens.size
        self._tables: dict[str, list[Tensor]] = {name: [] for name in towers}
        self.words: dict[str, tuple[int, ...]] = {}
        self._names: list[str] = []  # whose vector each new id is
        widths = {name: _width(tower) for name, tower in towers.items()}
        owners: dict[str, str] = {}
        for embedding in embeddings:
            if (trouble := misfit(embedding, widths)) is not None:
                raise UsageError(trouble)
            start = self._first + len(self._names)
            for word in embedding.triggers:
                if owners.setdefault(word.casefold(), embedding.name) != embedding.name or word in self.words:
                    raise UsageError(
                        f"Two embeddings are called by the word {word!r}: {owners[word.casefold()]!r} and "
                        f"{embedding.name!r}. Rename one of the files, or leave one of them out."
                    )
                self.words[word] = tuple(range(start, start + embedding.length))
            self._names += [embedding.name] * embedding.length
            for name, width in widths.items():
                vectors = vectors_for(embedding, name, width)
                assert vectors is not None  # or it were a misfit
                self._tables[name].append(vectors)
        self.tokens = tokens.with_words(self.words)

    def pieces(self, text: str) -> list[int]:
        """The ids of `text` without start and end, those of an embedding's vectors where it has a trigger."""
        return self.tokens.pieces(text)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the embeddings."""
        return tuple(dict.fromkeys(self._names))

    def used(self, text: str) -> tuple[str, ...]:
        """Names of the embeddings that `text` calls, in the order of their first call."""
        new = [id - self._first for id in self.pieces(text)]
        return tuple(dict.fromkeys(self._names[at] for at in new if 0 <= at < len(self._names)))

    def embed(self, tower: str, ids: Tensor) -> Tensor:
        """What the tower of this name is to read for `ids`, [B, L] -> [B, L, D], in the tower's dtype."""
        if tower not in self._towers:
            raise unknown("text tower", tower, self._towers)
        if not self._names:
            return self._towers[tower].embed(ids)
        new = ids >= self._first  # [B, L]
        x = self._towers[tower].embed(ids.masked_fill(new, 0))  # [B, L, D]
        table = torch.cat([vectors.to(x) for vectors in self._tables[tower]])  # [K, D]
        return torch.where(new[..., None], table[(ids - self._first).clamp(min=0)], x)


def _width(tower: TokenTower) -> int:
    device = next(iter(tower.parameters())).device
    with torch.no_grad():
        return tower.embed(torch.zeros(1, 1, dtype=torch.int64, device=device)).shape[-1]
