r"""The likelihood of a diffusion model: its probability-flow ODE is a continuous flow.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2020, arXiv 2011.13456, Sec. 4.3 and Eq. 39, by the instantaneous
change of variables (Chen et al. 2018, arXiv 1806.07366; FFJORD, Grathwohl et al. 2018, arXiv 1810.01367):

    log p(x) = log p_1(x_1) + int_0^1 div u(x_t, t) dt,        dx/dt = u

The ODE is solved in the angle phi = atan(sigma/alpha) for z = x/sqrt(alpha^2 + sigma^2), where on every process it is

    dz/dphi = v = (cos(phi) z - x_0)/sin(phi)

without a singularity at either end, in float64. Data are taken as they are at the time `least`. The divergence is exact
for data of few numbers, else Hutchinson's estimate with probes that stay the same all the way (FFJORD, Sec. 3.1): then
log p is unbiased up to the solver. Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser, OnStep
from huggingvis.core.shapes import widest
from huggingvis.objectives.ode import DormandPrince, Field, Solver

Velocity = Callable[[Tensor], Tensor]
"""z [B, ...] -> dz/dphi [B, ...], differentiable."""


class Divergence(Protocol):
    """How the trace of a Jacobian is told."""

    def probes(self, x: Tensor) -> Tensor:
        """Directions [K, B, ...] in which it is looked at, for a batch like `x`."""
        ...

    def __call__(self, velocity: Velocity, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """(velocity [B, ...], its divergence [B])."""
        ...


@final
@dataclass(frozen=True)
class Exact:
    """Every direction: as many backward passes as a datum has numbers."""

    def probes(self, x: Tensor) -> Tensor:
        dims = x[0].numel()
        return torch.eye(dims, dtype=x.dtype, device=x.device).reshape(dims, 1, *x.shape[1:]).expand(-1, *x.shape)

    def __call__(self, velocity: Velocity, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        v, each = _along(velocity, z, probes)
        return v, each.sum(0)


@final
@dataclass(frozen=True)
class Hutchinson:
    """E[e^T J e] over `count` probes of each datum: random signs, or normal numbers if `gaussian`.

    Datum i of a batch draws its probes from `seed` + i.
    """

    count: int = 1
    gaussian: bool = False
    seed: int = 0

    def probes(self, x: Tensor) -> Tensor:
        noise = SeedNoise([self.seed + i for i in range(len(x))])
        drawn = torch.stack([noise.draw(x) for _ in range(self.count)])  # [K, B, ...]
        return drawn if self.gaussian else torch.where(drawn < 0, -1.0, 1.0).to(x.dtype)

    def __call__(self, velocity: Velocity, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        v, each = _along(velocity, z, probes)
        return v, each.mean(0)


def _along(velocity: Velocity, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """(v, e^T J e [K, B]) for the probes e [K, B, ...]."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        v = velocity(z)  # [B, ...]
        last = len(probes) - 1
        pulled = [torch.autograd.grad(v, z, e, retain_graph=k < last)[0] for k, e in enumerate(probes)]
    return v.detach(), torch.stack([(g * e).flatten(1).sum(1) for g, e in zip(pulled, probes, strict=True)])


@final
@dataclass(frozen=True)
class ProbabilityFlow:
    """The density of data x [B, *shape] that flows from N(0, sigma(1)^2) by `denoise` on `process`.

    `least`: the time at which data are met; a net should have been trained there.
    """

    denoise: Denoiser
    process: Process
    divergence: Divergence = Hutchinson()
    solver: Solver = DormandPrince()
    least: float = 1e-5

    def __post_init__(self) -> None:
        if self.process.pace is not self.process:
            raise UsageError(
                "The probability-flow ODE is solved in one noise level, and the components of this process have "
                "several at a time. Ask for the likelihood of a model whose components diffuse at one speed."
            )

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Cond | None = None) -> Tensor:
        """log p(x) in nats, [B] float64."""
        end, log_det = self.to_noise(x, cond or {})
        sigma = float(self.process.sigma(_number(1.0)))
        each = -0.5 * (end / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))  # [B, ...]
        return each.flatten(1).sum(1) + log_det

    @torch.no_grad()
    def to_noise(self, x: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """(x_1 [B, ...], log |det dx_1/dx| [B]), such that log p(x) = log p_1(x_1) + the second."""
        wide = x.to(widest(x.device))
        probes = self.divergence.probes(wide)
        slope = self._field(wide.shape, probes, cond)
        (before, first), (after, last) = (self._polar(t) for t in (self.least, 1.0))
        start = torch.cat([wide.flatten(1) / before, wide.new_zeros(len(x), 1)], 1)  # [B, D + 1]
        end = self.solver(slope, start, first, last)
        log_det = end[:, -1] + x[0].numel() * math.log(after / before)
        return after * end[:, :-1].reshape(wide.shape), log_det

    def _polar(self, t: float) -> tuple[float, float]:
        """What z is multiplied by at `t`, and the angle there."""
        alpha, sigma = float(self.process.alpha(_number(t))), float(self.process.sigma(_number(t)))
        return math.hypot(alpha, sigma), math.atan2(sigma, alpha)

    def _field(self, shape: torch.Size, probes: Tensor, cond: Cond) -> Field:
        _, last = self._polar(1.0)

        def slope(phi: float, state: Tensor) -> Tensor:
            phi = min(phi, last)  # a solver's last sum may round past a right angle, where the tangent turns over
            t = self.process.t_of_logsnr(_number(-2 * math.log(math.tan(phi)))).clamp(0.0, 1.0)
            scale = float(torch.hypot(self.process.alpha(t), self.process.sigma(t)))
            cos, sin = math.cos(phi), math.sin(phi)

            def velocity(z: Tensor) -> Tensor:
                belief = self.denoise(scale * z, t, cond)
                if not isinstance(belief, Gaussian):
                    raise UsageError("Only a model of continuous data has a probability flow; this one's are discrete.")
                return (cos * z - belief.x0) / sin

            v, trace = self.divergence(velocity, state[:, :-1].reshape(shape), probes)
            return torch.cat([v.flatten(1), trace[:, None]], 1)

        return slope


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@final
@dataclass(frozen=True)
class DiffusionDensity:
    """A diffusion `model` of pictures that also tells their likelihood, by `flow` under the condition of one picture.

    The density is the unguided model's: guidance has none that is known.
    """

    model: Diffusion
    flow: ProbabilityFlow
    cond: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def diffusion(self) -> Diffusion:
        return self.model

    def sample(self, n: int, cond: Mapping[str, Tensor], *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        return self.model.sample(n, cond, noise=noise, on_step=on_step)

    @property
    def dims(self) -> int:
        return math.prod(self.model.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, [B] float64, of pictures [B, C, H, W] in [-1, 1]."""
        return self.flow.log_prob(x, {key: value.expand(len(x), *value.shape[1:]) for key, value in self.cond.items()})
