"""Preconditioned diffusion: noise levels instead of times, and a network whose numbers have unit variance at each.

Karras, Aittala, Aila & Laine 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv
2206.00364): preconditioning and loss weight of Table 1, log-normal noise levels, Heun's method on their grid. The same
preconditioning on a table of noise levels is `--process linear`. Book: chapter 4.

    hvis train edm --run runs/edm --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/edm --steps 18
"""

from __future__ import annotations

from dataclasses import dataclass

from huggingvis.recipes.denoiser_training import PredictionName, ProcessName, WeightedTraining
from huggingvis.recipes.pixel_diffusion import PixelRecipe

SYSTEM = {
    "name": "EDM",
    "chapter": 4,
    "paper": "2206.00364",
    "files": ["core/preconditioning.py", "processes/ve.py", "samplers/heun.py", "samplers/churn.py"],
    "built": "tests/walks/test_diffusion_recipes.py::test_edm_learns_loads_and_draws",
    "exact": "tests/oracle/test_edm.py::test_input_and_target_have_unit_variance",
    "trained": "benchmarks/trained/edm.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(WeightedTraining):
    """Numbers of the training."""

    process: ProcessName = "edm"
    prediction: PredictionName = "edm"
    sample_steps: int = 18


_recipe = PixelRecipe("edm")
train, bind, measure = _recipe.train, _recipe.bind, _recipe.measure
