"""Noise-conditional score networks: score matching at many noise levels, samples by annealed Langevin dynamics.

Song & Ermon 2019, "Generative Modeling by Estimating Gradients of the Data Distribution" (arXiv 1907.05600): denoising
score matching with the weight sigma^2 (Eq. 5-6), which is the unweighted loss of a net that predicts the noise,
score = -eps/sigma, on a process whose signal is never scaled. The improved training of 2020 (arXiv 2006.09011): noise
levels up to the distance between pictures, averaged weights, steps chosen by Technique 4. The net is the U-Net of the
other recipes, and noise levels are continuous. Book: chapter 4.

    hvis train ncsn --run runs/scores --data mnist --net.channels 32,64,64 --net.blocks 1
    hvis generate --model runs/scores --sampler annealed-langevin --schedule logsnr
"""

from __future__ import annotations

from dataclasses import dataclass

from huggingvis.recipes.denoiser_training import ProcessName, WeightedTraining
from huggingvis.recipes.pixel_diffusion import PixelRecipe

SYSTEM = {
    "name": "NCSN",
    "chapter": 4,
    "paper": "1907.05600",
    "files": ["objectives/denoise.py", "processes/ve.py", "samplers/langevin.py", "nets/unet.py"],
    "built": "tests/walks/test_score_recipes.py::test_a_score_recipe_learns_loads_and_draws",
    "exact": "tests/oracle/test_score.py::test_annealed_langevin_finds_the_weights_and_plain_langevin_does_not",
    "trained": "benchmarks/trained/ncsn.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(WeightedTraining):
    """Numbers of the training."""

    process: ProcessName = "ve"


_recipe = PixelRecipe("ncsn", sampler="annealed-langevin")
train, bind, measure = _recipe.train, _recipe.bind, _recipe.measure
