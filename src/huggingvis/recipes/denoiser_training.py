"""The numbers of trainings of diffusion models on plain sources, as a `Config` spells them.

Names (linear, cosine, flow, vp, sub-vp, ve, edm, gamma-linear, gamma-cosine, learned; eps, x0, v, velocity, edm) become
objects here and nowhere else.
Book: chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from huggingvis.core.errors import UsageError
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import PREDICTIONS, Prediction, Process
from huggingvis.core.request import Sampling
from huggingvis.objectives.denoise import Knots, LogitNormal, LogNormal, TimeLaw, UniformTimes
from huggingvis.objectives.weights import WEIGHTINGS, Weighting
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.gamma import GAMMA_0, GAMMA_1, LEAST, Between, LinearGamma
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE, LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.picture_training import Fitting, PictureTraining
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Optim

GROUPS = 8
LEVELS = 250.0
"""Scale of EDM's clock, log(sigma/alpha)/4: 0.002 to 80 is then as long as a table's numbers."""


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of the U-Net.

    Attributes:
        channels: width of each level, finest first; multiples of 8.
        blocks: residual blocks of each level.
        attention: for each level, 1 with self-attention, 0 without.
        middle: 1 for self-attention in the middle, 0 for none.
        heads: attention heads.
        dropout: in residual blocks.
        self_conditioned: the net of a diffusion model is also told its own last estimate of the picture.
    """

    channels: tuple[int, ...] = (64, 128, 128)
    blocks: int = 2
    attention: tuple[int, ...] = (0, 0, 1)
    middle: int = 1
    heads: int = 4
    dropout: float = 0.0
    self_conditioned: bool = False

    def __post_init__(self) -> None:
        if not self.channels or len(self.attention) != len(self.channels):
            raise UsageError(
                f"A U-Net needs an entry of `attention` for each level: found channels {list(self.channels)} and "
                f"attention {list(self.attention)}. Make them equally long, as in `--net.channels 32,64 "
                "--net.attention 0,1`."
            )
        if self.heads < 1:
            raise UsageError(
                f"The attention of a U-Net has at least one head, found {self.heads}. For none, set `attention` and "
                "`middle` to 0."
            )
        wrong = [width for width in self.channels if width < 1 or width % GROUPS or width % self.heads]
        if wrong:
            raise UsageError(
                f"The widths of a U-Net's levels are multiples of {GROUPS} and of its {self.heads} heads, "
                f"found {wrong[0]}."
            )

    @property
    def groups(self) -> int:
        """Of its norms: two channels each at least. A group of one channel would take its mean away, and with it all
        that time and class have added."""
        return min(GROUPS, min(self.channels) // 2)

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class Noising:
    """A process by name: how to make it, at which times to train, and the scale that turns its clock into 0 to 1000.

    `least`: the smallest time of a training; densities begin there. `usual`: how to sample from it where nobody says
    how.
    """

    process: Callable[[], Process]
    times: TimeLaw
    clock_scale: float = 1.0
    least: float = 1e-3
    usual: Sampling = Sampling(sampler="ddim", steps=50)


@dataclass(frozen=True)
class Predicting:
    """A prediction by name: how to make it for data of a standard deviation, and the scale of a clock of its own."""

    make: Callable[[float], Prediction]
    clock_scale: float | None = None


def _continuous(process: Callable[[], Process], least: float = 1e-5) -> Noising:
    """As Song et al. 2020 (arXiv 2011.13456, App. C) train their SDEs: times uniform from 1e-5."""
    return Noising(process, UniformTimes(least), 1000.0, least)


def between(process: Callable[[float, float], Process], start: float = GAMMA_0, end: float = GAMMA_1) -> Noising:
    """From gamma, minus the log-SNR, `start` to `end`, as Kingma et al. 2021 (arXiv 2107.00630) train."""
    usual = Sampling(sampler="ddpm", steps=100)
    return Noising(lambda: process(start, end), UniformTimes(LEAST), 1000.0, LEAST, usual)


def _whatever_spread(kind: Callable[[], Prediction]) -> Callable[[float], Prediction]:
    return lambda spread: kind()


def _cosine(start: float, end: float) -> Between:
    return Between(CosineVP(), start, end)


GAMMAS: dict[str, Callable[[float, float], Process]] = {"gamma-linear": LinearGamma, "gamma-cosine": _cosine}
"""Processes between two values of gamma."""

NOISINGS = {
    "linear": Noising(TableProcess.linear, Knots()),
    "cosine": Noising(TableProcess.cosine, Knots()),
    "flow": Noising(RectifiedFlow, LogitNormal(), 1000.0),
    "vp": _continuous(LinearVP),
    "sub-vp": _continuous(SubVP),
    "ve": _continuous(GeometricVE),
    "edm": Noising(LinearVE, LogNormal(LinearVE()), LEVELS, 2.5e-5, Sampling("heun", "karras", 18)),
    **{name: between(process) for name, process in GAMMAS.items()},
}
PREDICTING = {
    **{name: Predicting(_whatever_spread(kind)) for name, kind in PREDICTIONS.items()},
    "edm": Predicting(Preconditioned, LEVELS),
}
ProcessName = Literal[
    "linear", "cosine", "flow", "vp", "sub-vp", "ve", "edm", "gamma-linear", "gamma-cosine", "learned"
]
PredictionName = Literal["eps", "x0", "v", "velocity", "edm"]
WeightingName = Literal["plain", "eps", "x0", "v", "truncated", "min-snr", "p2"]


def check_names(process: str, prediction: str) -> None:
    """Raises `UsageError` for a pair that cannot be trained or sampled from."""
    if process == "learned":
        raise UsageError(
            "Only the variational bound teaches a process its noise levels, which is what the recipe vdm trains by. "
            "Use that, or the process gamma-linear, from which a learned one starts."
        )
    if process == "flow" and prediction == "eps":
        raise UsageError(
            "A flow ends in noise alone, and there the clean picture cannot be had from the noise (eps). "
            "Predict velocity, v or x0 with it, or use the process linear or cosine."
        )
    if process == "flow" and prediction == "edm":
        raise UsageError(
            "EDM's preconditioning tells the network the logarithm of noise over signal, and a flow ends in noise "
            "alone, where that is infinite. Use it with the process edm, linear or cosine, or predict velocity."
        )
    if process == "edm" and prediction != "edm":
        raise UsageError(
            f"The process edm adds noise up to 80 times the size of pictures, and only the prediction edm scales what "
            f"the network is given; found {prediction}. Predict edm with it, or use another process."
        )


@dataclass(frozen=True)
class DenoiserFitting(Fitting):
    """Numbers of any training of a denoiser.

    Attributes:
        warmup: steps over which the learning rate rises.
        ema: decay of the averaged weights.
        samples: pictures of a sample grid.
        sample_steps: steps of a sample grid.
    """

    steps: int = 20_000
    batch: int = 64
    lr: float = 2e-4
    sample_every: int = 1000
    warmup: int = 500
    ema: float = 0.999
    samples: int = 20
    sample_steps: int = 20

    @property
    def optim(self) -> Optim | Mapping[str, Optim]:
        """AdamW with its warm-up; or one for each net."""
        return Optim(lr=self.lr, warmup=self.warmup)

    @property
    def averages(self) -> Ema:
        """The averaged weights."""
        return Ema(ConstantDecay(self.ema))


@dataclass(frozen=True)
class UNetTraining(DenoiserFitting, PictureTraining):
    """Numbers of the training of a U-Net that pictures are drawn with step by step.

    Attributes:
        net: sizes of the U-Net.
    """

    net: UNetSizes = UNetSizes()


@dataclass(frozen=True)
class DenoiserTraining(UNetTraining):
    """Numbers of the training of a diffusion model.

    Attributes:
        conditional: learn the data's classes; none: if they have some.
        empty: share of labels left out, for classifier-free guidance.
        process: linear or cosine (tables of 1000 noise levels), flow, the SDEs vp, sub-vp and ve, edm, or
            gamma-linear and gamma-cosine between the ends of vdm.
        prediction: eps, x0, v, velocity or edm (preconditioned).
    """

    conditional: bool | None = None
    empty: float = 0.1
    process: ProcessName = "linear"
    prediction: PredictionName = "eps"

    def __post_init__(self) -> None:
        check_names(self.process, self.prediction)


@dataclass(frozen=True)
class WeightedTraining(DenoiserTraining):
    """Numbers of the training of a diffusion model by its plain loss.

    Attributes:
        weighting: what noise levels count: plain (the squared error of what is predicted), eps, x0 or v (that of these,
            whatever is predicted), truncated, min-snr or p2.
    """

    weighting: WeightingName = "plain"

    @property
    def weighs(self) -> Weighting | None:
        """The weight of the error of x_0; None: that of the output, as it is."""
        return None if self.weighting == "plain" else WEIGHTINGS[self.weighting]
