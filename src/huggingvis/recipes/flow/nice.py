"""NICE: the first flow of pictures, additive couplings under a logistic prior.

Dinh, Krueger & Bengio 2014, "NICE: Non-linear Independent Components Estimation" (arXiv 1410.8516): log-determinants
are zero but for one scale per latent. `_nats` of held-out pictures is the paper's figure, 1980.50 on MNIST's test set
(Table in Sec. 5.1) after 1500 epochs. Book: chapter 3.

    hvis train nice --run runs/nice --data mnist
    hvis generate --model runs/nice -n 64
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.nice import NICEConfig, nice
from huggingvis.recipes.flow_training import FlowTraining, bind_flow, measure_flow, train_flow
from huggingvis.recipes.picture_training import open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "NICE",
    "chapter": 3,
    "paper": "1410.8516",
    "files": [
        "objectives/likelihood.py",
        "nets/flows/bijection.py",
        "nets/flows/coupling.py",
        "nets/flows/class_prior.py",
        "nets/flows/nice.py",
    ],
    "built": "tests/walks/test_flows.py::test_flow_learns_loads_and_draws[nice]",
    "exact": "tests/oracle/test_flows.py::test_log_determinant_is_the_jacobians[nice]",
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(FlowTraining):
    """Numbers of the training.

    Attributes:
        net: sizes of the flow.
    """

    net: NICEConfig = field(default_factory=NICEConfig)
    steps: int = 200_000
    batch: int = 200
    sample_every: int = 2000


def network(config: Config, facts: Facts) -> Flow:
    """The flow with fresh weights."""
    return nice(config.net, facts.shape, len(config.classes(facts)), config.temperature)


def train(config: Config, setting: Setting) -> Run:
    """Train the flow in `setting`'s run folder."""
    source = open_pictures(config)
    return train_flow("nice", config, setting, source, network(config, source.facts))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: latents of the prior, or of its class, brought back through the flow."""
    return bind_flow("nice", config, network(config, Facts.of(run)), run, device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """Bits per dimension and nats of a run of this recipe."""
    return measure_flow(network(config, Facts.of(run)), run, device)
