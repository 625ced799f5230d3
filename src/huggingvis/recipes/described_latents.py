"""Training batches of text-to-image models in a latent space: latents, captions and plans of the synthetic world.

Book: chapter 5.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.protocols import Batch
from huggingvis.data.cache import ArrayCache, Recipe
from huggingvis.data.draws import among
from huggingvis.data.worldset import WorldSet, said_of, to_tensor
from huggingvis.nets.plan_map import NONE


@final
class CachedLatents:
    """Latents of a `WorldSet`, encoded once in half precision and kept in `cache`, with the plans of the pictures.

    What is kept is found again only for the same layouts and the same codec, to the last weight.
    Captions are drawn anew each time. The share `empty` of them says nothing, and has no plan; of the others the share
    `unplanned` has none.
    """

    def __init__(
        self,
        data: WorldSet,
        codec: KLLatents,
        tokenizer: TextTokenizer,
        cache: ArrayCache,
        empty: float,
        unplanned: float,
    ):
        self.data, self.tokenizer, self.empty, self.unplanned = data, tokenizer, empty, unplanned
        kept = cache.get_or_make(_recipe(data, codec), lambda: _encoded(data, codec))
        self.latents = kept["latents"]  # [N, C, h, w] float16
        self.kinds, self.colours = said_of(data.world, data.layouts)  # [N, S]

    def batch(self, index: int, size: int) -> Batch:
        """`x0` [B, C, h, w]; `ids` [B, L]; a plan: `kinds` (`NONE` if hidden), `colours` [B, S], `boxes` [B, S, 4]."""
        items, captions = self.data.items(index, size), self.data.captions(index, size)
        empty, unplanned = (
            [among(share, what, self.data.world.seed, index * size + i) for i in range(size)]
            for what, share in (("empty", self.empty), ("unplanned", self.unplanned))
        )
        texts = ["" if silent else text for silent, text in zip(empty, captions, strict=True)]
        hidden = torch.tensor(empty) | torch.tensor(unplanned)
        z = torch.from_numpy(self.latents[items]).float()  # [B, C, h, w]
        return {
            "x0": z.contiguous(memory_format=torch.channels_last),
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
        x = to_tensor(images).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            rows.append(codec.encode(x).half().cpu())
    return {"latents": torch.cat(rows).contiguous().numpy()}
