"""Glow: activation norm, invertible 1 x 1 convolutions and affine couplings, at several scales.

Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions" (arXiv 1807.03039). On MNIST the
figure to compare `bits_per_dim` with is 1.05 (Grathwohl et al. 2018, arXiv 1810.01367, Table 2). Where much of a
picture is one value, as the black of digits, logits start far ahead: with `--net.alpha 1e-3` a small Glow is at 1.8
bits after 100 steps, without at 4.9. Pictures look best at temperatures near 0.7 (the paper's Sec. 6). Book: chapter 3.

    hvis train glow --run runs/glow --data mnist
    hvis generate --model runs/glow -n 64
"""

from __future__ import annotations

from dataclasses import dataclass, field

from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.model import Flow
from huggingvis.recipes.flow_training import FlowRecipe, FlowTraining
from huggingvis.recipes.pictures import Facts

SYSTEM = {
    "name": "Glow",
    "chapter": 3,
    "paper": "1807.03039",
    "files": [
        "objectives/likelihood.py",
        "nets/flows/bijection.py",
        "nets/flows/coupling.py",
        "nets/flows/mixing.py",
        "nets/flows/class_prior.py",
        "nets/flows/glow.py",
    ],
    "built": "tests/walks/test_flows.py::test_flow_learns_loads_and_draws[glow]",
    "exact": "tests/interop/test_flows.py::test_glow_block_is_normflows",
    "trained": "benchmarks/trained/glow.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(FlowTraining):
    """Numbers of the training.

    Attributes:
        net: sizes of the flow.
    """

    net: GlowConfig = field(default_factory=GlowConfig)
    steps: int = 60_000
    batch: int = 128
    lr: float = 5e-4
    sample_every: int = 2000


def network(config: Config, facts: Facts) -> Flow:
    """The flow with fresh weights."""
    return glow(config.net, facts.shape, len(config.classes(facts)), config.temperature)


RECIPE = FlowRecipe("glow", network)
train, bind, measure = RECIPE.train, RECIPE.bind, RECIPE.measure
