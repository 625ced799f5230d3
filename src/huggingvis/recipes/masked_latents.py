"""Training batches of nets that fill holes: latents, captions, and what is left of each picture under a random mask.

Book: chapter 6, "Inpainting".
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.protocols import Batch
from huggingvis.data.draws import among
from huggingvis.data.holes import hole
from huggingvis.data.worldset import WorldSet, to_tensor


def shown(codec: KLLatents, x: Tensor, holes: Tensor, plan: int) -> Tensor:
    """What the net sees beside x_t, [B, plan + 1 + C, h, w]: no plan, how much of each place is hole, and the latents
    of the picture x [B, 3, H, W] without what is in its holes [B, 1, H, W]."""
    z = codec.encode(x * (holes < 0.5)).float()
    return beside(z, holes, plan)


def beside(z: Tensor, holes: Tensor, plan: int) -> Tensor:
    """As `shown`, from the masked picture's latents."""
    share = F.adaptive_avg_pool2d(holes.to(z), (z.shape[-2], z.shape[-1]))  # [B, 1, h, w]
    return torch.cat([z.new_zeros(len(z), plan, *z.shape[-2:]), share, z], 1)


@final
class MaskedLatents:
    """Pictures of a `WorldSet` with a hole each, another one every time; both are encoded as they are asked for.

    `plan`: channels of the plan that the net was trained with, which a filled hole has none of. `empty`: share of
    captions that say nothing.
    """

    def __init__(self, data: WorldSet, codec: KLLatents, tokenizer: TextTokenizer, plan: int, empty: float = 0.0):
        self.data, self.codec, self.tokenizer = data, codec, tokenizer
        self.plan, self.empty = plan, empty

    def batch(self, index: int, size: int) -> Batch:
        """`x0` [B, C, h, w]; `concat` [B, plan + 1 + C, h, w]; `ids` [B, L]."""
        world, items = self.data.world, self.data.items(index, size)
        numbers = range(index * size, (index + 1) * size)
        layouts = [self.data.layouts[item] for item in items]
        made = [
            hole(world.size, [thing.box for thing in layout.things], world.seed, world.split, number)
            for layout, number in zip(layouts, numbers, strict=True)
        ]
        holes = torch.from_numpy(np.stack(made))[:, None].float()  # [B, 1, S, S]
        x = to_tensor(self.data.images[items])  # [B, 3, S, S]
        z, masked = self._encoded(torch.cat([x, x * (1 - holes)])).chunk(2)
        texts = [
            "" if among(self.empty, "empty", world.seed, number) else text
            for text, number in zip(self.data.captions(index, size), numbers, strict=True)
        ]
        return {
            "x0": z,
            "concat": beside(masked, holes, self.plan),
            "ids": self.tokenizer.ids(texts),
        }

    @torch.no_grad()
    def _encoded(self, x: Tensor) -> Tensor:
        device = self.codec.mean.device
        with torch.autocast(device.type, torch.bfloat16):
            return self.codec.encode(x.to(device)).float().cpu()
