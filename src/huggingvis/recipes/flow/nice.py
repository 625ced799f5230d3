"""NICE: the first flow of pictures, additive couplings under a logistic prior.

Dinh, Krueger & Bengio 2014, "NICE: Non-linear Independent Components Estimation" (arXiv 1410.8516): log-determinants
are zero but for one scale per latent. `_nats` of held-out pictures is the paper's figure, 1980.50 on MNIST's test set
(Table in Sec. 5.1) after 1500 epochs. Book: chapter 3.

    hvis train nice --run runs/nice --data mnist
    hvis generate --model runs/nice -n 64
"""

from __future__ import annotations

from dataclasses import dataclass, field

from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.nice import NICEConfig, nice
from huggingvis.recipes.flow_training import FlowRecipe, FlowTraining
from huggingvis.recipes.pictures import Facts

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
    "trained": "benchmarks/trained/nice.json",
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


RECIPE = FlowRecipe("nice", network)
train, bind, measure = RECIPE.train, RECIPE.bind, RECIPE.measure
