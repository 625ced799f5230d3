"""T2I-Adapter: a light pyramid of features of a second picture, added to a U-Net's way down.

Mou et al. 2023 (arXiv 2302.08453), section 3.3: pixels are first folded into channels, then each level halves the map
and refines it by residual blocks. It knows neither time nor text, so it runs once per picture and not at every step.
The light form works at a quarter of the width. Book: chapter 6, "A second picture".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError


@dataclass(frozen=True)
class T2IAdapterConfig:
    """Sizes of a `T2IAdapter`.

    Attributes:
        in_channels: of the picture.
        channels: width of each level, finest first.
        halves: for each level, whether its map has half the height and width of the one before.
        blocks: residual blocks of a level.
        fold: pixels on a side that become channels at the start.
        light: blocks work at a quarter of the level's width.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    halves: tuple[bool, ...] = (False, True, True, True)
    blocks: int = 2
    fold: int = 8
    light: bool = False


class _Residual(nn.Module):
    """x + conv(relu(conv x))."""

    def __init__(self, width: int, last: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, last, padding=last // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class _Level(nn.Module):
    """Halve where asked, change the width, refine; the light form comes back from a quarter of the width."""

    def __init__(self, c_in: int, width: int, halve: bool, config: T2IAdapterConfig):
        super().__init__()
        self.halve, inner = halve, width // 4 if config.light else width
        self.enter = nn.Conv2d(c_in, inner, 1) if config.light or c_in != width else None
        self.blocks = nn.ModuleList(_Residual(inner, 3 if config.light else 1) for _ in range(config.blocks))
        self.leave = nn.Conv2d(inner, width, 1) if config.light else None

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        if self.enter is not None:
            x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x if self.leave is None else self.leave(x)


@final
class T2IAdapter(nn.Module):
    """net(picture [B, C, H, W] in [0, 1]) -> a map [B, C_i, h_i, w_i] for each level. `fold` divides H and W."""

    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        self.config = c = config
        folded = c.in_channels * c.fold**2
        self.conv_in = None if c.light else nn.Conv2d(folded, c.channels[0], 3, padding=1)
        before = (folded if c.light else c.channels[0], *c.channels[:-1])
        sizes = zip(before, c.channels, c.halves, strict=True)
        self.levels = nn.ModuleList(_Level(c_in, width, halve, c) for c_in, width, halve in sizes)

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        fold, (height, width) = self.config.fold, picture.shape[2:]
        if height % fold or width % fold:
            raise UsageError(
                f"This T2I-Adapter folds squares of {fold} pixels, which do not fill a picture of {width}x{height}. "
                f"Use a size that {fold} divides."
            )
        h = F.pixel_unshuffle(picture, fold)  # [B, C fold^2, H / fold, W / fold]
        if self.conv_in is not None:
            h = self.conv_in(h)
        maps = []
        for level in self.levels:
            h = level(h)
            maps.append(h)
        return tuple(maps)
