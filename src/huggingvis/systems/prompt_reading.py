"""Prompts as conditions, as the Stable Diffusion family reads them: one text tower or two, and what else a net is told.

A `Reader` makes `tokens` [B, L, D] of texts and, where its tower has one, `pooled` [B, P]. Stable Diffusion 1 reads by
CLIP-L's last layer, 2 by OpenCLIP-H's last but one, XL by the last but one of both CLIP-L and OpenCLIP-bigG, side by
side (Podell et al. 2023, arXiv 2307.01952, Sec. 2.1). "Clip skip" n, as the community counts, is the n-th layer from
the end. Weights multiply a tower's states, token by token; CLIP reads prompts of any length in chunks. Book: chapter 5,
"Reading the prompt", and 6, "What a prompt can say".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from huggingvis.adapters.textual_inversion import TextualInversions
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.prompt_chunks import Chunk, chunked
from huggingvis.codecs.prompt_script import Reading
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond
from huggingvis.core.request import EMPHASIS, Request
from huggingvis.nets.clip_text import CLIPText
from huggingvis.systems.prompt_plan import conditions, grammar_notes, plans_of, words_of

CLIP_SKIP = "clip_skip"


@final
@dataclass(frozen=True)
class Manner:
    """How texts are read. `skip`: the layer from the end, None: the model's own; `emphasis`: what weights do."""

    skip: int | None = None
    emphasis: str = EMPHASIS[0]


USUAL = Manner()


class Reader(Protocol):
    """Texts to ports of a condition: `tokens`, perhaps `tokens_mask`, perhaps `pooled`."""

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """The networks that read, by the names that files give them."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what it reads of a request's options."""
        ...

    def read(self, readings: Sequence[Reading], how: Manner = USUAL) -> dict[str, Tensor]:
        """The ports of some prompts."""
        ...

    def overflow(self, text: str) -> str:
        """The end of a text that is too long to be read."""
        ...


@final
@dataclass
class ClipReader:
    """A CLIP tower.

    Attributes:
        name: of the tower in files: text_encoder, text_encoder_2.
        tokens: its tokenizer.
        tower: the network.
        skip: the layer from the end that the model was trained to read, 1 the last.
        normed: its states go through the tower's final norm.
        words: textual inversions in use, by the words that stand for them.
    """

    name: str
    tokens: CLIPTokens
    tower: CLIPText
    skip: int = 1
    normed: bool = True
    words: TextualInversions[CLIPTokens] | None = None
    options: tuple[str, ...] = (CLIP_SKIP,)

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        return {self.name: self.tower}

    def overflow(self, text: str) -> str:
        """Nothing: chunks read all of it."""
        return ""

    @torch.no_grad()
    def read(self, readings: Sequence[Reading], how: Manner = USUAL) -> dict[str, Tensor]:
        """`tokens` [B, 77 chunks, D], each chunk read on its own; `pooled` [B, P] of the first."""
        tokens = self._tokens
        rows = [chunked(reading, tokens) for reading in readings]
        longest = max(map(len, rows))
        full = [(*row, *[Chunk()] * (longest - len(row))) for row in rows]
        parts = [self._chunk(list(some), how) for some in zip(*full, strict=True)]
        return {"tokens": torch.cat([part["tokens"] for part in parts], dim=1), "pooled": parts[0]["pooled"]}

    def _chunk(self, chunks: Sequence[Chunk], how: Manner) -> dict[str, Tensor]:
        depth, back = self.tower.config.depth, self.skip if how.skip is None else how.skip
        if not 1 <= back <= depth:
            raise UsageError(f"clip_skip counts layers from the end: 1 to {depth} for this text tower, found {back}.")
        ids, embedded = self._ids([chunk.ids for chunk in chunks])
        states = self.tower.hidden(ids, depth - back + 1, embedded)  # [B, L, D]
        last = states if back == 1 else self.tower.hidden(ids, None, embedded)
        read = self.tower.norm(states) if self.normed else states
        weights = weight_rows([chunk.weights for chunk in chunks], ids.shape[1], before=1)
        return {
            "tokens": emphasised(read, weights, how.emphasis, restored=True),
            "pooled": self.tower.pooled(self.tower.norm(last), ids),
        }

    @property
    def _tokens(self) -> CLIPTokens:
        """The tokenizer, with the words in use."""
        return self.tokens if self.words is None else self.tokens.with_words(self.words.words)

    def _ids(self, pieces: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        ids = self._tokens.rows(pieces).to(self.tower.position.device)  # [B, L]
        return ids, None if self.words is None else self.words.embed(self.name, ids)


@final
@dataclass(frozen=True)
class BothReaders:
    """Two readers side by side: tokens [B, L, D + D'], pooled of the second."""

    first: Reader
    second: Reader

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        return {**self.first.towers, **self.second.towers}

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.options, *self.second.options)))

    def overflow(self, text: str) -> str:
        return max(self.first.overflow(text), self.second.overflow(text), key=len)

    def read(self, readings: Sequence[Reading], how: Manner = USUAL) -> dict[str, Tensor]:
        one, other = self.first.read(readings, how), self.second.read(readings, how)
        return {**other, "tokens": torch.cat([one["tokens"], other["tokens"]], dim=-1)}


def readers_of(reader: Reader) -> Iterator[Reader]:
    """The readers that one is made of."""
    if isinstance(reader, BothReaders):
        yield from (*readers_of(reader.first), *readers_of(reader.second))
    else:
        yield reader


def weight_rows(weights: Sequence[Sequence[float]], length: int, before: int = 0) -> Tensor:
    """Weights of each row's tokens, 1 for the `before` first ones and for what fills the row, [B, length]."""
    out = torch.ones(len(weights), length)
    for row, own in zip(out, weights, strict=True):
        told = own[: length - before]
        row[before : before + len(told)] = torch.tensor(told)
    return out


def emphasised(states: Tensor, weights: Tensor, emphasis: str, *, restored: bool) -> Tensor:
    """States [B, L, D] times their token's weight, [B, L]; weights of 1 change no bit.

    `restored`: in the mode "original" each sample gets the mean of its states back, for towers whose states have one
    (CLIP's); where a last norm leaves a mean near 0, the ratio of two such means says nothing.
    """
    if emphasis in ("ignore", "none") or bool((weights == 1.0).all()):
        return states
    wide = states.float()
    out = wide * weights.to(wide.device)[..., None]
    if restored and emphasis == "original":
        out = out * (wide.mean((1, 2), keepdim=True) / out.mean((1, 2), keepdim=True))
    return out.to(states.dtype)


class Telling(Protocol):
    """What a net is told beside the tokens: its `vector` port, or others."""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what it reads of a request's options."""
        ...

    def __call__(self, read: Mapping[str, Tensor], requests: Sequence[Request], negative: bool) -> dict[str, Tensor]:
        """The condition, from what a `Reader` read."""
        ...


@final
@dataclass(frozen=True)
class TokensOnly:
    """The tokens and their mask."""

    options: tuple[str, ...] = ()

    def __call__(self, read: Mapping[str, Tensor], requests: Sequence[Request], negative: bool) -> dict[str, Tensor]:
        return {key: value for key, value in read.items() if key != "pooled"}


@final
class PromptConditioner:
    """Requests -> the condition and, under `negative.`, that of their negative prompts.

    `zeros_for_empty`: no negative prompt is zeros in place of a reading of "" (SDXL's base model). `assumed`: what was
    not told by the model's files, in sentences.
    """

    def __init__(
        self,
        reader: Reader,
        telling: Telling | None = None,
        *,
        zeros_for_empty: bool = False,
        assumed: tuple[str, ...] = (),
    ):
        self.reader, self.telling = reader, telling or TokensOnly()
        self.zeros_for_empty, self.assumed = zeros_for_empty, assumed

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what is read of a request's options."""
        return (*self.telling.options, *self.reader.options)

    def __call__(self, requests: Sequence[Request]) -> Cond:
        how = Manner(_skip(requests[0]), requests[0].prompt.emphasis)

        def ports(readings: Sequence[Reading], negative: bool) -> dict[str, Tensor]:
            read = self.reader.read(readings, how)
            if negative and self.zeros_for_empty:
                said = torch.tensor([bool(r.prompt.negative) for r in requests])
                read = {k: v * said.to(v)[(..., *[None] * (v.ndim - 1))] for k, v in read.items()}
            return self.telling(read, requests, negative)

        return conditions(plans_of(requests), ports)

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        """What of the prompts is too long to be read, or read otherwise than it may be meant."""
        said = [*self.assumed, *grammar_notes(request)]
        for name, text in zip(("prompt", "negative prompt"), words_of(request), strict=True):
            if rest := self.reader.overflow(text):
                said.append(f"The {name} is longer than this model reads: {rest!r} is left out.")
        return tuple(said)


def _skip(request: Request) -> int | None:
    word = request.options.get(CLIP_SKIP)
    if word is None:
        return None
    if not word.isdecimal():
        raise UsageError(f"clip_skip is a whole number from 1 (the last layer), found {word!r}.")
    return int(word)
