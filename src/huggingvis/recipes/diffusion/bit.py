"""Bit diffusion: pictures as bits, which plain diffusion draws as real numbers; self-conditioning; asymmetric steps.

Chen, Zhang & Hinton 2022, "Analog Bits: Generating Discrete Data using Diffusion Models with Self-Conditioning" (arXiv
2208.04202): each 8-bit value becomes eight numbers +-b (Sec. 2.1), the net predicts x_0 and is told its own last
estimate of it (Sec. 2.2, Algorithm 1; `--no-net.self_conditioned` for a plain one), and a step may go further than the
net is told (Sec. 2.3, Algorithm 2). What is drawn has exactly `levels` values. CIFAR-10 in the paper: FID 3.48.
Self-conditioning is there for every diffusion recipe, as `--net.self_conditioned`. Book: chapter 4.

    hvis train bit --run runs/bits --data fashion_mnist --net.channels 64,128,128
    hvis generate --model runs/bits --steps 100
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from huggingvis.codecs.bits import AnalogBits, Binary, Code, Gray, PixelBits, Shuffled
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Generative, Measure
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.guidance.threshold import Clip
from huggingvis.recipes.denoiser_training import DenoiserTraining, PredictionName, ProcessName, UNetSizes
from huggingvis.recipes.denoisers import Model, check_side, classes_of
from huggingvis.recipes.pixel_diffusion import bind_pixels, measure_coded, train_pixels
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.asymmetric import Asymmetric
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Bit diffusion",
    "chapter": 4,
    "paper": "2208.04202",
    "files": [
        "codecs/bits.py",
        "codecs/words.py",
        "core/self_conditioning.py",
        "nets/caption_bits.py",
        "recipes/text/bit_captions.py",
        "samplers/asymmetric.py",
    ],
    "built": [
        "tests/walks/test_bit_recipe.py::test_bit_diffusion_learns_loads_and_draws",
        "tests/walks/test_bit_captions.py::test_it_says_what_it_sees",
    ],
    "exact": "tests/oracle/test_bit_diffusion.py::test_samples_have_the_toys_marginals",
    "trained": ["benchmarks/trained/bit.json", "benchmarks/trained/captions.json"],
    "explained": None,
    "usable": None,
}

CODES: dict[str, Code] = {"binary": Binary(), "gray": Gray(), "shuffled": Shuffled()}


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        levels: values of a pixel, evenly from black to white.
        scale: b, the size of a bit beside noise of size 1.
        code: how values are written: binary, gray or shuffled.
        td: how much further than told a sampling step goes.
    """

    process: ProcessName = "cosine"
    prediction: PredictionName = "x0"
    net: UNetSizes = UNetSizes(self_conditioned=True)
    levels: int = 256
    scale: float = 1.0
    code: Literal["binary", "gray", "shuffled"] = "binary"
    td: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.td < 0:
            raise UsageError(f"A step goes further than told by td = 0 or more, found {self.td}.")

    @property
    def codec(self) -> PixelBits:
        """Pictures to analog bits and back."""
        return PixelBits(AnalogBits(self.levels, self.scale, CODES[self.code]))


def model(config: Config, facts: Facts) -> Model:
    """The model with fresh weights; its space is analog bits."""
    check_side(facts.size, config.net.multiple)
    shape = (facts.channels * config.codec.bits.depth, facts.size, facts.size)
    names = (config.process, config.prediction)
    fresh = Model.fresh(config.net, names, shape, classes=classes_of(config.conditional, facts), pixels=False)
    return replace(fresh, limits=(Clip(config.scale),))


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    return train_pixels("bit", config, setting, model, codec=config.codec)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are class names, or empty."""
    found = bind_pixels("bit", config, run, device, make=model, codec=config.codec)

    def generator(request: Request) -> Generative:
        plain = found.generator(request)
        assert isinstance(plain, Diffusion)
        return replace(plain, sampler=Asymmetric(plain.sampler, config.td)) if config.td else plain

    return replace(found, generator=generator)


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, on bits."""
    return measure_coded(config, run, device, model, config.codec)
