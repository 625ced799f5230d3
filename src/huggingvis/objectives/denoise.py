r"""Denoising: the one loss behind DDPM, v-prediction, flow matching and latent text-to-image.

    E_{x0, eps, t}  w(t) || net(x_t, t, cond) - target(x0, eps, t) ||^2,      x_t = alpha(t) x0 + sigma(t) eps

Ho et al. 2020 (arXiv 2006.11239), eq. 14 with eps targets; Salimans & Ho 2022 (arXiv 2202.00512) with v; Lipman et al.
2022 (arXiv 2210.02747), eq. 23 with velocities; logit-normal times of Esser et al. 2024 (arXiv 2403.03206), sec. 3.1.
Book: chapter 4, "Training a denoiser".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.process import Prediction, Process
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.shapes import double, widest


class TimeLaw(ABC):
    """How training times are drawn."""

    @abstractmethod
    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """[n] float64 times in [0, 1], on the generator's device, or on the CPU where that has no float64 (MPS)."""


@final
@dataclass(frozen=True)
class UniformTimes(TimeLaw):
    """Stratified uniform on [least, 1] (Kingma et al. 2021, arXiv 2107.00630, app. I.1): lower variance, same law."""

    least: float = 1e-3

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        u = double(torch.rand((), generator=rng, dtype=widest(rng.device), device=rng.device))
        t = (u + torch.arange(n, device=u.device, dtype=torch.float64) / n) % 1
        return self.least + (1 - self.least) * t


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
class LogitNormal(TimeLaw):
    """t = sigmoid(mean + std n): most of the effort where noise and signal are comparable."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        z = double(torch.randn(n, generator=rng, dtype=widest(rng.device), device=rng.device))
        return torch.sigmoid(self.mean + self.std * z).clamp(1e-3, 1 - 1e-3)


def unconditional(batch: Batch) -> Cond:
    """No condition at all."""
    return {}


@final
class Denoising(Objective):
    """Batch: `x0` [B, ...] and whatever `condition(batch) -> Cond` reads. Trains `net(x, clock, cond)`, and the nets in
    `trained` (say, a text encoder that `condition` uses). `importance` [C]: how much each channel of x0 counts; evenly
    if not given.
    """

    importance: Tensor

    def __init__(
        self,
        net: nn.Module,
        process: Process,
        prediction: Prediction,
        times: TimeLaw,
        *,
        condition: Callable[[Batch], Cond] = unconditional,
        trained: Mapping[str, nn.Module] | None = None,
        importance: Tensor | None = None,
    ):
        super().__init__()
        share = torch.ones(1) if importance is None else importance / importance.mean()
        self.register_buffer("importance", share, persistent=False)
        self.net, self.process, self.prediction, self.times = net, process, prediction, times
        self.condition, self.trained = condition, nn.ModuleDict(dict(trained or {}))

    def nets(self) -> Mapping[str, nn.Module]:
        return {"net": self.net, **self.trained}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, tuple(self.nets())),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        each, t = self.errors(batch, rng)
        late = (t > 0.5).to(each.device)
        return {
            "mse": each.mean(),
            "_early": (each * ~late).sum().detach() / (~late).sum().clamp(min=1),
            "_late": (each * late).sum().detach() / late.sum().clamp(min=1),
        }

    def errors(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The mean square that the net is off by for each item, and the time at which it was asked, [B] each."""
        x0 = batch["x0"]
        t = self.times.draw(len(x0), rng)  # [B]
        eps = torch.randn(x0.shape, generator=rng, device=rng.device, dtype=x0.dtype)
        x = self.process.add_noise(x0, eps, t)
        target = self.prediction.target(self.process, x0, eps, t)
        out = self.net(x, self.process.clock(t).float().to(x.device), self.condition(batch))
        off = (out.float() - target).square()  # [B, C, ...]
        return (off * self.importance.reshape(-1, *[1] * (off.ndim - 2))).flatten(1).mean(1), t

    @torch.no_grad()
    def measure(self, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        """The loss on each item, at `draws` times: `mse`, [B]."""
        rng = torch.Generator(batch["x0"].device).manual_seed(seed)
        return {"mse": torch.stack([self.errors(batch, rng)[0] for _ in range(draws)]).mean(0)}
