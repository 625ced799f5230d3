r"""Vector quantisation: each latent vector becomes its nearest entry of a learnt codebook.

van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning" (arXiv 1711.00937):

    z_q = e_k,  k = argmin_j ||z_e - e_j||                               Eq. 1 and 2
    dL/dz_e = dL/dz_q  (straight through)                                Sec. 3.2
    ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2                           Eq. 3, averaged over positions and channels
    N <- gamma N + (1 - gamma) n,  m <- gamma m + (1 - gamma) sum z_e,  e = m / N      Eq. 6 to 8, App. A.1

`VectorQuantiser` learns its codebook by gradient (the first term of Eq. 3), `AveragedQuantiser` by Eq. 6 to 8. Codes
that fall out of use are put onto latents of the present batch (Dhariwal et al. 2020, arXiv 2005.00341, Sec. 3.1).
Book: chapter 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError


@dataclass(frozen=True)
class Quantised:
    """What a quantiser makes of latents z [B, D, h, w].

    Attributes:
        z: quantised latents [B, D, h, w]; their gradient goes straight through to z.
        codes: int64 [B, h, w].
        losses: terms to minimise, weighted already, [B] or [].
    """

    z: Tensor
    codes: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)


class Quantiser(nn.Module, ABC):
    """Latents with `dim` channels to codes 0 ... `size` - 1 and back."""

    dim: int
    size: int

    @abstractmethod
    def forward(self, z: Tensor) -> Quantised:
        """z [B, dim, h, w]."""

    @abstractmethod
    def look_up(self, codes: Tensor) -> Tensor:
        """Quantised latents [B, dim, h, w] of codes [B, h, w]."""

    def observe(self, z: Tensor, codes: Tensor, rng: torch.Generator) -> None:
        """Takes note of training latents, for those that learn without gradients."""

    def settle(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Learns from what was observed since the last call; `reduce` averages over data-parallel ranks."""


def straight_through(z: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q` to the last bit, with the gradient that `z` would have."""
    return z_q.detach() + (z - z.detach())


def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Index of the entry of `codebook` [K, D] nearest to each vector of `z` [N, D]: [N]. Eq. 1."""
    with torch.autocast(z.device.type, enabled=False):  # in bfloat16 neighbouring entries look alike
        wide = torch.promote_types(z.dtype, torch.float32)
        z, codebook = z.detach().to(wide), codebook.detach().to(wide)
        # ||z||^2 is the same for all entries
        return torch.addmm(codebook.square().sum(1), z, codebook.T, alpha=-2).argmin(1)


def perplexity(codes: Tensor, size: int) -> Tensor:
    """exp of the entropy of how often each of `size` codes occurs in `codes`: the number of codes in even use, []."""
    flat = codes.flatten()
    count = torch.zeros(size, device=codes.device).scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.float32))
    return torch.special.entr(count / len(flat)).sum().exp()


def _vectors(z: Tensor) -> Tensor:
    return rearrange(z, "b d h w -> (b h w) d")


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each sample, [B], at least in float32."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return (a.to(wide) - b.to(wide)).square().flatten(1).mean(1)


def _check(size: int, dim: int) -> None:
    if size < 2 or dim < 1:
        raise UsageError(f"A codebook has 2 codes or more of at least 1 number, found {size} codes of {dim}.")


@final
class VectorQuantiser(Quantiser):
    """Codebook learnt by gradient (Eq. 3): `size` vectors of `dim` numbers."""

    def __init__(self, size: int, dim: int, commitment: float = 0.25, weight: float = 1.0):
        """`commitment` is beta; `weight` that of the codebook's own term, 1 in the paper."""
        super().__init__()
        _check(size, dim)
        self.size, self.dim, self.commitment, self.weight = size, dim, commitment, weight
        self.codebook = nn.Parameter(torch.empty(size, dim).uniform_(-1.0 / size, 1.0 / size))

    def forward(self, z: Tensor) -> Quantised:
        codes = rearrange(nearest(_vectors(z), self.codebook), "(b h w) -> b h w", h=z.shape[2], w=z.shape[3])
        z_q = self.look_up(codes)
        losses = {
            "codebook": self.weight * _apart(z_q, z.detach()),
            "commitment": self.commitment * _apart(z, z_q.detach()),
        }
        return Quantised(straight_through(z, z_q.to(z.dtype)), codes, losses)

    def look_up(self, codes: Tensor) -> Tensor:
        return rearrange(F.embedding(codes, self.codebook), "b h w d -> b d h w")


@final
class AveragedQuantiser(Quantiser):
    """Codebook of `size` vectors of `dim` numbers that follows the means of the latents assigned to each code.

    Counts are kept as shares of all latents, so that neither batch size nor the number of processes matters. `revive`:
    a code used less than this share of even use (1 / `size`) counts as dead, and a latent of the batch takes its place;
    0 lets the dead be. At first all are dead, so the codebook begins as latents of the first batch.
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    _seen: Tensor
    _lots: Tensor

    def __init__(self, size: int, dim: int, commitment: float = 0.25, decay: float = 0.99, revive: float = 0.05):
        super().__init__()
        _check(size, dim)
        if not 0 <= decay < 1 or not 0 <= revive < 0.5:
            raise UsageError(
                f"The decay of a codebook lies from 0 to below 1, its revival from 0 to below 0.5; found {decay} and "
                f"{revive}. Try 0.99 and 0.05."
            )
        self.size, self.dim, self.commitment, self.decay, self.revive = size, dim, commitment, decay, revive
        self.register_buffer("codebook", torch.randn(size, dim))
        self.register_buffer("usage", torch.zeros(size))  # N of Eq. 6, as a share
        self.register_buffer("sums", torch.zeros(size, dim))  # m of Eq. 7, on the same scale
        self.register_buffer("_seen", torch.zeros(size, 1 + dim), persistent=False)  # n and sum z_e since `settle`
        self.register_buffer("_lots", torch.zeros(size, 1 + dim), persistent=False)

    def forward(self, z: Tensor) -> Quantised:
        codes = rearrange(nearest(_vectors(z), self.codebook), "(b h w) -> b h w", h=z.shape[2], w=z.shape[3])
        z_q = self.look_up(codes)
        return Quantised(straight_through(z, z_q.to(z.dtype)), codes, {"commitment": self.commitment * _apart(z, z_q)})

    def look_up(self, codes: Tensor) -> Tensor:
        return rearrange(F.embedding(codes, self.codebook), "b h w d -> b d h w")

    @torch.no_grad()
    def observe(self, z: Tensor, codes: Tensor, rng: torch.Generator) -> None:
        with torch.autocast(z.device.type, enabled=False):
            vectors = _vectors(z.detach()).to(self.sums.dtype)  # [N, D]
            rows = torch.cat([torch.ones_like(vectors[:, :1]), vectors], dim=1)  # [N, 1 + D]
            self._seen.index_add_(0, codes.flatten(), rows)
            # One latent of all pieces and ranks must take a dead code's place, though they can only add and average:
            # each enters with a weight drawn over 30 orders of magnitude, so that the mean is all but the heaviest.
            chosen = torch.randint(len(rows), (self.size,), generator=rng, device=rng.device)
            lot = torch.rand(self.size, 1, generator=rng, device=rng.device).to(rows)
            self._lots += rows[chosen.to(rows.device)] * 10.0 ** (-30 * lot)

    @torch.no_grad()
    def settle(self, reduce: Callable[[Tensor], Tensor]) -> None:
        seen, lots = reduce(self._seen), reduce(self._lots)
        shares = seen / seen[:, 0].sum().clamp(min=1e-30)  # [K, 1 + D]
        self.usage.lerp_(shares[:, 0], 1 - self.decay)  # Eq. 6
        self.sums.lerp_(shares[:, 1:], 1 - self.decay)  # Eq. 7
        used = (self.usage > 0)[:, None]
        e = torch.where(used, self.sums / self.usage[:, None].clamp(min=1e-30), self.codebook)  # Eq. 8
        if self.revive > 0:
            dead = self.usage < self.revive / self.size
            e = torch.where(dead[:, None], lots[:, 1:] / lots[:, :1].clamp(min=1e-37), e)
            # twice the threshold: unused again, it dies after log 2 / (1 - decay) steps
            self.usage.copy_(torch.where(dead, 2 * self.revive / self.size, self.usage))
            self.sums.copy_(torch.where(dead[:, None], e * self.usage[:, None], self.sums))
        self.codebook.copy_(e)
        self._seen.zero_()
        self._lots.zero_()
