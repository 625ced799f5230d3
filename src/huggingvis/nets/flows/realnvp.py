"""Real NVP: affine couplings by chessboards and channels, at several scales.

Dinh, Sohl-Dickstein & Bengio 2016, "Density estimation using Real NVP", arXiv 1605.08803: logits of pictures (Sec.
4.1); at each scale three chessboard couplings, squeezing, three channel couplings, then half of the channels leave; at
the last scale four chessboard couplings (Sec. 3.6). Activation norm (Glow, Kingma & Dhariwal 2018, arXiv 1807.03039,
Sec. 3.1) stands in for the batch norm of Sec. 3.7, whose density depends on the batch. Book: chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from huggingvis.core.errors import UsageError
from huggingvis.nets.flows.bijection import Bijection, Chain, FactorOut, Flatten, Shape, Squeeze
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.coupling import AffineCoupling, Checkerboard, Halves, Partition, Tanh
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingResNet
from huggingvis.nets.flows.pointwise import ActNorm, Logit, ToUnit
from huggingvis.nets.flows.prior import Prior, StandardNormal

_BOARDS = (Checkerboard(), Checkerboard(flip=True))
_CHANNELS = (Halves(), Halves(flip=True))


@dataclass(frozen=True)
class RealNVPConfig:
    """Sizes.

    Attributes:
        levels: scales; each halves the picture.
        width: channels of the networks at the finest scale, a multiple of 8; doubled where `doubling` is on.
        blocks: residual blocks of each network.
        doubling: twice the channels at each coarser scale.
        alpha: margin of the logits at each end of the grey scale.
    """

    levels: int = 2
    width: int = 64
    blocks: int = 4
    doubling: bool = True
    alpha: float = 1e-5

    def __post_init__(self) -> None:
        if self.levels < 1 or self.blocks < 0 or self.width < 8 or self.width % 8:
            raise UsageError(
                f"Real NVP has at least one level and networks whose width is a multiple of 8, found {self.levels} "
                f"levels and width {self.width}."
            )


def realnvp(config: RealNVPConfig, shape: Shape, classes: int = 0, temperature: float = 1.0) -> Flow:
    """The flow with fresh weights for pictures of `shape`, of any class or of one of `classes`.

    Raises `UsageError` unless sides are multiples of 2^levels.
    """
    check_sides(shape, config.levels)
    pixels = Chain([ToUnit(), Logit(config.alpha)])
    body = _scale(config, shape, config.width, config.levels)
    return Flow(pixels, body, top_prior(shape, config.levels, classes), shape, temperature)


def top_prior(shape: Shape, levels: int, classes: int) -> Prior:
    """Of the latents of a flow of several scales: standard normal, those of the coarsest scale placed by the class."""
    top = prod(shape) // 2 ** (levels - 1)  # at each finer scale half of the numbers leave
    return ClassPrior(StandardNormal(), classes, top) if classes else StandardNormal()


def check_sides(shape: Shape, levels: int) -> None:
    """Raises `UsageError` unless pictures can be halved `levels` times."""
    if shape[1] % 2**levels or shape[2] % 2**levels:
        raise UsageError(
            f"This flow halves pictures {levels} times, so their sides must be multiples of {2**levels}, found "
            f"{shape[1]} x {shape[2]}. Ask for another --size, or for fewer levels."
        )


def _scale(config: RealNVPConfig, shape: Shape, width: int, levels: int) -> Bijection:
    """All from this scale on. Chessboard couplings come after squeezing, where they are cheaper, and are the same."""
    squeezed = (4 * shape[0], shape[1] // 2, shape[2] // 2)
    if levels == 1:
        boards = (*_BOARDS, *_BOARDS)
        return Chain([Squeeze(), *_couplings(config, squeezed[0], width, boards), Flatten(squeezed)])
    half = (squeezed[0] // 2, *squeezed[1:])
    rest = _scale(config, half, 2 * width if config.doubling else width, levels - 1)
    partitions = (*_BOARDS, _BOARDS[0], *_CHANNELS, _CHANNELS[0])
    return Chain([Squeeze(), *_couplings(config, squeezed[0], width, partitions), FactorOut(squeezed, rest)])


def _couplings(config: RealNVPConfig, channels: int, width: int, partitions: tuple[Partition, ...]) -> list[Bijection]:
    made: list[Bijection] = []
    for partition in partitions:
        network = CouplingResNet(channels // 2, channels, width, config.blocks)
        made += [ActNorm(channels), AffineCoupling(network, partition, Tanh(channels // 2))]
    return [*made, ActNorm(channels)]
