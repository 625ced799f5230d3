r"""Denoising: the one loss behind DDPM, v-prediction, flow matching and latent text-to-image.

    E_{x0, eps, t}  w(t) || net(x_t, t, cond) - target(x0, eps, t) ||^2,      x_t = alpha(t) x0 + sigma(t) eps

Ho et al. 2020 (arXiv 2006.11239), eq. 14 with eps targets; Salimans & Ho 2022 (arXiv 2202.00512) with v; Lipman et al.
2022 (arXiv 2210.02747), eq. 23 with velocities; the times of Esser et al. 2024 (arXiv 2403.03206), sec. 3.1;
log-normal noise levels of Karras et al. 2022 (arXiv 2206.00364), whose weights are in `core.preconditioning`. Other
weights are in `objectives.weights`.
Book: chapter 4, "Training a denoiser".
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.process import Prediction, Process
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.self_conditioning import SelfConditioning
from huggingvis.core.shapes import double, widest
from huggingvis.objectives.weights import Weighting, output_weight


class TimeLaw(ABC):
    """How training times are drawn."""

    @abstractmethod
    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """[n] float64 times in [0, 1], on the generator's device, or on the CPU where that has no float64 (MPS)."""

    def weight(self, t: Tensor) -> Tensor:
        """What the loss at `t` [B] is multiplied by: 1, unless the law is to change its variance and not its mean."""
        return torch.ones_like(t)

    def note(self, t: Tensor, loss: Tensor) -> None:
        """Hears of the losses [B] at the times `t` [B], not weighted. Default: nothing."""
        return

    def settle(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """After a step: takes in what was noted since the last one, averaged over ranks by `reduce`."""
        return


def stratified(n: int, rng: torch.Generator) -> Tensor:
    """[n] float64 numbers, each uniform in [0, 1), 1/n apart around the circle (Kingma et al. 2021, arXiv 2107.00630,
    app. I.1): sums over them vary less. On the CPU where the generator's device has no float64."""
    u = double(torch.rand((), generator=rng, dtype=widest(rng.device), device=rng.device))
    return (u + torch.arange(n, device=u.device, dtype=torch.float64) / n) % 1


@final
@dataclass(frozen=True)
class UniformTimes(TimeLaw):
    """Uniform on [least, 1], stratified."""

    least: float = 1e-3

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return self.least + (1 - self.least) * stratified(n, rng)


@final
@dataclass(frozen=True)
class Knots(TimeLaw):
    """Uniform over the T knots of a table-backed process."""

    T: int = 1000

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        k = torch.randint(1, self.T + 1, (n,), generator=rng, device=rng.device)
        return double(k) / self.T


@final
@dataclass(frozen=True)
class LogNormal(TimeLaw):
    """log(sigma/alpha) ~ N(mean, std^2) on `process` (Karras et al. 2022, arXiv 2206.00364, Table 1)."""

    process: Process
    mean: float = -1.2
    std: float = 1.2

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        z = double(torch.randn(n, generator=rng, dtype=widest(rng.device), device=rng.device))
        return self.process.t_of_logsnr(-2 * (self.mean + self.std * z)).clamp(max=1.0)


@final
@dataclass(frozen=True)
class EvenLevels(TimeLaw):
    """log(sigma/alpha) uniform between `low` and `high` on `process`, or up to its end."""

    process: Process
    low: float = -4.6
    high: float = 4.6

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        u = double(torch.rand(n, generator=rng, dtype=widest(rng.device), device=rng.device))
        return self.process.t_of_logsnr(-2 * (self.low + (self.high - self.low) * u)).clamp(max=1.0)


@final
@dataclass(frozen=True)
class LogitNormal(TimeLaw):
    """t = sigmoid(mean + std n): most of the effort where noise and signal are comparable."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        z = double(torch.randn(n, generator=rng, dtype=widest(rng.device), device=rng.device))
        return torch.sigmoid(self.mean + self.std * z).clamp(1e-3, 1 - 1e-3)


@final
@dataclass(frozen=True)
class ModeTimes(TimeLaw):
    """t = 1 - u - scale (cos^2(pi u/2) - 1 + u), u uniform: a bump in the middle (Esser et al. 2024).

    A `scale` below 0 is a dip; 0 is even; it is at most 2/(pi - 2), and their best is 1.29.
    """

    scale: float = 1.29

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        u = stratified(n, rng)
        t = 1 - u - self.scale * (torch.cos(math.pi / 2 * u).square() - 1 + u)
        return t.clamp(1e-3, 1 - 1e-3)


@final
@dataclass(frozen=True)
class CosineTimes(TimeLaw):
    """t = 1 - 1/(tan(pi u/2) + 1), u uniform: a flow then has the log-SNRs of the cosine process (ibid.)."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return (1 - 1 / (torch.tan(math.pi / 2 * stratified(n, rng)) + 1)).clamp(1e-3, 1 - 1e-3)


class Asked(NamedTuple):
    """Clean data, the noise in them, at which times [B], what came of it, and the net's answer."""

    x0: Tensor  # [B, C, ...]
    eps: Tensor  # [B, C, ...]
    t: Tensor  # [B]
    x: Tensor  # [B, C, ...]
    out: Tensor  # [B, C or more, ...]


class Error(nn.Module, ABC):
    """How far an answer is off. Losses are logged under its `name`."""

    name: str

    @abstractmethod
    def forward(self, asked: Asked, process: Process, prediction: Prediction) -> Tensor:
        """For each item, [B]."""


@final
class Squares(Error):
    """Mean square of answer minus target. `importance` [C]: how much each channel counts; evenly if not given."""

    name = "mse"
    importance: Tensor

    def __init__(self, importance: Tensor | None = None):
        super().__init__()
        share = torch.ones(1) if importance is None else importance / importance.mean()
        self.register_buffer("importance", share, persistent=False)

    def forward(self, asked: Asked, process: Process, prediction: Prediction) -> Tensor:
        target = prediction.target(process, asked.x0, asked.eps, asked.t)
        off = (prediction.main(asked.out).float() - target).square()  # [B, C, ...]
        return (off * self.importance.reshape(-1, *[1] * (off.ndim - 2))).flatten(1).mean(1)


def unconditional(batch: Batch) -> Cond:
    """No condition at all."""
    return {}


@final
class Denoising(Objective):
    """Batch: `x0` [B, ...], whatever `condition(batch) -> Cond` reads, and `eps` [B, ...] where noise belongs to its
    datum (fresh if not given). Trains `net(x, clock, cond)`, and the nets in `trained` (say, a text encoder that
    `condition` uses). `error`: of an answer; its mean square if not given. `estimating`: how the net is told estimates
    of its own; None: not at all. `weighting`: what noise levels count; None: the error of the output as it is. What is
    measured is never weighted.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        prediction: Prediction,
        times: TimeLaw,
        *,
        condition: Callable[[Batch], Cond] = unconditional,
        trained: Mapping[str, nn.Module] | None = None,
        error: Error | None = None,
        estimating: SelfConditioning | None = None,
        weighting: Weighting | None = None,
    ):
        super().__init__()
        self.error, self.weighting = error or Squares(), weighting
        self.net, self.process, self.prediction, self.times = net, process, prediction, times
        self.condition, self.trained = condition, nn.ModuleDict(dict(trained or {}))
        self.estimating = estimating

    def nets(self) -> Mapping[str, nn.Module]:
        return {"net": self.net, **self.trained}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, tuple(self.nets())),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        each, t = self.errors(batch, rng)
        self.note(t, each)
        late = (t > 0.5).to(each.device)
        weight = self.times.weight(t) * self.level(t)  # [B]
        return {
            self.error.name: (each * weight.to(each)).mean(),
            "_early": (each * ~late).sum().detach() / (~late).sum().clamp(min=1),
            "_late": (each * late).sum().detach() / late.sum().clamp(min=1),
        }

    def level(self, t: Tensor) -> Tensor:
        """What the noise levels at `t` [B] count, [B] float64."""
        return (
            torch.ones_like(t)
            if self.weighting is None
            else output_weight(self.weighting, self.process, self.prediction, t)
        )

    def after(
        self,
        turn: Turn,
        step: int,
        *,
        params: Mapping[str, list[nn.Parameter]],
        batch: Batch,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        self.times.settle(reduce)

    def note(self, t: Tensor, each: Tensor) -> None:
        """Tells the law of times what was lost at `t`, in training only."""
        if self.net.training:
            self.times.note(t, each.detach())

    def errors(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """How far the net is off for each item, and the time at which it was asked, [B] each."""
        asked = self.ask(batch, rng)
        return self.squares(asked), asked.t

    def ask(self, batch: Batch, rng: torch.Generator) -> Asked:
        """The net's answer to noisy data at times of the law."""
        return self.ask_at(batch, self.times.draw(len(batch["x0"]), rng), rng)

    def ask_at(self, batch: Batch, t: Tensor, rng: torch.Generator) -> Asked:
        """The net's answer to noisy data at the times `t` [B]."""
        x0 = batch["x0"]
        eps = batch.get("eps")
        if eps is None:
            eps = torch.randn(x0.shape, generator=rng, device=rng.device, dtype=x0.dtype)
        x = self.process.add_noise(x0, eps, t)
        given = self.prediction.given(self.process, x, t)
        clock = self.prediction.clock(self.process, t).float().to(x.device)
        cond = self.condition(batch)
        if self.estimating is not None:
            denoise = NetDenoiser(self.net, self.process, self.prediction)
            cond = self.estimating.estimates(denoise, x, t, cond, rng)
        return Asked(x0, eps, t, x, self.net(given, clock, cond))

    def squares(self, asked: Asked) -> Tensor:
        """How far the answer is off for each item, [B]."""
        told: Tensor = self.error(asked, self.process, self.prediction)
        return told

    @torch.no_grad()
    def measure(self, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        """The loss on each item, at `draws` times, [B], under the name of the error."""
        rng = torch.Generator(batch["x0"].device).manual_seed(seed)
        return {self.error.name: torch.stack([self.errors(batch, rng)[0] for _ in range(draws)]).mean(0)}
