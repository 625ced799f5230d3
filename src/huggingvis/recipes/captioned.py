"""Pictures with what is said of them, as batches for models that write. Book: chapter 4, "Sentences as bits"."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Batch
from huggingvis.nets.eyes import STRIDE, Eyes
from huggingvis.recipes.pictures import Pictures
from huggingvis.recipes.sources import Source

CHUNK = 64
KEPT = 2 << 30
"""Bytes of what eyes see that are kept in memory at most."""


def captioned(source: Source) -> Source:
    """The pictures of which something is said. Raises `UsageError` where there are none."""
    return replace(source, training=_spoken_of(source.training), held_out=_spoken_of(source.held_out))


def captions_of(pictures: Pictures) -> list[str]:
    """What is said of each of `pictures`. Raises `UsageError` where nothing is."""
    captions = pictures.pictures.captions
    found = [] if captions is None else [captions[i] for i in pictures.items]
    if not any(text.strip() for text in found):
        raise UsageError(
            f"The data {pictures.facts.data!r} have no captions to learn from. Put a text file of the same name beside "
            "each picture, or take the world."
        )
    return found


def _spoken_of(pictures: Pictures) -> Pictures:
    kept = np.array([bool(text.strip()) for text in captions_of(pictures)])
    if not kept.all():
        print(f"{len(kept) - kept.sum()} pictures have no caption and are left out.", file=sys.stderr)
    return Pictures(pictures.pictures, pictures.items[kept], pictures.view, pictures.facts, pictures.seed)


def tell_of_long(texts: Sequence[str], tokenizer: TextTokenizer) -> None:
    """Says how many of the training's captions are longer than the model reads."""
    cut = sum(not tokenizer.fits(text) for text in texts)
    if cut:
        print(
            f"{cut} of {len(texts)} captions have more than {tokenizer.length} words, of which the rest is cut off. "
            "Longer ones are learnt with more --words.",
            file=sys.stderr,
        )


@torch.no_grad()
def looked(eyes: Eyes, pictures: Pictures) -> np.ndarray | None:
    """What the eyes see of every picture, [N, P, W] float16; None where that takes more memory than `KEPT`."""
    tokens = (pictures.facts.size // STRIDE) ** 2
    if 2 * len(pictures) * tokens * eyes.width > KEPT:
        return None
    out = np.empty((len(pictures), tokens, eyes.width), np.float16)
    device = next(eyes.parameters()).device
    print(f"Looking at {len(pictures):,} pictures ...", file=sys.stderr, flush=True)
    for start, batch in enumerate(pictures.once(CHUNK)):
        seen = eyes(batch["image"].to(device))  # [B, P, W]
        out[CHUNK * start : CHUNK * start + len(seen)] = seen.half().cpu().numpy()
    return out


@final
@dataclass(frozen=True, eq=False)
class CaptionBatches:
    """`Batches` of `x0` [B, bits, words], captions as `write` writes them, and of the pictures `tokens` [B, P, W], rows
    of what was `seen`, or `image` [B, C, S, S] where nothing was."""

    pictures: Pictures
    captions: Sequence[str]
    write: Callable[[Sequence[str]], Tensor]
    seen: np.ndarray | None

    def batch(self, index: int, size: int) -> Batch:
        places = self.pictures.places(index, size)
        x0 = self.write([self.captions[i] for i in places])
        if self.seen is None:
            return {"x0": x0, "image": self.pictures.images(places, np.zeros(size, dtype=bool))}
        return {"x0": x0, "tokens": torch.from_numpy(self.seen[places]).float()}
