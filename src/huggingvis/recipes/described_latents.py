"""Training batches of text-to-image models in a latent space: latents, captions and plans of the synthetic world.

Book: chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.layout import Layout
from huggingvis.core.protocols import Batch
from huggingvis.data.cache import ArrayCache, Recipe
from huggingvis.data.draws import among
from huggingvis.data.tint import recast
from huggingvis.data.worldset import WorldSet, said_of, to_tensor
from huggingvis.nets.plan_map import NONE


@dataclass(frozen=True)
class Shares:
    """Of captions: `empty` say nothing and have no plan, `unplanned` of the others have none, `wrong` of the rest err.

    Those speak of other things and colours than the picture and its plan show (`data.tint.recast`), in the same places:
    so that where a plan tells what things there are, words do not.
    """

    empty: float = 0.0
    unplanned: float = 0.0
    wrong: float = 0.0


@final
class CachedLatents:
    """Latents of a `WorldSet`, encoded once in half precision and kept in `cache`, with the plans of the pictures.

    What is kept is found again only for the same layouts and the same codec, to the last weight.
    Captions are drawn anew each time, as `shares` has them.
    """

    def __init__(
        self,
        data: WorldSet,
        codec: KLLatents,
        tokenizer: TextTokenizer,
        cache: ArrayCache,
        shares: Shares,
    ):
        self.data, self.tokenizer, self.shares = data, tokenizer, shares
        kept = cache.get_or_make(_recipe(data, codec), lambda: _encoded(data, codec))
        self.latents = kept["latents"]  # [N, C, h, w] float16
        self.kinds, self.colours = said_of(data.world, data.layouts)  # [N, S]

    def batch(self, index: int, size: int) -> Batch:
        """`x0` [B, C, h, w]; `ids` [B, L]; a plan: `kinds` (`NONE` if hidden), `colours` [B, S], `boxes` [B, S, 4]."""
        items, seed = self.data.items(index, size), self.data.world.seed
        numbers = range(index * size, (index + 1) * size)
        empty, unplanned = (
            [among(share, what, seed, number) for number in numbers]
            for what, share in (("empty", self.shares.empty), ("unplanned", self.shares.unplanned))
        )
        hidden = torch.tensor(empty) | torch.tensor(unplanned)

        def said(layout: Layout, number: int) -> Layout:
            errs = among(self.shares.wrong, "wrong", seed, number) and not hidden[number - numbers[0]]
            return recast(layout, number, self.data.world.sprites) if errs else layout

        captions = self.data.captions(index, size, said)
        texts = ["" if silent else text for silent, text in zip(empty, captions, strict=True)]
        z = torch.from_numpy(self.latents[items]).float()  # [B, C, h, w]
        return {
            "x0": z,
            "ids": self.tokenizer.ids(texts),
            "kinds": self.kinds[items].where(~hidden[:, None], NONE),
            "colours": self.colours[items],
            "boxes": self.data.truth[0][items],
        }


def _recipe(data: WorldSet, codec: KLLatents) -> Recipe:
    """All that the latents depend on: the layouts, which say their size, and every number of the codec."""
    weights = blake2b(repr(codec.autoencoder.config).encode())
    for name, tensor in codec.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    layouts = blake2b(repr(data.layouts).encode())
    return {"latents of": f"world {data.world.split}", "layouts": layouts.hexdigest(), "codec": weights.hexdigest()}


@torch.no_grad()
def _encoded(data: WorldSet, codec: KLLatents) -> dict[str, np.ndarray]:
    device = codec.mean.device
    rows: list[Tensor] = []
    for start in range(0, data.count, 512):
        layouts = data.layouts[start : start + 512]
        images = np.stack([data.world.image(layout) for layout in layouts])
        x = to_tensor(images).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            rows.append(codec.encode(x).half().cpu())
    return {"latents": torch.cat(rows).contiguous().numpy()}
