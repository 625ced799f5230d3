"""ControlNet: a trainable copy of a U-Net's way down that reads a second picture and steers the frozen net beside it.

Zhang, Rao, Agrawala 2023 (arXiv 2302.05543). With a net's block F(x; theta), its copy theta_c, the picture c brought to
the latents' size by a small convolutional encoder, and convolutions Z of size 1 that begin at zero (Eq. 2),

    y = F(x; theta) + Z(F(x + Z(c); theta_c))

so an untrained ControlNet changes nothing. Here the second term is told apart: one residual for each skip of the U-Net
and one for its middle. Book: chapter 6, "A second picture".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.protocols import Cond
from huggingvis.nets.unet import Descent, UNet, UNetConfig


@dataclass(frozen=True)
class HintConfig:
    """How a ControlNet reads its picture.

    Attributes:
        channels: of the picture.
        widths: of the encoder's levels, each half as large as the one before.
        pooled: residuals are averaged over all positions: the picture's look counts, not its places ("shuffle").
    """

    channels: int = 3
    widths: tuple[int, ...] = (16, 32, 96, 256)
    pooled: bool = False


@final
class HintEncoder(nn.Module):
    """[B, C, H 2^k, W 2^k] -> [B, C_0, H, W] for k + 1 widths: 3x3 convolutions, the last of which begins at zero."""

    def __init__(self, config: HintConfig, width: int):
        super().__init__()
        first, last = config.widths[0], config.widths[-1]
        convs = [nn.Conv2d(config.channels, first, 3, padding=1)]
        for narrow, wide in pairwise(config.widths):
            convs += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.Conv2d(narrow, wide, 3, padding=1, stride=2)]
        self.convs = nn.ModuleList([*convs, _zero(nn.Conv2d(last, width, 3, padding=1))])

    def forward(self, picture: Tensor) -> Tensor:
        h = self.convs[0](picture)
        for conv in self.convs[1:]:
            h = conv(F.silu(h))
        return h  # [B, C_0, H, W]


@final
class ControlNet(Descent):
    """net(x [B, C, H, W], clock [B], cond) -> residuals: one for each skip of the U-Net, finest first, and its middle.

    `cond` is the U-Net's, and under `hint` what `net.hint(picture)` made of a picture in [0, 1], which need be done
    only once for all steps: [B, C_0, H, W].
    """

    def __init__(self, config: UNetConfig, hint: HintConfig = HintConfig()):
        super().__init__(config)
        self.reads = hint
        self.hint = HintEncoder(hint, config.channels[0])
        self.zeros = nn.ModuleList(_zero(nn.Conv2d(w, w, 1)) for w in (*self.widths, self.widths[-1]))

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> tuple[Tensor, ...]:
        own = {key: value for key, value in cond.items() if not key.startswith("features.")}  # those are the U-Net's
        h, skips, _ = self.descend(x, clock, own | {"features.0": cond["hint"]})
        parts = tuple(zero(part) for zero, part in zip(self.zeros, (*skips, h), strict=True))
        return tuple(part.mean((2, 3), keepdim=True) for part in parts) if self.reads.pooled else parts


def controlnet_of(net: UNet, hint: HintConfig = HintConfig()) -> ControlNet:
    """A ControlNet to be trained beside `net`: a copy of its way down, and nothing said yet."""
    control = ControlNet(net.config, hint).to(next(net.parameters()))
    own = control.state_dict().keys()
    control.load_state_dict({k: v for k, v in net.state_dict().items() if k in own}, strict=False)
    return control


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv
