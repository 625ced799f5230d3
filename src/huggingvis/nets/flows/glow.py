"""Glow: activation norm, invertible 1 x 1 convolution and affine coupling, repeated at several scales.

Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv 1807.03039, Fig. 2 and Table 1.
The latents that leave at a scale are normal around what the rest says of them (as in the paper's code): since that is
an affine coupling into standard normal ones, the whole model stays one bijection. Book: chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from huggingvis.core.errors import UsageError
from huggingvis.nets.flows.bijection import Bijection, Chain, FactorOut, Flatten, Shape, Squeeze
from huggingvis.nets.flows.coupling import AffineCoupling, Halves, Sigmoid, Tanh
from huggingvis.nets.flows.mixing import GlowStep
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingConvs
from huggingvis.nets.flows.pointwise import ActNorm, Logit, ToUnit
from huggingvis.nets.flows.realnvp import check_sides, top_prior


@dataclass(frozen=True)
class GlowConfig:
    """Sizes.

    Attributes:
        levels: scales; each halves the picture.
        depth: steps of flow at each scale.
        width: channels of the couplings' networks.
        scale: of couplings, tanh (bounded, starts as the identity) or sigmoid (as the paper's code).
        alpha: margin of logits at each end of the grey scale; 0: pictures as they are, without logits.
    """

    levels: int = 2
    depth: int = 16
    width: int = 256
    scale: Literal["tanh", "sigmoid"] = "tanh"
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.levels < 1 or self.depth < 1 or self.width < 1:
            raise UsageError(
                f"Glow has at least one level, one step of flow at each and one channel, found levels {self.levels}, "
                f"depth {self.depth} and width {self.width}."
            )


def glow(config: GlowConfig, shape: Shape, classes: int = 0, temperature: float = 1.0) -> Flow:
    """The flow with fresh weights for pictures of `shape`, of any class or of one of `classes`.

    Raises `UsageError` unless sides are multiples of 2^levels.
    """
    check_sides(shape, config.levels)
    pixels = Chain([ToUnit(), Logit(config.alpha)]) if config.alpha else ToUnit()
    body = _scale(config, shape, config.levels)
    return Flow(pixels, body, top_prior(shape, config.levels, classes), shape, temperature)


def _scale(config: GlowConfig, shape: Shape, levels: int) -> Bijection:
    """All from this scale on."""
    squeezed = (4 * shape[0], shape[1] // 2, shape[2] // 2)
    c = squeezed[0]
    steps: list[Bijection] = [Squeeze()]
    for _ in range(config.depth):
        law: nn.Module = Tanh(c // 2) if config.scale == "tanh" else Sigmoid()
        steps.append(GlowStep(c, AffineCoupling(CouplingConvs(c // 2, c, config.width), Halves(), law)))
    if levels == 1:
        return Chain([*steps, ActNorm(c), Flatten(squeezed)])
    prior = AffineCoupling(CouplingConvs(c // 2, c, config.width // 4), Halves(), Tanh(c // 2))
    rest = _scale(config, (c // 2, *squeezed[1:]), levels - 1)
    return Chain([*steps, ActNorm(c), prior, FactorOut(squeezed, rest)])
