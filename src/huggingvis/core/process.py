r"""How data becomes noise, and the one place where the names of a prediction are converted into each other.

A process is two functions of time, x_t = alpha(t) x_0 + sigma(t) eps with eps ~ N(0, I); t = 0 is clean, t = 1 noise.
One that loses more of a datum than a number can say (blur, masks) is a `Degradation`, x_t = D(x_0, t) + sigma(t) eps:
Bansal et al. 2022, arXiv 2208.09392; Daras et al. 2022, arXiv 2209.05442. All else follows and is written once, here:

    log-SNR      lambda = log(alpha^2 / sigma^2)                Kingma et al. 2021, arXiv 2107.00630
    v            v = alpha eps - sigma x_0                      Salimans & Ho 2022, arXiv 2202.00512, App. D
    score        grad log p(x_t) = -(x_t - alpha x_0)/sigma^2   Song et al. 2020, arXiv 2011.13456
    velocity     u = alpha' x_0 + sigma' eps                    Lipman et al. 2022, arXiv 2210.02747

Book: chapter 4, "Processes".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.levels import BLIND, Levelled, Table
from huggingvis.core.shapes import expand, mixed


class Process(Levelled):
    """x_t = alpha(t) x_0 + sigma(t) eps. Times are float64 tensors, [] or [B]; so are the coefficients.

    A process of several parts (`core.components`) has coefficients [B or 1, ...], a number for each component.
    """

    @property
    def pace(self) -> Process:
        """The process with one number at each time that grids and clocks go by: itself, unless it has parts."""
        return self

    @abstractmethod
    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """The time at which log(alpha^2/sigma^2) equals `lam`: lets any grid run on any process."""

    @abstractmethod
    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha/dt and d sigma/dt at `t`: the probability-flow velocity needs them."""

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        """What is left of the datum `x0` at `t`: the mean of x_t."""
        return expand(self.alpha(t), x0) * x0

    def clock(self, t: Tensor) -> Tensor:
        """What a network trained on this process is told at time `t`; the time itself unless the process says else."""
        return t

    @final
    def log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = 2 (log alpha - log sigma)."""
        return 2 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    @final
    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """A draw of q(x_t | x_0) from standard noise `eps`."""
        return self.signal(x0, t) + expand(self.sigma(t), x0) * eps

    @final
    def renoise(self, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """From x_t to a noisier x_s, s > t: x_s = r x_t + sqrt(sigma_s^2 - r^2 sigma_t^2) eps, r = alpha_s/alpha_t."""
        r = (self.alpha(s) / self.alpha(t)).nan_to_num(1.0)  # 0/0: where no signal is left, none can be lost
        extra = (self.sigma(s) ** 2 - (r * self.sigma(t)) ** 2).clamp(min=0).sqrt()
        return expand(r, x) * x + expand(extra, x) * eps

    @final
    def eps(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise in x_t when the clean datum is `x0`."""
        return (x - self.signal(x0, t)) / self._noise(t, x)

    def _noise(self, t: Tensor, x: Tensor) -> Tensor:
        """sigma(t) to divide by, shaped to broadcast over `x`."""
        return expand(self.sigma(t), x)

    @final
    def v(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """v = alpha eps - sigma x_0."""
        a, s = self.coefficients(t, x)
        return a * ((x - a * x0) / s) - s * x0

    @final
    def score(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """grad_x log p(x_t) under the belief `x0`: -eps / sigma."""
        return (self.signal(x0, t) - x) / self._noise(t, x) ** 2

    @final
    def velocity(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """dx/dt of the probability-flow ODE: alpha'(t) x_0 + sigma'(t) eps."""
        a, s = self.coefficients(t, x)
        da, ds = (expand(d, x) for d in self.derivatives(t))
        return da * x0 + ds * (x - a * x0) / s


class Degradation(Process):
    """x_t = D(x_0, t) + sigma(t) eps, D(x, 0) = x, with a D that one number alpha(t) does not describe.

    Samplers, predictions and grids that read no more than `signal` and `sigma` work on it; who asks for alpha is
    refused with a `UsageError`.
    """

    @abstractmethod
    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        """D(x_0, t)."""

    def sigma(self, t: Tensor) -> Tensor:
        """No noise, unless said else: cold diffusion."""
        return torch.zeros_like(t)

    def _noise(self, t: Tensor, x: Tensor) -> Tensor:
        sigma = self.sigma(t)
        if not bool(sigma.all()):
            raise UsageError(
                f"{type(self).__name__} adds no noise at the time that was asked for, so what it leaves of a picture "
                "has neither a noise eps nor a score. Ask a process with noise, or sample with momentum or naive."
            )
        return expand(sigma, x)

    def tables(self, times: Tensor) -> dict[int, Table | None]:
        """There is no level that would say enough."""
        return {}

    @final
    def alpha(self, t: Tensor) -> Tensor:
        raise self._refusal()

    @final
    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        raise self._refusal()

    @final
    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise self._refusal()

    def _refusal(self) -> UsageError:
        return UsageError(
            f"{type(self).__name__} takes different things from a picture at different rates, and what was asked for "
            "here needs one signal level alpha(t) for all of it. Sample from it with momentum, momentum-ode or naive "
            "on uniform times, and let its network predict the datum (x0) or the residual."
        )


class Prediction(ABC):
    """What a network's output stands for; and what the network is given for it, x_t and the clock unless said else."""

    @abstractmethod
    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The clean datum that the output `out` at (x, t) implies."""

    @abstractmethod
    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the output (its `main` part) should be for the pair (x0, eps)."""

    def given(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        """What the network is given for x_t."""
        return x

    def clock(self, process: Process, t: Tensor, told: Tensor | None = None) -> Tensor:
        """What the network is told of the time: `told` where a grid decides it, else the process's clock."""
        return process.clock(t) if told is None else told

    def inputs(self, channels: int) -> int:
        """How many channels the network is given for data of `channels`."""
        return channels

    def outputs(self, channels: int) -> int:
        """How many channels the network gives for data of `channels`."""
        return channels

    def main(self, out: Tensor) -> Tensor:
        """The part of the output that has a target, with the channels of the data."""
        return out

    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian:
        """All that the output says about the clean datum."""
        return Gaussian(self.x0(process, out, x, t))


@final
@dataclass(frozen=True)
class Eps(Prediction):
    """The network predicts the noise (Ho et al. 2020, arXiv 2006.11239)."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x)
        if not isinstance(a, Tensor) and not isinstance(s, Tensor) and a <= BLIND * s:
            raise UsageError(
                "Where no signal is left, noise that a network predicts says nothing of the datum. Begin where some is "
                "left, or use a model that predicts v or the datum."
            )
        return mixed(1 / a, x, -s / a, out)

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps


@final
@dataclass(frozen=True)
class X0(Prediction):
    """The network predicts the clean datum."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return out

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return x0


@final
@dataclass(frozen=True)
class Residual(Prediction):
    """The network predicts x_0 - x_t, what the process took and added (Daras et al. 2022, arXiv 2209.05442)."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return x + out

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return x0 - process.add_noise(x0, eps, t)


@final
@dataclass(frozen=True)
class V(Prediction):
    """The network predicts v = alpha eps - sigma x_0 (Salimans & Ho 2022).

    With x = alpha x_0 + sigma eps that is x_0 = (alpha x - sigma v)/(alpha^2 + sigma^2).
    """

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x)
        n = a**2 + s**2
        return mixed(a / n, x, -s / n, out)

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x0)
        return a * eps - s * x0


@final
@dataclass(frozen=True)
class Velocity(Prediction):
    """The network predicts u = alpha' x_0 + sigma' eps (Lipman et al. 2022); solved with x = alpha x_0 + sigma eps."""

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x)
        da, ds = (expand(d, x) for d in process.derivatives(t))
        return (ds * x - s * out) / (ds * a - da * s)

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        da, ds = (expand(d, x0) for d in process.derivatives(t))
        return da * x0 + ds * eps


@dataclass(frozen=True)
class Around(Prediction):
    """Whatever `inner` stands for, but for what a subclass says itself."""

    inner: Prediction

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return self.inner.x0(process, out, x, t)

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return self.inner.target(process, x0, eps, t)

    def given(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        return self.inner.given(process, x, t)

    def clock(self, process: Process, t: Tensor, told: Tensor | None = None) -> Tensor:
        return self.inner.clock(process, t, told)

    def inputs(self, channels: int) -> int:
        return self.inner.inputs(channels)

    def outputs(self, channels: int) -> int:
        return self.inner.outputs(channels)

    def main(self, out: Tensor) -> Tensor:
        return self.inner.main(out)

    def belief(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Gaussian:
        return self.inner.belief(process, out, x, t)


PREDICTIONS: dict[str, type[Eps] | type[X0] | type[V] | type[Velocity]] = {
    "eps": Eps,
    "x0": X0,
    "v": V,
    "velocity": Velocity,
}
