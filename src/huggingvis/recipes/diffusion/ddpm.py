"""Denoising diffusion in pixel space, on any small picture source, with or without classes.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239): the linear table, eps
predictions and the unweighted loss, eq. 14. Also the cosine table (Nichol & Dhariwal 2021, arXiv 2102.09672), v
predictions (Salimans & Ho 2022, arXiv 2202.00512), rectified flow and the SDEs of Song et al. 2020 (arXiv 2011.13456),
by name. Book: chapter 4.

    hvis train ddpm --run runs/digits --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate 7 --model runs/digits
    hvis models save runs/digits out/digits
"""

from __future__ import annotations

from dataclasses import dataclass

from huggingvis.recipes.denoiser_training import WeightedTraining
from huggingvis.recipes.pixel_diffusion import PixelRecipe

SYSTEM = {
    "name": "DDPM",
    "chapter": 4,
    "paper": "2006.11239",
    "files": ["objectives/denoise.py", "processes/table.py", "samplers/ancestral.py", "nets/unet.py"],
    "built": "tests/walks/test_recipes.py::test_ddpm_learns_loads_and_draws",
    "exact": "tests/oracle/test_solvers.py::test_ancestral_step_is_bayes",
    "trained": "benchmarks/trained/ddpm.json",
    "explained": None,
    "usable": "tests/interop/test_pixel_pipelines.py::test_our_runs_are_theirs",
}


@dataclass(frozen=True)
class Config(WeightedTraining):
    """Numbers of the training."""


_recipe = PixelRecipe("ddpm")
train, bind, measure = _recipe.train, _recipe.bind, _recipe.measure
