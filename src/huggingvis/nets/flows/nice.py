"""NICE: additive couplings on flat pictures, one scale for each latent, a logistic prior.

Dinh, Krueger & Bengio 2014, "NICE: Non-linear Independent Components Estimation", arXiv 1410.8516, Sec. 5.1: digits as
784 numbers in [0, 1], even against odd entries in turn, networks of five hidden layers with 1000 rectified units.
Book: chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from huggingvis.core.errors import UsageError
from huggingvis.nets.flows.bijection import Bijection, Chain, Flatten, Shape
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.coupling import AdditiveCoupling, EvenOdd
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.networks import CouplingMLP
from huggingvis.nets.flows.pointwise import Scale, ToUnit
from huggingvis.nets.flows.prior import StandardLogistic

SCALE_SPEED = 10.0
"""How much faster than weights the logarithms of scales move: a training of 5,000 steps has to suffice for them."""


@dataclass(frozen=True)
class NICEConfig:
    """Sizes.

    Attributes:
        couplings: additive couplings.
        width: units of a hidden layer.
        depth: hidden layers of each coupling's network.
    """

    couplings: int = 4
    width: int = 1000
    depth: int = 5


def nice(config: NICEConfig, shape: Shape, classes: int = 0, temperature: float = 1.0) -> Flow:
    """The flow with fresh weights for pictures of `shape`, of any class or of one of `classes`.

    Raises `UsageError` for an odd number of values.
    """
    dims = shape[0] * shape[1] * shape[2]
    if dims % 2:
        raise UsageError(
            f"Couplings need an even number of values, but {shape[1]} x {shape[2]} pixels with {shape[0]} channels are "
            f"{dims}. Ask for an even --size."
        )
    half = dims // 2
    body: list[Bijection] = [Flatten(shape)]
    for number in range(config.couplings):
        network = CouplingMLP(half, half, config.width, config.depth)
        body.append(AdditiveCoupling(network, EvenOdd(flip=number % 2 == 1), half))
    body.append(Scale(dims, SCALE_SPEED))
    prior = ClassPrior(StandardLogistic(), classes, dims) if classes else StandardLogistic()
    return Flow(ToUnit(), Chain(body), prior, shape, temperature)
