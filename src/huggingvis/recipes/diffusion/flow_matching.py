"""Flow matching: a network learns the velocity that carries noise to pictures, along the straight way between them.

Lipman, Chen, Ben-Hamu, Nickel & Le 2022, "Flow Matching for Generative Modeling" (arXiv 2210.02747): the conditional
loss, Eq. 23, on optimal-transport paths, with times drawn evenly; `--process vp` gives their diffusion paths. With
`--optimal_pairs`, noise and pictures of a batch are paired by optimal transport (Tong et al. 2023, arXiv 2302.00482).
Pictures come by any solver of the ODE; `hvis evaluate` tells their likelihood and how straight their paths are. Book:
chapter 4, "Flow matching".

    hvis train flow_matching --run runs/flow --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis train flow_matching --run runs/middle --data mnist --times logit-normal
    hvis generate 7 --model runs/flow --sampler heun-flow --steps 10
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.data.coupling import OptimalPairs
from huggingvis.recipes.denoisers import Model
from huggingvis.recipes.flow_models import StraightTraining, flow_model, measure_flow
from huggingvis.recipes.pixel_diffusion import as_they_come, bind_pixels, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Flow matching",
    "chapter": 4,
    "paper": "2210.02747",
    "files": ["processes/flow.py", "objectives/denoise.py", "data/coupling.py", "objectives/probability_flow.py"],
    "built": "tests/walks/test_flow_recipes.py::test_flow_matching_learns_loads_and_draws",
    "exact": [
        "tests/oracle/test_flow_matching.py::test_the_velocity_of_the_mixture_carries_its_law",
        "tests/oracle/test_flow_matching.py::test_the_conditional_loss_differs_by_a_constant",
        "tests/oracle/test_likelihood_ode.py::test_density_of_the_mixture",
    ],
    "trained": "benchmarks/trained/flow_matching.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(StraightTraining):
    """Numbers of the training.

    Attributes:
        sigma_min: noise that the straight way leaves in the pictures.
        optimal_pairs: pair the noise and the pictures of a batch (of each class, where there are some) at least cost.
    """

    sigma_min: float = 0.0
    optimal_pairs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_min and self.process != "flow":
            raise UsageError(
                f"sigma_min belongs to the straight way of the process flow; found it with the process {self.process}. "
                "Leave it at 0, or use the process flow."
            )


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights."""
    return flow_model(config, facts, config.sigma_min)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    pairs = partial(OptimalPairs, seed=config.seed) if config.optimal_pairs else as_they_come
    return train_pixels("flow_matching", config, setting, model, pairs=pairs)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("flow_matching", config, run, device, make=model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, its bound, its density and its paths."""
    return measure_flow(model(config, Facts.of(run)), run, device)
