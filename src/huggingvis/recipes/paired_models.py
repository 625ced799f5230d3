"""Diffusion models that draw a picture of which something is given: by a clean condition, or by learning pairs.

`Clean` is CDE, `Noisy` is CDiffE and CMDE of `guidance.diffused_condition`. Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.components import Components
from huggingvis.core.diffusion import Diffusion, compose
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.protocols import Batch, Cond, Denoiser, OnStep
from huggingvis.core.request import Sampling
from huggingvis.data.observations import Observation
from huggingvis.guidance.diffused_condition import GIVEN, SEED, DiffusedCondition
from huggingvis.objectives.completion import NOTHING_GIVEN
from huggingvis.objectives.denoise import Denoising
from huggingvis.processes.non_uniform import at_speeds
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model
from huggingvis.samplers.names import sampler_of, schedule_asked


class Estimator(Protocol):
    """How a network comes to know the observation y of a picture x."""

    def fresh(self, sizes: UNetSizes, names: tuple[str, str], shape: tuple[int, int, int]) -> Model:
        """The model with fresh weights for pictures of `shape`; `names` are those of process and prediction."""
        ...

    def data(self, x: Tensor, y: Tensor) -> Tensor:
        """What is diffused in training."""
        ...

    def condition(self, x: Tensor, y: Tensor) -> Cond:
        """What the network is told in training."""
        ...

    def denoiser(self, model: Model) -> Denoiser:
        """That of x, which finds under its condition what `told` puts there."""
        ...

    def told(self, y: Tensor, noise: Noise) -> Cond:
        """What it is told in sampling."""
        ...


@final
@dataclass(frozen=True)
class Clean:
    """The network is given y beside x_t."""

    def fresh(self, sizes: UNetSizes, names: tuple[str, str], shape: tuple[int, int, int]) -> Model:
        return Model.fresh(sizes, names, shape, classes=(), pixels=True, concat=shape[0])

    def data(self, x: Tensor, y: Tensor) -> Tensor:
        return x

    def condition(self, x: Tensor, y: Tensor) -> Cond:
        return {"concat": y}

    def denoiser(self, model: Model) -> Denoiser:
        return model.denoiser

    def told(self, y: Tensor, noise: Noise) -> Cond:
        return {"concat": y}


@final
@dataclass(frozen=True)
class Noisy:
    """The network learns pairs (x_t, y_t), of which y becomes noise at `speed`, x at 1."""

    speed: float

    def fresh(self, sizes: UNetSizes, names: tuple[str, str], shape: tuple[int, int, int]) -> Model:
        channels, *sides = shape
        pairs = Model.fresh(sizes, names, (2 * channels, sides[0], sides[1]), classes=(), pixels=True)
        return replace(pairs, process=at_speeds(pairs.process, (1.0, self.speed), (channels, channels)))

    def data(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], 1)

    def condition(self, x: Tensor, y: Tensor) -> Cond:
        return {}

    def denoiser(self, model: Model) -> Denoiser:
        assert isinstance(model.process, Components)
        return DiffusedCondition(model.process.parts[1])(model.denoiser)

    def told(self, y: Tensor, noise: Noise) -> Cond:
        drawn = noise.draw(torch.empty(len(y), 1))  # the bits of a number drawn for each picture are its seed
        return {GIVEN: y, SEED: drawn.float().view(torch.int32)[:, 0].long()}


@final
@dataclass(frozen=True, eq=False)
class Completer:
    """`Completes`, `Generative` and `DrawsNone` of `core.protocols`: draws pictures like those it is given an
    observation of."""

    diffusion: Diffusion
    observation: Observation
    estimator: Estimator

    @property
    def why_none(self) -> str:
        return NOTHING_GIVEN

    def seen(self, x: Tensor) -> Tensor:
        return self.observation.mask(x)

    def complete(self, x: Tensor, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        cond = self.estimator.told(self.observation(x), noise)
        drawn = self.diffusion.sample(len(x), cond, noise=noise, on_step=on_step)
        return torch.where(self.seen(x), x, drawn)

    def likeliest(self, x: Tensor) -> Tensor:
        """The mean of all completions: what is believed where nothing but the observation is known."""
        process = self.diffusion.process
        last = torch.ones((), dtype=torch.float64)
        cond = self.estimator.told(self.observation(x), SeedNoise(range(len(x))))
        believe = compose(self.diffusion.denoise, self.diffusion.guidance)
        start = process.sigma(last).to(x) * SeedNoise(range(len(x))).draw(x)
        belief = believe(start, last, cond)
        assert isinstance(belief, Gaussian)
        return torch.where(self.seen(x), x, belief.x0)

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        if "concat" not in cond:
            raise UsageError(NOTHING_GIVEN)
        return self.complete(cond["concat"], noise=noise, on_step=on_step)


@final
@dataclass(frozen=True, eq=False)
class PairModel:
    """A network of `estimator` for pictures of `shape` and what `observation` leaves of them."""

    model: Model
    observation: Observation
    estimator: Estimator
    shape: tuple[int, int, int]

    @classmethod
    def fresh(
        cls,
        sizes: UNetSizes,
        names: tuple[str, str],
        shape: tuple[int, int, int],
        observation: Observation,
        estimator: Estimator,
    ) -> PairModel:
        """With new weights. Raises `UsageError` for an observation that there is none of in such pictures."""
        observation(torch.zeros(1, *shape))
        return cls(estimator.fresh(sizes, names, shape), observation, estimator, shape)

    def data(self, x: Tensor) -> Tensor:
        """What is diffused in training, of pictures x."""
        return self.estimator.data(x, self.observation(x))

    def objective(self) -> Denoising:
        """What is minimised: batches have `x0`, as `data` gives it."""

        def condition(batch: Batch) -> Cond:
            x = batch["x0"][:, : self.shape[0]]
            return self.estimator.condition(x, self.observation(x))

        m = self.model
        return Denoising(m.net, m.process, m.prediction, m.times, condition=condition, estimating=m.estimating)

    def completer(self, sampling: Sampling) -> Completer:
        """The model that a request's numbers ask for."""
        device = next(self.model.net.parameters()).device
        diffusion = Diffusion(
            self.estimator.denoiser(self.model),
            self.model.process.pace,
            self.shape,
            sampler_of(sampling.sampler, sampling.eta),
            schedule_asked(sampling),
            self.model.limits,
            device,
        )
        return Completer(diffusion, self.observation, self.estimator)
