"""Prompts as conditions, as the Stable Diffusion family reads them: one text tower or two, and what else a net is told.

A `Reader` makes `tokens` [B, L, D] of texts and, where its tower has one, `pooled` [B, P]. Stable Diffusion 1 reads by
CLIP-L's last layer, 2 by OpenCLIP-H's last but one, XL by the last but one of both CLIP-L and OpenCLIP-bigG, side by
side (Podell et al. 2023, arXiv 2307.01952, Sec. 2.1). "Clip skip" n, as the community counts, is the n-th layer from
the end. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from huggingvis.adapters.textual_inversion import TextualInversions
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond
from huggingvis.core.request import Request
from huggingvis.nets.clip_text import CLIPText

CLIP_SKIP = "clip_skip"
_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
"""What other programs take out of a prompt and load."""


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

    def read(self, texts: Sequence[str], skip: int | None = None) -> dict[str, Tensor]:
        """The ports of some texts; `skip`: the layer from the end to read, None: the model's own."""
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
        return self._tokens.overflow(text)

    @torch.no_grad()
    def read(self, texts: Sequence[str], skip: int | None = None) -> dict[str, Tensor]:
        depth, back = self.tower.config.depth, self.skip if skip is None else skip
        if not 1 <= back <= depth:
            raise UsageError(f"clip_skip counts layers from the end: 1 to {depth} for this text tower, found {back}.")
        ids, embedded = self._ids(texts)
        states = self.tower.hidden(ids, depth - back + 1, embedded)  # [B, L, D]
        last = states if back == 1 else self.tower.hidden(ids, None, embedded)
        return {
            "tokens": self.tower.norm(states) if self.normed else states,
            "pooled": self.tower.pooled(self.tower.norm(last), ids),
        }

    @property
    def _tokens(self) -> CLIPTokens:
        """The tokenizer, with the words in use."""
        return self.tokens if self.words is None else self.tokens.with_words(self.words.words)

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        ids = self._tokens.ids(texts).to(self.tower.position.device)  # [B, L]
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

    def read(self, texts: Sequence[str], skip: int | None = None) -> dict[str, Tensor]:
        one, other = self.first.read(texts, skip), self.second.read(texts, skip)
        return {**other, "tokens": torch.cat([one["tokens"], other["tokens"]], dim=-1)}


def readers_of(reader: Reader) -> Iterator[Reader]:
    """The readers that one is made of."""
    if isinstance(reader, BothReaders):
        yield from (*readers_of(reader.first), *readers_of(reader.second))
    else:
        yield reader


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
        skip = _skip(requests[0])
        positive = self.reader.read([r.prompt.text for r in requests], skip)
        away = self.reader.read([r.prompt.negative for r in requests], skip)
        if self.zeros_for_empty:
            said = torch.tensor([bool(r.prompt.negative) for r in requests])
            away = {k: v * said.to(v)[(..., *[None] * (v.ndim - 1))] for k, v in away.items()}
        told, untold = self.telling(positive, requests, False), self.telling(away, requests, True)
        return {**told, **{f"negative.{key}": value for key, value in untold.items()}}

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        """What of the prompts is too long to be read, or is read as words where other programs read orders."""
        said = list(self.assumed)
        for tag in _TAG.findall(f"{request.prompt.text} {request.prompt.negative}"):
            said.append(f"{tag} in the prompt is read as words here: give the file with --lora in its place.")
        for name, text in (("prompt", request.prompt.text), ("negative prompt", request.prompt.negative)):
            rest = self.reader.overflow(text)
            if rest:
                said.append(f"The {name} is longer than this model reads: {rest!r} is left out.")
        return tuple(said)


def _skip(request: Request) -> int | None:
    word = request.options.get(CLIP_SKIP)
    if word is None:
        return None
    if not word.isdecimal():
        raise UsageError(f"clip_skip is a whole number from 1 (the last layer), found {word!r}.")
    return int(word)
