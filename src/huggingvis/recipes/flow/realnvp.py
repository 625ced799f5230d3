"""Real NVP: affine couplings by chessboards and channels, at several scales.

Dinh, Sohl-Dickstein & Bengio 2016, "Density estimation using Real NVP" (arXiv 1605.08803). On MNIST the figure to
compare `bits_per_dim` with is 1.06 (Grathwohl et al. 2018, arXiv 1810.01367, Table 2). Book: chapter 3.

    hvis train realnvp --run runs/realnvp --data mnist
    hvis generate --model runs/realnvp -n 64
"""

from __future__ import annotations

from dataclasses import dataclass, field

from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp
from huggingvis.recipes.flow_training import FlowRecipe, FlowTraining
from huggingvis.recipes.pictures import Facts

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
    "trained": "benchmarks/trained/realnvp.json",
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


RECIPE = FlowRecipe("realnvp", network)
train, bind, measure = RECIPE.train, RECIPE.bind, RECIPE.measure
