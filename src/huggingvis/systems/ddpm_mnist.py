"""A small public DDPM of handwritten digits: the real weights on which samplers and tables are checked.

Binds `ddpm_mnist_starter.pth` of github.com/Yichizz/hot_vs_cold_diffusion (MIT): 293 thousand numbers, trained with
1000 noise levels, beta linear from 1e-4 to 0.02 (Ho, Jain, Abbeel 2020, arXiv 2006.11239), to predict the noise in
pictures in [-1/2, 1/2]. The file's table has 1001 entries, so that its entry k is knot k and the clock shows k.
Book: chapter 4, "Real weights".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import FileProblem
from huggingvis.core.process import Eps, Process
from huggingvis.core.sample import Grid, Sampler
from huggingvis.nets.isotropic_conv import IsotropicConv, IsotropicConvConfig
from huggingvis.processes.table import TableProcess

CONFIG = IsotropicConvConfig()

FAMILY = Family("ddpm_mnist", {"alpha_t": (None,), "gt.frequencies": (16,), "gt.blocks.0.net.0.weight": (16, 1, 7, 7)})


def keymap() -> KeyMap:
    """Names of the net inside the public file; the two tables beside it are left over."""
    depth = len(CONFIG.widths)
    return KeyMap(
        [
            Rule("time.frequencies", "gt.frequencies"),
            *(Rule(f"time.layers.{i}.{{leaf:word}}", f"gt.time_embed.{2 * i}.{{leaf:word}}") for i in range(4)),
            Rule("layers.{i}.conv.{leaf:word}", "gt.blocks.{i}.net.0.{leaf:word}"),
            Rule("layers.{i}.norm.{leaf:word}", "gt.blocks.{i}.net.1.{leaf:word}"),
            Rule("out.{leaf:word}", f"gt.blocks.{depth}.{{leaf:word}}"),
        ]
    )


@final
class HalfRange:
    """Model space is half the usual: pictures [B, 1, H, W] in [-1, 1] outside, [-1/2, 1/2] inside."""

    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    def decode(self, z: Tensor) -> Tensor:
        return z * 2


@final
@dataclass(frozen=True)
class DigitsDDPM:
    """The net, the table it was trained on, and the space it works in."""

    net: IsotropicConv
    process: TableProcess
    codec: HalfRange

    @property
    def denoise(self) -> NetDenoiser:
        """Belief about the clean digit."""
        return NetDenoiser(self.net, self.process, Eps())

    def generator(self, sampler: Sampler, schedule: Callable[[Process], Grid]) -> Diffusion:
        """Samples of shape [1, 28, 28] in model space."""
        shape = (CONFIG.channels, CONFIG.size, CONFIG.size)
        return Diffusion(self.denoise, self.process, shape, sampler, schedule)


def bind(path: Path | str, *, dtype: torch.dtype = torch.float32) -> DigitsDDPM:
    """The model from its weights file. Raises `FileProblem` for another file."""
    tensors = load(path, check=True)
    ours, left = keymap().take(tensors)
    bar = left.pop("alpha_t", None)
    left.pop("beta_t", None)
    if bar is None or left:
        raise FileProblem(
            f"{path} should hold a net under 'gt.' and its tables alpha_t and beta_t, but "
            f"{'alpha_t is missing' if bar is None else f'{len(left)} more tensors were found ({min(left)!r})'}. "
            "Use the file ddpm_mnist_starter.pth."
        )
    with torch.device("meta"):
        net = IsotropicConv(CONFIG)
    assign(net, {name: x.to(dtype) for name, x in ours.items()})
    return DigitsDDPM(net.eval().requires_grad_(False), TableProcess(bar), HalfRange())
