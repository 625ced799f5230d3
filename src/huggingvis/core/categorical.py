r"""Diffusion of classes: at every position of a datum stands one of K classes, and noise changes each by itself.

What a Gaussian process is to numbers (`core.process`), a categorical one is to bits, tokens and codes. It is given by
the laws of single positions, q(x_t | x_s) for any two times s <= t; by Bayes the rest follows and is written once here:

    q(x_s | x_t, x_0)  =  q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0)
    p(x_s | x_t)       =  sum_j p(x_0 = j | x_t) q(x_s | x_t, x_0 = j)          the step that a belief implies

Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, arXiv 1503.03585 (two classes); Hoogeboom et al. 2021, arXiv
2102.05379; Austin et al. 2021, arXiv 2107.03006, Eq. 1-4. Positions of x_s are independent given x_t, in the step that
the belief of single positions implies; that is what a step can do, and why many are needed.
Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.belief import Belief, Categorical
from huggingvis.core.grid import Grid
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Bound, Cond, Denoiser, Guidance, OnStep
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Steps
from huggingvis.core.shapes import per_sample, widest


class CategoricalProcess(ABC):
    """How classes become noise. Data x are int64 [B, ...], laws [B, ..., K]; times are float64, [] or [B].

    t = 0 is clean, and at t = 1 nothing is left of the datum: x_1 has the law `prior` at every position. Laws are
    float64 (float32 on devices that have no more): the steps of long chains differ in their last digits.
    """

    @property
    @abstractmethod
    def prior(self) -> Tensor:
        """The law of x_1, [K] float64."""

    @abstractmethod
    def forward(self, p: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The law of x_t where x_s has the law `p` [B, ..., K]: p Q. Linear in p, which need not sum to 1."""

    @abstractmethod
    def backward(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(x_t = x | x_s = j) for every class j, [B, ..., K]: the columns of Q that `x` [B, ...] names."""

    def clock(self, t: Tensor) -> Tensor:
        """What a network trained on this process is told at time `t`."""
        return t

    @final
    def one_hot(self, x: Tensor) -> Tensor:
        """The law that is sure of `x`."""
        return F.one_hot(x, len(self.prior)).to(widest(x.device))

    @final
    def marginal(self, x0: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_0), [B, ..., K]."""
        return self.forward(self.one_hot(x0), torch.zeros_like(t), t)

    @final
    def posterior(self, p0: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The law of x_s, s < t, where x_t = `x` and x_0 has the law `p0` [B, ..., K] given that.

        With a one-hot `p0` it is q(x_s | x_t, x_0). Classes from which x_t cannot have come are left out of `p0`.
        """
        evidence = self.backward(x, torch.zeros_like(t), t)  # q(x_t | x_0 = j)
        weight = torch.where(evidence > 0, p0.to(evidence) / evidence, 0.0)
        law = self.backward(x, s, t) * self.forward(weight, torch.zeros_like(s), s)
        return law / law.sum(-1, keepdim=True)

    @final
    def draw(self, p: Tensor, eps: Tensor) -> Tensor:
        """Classes of the law `p` [B, ..., K] from standard normal numbers `eps` [B, ...], int64 [B, ...]."""
        u = torch.special.ndtr(eps.to(p))
        below = p.cumsum(-1)[..., :-1]
        return (u[..., None] >= below).sum(-1)

    @final
    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """A draw of q(x_t | x_0) from standard normal numbers `eps` [B, ...]."""
        return self.draw(self.marginal(x0, t), eps)

    @final
    def renoise(self, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """From x_t to a noisier x_s, s > t."""
        return self.draw(self.forward(self.one_hot(x), t, s), eps)


@final
class CategoricalNet:
    """The denoiser of a network that reads what the other positions say of each.

    The network maps x_t [B, ...], clock and condition to logits [B, ..., K]. To them the position's own evidence is
    added, so that it need not be learnt: p(x_0 = j | x_t) ~ softmax(logits)_j q(x_t | x_0 = j), which is how the steps
    of Austin et al. 2021 (Eq. 4) read their networks' outputs.
    """

    def __init__(self, net: nn.Module, process: CategoricalProcess):
        self.net, self.process = net, process

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        told = cond.get("clock")
        clock = self.process.clock(t) if told is None else told
        inner = {key: value for key, value in cond.items() if key != "clock"}
        logits = self.net(x, per_sample(clock.to(torch.float32), x), inner)  # [B, ..., K]
        evidence = self.process.backward(x, torch.zeros_like(t), t)
        return Categorical(logits.to(evidence) + evidence.log())


@final
@dataclass(frozen=True)
class CategoricalDiffusion:
    """A generative model of classes: a denoiser on a process, sampled on a grid. `shape` is one datum's."""

    denoise: Denoiser
    process: CategoricalProcess
    shape: tuple[int, ...]
    sampler: Steps[CategoricalProcess]
    grid: Grid
    guidance: tuple[Guidance, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sample(self, n: int, cond: Mapping[str, Tensor], *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """`n` data, int64 [n, *shape]."""
        empty = torch.empty(n, *self.shape, device=self.device)
        law = self.process.prior.to(self.device, widest(self.device)).expand(*empty.shape, -1)
        denoise = self.denoise
        for guide in self.guidance:
            denoise = guide(denoise)
        x = self.process.draw(law, noise.draw(empty))
        return sample(denoise, self.process, self.sampler, x, self.grid, cond, noise=noise, on_step=on_step)


def believed(denoise: Bound, x: Tensor, t: Tensor) -> Tensor:
    """The law of x_0 that is believed at (x, t), [B, ..., K]."""
    belief = denoise(x, t)
    if not isinstance(belief, Categorical):
        raise TypeError(f"classes need beliefs about classes, found a {type(belief).__name__} belief")
    return belief.logits.to(widest(x.device)).softmax(-1)
