r"""A Gaussian mixture as data: the oracle in which every diffusion quantity has a closed form.

If p(x_0) = sum_k w_k N(m_k, C_k), then on any process x_t = alpha x_0 + sigma eps (exact, no approximation):

    p(x_t)        = sum_k w_k N(alpha m_k, S_k),  S_k = alpha^2 C_k + sigma^2 I
    r_k(x_t)      = w_k N(x_t; alpha m_k, S_k) / p(x_t)                        (class posterior)
    E[x_0 | x_t]  = sum_k r_k ( m_k + alpha C_k S_k^-1 (x_t - alpha m_k) )     (the perfect denoiser)
    p(x_0 | y)    for y = A x_0 + s eps is a mixture again                     (Bishop 2006, Eq. 2.113-2.117)

Samplers, guidance, inverse problems and distillation are tested against these in float64. Book: chapter 4, "An oracle".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser


@final
class GaussianMixture:
    """`weights` [K], `means` [K, D], `covs` [K, D, D], all kept in float64. Component k is class k."""

    def __init__(self, weights: Tensor, means: Tensor, covs: Tensor):
        self.weights = weights.to(torch.float64) / weights.sum()
        self.means, self.covs = means.to(torch.float64), covs.to(torch.float64)
        k, d = self.means.shape
        if self.weights.shape != (k,) or self.covs.shape != (k, d, d):
            raise UsageError(
                f"A mixture is weights [K], means [K, D] and covs [K, D, D]; found {tuple(self.weights.shape)}, "
                f"{tuple(self.means.shape)} and {tuple(self.covs.shape)}."
            )
        self.spectrum, self.axes = torch.linalg.eigh(self.covs)  # [K, D], [K, D, D] with axes in columns
        if bool((self.spectrum < -1e-12).any()):
            raise UsageError("The covariances of a mixture must be positive semi-definite.")

    @property
    def mean(self) -> Tensor:
        """E[x_0], [D]."""
        return self.weights @ self.means

    @property
    def cov(self) -> Tensor:
        """Cov[x_0], [D, D]."""
        centred = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covs + centred[:, :, None] * centred[:, None, :])

    def denoiser(self, process: Process, *, sure: bool = False) -> Denoiser:
        """The perfect denoiser on `process`; `cond["class"]` [B] restricts it to a class, -1 to none.

        `sure`: it also tells the variance of each number of x_0 (of no class).
        """
        return MixtureDenoiser(self, process, sure)

    def log_prob(self, x: Tensor, process: Process, t: Tensor) -> Tensor:
        """log p(x_t) in nats, [B], for `x` [B, D]; at t = 0 the data's own density."""
        return torch.logsumexp(self._joint(x, process, t)[0], 1)

    def class_posterior(self, x: Tensor, process: Process, t: Tensor) -> Tensor:
        """p(class | x_t), [B, K]."""
        return torch.softmax(self._joint(x, process, t)[0], 1)

    def x0(self, x: Tensor, process: Process, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t], or E[x_0 | x_t, class] where `classes` [B] is not -1; [B, D]."""
        joint, along, a, var = self._joint(x, process, t)
        if classes is not None:
            index = torch.arange(len(self.weights))
            shut = (classes[:, None] >= 0) & (classes[:, None] != index)  # [B, K]
            joint = joint.masked_fill(shut, -math.inf)
        gain = a[..., None] * self.spectrum / var  # [B, K, D]
        each = self.means + torch.einsum("kij,bkj->bki", self.axes, gain * along)  # [B, K, D]
        return torch.einsum("bk,bkd->bd", torch.softmax(joint, 1), each)

    def variance(self, x: Tensor, process: Process, t: Tensor) -> Tensor:
        """Var[x_0 | x_t] of each number, [B, D]."""
        joint, along, a, var = self._joint(x, process, t)
        each = self.means + torch.einsum("kij,bkj->bki", self.axes, a[..., None] * self.spectrum / var * along)
        left = self.spectrum * (1 - a[..., None] ** 2 * self.spectrum / var)  # [B or 1, K, D], along the axes
        within = torch.einsum("kij,bkj->bki", self.axes**2, left.expand_as(each))
        r = torch.softmax(joint, 1)  # [B, K]
        mean = torch.einsum("bk,bkd->bd", r, each)
        return torch.einsum("bk,bkd->bd", r, within + (each - mean[:, None]) ** 2)

    def eps(self, x: Tensor, process: Process, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """E[eps | x_t], [B, D]."""
        return process.eps(x, self.x0(x, process, t, classes), t)

    def score(self, x: Tensor, process: Process, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """grad_x log p(x_t), [B, D]."""
        return process.score(x, self.x0(x, process, t, classes), t)

    def posterior(self, a: Tensor, y: Tensor, sigma: float) -> GaussianMixture:
        """p(x_0 | y) for one observation y = A x_0 + sigma noise; `a` [M, D], `y` [M], sigma > 0."""
        a, y = a.to(torch.float64), y.to(torch.float64)
        seen = a @ self.covs @ a.T + sigma**2 * torch.eye(len(y), dtype=torch.float64)  # [K, M, M]
        gain = torch.linalg.solve(seen, a @ self.covs).transpose(1, 2)  # [K, D, M]
        miss = y - self.means @ a.T  # [K, M]
        means = self.means + torch.einsum("kdm,km->kd", gain, miss)
        covs = self.covs - gain @ (a @ self.covs)
        fit = -0.5 * (torch.einsum("km,km->k", miss, torch.linalg.solve(seen, miss)) + torch.logdet(seen))
        covs = (covs + covs.transpose(1, 2)) / 2
        return GaussianMixture(torch.softmax(self.weights.log() + fit, 0), means, covs)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` exact draws [n, D]."""
        return self.sample_labelled(n, generator)[0]

    def sample_labelled(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`n` exact draws [n, D] and the component [n] of each."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # [n]
        z = torch.randn(n, self.means.shape[1], dtype=torch.float64, generator=generator)  # [n, D]
        spread = self.spectrum.clamp(min=0).sqrt()[k] * z
        return self.means[k] + torch.einsum("nij,nj->ni", self.axes[k], spread), k

    def _joint(self, x: Tensor, process: Process, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log w_k N(x_t; k) [B, K]; x_t - alpha m_k along the axes of C_k [B, K, D]; alpha; S_k's spectrum."""
        a, s = (c.reshape(-1, 1) for c in (process.alpha(t), process.sigma(t)))  # [B or 1, 1]
        off = x[:, None, :] - a[..., None] * self.means  # [B, K, D]
        along = torch.einsum("kij,bki->bkj", self.axes, off)  # [B, K, D]
        var = a[..., None] ** 2 * self.spectrum + s[..., None] ** 2  # [B or 1, K, D]
        quad = (along**2 / var + torch.log(2 * math.pi * var)).sum(2)  # [B, K]
        return torch.log(self.weights) - quad / 2, along, a, var


@final
@dataclass(frozen=True)
class MixtureDenoiser:
    """The perfect denoiser of `mixture` on `process`, for data [B, ...] of D numbers each."""

    mixture: GaussianMixture
    process: Process
    sure: bool = False

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        flat = x.reshape(len(x), -1).to(torch.float64)  # [B, D]
        mean = self.mixture.x0(flat, self.process, t, cond.get("class")).reshape(x.shape).to(x.dtype)
        if not self.sure:
            return Gaussian(mean)
        variance = self.mixture.variance(flat, self.process, t)
        return Gaussian(mean, variance.log().reshape(x.shape).to(x.dtype))


def standard_mixture() -> GaussianMixture:
    """The three-component mixture in two dimensions on which the library's solvers are measured."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[1.5, 0.0], [-1.0, 1.2], [-0.5, -1.5]], dtype=torch.float64)
    covs = torch.tensor(
        [[[0.10, 0.04], [0.04, 0.06]], [[0.05, 0.0], [0.0, 0.12]], [[0.08, -0.03], [-0.03, 0.05]]], dtype=torch.float64
    )
    return GaussianMixture(weights, means, covs)
