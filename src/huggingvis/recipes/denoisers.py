"""What the recipes of diffusion models on plain sources share: the U-Net, its noising, its labels, its system.

Their numbers are in `recipes.denoiser_training`. Book: chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from huggingvis.core.classes import one_hot
from huggingvis.core.diffusion import Diffusion, End, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.process import Degradation, Prediction, Process
from huggingvis.core.protocols import Batch, Conditioner, Decodes, Denoiser, Generative, Guidance, Measure, OnStep
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.sampler import Sampler
from huggingvis.core.self_conditioning import SelfConditioning
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.threshold import Clip
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.objectives.denoise import Denoising, Error, TimeLaw, unconditional
from huggingvis.objectives.probability_flow import DiffusionDensity, ProbabilityFlow
from huggingvis.objectives.weights import Weighting
from huggingvis.processes.learned_gamma import LearnedGamma
from huggingvis.recipes.classes import LabelCondition, with_any
from huggingvis.recipes.denoiser_training import NOISINGS, PREDICTING, Noising, UNetSizes
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.samplers.grids import Schedule
from huggingvis.samplers.names import sampler_names, sampler_of, schedule_asked, schedule_names, schedule_of
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.systems.unconditional import Unconditional

PIXEL_SPREAD = 0.5
"""Standard deviation that pictures in [-1, 1] are taken to have (Karras et al. 2022, Table 1)."""


def sizes_of(net: UNet) -> UNetSizes:
    """The sizes that a U-Net was made with."""
    c = net.config
    return UNetSizes(c.channels, c.blocks, c.attention, c.middle, c.heads, c.dropout)


@final
@dataclass(frozen=True, eq=False)
class Model:
    """A denoising U-Net with all that belongs to it.

    `shape`: of one sample in model space, [C, H, W]. `classes`: names of its labels, empty for an unconditional one.
    `pixels`: model space is pictures in [-1, 1], so that the model tells their likelihood. `least`: the smallest time
    it was trained at. `usual`: how it is sampled from where nobody says how. `limits`: what keeps beliefs in the range
    of the data. `estimating`: how the net is told its own estimates, if it is. `error`: what is minimised; the mean
    square if not said. `weighting`: what noise levels count in it. `end`: what its process leaves of data.
    """

    net: UNet
    process: Process
    times: TimeLaw
    prediction: Prediction
    shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    pixels: bool = True
    least: float = 1e-3
    usual: Sampling = Sampling(sampler="ddim", steps=50)
    limits: tuple[Guidance, ...] = ()
    estimating: SelfConditioning | None = None
    error: Error | None = None
    weighting: Weighting | None = None
    end: End | None = None

    @classmethod
    def fresh(
        cls,
        sizes: UNetSizes,
        names: tuple[str, str],
        shape: tuple[int, int, int],
        *,
        classes: tuple[str, ...],
        pixels: bool,
        concat: int = 0,
    ) -> Model:
        """With new weights; `names` are those of process and prediction. `concat`: channels of a picture it is told."""
        noising, predicting = NOISINGS[names[0]], PREDICTING[names[1]]
        if predicting.clock_scale is not None:
            noising = replace(noising, clock_scale=predicting.clock_scale)
        prediction = predicting.make(PIXEL_SPREAD if pixels else 1.0)
        return cls.of(sizes, noising, prediction, shape, classes=classes, pixels=pixels, concat=concat)

    @classmethod
    def of(
        cls,
        sizes: UNetSizes,
        noising: Noising,
        prediction: Prediction,
        shape: tuple[int, int, int],
        *,
        classes: tuple[str, ...],
        pixels: bool,
        concat: int = 0,
    ) -> Model:
        """The same from objects."""
        config = UNetConfig(
            in_channels=prediction.inputs(shape[0]),
            out_channels=prediction.outputs(shape[0]),
            concat_channels=concat + (shape[0] if sizes.self_conditioned else 0),
            channels=sizes.channels,
            blocks=sizes.blocks,
            attention=sizes.attention,
            middle=sizes.middle,
            heads=sizes.heads,
            vector_dim=len(classes),
            groups=sizes.groups,
            dropout=sizes.dropout,
            clock_scale=noising.clock_scale,
        )
        net = UNet(config)
        process, times, least = noising.process(), noising.times, noising.least
        estimating = SelfConditioning() if sizes.self_conditioned else None
        limits = (Clip(),) if pixels else ()
        return cls(net, process, times, prediction, shape, classes, pixels, least, noising.usual, limits, estimating)

    def objective(self) -> Denoising:
        """What is minimised: batches have `x0` and, with classes, `label`."""
        condition = LabelCondition(len(self.classes)) if self.classes else unconditional
        return Denoising(
            self.net,
            self.process,
            self.prediction,
            self.times,
            condition=condition,
            error=self.error,
            estimating=self.estimating,
            weighting=self.weighting,
        )

    @property
    def schedule(self) -> Mapping[str, nn.Module]:
        """What is learnt of the process, by the names of checkpoints."""
        return self.process.parts() if isinstance(self.process, LearnedGamma) else {}

    @property
    def denoiser(self) -> Denoiser:
        """What the net believes, as it is."""
        plain = NetDenoiser(self.net, self.process, self.prediction)
        return plain if self.estimating is None else self.estimating(plain)

    @property
    def flow(self) -> ProbabilityFlow:
        """The density in model space."""
        return ProbabilityFlow(self.denoiser, self.process, least=self.least)

    def diffusion(
        self, sampler: Sampler, grid: Schedule, guidance: ClassifierFree, shape: tuple[int, int, int] | None = None
    ) -> Diffusion:
        """The generative model for one choice of sampler, grid and guidance."""
        chain: tuple[Guidance, ...] = (guidance,) if self.classes else ()
        chain += self.limits
        device = next(self.net.parameters()).device
        return Diffusion(self.denoiser, self.process, shape or self.shape, sampler, grid, chain, device, end=self.end)

    def preview(self, count: int, steps: int, on_step: OnStep | None = None) -> Tensor:
        """`count` samples, always from the same noise; with classes, each in turn, mildly guided."""
        device = next(self.net.parameters()).device
        cond: dict[str, Tensor] = {}
        if self.classes:
            labels = torch.arange(count) % len(self.classes)
            cond["vector"] = one_hot(labels, len(self.classes)).to(device)
            cond["negative.vector"] = torch.zeros_like(cond["vector"])
        sampler, schedule = sampler_of(self.usual.sampler), schedule_of(self.usual.schedule, steps)
        model = self.diffusion(sampler, schedule, ClassifierFree(2.0))
        return model.sample(count, cond, noise=SeedNoise(range(count)), on_step=on_step)

    def generator(self, request: Request, height: int, width: int) -> Generative:
        """What a request's numbers ask for, at `height` and `width` in model space."""
        s = request.sampling
        asked = self.diffusion(
            sampler_of(s.sampler, s.eta),
            schedule_asked(s),
            ClassifierFree(s.guidance_scale, s.guidance_rescale, s.guidance_interval),
            (self.shape[0], height, width),
        )
        if not self.pixels or isinstance(self.process, Degradation):
            return asked
        any_class = {"vector": torch.zeros(1, len(self.classes), device=asked.device)} if self.classes else {}
        return DiffusionDensity(asked, self.flow, any_class)

    def conditioner(self, device: torch.device) -> Conditioner:
        """Prompts are names of classes, or empty."""
        return ClassConditioner(self.classes, device) if self.classes else Unconditional()


@final
@dataclass(frozen=True, eq=False)
class Examples:
    """`Batches` of `x0` [B, ...] and, for a conditional model, `label` [B] with the share `empty` of them left out.

    `read(places, mirrored)` gives x0 for places among `pictures`.
    """

    pictures: Pictures
    read: Callable[[np.ndarray, np.ndarray], Tensor]
    conditional: bool
    empty: float = 0.0

    def batch(self, index: int, size: int) -> Batch:
        places = self.pictures.places(index, size)
        out = {"x0": self.read(places, self.pictures.mirrored(index, size))}
        labels = self.pictures.labels(places)
        if self.conditional and labels is not None:
            out["label"] = with_any(labels, self.empty, index)
        return out


def classes_of(conditional: bool | None, facts: Facts) -> tuple[str, ...]:
    """The classes a model is conditioned on; None asks for them where the data have some. Raises `UsageError`."""
    if conditional and not facts.classes:
        raise UsageError(
            f"The data {facts.data!r} have no classes to condition on. Put each class's images into a sub-folder of "
            "its own, or train a model without classes."
        )
    return () if conditional is False else facts.classes


@dataclass(frozen=True)
class Shell:
    """What a system has around its `Model`: the codec and its networks, and `factor`, pixels to one of model space.

    `sampler`: the one it is best used with; none: that of its process.
    """

    family: str
    codec: Decodes
    parts: dict[str, torch.nn.Module] = field(default_factory=dict)
    factor: int = 1
    sampler: str | None = None


def system(model: Model, name: str, facts: Facts, shell: Shell) -> System:
    """A trained model as a system."""
    device = next(model.net.parameters()).device
    multiple = shell.factor * 2 ** (len(model.net.config.channels) - 1)
    limits = Limits(
        side=max(4 * facts.size, multiple),
        multiple=multiple,
        prompt_required=False,
        samplers=sampler_names(model.process),
        schedules=schedule_names(model.process),
    )
    card = {"data": facts.data, "classes": list(model.classes)}
    spec = Spec(name, shell.family, (facts.size, facts.size), multiple, card=card, channels=facts.channels)

    def generator(request: Request) -> Generative:
        width, height = canvas_of(request, spec)
        return model.generator(request, height // shell.factor, width // shell.factor)

    return System(
        spec=spec,
        parts={"net": model.net, **model.schedule, **shell.parts},
        conditioner=model.conditioner(device),
        codec=shell.codec,
        generator=generator,
        defaults=replace(
            model.usual,
            sampler=shell.sampler or model.usual.sampler,
            guidance_scale=2.0 if model.classes else 1.0,
        ),
        limits=limits,
        device=device,
    )


def measure_denoiser(model: Model, encode: Callable[[Tensor], Tensor]) -> Measure:
    """The training loss of a trained model whose space `encode` maps pictures to."""
    objective = model.objective()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        return objective.measure({**batch, "x0": encode(batch["image"])}, draws, seed)

    return Measure(each, "mse: the mean squared error of the network's prediction, over times as in training", draws=10)


def check_side(size: int, multiple: int) -> None:
    """Raises `UsageError` unless pictures of `size` pixels go through nets that need a multiple of `multiple`."""
    if size % multiple:
        below = size - size % multiple
        near = f"{below} or {below + multiple}" if below else f"{multiple}"
        raise UsageError(
            f"These networks halve a picture several times, so its side must be a multiple of {multiple}, found "
            f"{size}. Ask for --size {near}, or for fewer levels."
        )
