"""Rectified flow: straight ways from noise to pictures, and straighter ones each time they are learnt again.

Liu, Gong & Liu 2022, "Flow Straight and Fast" (arXiv 2209.03003): the first stage learns the velocity that carries
noise to pictures along straight interpolations of pairs that know nothing of each other (Eq. 1). The recipe `reflow`
then learns from the pairs that a finished stage makes, as often as asked for, and at last in one step. The process may
also be another one: the paper's nonlinear flows (Sec. 2.3). Book: chapter 4, "Rectified flow".

    hvis train rectified_flow --run runs/first --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis train reflow --run runs/second --teacher runs/first
    hvis train reflow --run runs/one-step --teacher runs/second --euler_steps 1
    hvis generate 7 --model runs/one-step
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.recipes.flow_models import StraightTraining, flow_model, measure_flow
from huggingvis.recipes.pixel_diffusion import bind_pixels, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Rectified flow",
    "chapter": 4,
    "paper": "2209.03003",
    "files": ["recipes/diffusion/reflow.py", "recipes/flow_pairs.py", "processes/flow.py", "metrics/straightness.py"],
    "built": [
        "tests/walks/test_flow_recipes.py::test_rectified_flow_learns_loads_and_draws",
        "tests/walks/test_flow_recipes.py::test_reflow_learns_from_a_teachers_pairs_and_resumes",
    ],
    "exact": [
        "tests/oracle/test_flow_matching.py::test_reflow_makes_a_gaussians_paths_straight",
        "tests/oracle/test_flow_matching.py::test_a_flows_pairs_keep_both_laws_and_cost_less",
        "tests/oracle/test_flow_matching.py::test_a_trained_reflow_is_straighter",
        "tests/interop/test_schedulers.py::test_flow_match_euler",
    ],
    "trained": "benchmarks/trained/rectified_flow.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(StraightTraining):
    """Numbers of the training."""


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net of the first stage in `setting`'s run folder."""
    return train_pixels("rectified_flow", config, setting, flow_model)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("rectified_flow", config, run, device, make=flow_model)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, its bound, its density and its paths."""
    return measure_flow(flow_model(config, Facts.of(run)), run, device)
