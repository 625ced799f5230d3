"""Score-based generative modelling through stochastic differential equations: one loss on the VP, sub-VP or VE SDE.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2020 (arXiv 2011.13456): times are continuous, the loss is Eq. 7 with
the weight that makes it the net's error in the noise; pictures come by predictor and corrector (Algorithms 1-3), by the
reverse SDE or by any solver of the probability-flow ODE, which also tells the likelihood (Sec. 4.3). Book: chapter 4.

    hvis train score_sde --run runs/sde --data mnist --process sub-vp --net.channels 32,64,64 --net.blocks 1
    hvis generate --model runs/sde --sampler pc
    hvis evaluate runs/sde --limit 100
"""

from __future__ import annotations

from dataclasses import dataclass

from huggingvis.recipes.denoiser_training import ProcessName, WeightedTraining
from huggingvis.recipes.pixel_diffusion import PixelRecipe

SYSTEM = {
    "name": "Score SDE",
    "chapter": 4,
    "paper": "2011.13456",
    "files": [
        "processes/vp.py",
        "processes/sub_vp.py",
        "processes/ve.py",
        "samplers/reverse_diffusion.py",
        "samplers/langevin.py",
        "objectives/probability_flow.py",
    ],
    "built": "tests/walks/test_score_recipes.py::test_a_score_recipe_learns_loads_and_draws",
    "exact": "tests/oracle/test_likelihood_ode.py::test_density_of_the_mixture",
    "trained": "benchmarks/curves/ledger.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(WeightedTraining):
    """Numbers of the training."""

    process: ProcessName = "vp"


_recipe = PixelRecipe("score_sde", sampler="pc")
train, bind, measure = _recipe.train, _recipe.bind, _recipe.measure
