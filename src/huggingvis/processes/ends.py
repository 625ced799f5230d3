r"""What a process leaves of data at its end, as a law to draw from: a Gaussian mixture in the few directions it has.

Bansal et al. 2022 (arXiv 2208.09392, Sec. 5.2) generate from nothing with a blur that ends in one colour: they fit a
Gaussian mixture to the colours of the training pictures, draw from it, and break the symmetry of equal pixels by a
little noise (deviation 0.002). Here the same is done to any degraded end y = D(x_0, 1): with the mean m and the
principal directions U of the y that a fit is shown,

    y = m + U a + b z,      a ~ sum_k w_k N(mu_k, S_k) by expectation-maximisation,      z ~ N(0, I)

A blur to one colour has one direction for each channel; one that keeps outlines has some tens. Book: chapter 4,
"Without noise".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise

ROUNDS = 60
KEPT = 1 - 1e-4
"""Share of the variance that the directions shall have."""


@final
@dataclass(frozen=True)
class MixtureEnd:
    """`mean` [C, H, W], `directions` [R, C, H, W] (orthonormal), `weights` [K], `centres` [K, R], `factors` [K, R, R]
    lower triangular with S = F F^T, and the noise that breaks symmetries, `breaking` [].
    """

    mean: Tensor
    directions: Tensor
    weights: Tensor
    centres: Tensor
    factors: Tensor
    breaking: Tensor

    @classmethod
    def fit(cls, y: Tensor, *, components: int = 1, most: int = 48, breaking: float = 0.002, seed: int = 0) -> Self:
        """From degraded pictures `y` [N, C, H, W]: `components` of the mixture, at `most` so many directions."""
        if components < 1 or len(y) < 2 * components:
            raise UsageError(
                f"A mixture of {components} is fitted to at least {max(2, 2 * components)} pictures, found {len(y)}. "
                "Take fewer components, or more pictures."
            )
        flat = y.detach().cpu().double().flatten(1)  # [N, D]
        mean = flat.mean(0)
        _, s, vh = torch.linalg.svd(flat - mean, full_matrices=False)
        rank = int((torch.cumsum(s**2, 0) < KEPT * (s**2).sum()).sum()) + 1
        rank = max(1, min(rank, most, y[0].numel() - 1, max(1, len(y) // (2 * components))))
        weights, centres, factors = _mixture((flat - mean) @ vh[:rank].T, components, seed)
        return cls(
            mean.reshape(y.shape[1:]).float(),
            vh[:rank].reshape(rank, *y.shape[1:]).float(),
            weights.float(),
            centres.float(),
            factors.float(),
            torch.tensor(breaking),
        )

    def __call__(self, like: Tensor, noise: Noise) -> Tensor:
        """Draws shaped like `like` [B, C, H, W]. Raises `UsageError` for another size than that of the fit."""
        if like.shape[1:] != self.mean.shape:
            raise UsageError(
                f"What is left of pictures {list(self.mean.shape)} was learnt, so only such can be begun, but "
                f"{list(like.shape[1:])} were asked for. Leave the size out, or train with that size."
            )
        z = noise.draw(like).flatten(1).cpu().double()  # [B, D]
        chosen = torch.searchsorted(self.weights.double().cumsum(0), torch.special.ndtr(z[:, 0]))
        chosen = chosen.clamp(max=len(self.weights) - 1)  # rounding of the last sum
        a = self.centres.double()[chosen]  # [B, R]
        a = a + torch.einsum("bij,bj->bi", self.factors.double()[chosen], z[:, 1 : 1 + a.shape[1]])
        y = self.mean.double() + torch.einsum("br,rchw->bchw", a, self.directions.double())
        return y.to(like) + float(self.breaking) * noise.draw(like)

    def tensors(self) -> dict[str, Tensor]:
        """As tensors by name, to be kept in a file."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """From `tensors()`."""
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})


def _mixture(a: Tensor, components: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [K], means [K, R] and Cholesky factors of the covariances [K, R, R] of `a` [N, R] by EM (Dempster 1977).

    Each round cannot lower the likelihood but for the small ridge that keeps covariances invertible.
    """
    n, r = a.shape
    ridge = 1e-6 * a.var(0, correction=0).mean().clamp(min=1e-12) * torch.eye(r, dtype=a.dtype)
    share = torch.nn.functional.one_hot(_nearest(a, components, seed), components).to(a)  # [N, K]
    for _ in range(ROUNDS if components > 1 else 1):
        count = share.sum(0).clamp(min=1e-9)  # [K]
        centres = share.T @ a / count[:, None]
        off = a[None] - centres[:, None]  # [K, N, R]
        factors = torch.linalg.cholesky(torch.einsum("nk,kni,knj->kij", share, off, off) / count[:, None, None] + ridge)
        white = torch.linalg.solve_triangular(factors, off.mT, upper=False)  # [K, R, N]
        logdet = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        logs = torch.log(count / n) - logdet - white.square().sum(1).T / 2  # [N, K], but for a constant
        share = logs.softmax(1)
    return count / n, centres, factors


def _nearest(a: Tensor, components: int, seed: int) -> Tensor:
    """To which of `components` far-apart points each of `a` [N, R] is nearest (k-means++, Arthur & Vassilvitskii)."""
    rng = torch.Generator().manual_seed(seed)
    points = a[torch.randint(len(a), (1,), generator=rng)]
    while len(points) < components:
        gap = torch.cdist(a, points).amin(1).square() + 1e-300
        points = torch.cat([points, a[torch.multinomial(gap, 1, generator=rng)]])
    for _ in range(10):
        belongs = torch.nn.functional.one_hot(torch.cdist(a, points).argmin(1), components).to(a)  # [N, K]
        held = belongs.sum(0)[:, None]
        points = torch.where(held > 0, belongs.T @ a / held.clamp(min=1), points)  # [K, R]
    return torch.cdist(a, points).argmin(1)
