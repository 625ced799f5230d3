r"""Variance-preserving processes told by gamma, minus the log-SNR, and any process between two values of it.

Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630, Sec. 3.2: with a rising gamma,

    alpha^2 = sigmoid(-gamma),   sigma^2 = sigmoid(gamma),   SNR = exp(-gamma)

Their time runs from gamma_0, where a datum is told, to gamma_1, where pictures start: here from `least` to 1. Below
`least`, where no network is asked, sigma/alpha is linear in t, so that t = 0 is clean as on every process. Networks are
told how far gamma has come, 0 to 1, and no time: what they see is then the same whatever the shape of gamma (Sec. 5.1).
Book: chapter 4, "Variational diffusion".
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process

GAMMA_0, GAMMA_1 = -13.3, 5.0
"""The ends of the paper's models of CIFAR-10 and ImageNet."""

LEAST = 1e-3
"""The time of gamma_0."""


def check_ends(start: float, end: float) -> None:
    """Raises `UsageError` unless gamma rises."""
    if not -math.inf < start < end < math.inf:
        raise UsageError(
            f"Gamma, minus the log-SNR, rises from data to noise, found {start:g} to {end:g}. The paper's ends are "
            f"{GAMMA_0} and {GAMMA_1:g}."
        )


def progress(log_snr: Tensor, start: float, end: float) -> Tensor:
    """What networks are told at a log-SNR: 0 at gamma = `start`, 1 at `end`."""
    return (-log_snr - start) / (end - start)


class Gamma(Process):
    """A process by gamma(u), u = (t - least)/(1 - least) in [0, 1]."""

    @abstractmethod
    def gamma(self, u: Tensor) -> Tensor:
        """gamma at `u` [] or [B] in [0, 1]."""

    @abstractmethod
    def slope(self, u: Tensor) -> Tensor:
        """d gamma/du."""

    @abstractmethod
    def u_of(self, gamma: Tensor) -> Tensor:
        """The inverse of `gamma`; its ends for values beyond them."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self._at(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self._at(t)).sqrt()

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        first = self.gamma(torch.zeros_like(lam))
        late = LEAST + (1 - LEAST) * self.u_of(-lam)
        return torch.where(-lam < first, LEAST * torch.exp((-lam - first) / 2), late)

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' = -gamma' alpha sigma^2/2 and sigma' = gamma' sigma alpha^2/2; before `LEAST`, gamma' = 2/t."""
        a, s = self.alpha(t), self.sigma(t)
        late = self.slope(self._u(t)) / (1 - LEAST)  # [] or [B]
        rise = torch.exp(self.gamma(torch.zeros_like(t)) / 2) / LEAST  # slope of sigma/alpha before
        da, ds = -late * a * s**2 / 2, late * s * a**2 / 2
        return torch.where(t < LEAST, -rise * s * a**2, da), torch.where(t < LEAST, rise * a**3, ds)

    def _u(self, t: Tensor) -> Tensor:
        return ((t - LEAST) / (1 - LEAST)).clamp(0, 1)

    def _at(self, t: Tensor) -> Tensor:
        return self.gamma(self._u(t)) + 2 * torch.log((t / LEAST).clamp(max=1))


@final
@dataclass(frozen=True)
class LinearGamma(Gamma):
    """gamma linear in time: the noise grows by the same factor in each step."""

    start: float = GAMMA_0
    end: float = GAMMA_1

    def __post_init__(self) -> None:
        check_ends(self.start, self.end)

    def gamma(self, u: Tensor) -> Tensor:
        return self.start + (self.end - self.start) * u

    def slope(self, u: Tensor) -> Tensor:
        return torch.full_like(u, self.end - self.start)

    def u_of(self, gamma: Tensor) -> Tensor:
        return progress(-gamma, self.start, self.end).clamp(0, 1)

    def clock(self, t: Tensor) -> Tensor:
        return progress(self.log_snr(t), self.start, self.end)


@final
@dataclass(frozen=True)
class Between(Process):
    """The process `inner` from gamma = `start`, at t = `LEAST`, to `end`, at t = 1: time is stretched, no more.

    Raises `UsageError` where `inner` does not reach as far.
    """

    inner: Process
    start: float = GAMMA_0
    end: float = GAMMA_1

    def __post_init__(self) -> None:
        check_ends(self.start, self.end)
        last = -float(self.inner.log_snr(torch.tensor(1.0, dtype=torch.float64)))
        if self.end > last:
            raise UsageError(
                f"{type(self.inner).__name__} ends at gamma = {last:.4g} and cannot go on to {self.end:g}. Ask for an "
                "end below that, or for another process."
            )

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Times of `inner` at which gamma is `start` and `end`."""
        first, last = self.inner.t_of_logsnr(torch.tensor([-self.start, -self.end], dtype=torch.float64)).tolist()
        return first, last

    def alpha(self, t: Tensor) -> Tensor:
        return self.inner.alpha(self._inner(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.inner.sigma(self._inner(t))

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        first, last = self._ends
        t = self.inner.t_of_logsnr(lam)
        late = LEAST + (1 - LEAST) * (t - first) / (last - first)
        return torch.where(t < first, LEAST * t / first, late.clamp(max=1))

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        first, last = self._ends
        speed = torch.where(t < LEAST, t.new_tensor(first / LEAST), t.new_tensor((last - first) / (1 - LEAST)))
        da, ds = self.inner.derivatives(self._inner(t))
        return da * speed, ds * speed

    def clock(self, t: Tensor) -> Tensor:
        return progress(self.log_snr(t), self.start, self.end)

    def _inner(self, t: Tensor) -> Tensor:
        first, last = self._ends
        return torch.where(t < LEAST, first * t / LEAST, first + (last - first) * (t - LEAST) / (1 - LEAST))
