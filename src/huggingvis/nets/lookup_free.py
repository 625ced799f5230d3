r"""Quantisation without a codebook: every channel is rounded to one of a few values, and the code is their combination.

Finite scalar quantisation (FSQ), Mentzer, Minnen, Agustsson & Tschannen 2023, arXiv 2309.15505, Sec. 3:

    z -> round(tanh(z) bounded to L values),  code = sum_i digit_i prod_{j<i} L_j

Lookup-free quantisation (LFQ), Yu et al. 2023 (MAGVIT-v2), arXiv 2310.05737:

    q(z_i) = sign(z_i),  code = sum_i 2^(i-1) [z_i > 0]                  Eq. 3 and 4, here the first channel highest
    L_entropy = E[H(q(z))] - H[E q(z)]                                  Eq. 5

Book: chapter 1.
"""

from __future__ import annotations

import math
from typing import final

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.nets.quantisers import Quantised, Quantiser, straight_through

_SLACK = 1e-3  # tanh never reaches 1, so the outermost values need a little room


@final
class FiniteScalarQuantiser(Quantiser):
    """Channel i takes one of `levels[i]` values, evenly spaced in [-1, 1]; no loss of its own, no codebook to collapse.

    The paper's choices: (8, 6, 5) for 240 codes, (8, 5, 5, 5) for 1000, (7, 5, 5, 5, 5) for 4375.
    """

    levels: Tensor
    places: Tensor

    def __init__(self, levels: tuple[int, ...] = (8, 5, 5, 5)):
        super().__init__()
        if not levels or min(levels) < 2:
            raise UsageError(f"Every channel is rounded to 2 values or more, found levels {list(levels)}.")
        self.dim, self.size = len(levels), math.prod(levels)
        places = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def bounded(self, z: Tensor) -> Tensor:
        """z [..., D] squeezed so that rounding gives exactly L whole numbers, -(L // 2) the lowest. App. A.1."""
        half = (self.levels - 1).to(z.dtype) * (1 + _SLACK) / 2
        offset = 0.5 * (1 - self.levels % 2).to(z.dtype)  # an even number of values is not symmetric about 0
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def forward(self, z: Tensor) -> Quantised:
        wide = torch.promote_types(z.dtype, torch.float32)
        squeezed = self.bounded(rearrange(z, "b d h w -> b h w d").to(wide))  # [B, h, w, D]
        whole = squeezed.round()
        middle = self.levels // 2
        codes = ((whole.long() + middle) * self.places).sum(-1)  # [B, h, w]
        z_q = straight_through(squeezed, whole) / middle
        return Quantised(rearrange(z_q, "b h w d -> b d h w").to(z.dtype), codes)

    def look_up(self, codes: Tensor) -> Tensor:
        middle = self.levels // 2
        digits = codes[..., None] // self.places % self.levels  # [B, h, w, D]
        return rearrange((digits - middle) / middle, "b h w d -> b d h w")


@final
class LookupFreeQuantiser(Quantiser):
    """`bits` channels, each by its sign: 2^`bits` codes.

    `entropy`: weight of Eq. 5, in nats; `diversity`: that of its second term within it; `temperature`: of the soft
    assignment q, proportional to exp(-||z - c||^2 / temperature) over codes c. The second term is exact up to `group`
    bits; more are cut into groups whose entropies are added, an upper bound that avoids counting 2^bits codes.
    """

    weights: Tensor
    corners: Tensor

    def __init__(
        self,
        bits: int = 9,
        commitment: float = 0.25,
        entropy: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 0.1,
        group: int = 9,
    ):
        super().__init__()
        if not 1 <= bits <= 30 or group < 1 or temperature <= 0:
            raise UsageError(
                f"Lookup-free codes have 1 to 30 bits, groups of at least 1 and a positive temperature, found {bits}, "
                f"{group} and {temperature}."
            )
        self.dim, self.size = bits, 2**bits
        self.commitment, self.entropy, self.diversity = commitment, entropy, diversity
        self.temperature = temperature
        self.register_buffer("weights", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)
        # which signs each code of a group has, [2^g, g]
        g = self.group = min(bits, group)
        signs = torch.arange(2**g)[:, None] // 2 ** torch.arange(g - 1, -1, -1) % 2
        self.register_buffer("corners", signs.bool(), persistent=False)

    def forward(self, z: Tensor) -> Quantised:
        on = z > 0
        codes = (rearrange(on, "b d h w -> b h w d") * self.weights).sum(-1)  # [B, h, w]
        z_q = torch.where(on, 1.0, -1.0).to(z.dtype)
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        sure, spread = self.entropies(wide)
        losses = {
            "commitment": self.commitment * (wide - z_q).square().flatten(1).mean(1),
            "entropy": self.entropy * (sure.mean() - self.diversity * spread),
        }
        return Quantised(straight_through(z, z_q), codes, losses)

    def entropies(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """E[H(q(z))] of each sample [B] and H[E q(z)] [], in nats, of latents [B, D, h, w].

        q is a product over channels, so the first is a sum over them: a code is on with chance sigmoid(4 z / tau).
        """
        logits = 4 * rearrange(z, "b d h w -> b (h w) d") / self.temperature  # [B, N, D]
        on, off = F.logsigmoid(logits), F.logsigmoid(-logits)
        sure = -(on.exp() * on + off.exp() * off).sum(-1).mean(1)  # [B]
        parts = zip(on.flatten(0, 1).split(self.group, 1), off.flatten(0, 1).split(self.group, 1), strict=True)
        spread = torch.stack([self._spread(a, b) for a, b in parts]).sum()
        return sure, spread

    def _spread(self, on: Tensor, off: Tensor) -> Tensor:
        """Entropy of the average assignment over the codes of one group; log-chances [N, g]."""
        g = on.shape[1]
        corners = self.corners[: 2**g, -g:].to(on.dtype)  # [2^g, g]
        with torch.autocast(on.device.type, enabled=False):
            chances = (on @ corners.T + off @ (1 - corners).T).exp().mean(0)  # [2^g]
        return torch.special.entr(chances.clamp(min=1e-30)).sum()  # its slope at 0 is infinite

    def look_up(self, codes: Tensor) -> Tensor:
        signs = codes[..., None] // self.weights % 2  # [B, h, w, D]
        return rearrange(2.0 * signs - 1.0, "b h w d -> b d h w")
