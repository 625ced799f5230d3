"""Real NVP: affine couplings by chessboards and channels, at several scales.

Dinh, Sohl-Dickstein & Bengio 2016, "Density estimation using Real NVP" (arXiv 1605.08803). On MNIST the figure to
compare `bits_per_dim` with is 1.06 (Grathwohl et al. 2018, arXiv 1810.01367, Table 2). Book: chapter 3.

    hvis train realnvp --run runs/realnvp --data mnist
    hvis generate --model runs/realnvp -n 64
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp
from huggingvis.recipes.flow_training import FlowTraining, bind_flow, measure_flow, train_flow
from huggingvis.recipes.picture_training import open_pictures
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "RealNVP",
    "chapter": 3,
    "paper": "1605.08803",
    "files": [
        "objectives/likelihood.py",
        "nets/flows/bijection.py",
        "nets/flows/coupling.py",
        "nets/flows/class_prior.py",
        "nets/flows/realnvp.py",
    ],
    "built": "tests/walks/test_flows.py::test_flow_learns_loads_and_draws[realnvp]",
    "exact": "tests/oracle/test_flows.py::test_log_determinant_is_the_jacobians[realnvp]",
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

    net: RealNVPConfig = field(default_factory=RealNVPConfig)
    steps: int = 60_000
    batch: int = 128
    sample_every: int = 2000


def network(config: Config, facts: Facts) -> Flow:
    """The flow with fresh weights."""
    return realnvp(config.net, facts.shape, len(config.classes(facts)), config.temperature)


def train(config: Config, setting: Setting) -> Run:
    """Train the flow in `setting`'s run folder."""
    source = open_pictures(config)
    return train_flow("realnvp", config, setting, source, network(config, source.facts))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: latents of the prior, or of its class, brought back through the flow."""
    return bind_flow("realnvp", config, network(config, Facts.of(run)), run, device)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """Bits per dimension and nats of a run of this recipe."""
    return measure_flow(network(config, Facts.of(run)), run, device)
