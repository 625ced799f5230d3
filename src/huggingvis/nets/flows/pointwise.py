r"""Invertible layers that treat each value, or each channel, by itself: ranges, logits, scales, activation norm.

    logit of a + (1 - 2 a) y for y in [0, 1]            Real NVP, Dinh et al. 2016, arXiv 1605.08803, Sec. 4.1
    z_i = x_i exp(speed s_i)                            NICE, Dinh et al. 2014, arXiv 1410.8516, Sec. 3.3
    z_c = (x_c + b_c) exp(s_c), unit on a first batch   Glow, Kingma & Dhariwal 2018, arXiv 1807.03039, Sec. 3.1

The last adds before it scales, as the published code of Glow does; its paper has the scale first, s x + b (Table 1).
Book: chapter 3.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.nets.flows.bijection import Bijection, along_channels, no_change, per_picture, wide


@final
class ToUnit(Bijection):
    """Pictures in [-1, 1] -> [0, 1]."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x + 1) / 2, no_change(x) - x[0].numel() * math.log(2)

    def inverse(self, z: Tensor) -> Tensor:
        return 2 * z - 1


@final
class Logit(Bijection):
    """[0, 1] -> the real line: log v - log(1 - v) with v = a + (1 - 2 a) y, `alpha` being the a that keeps it finite.

    Its Jacobian counts, so that densities stay densities of pictures whatever `alpha` is.
    """

    def __init__(self, alpha: float = 1e-5):
        super().__init__()
        if not 0 < alpha < 0.5:
            raise UsageError(f"Logits need a margin between 0 and 0.5 at each end, found {alpha}; 1e-5 is usual.")
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = wide(x), 1 - 2 * self.alpha
        # 1 - v from 1 - y: near v = 1 the difference would have no digits left
        up, down = torch.log(self.alpha + slope * y), torch.log(self.alpha + slope * (1 - y))
        return (up - down).to(x.dtype), x[0].numel() * math.log(slope) - per_picture(up + down)

    def inverse(self, z: Tensor) -> Tensor:
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)


@final
class Scale(Bijection):
    """z = x exp(speed s), one s for each channel (of vectors: each dimension); `initialise` brings their mean square
    to 1.

    From s = 0 the pixels that are black in every picture, whose density is highest, would take thousands of steps. So
    they would with `speed` 1 where a coupling learns to tell pixels to a hundredth: Adam moves s by its learning rate
    a step at most, and exp(s) must rise a hundredfold. `speed` makes that step larger for scales alone, as the
    published code of Glow does (its `logscale_factor` is 3).
    """

    def __init__(self, channels: int, speed: float = 1.0):
        super().__init__()
        self.log_scale, self.speed = nn.Parameter(torch.zeros(channels)), speed

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = self.speed * wide(self.log_scale)
        z = (x * along_channels(s.exp(), x)).to(x.dtype)
        return z, no_change(x) + s.sum() * x[0, 0].numel()

    def inverse(self, z: Tensor) -> Tensor:
        return z * along_channels(torch.exp(-self.speed * self.log_scale), z)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        squares = wide(x).square().transpose(0, 1).flatten(1)  # [C, B ...]
        self.log_scale.copy_(-0.5 * squares.mean(1).clamp_min(1e-12).log() / self.speed)
        return self(x)[0]


@final
class ActNorm(Bijection):
    """z = (x + b) exp(s), for each channel; `initialise` makes the batch it is given zero-mean and unit-variance.

    No state but the two parameters: a resumed training finds them in its checkpoint, and processes that initialise by
    the same batch agree.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = wide(self.log_scale)
        z = (x + along_channels(self.shift, x)) * along_channels(s.exp(), x)
        return z.to(x.dtype), no_change(x) + s.sum() * x[0, 0].numel()

    def inverse(self, z: Tensor) -> Tensor:
        return z * along_channels(torch.exp(-self.log_scale), z) - along_channels(self.shift, z)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        values = wide(x).transpose(0, 1).flatten(1)  # [C, B ...]
        self.shift.copy_(-values.mean(1))
        self.log_scale.copy_(-values.std(1, correction=0).clamp_min(1e-6).log())
        return self(x)[0]
