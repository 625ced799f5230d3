"""Non-uniform diffusion: wavelet bands become noise at different speeds, so a picture is drawn from coarse to fine.

Batzolis, Stanczuk, Schonlieb & Etmann 2022, "Non-Uniform Diffusion Models" (arXiv 2207.09786), Sec. 3-4: the process
has a vector of speeds, one for each band of the Haar transform; fine details reach noise first, and in sampling begin
to exist last. The network works on the bands, folded to the size of the coarsest, and so on a quarter of the positions
for each level. With equal speeds it is score-SDE, bit for bit. Conditional models of the paper: recipe `cmde`.
Book: chapter 4.

    hvis train non_uniform --run runs/waves --data fashion_mnist --speeds 1,2
    hvis generate --model runs/waves
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from huggingvis.codecs.haar import Haar
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Measure
from huggingvis.core.system import System
from huggingvis.guidance.projected import Projected
from huggingvis.processes.non_uniform import at_speeds
from huggingvis.recipes.denoiser_training import DenoiserTraining, PredictionName, ProcessName, UNetSizes
from huggingvis.recipes.denoisers import Model, check_side, classes_of
from huggingvis.recipes.pixel_diffusion import bind_pixels, measure_coded, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Non-uniform diffusion",
    "chapter": 4,
    "paper": "2207.09786",
    "files": [
        "core/components.py",
        "processes/non_uniform.py",
        "codecs/haar.py",
        "guidance/diffused_condition.py",
        "recipes/diffusion/cmde.py",
    ],
    "built": "tests/walks/test_non_uniform_recipes.py::test_wavelets_learn_load_and_draw",
    "exact": "tests/oracle/test_non_uniform.py::test_equal_speeds_are_the_plain_process",
    "trained": "benchmarks/trained/haar.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        speeds: of the bands, the small picture (1) first, then details from coarse to fine; their number less one is
            that of wavelet levels.
    """

    process: ProcessName = "vp"
    prediction: PredictionName = "v"
    net: UNetSizes = UNetSizes(channels=(64, 128), attention=(0, 1))
    speeds: tuple[float, ...] = (1.0, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.speeds) < 2 or self.speeds[0] != 1.0 or min(self.speeds) < 1.0:
            raise UsageError(
                f"A process in wavelets has the speed 1 for the small picture and at least 1 for each of one or more "
                f"levels of details, or they would not be noise at its end; found {list(self.speeds)}."
            )
        if max(self.speeds) > 1.0 and self.prediction in ("eps", "velocity"):
            raise UsageError(
                f"Details that have become noise already tell nothing of themselves by {self.prediction}, and what is "
                "believed of them would drown the rest. Predict v, x0 or edm."
            )

    @property
    def codec(self) -> Haar:
        """Pictures to bands and back."""
        return Haar(len(self.speeds) - 1)


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights; its space is wavelet bands."""
    codec = config.codec
    check_side(facts.size, codec.factor * config.net.multiple)
    side, bands = facts.size // codec.factor, codec.bands(facts.channels)
    names, classes = (config.process, config.prediction), classes_of(config.conditional, facts)
    fresh = Model.fresh(config.net, names, (sum(bands), side, side), classes=classes, pixels=False)
    return replace(fresh, process=at_speeds(fresh.process, config.speeds, bands), limits=(Projected(codec),))


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("non_uniform", config, setting, model, codec=config.codec)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    return bind_pixels("non_uniform", config, run, device, make=model, codec=config.codec)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, on bands."""
    return measure_coded(config, run, device, model, config.codec)
