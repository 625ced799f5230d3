r"""Conditional variational autoencoder: what a picture can be, given a part of the truth about it.

Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative Models" (NeurIPS).
There x is what is given and y what is to be told; here `cond` is given and pictures are y:

    log p(y|x) >= E_q log p(y|x,z) - KL(q(z|x,y) || p(z|x))             Eq. 4, with a learned prior p(z|x)
    GSNN:  E log p(y|x,z) over z ~ p(z|x), as at test time              Eq. 6
    hybrid:  alpha CVAE + (1 - alpha) GSNN                              Eq. 7

    log p(y|x) ~ log 1/S sum_s p(y|x,z_s),  z_s ~ p(z|x)                Monte Carlo (their Sec. 4.1)
    log p(y|x) ~ log 1/S sum_s p(y|x,z_s) p(z_s|x) / q(z_s|x,y),  z_s ~ q(z|x,y)        importance sampling

What is given is a class (`Vector`) or a part of the picture (`objectives.completion`). Book: chapter 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.nets.autoencoder_kl import Posterior
from huggingvis.objectives.vae import Likelihood, active_share, gaussian, importance_bound


def kl_between(q: Posterior, p: Posterior) -> Tensor:
    """KL(q || p) of diagonal normals in nats, [B]."""
    logvar = q.logvar - p.logvar
    return 0.5 * ((q.mean - p.mean) ** 2 * torch.exp(-p.logvar) + logvar.exp() - 1 - logvar).flatten(1).sum(1)


class Given(Protocol):
    """How a condition reaches the networks, and which values it leaves to be told."""

    def numbers(self, cond: Cond, n: int, like: Tensor) -> Tensor:
        """The condition of `n` pictures as the networks read it, [n, P], with dtype and device of `like`."""
        ...

    def open(self, values: Tensor) -> Tensor:
        """`values` [B, C, H, W] where the condition says nothing, 0 elsewhere."""
        ...

    def complete(self, y: Tensor, cond: Cond) -> Tensor:
        """A drawn picture with what is given put in its place."""
        ...


@final
@dataclass(frozen=True)
class Vector:
    """`cond["vector"]` [B, dim] is given, a class for example, and the whole picture is to be told.

    Without one it is all zeros, which stands for any class if training left some labels out.
    """

    dim: int

    def numbers(self, cond: Cond, n: int, like: Tensor) -> Tensor:
        vector = cond.get("vector")
        return like.new_zeros(n, self.dim) if vector is None else vector.to(like)

    def open(self, values: Tensor) -> Tensor:
        return values

    def complete(self, y: Tensor, cond: Cond) -> Tensor:
        return y


@final
class StandardPrior(nn.Module):
    """c [B, P] -> zeros [B, 2 D]: N(0, I), which no condition moves."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, c: Tensor) -> Tensor:
        return c.new_zeros(len(c), 2 * self.latent_dim)


@final
class CVAE(nn.Module):
    """Encoder (y, c) -> [B, 2 D], prior c -> [B, 2 D], decoder [z, c] [B, D + P] -> [B, C, H, W].

    `Encodes`, `Decodes`, `Likelihood` and `Generative` of `core.protocols`; without a condition they speak of any.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        likelihood: Likelihood,
        given: Given,
        latent_dim: int,
    ):
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.likelihood, self.given, self.latent_dim = likelihood, given, latent_dim

    def laws(self, y: Tensor, c: Tensor) -> tuple[Posterior, Posterior]:
        """q(z|x,y) and p(z|x), for a condition as numbers c [B, P]."""
        return gaussian(self.encoder(y, c)), gaussian(self.prior(c))

    def told(self, y: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """log p(y|x,z) of the values that are not given, nats, [B]."""
        out = self.decoder(torch.cat([z, c.to(z)], dim=1)).to(y.dtype)
        return self.given.open(self.likelihood.each(out, y)).flatten(1).sum(1)

    def encode(self, x: Tensor, cond: Cond | None = None) -> Tensor:
        """The mean of q(z|x,y), [B, D]."""
        return gaussian(self.encoder(x, self.given.numbers(cond or {}, len(x), x))).mean

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """The mean of p(y|x,z), completed by what is given, [B, C, H, W]."""
        c = self.given.numbers(cond or {}, len(z), z)
        return self.given.complete(self.likelihood.mean(self.decoder(torch.cat([z, c], dim=1))), cond or {})

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """Means of p(y|x,z) for `n` draws z ~ p(z|x): [n, C, H, W]. There are no steps to report."""
        return self.decode(self.latents(n, cond, noise=noise), cond)

    @property
    def middle(self) -> Tensor:
        """The latent 0, [D]: q and p both live around it."""
        return next(self.decoder.parameters()).new_zeros(self.latent_dim)

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """Draws of p(z|x), [n, D]."""
        like = next(self.decoder.parameters())
        p = gaussian(self.prior(self.given.numbers(cond, n, like)))
        return p.draw(noise.draw(like.new_empty(n, self.latent_dim))).to(like.dtype)

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Cond | None = None, *, draws: int = 100, seed: int = 0) -> Tensor:
        """log p(y|x) of what is not given, by importance sampling: a lower bound in expectation. Nats, [B]."""
        c = self.given.numbers(cond or {}, len(x), x)
        q, p = self.laws(x, c)

        def log_weight(eps: Tensor) -> Tensor:
            z = q.draw(eps)
            off = (z - p.mean) ** 2 * torch.exp(-p.logvar)
            return self.told(x, z, c) + 0.5 * (eps**2 + (q.logvar - p.logvar) - off).sum(1)

        return importance_bound(q, log_weight, draws, seed)

    @torch.no_grad()
    def monte_carlo_log_prob(self, x: Tensor, cond: Cond | None = None, *, draws: int = 100, seed: int = 0) -> Tensor:
        """log p(y|x) of what is not given, by draws from the prior alone: the looser bound. Nats, [B]."""
        c = self.given.numbers(cond or {}, len(x), x)
        p = gaussian(self.prior(c))
        return importance_bound(p, lambda eps: self.told(x, p.draw(eps), c), draws, seed)


@final
class ConditionalELBO(Objective):
    """Minimises the negative of Eq. 7, with alpha = 1 that of Eq. 4, in nats per picture.

    Batch: `image` [B, C, H, W] in [-1, 1] and what `condition` reads; the image it meets is the one being modelled.
    """

    def __init__(self, cvae: CVAE, condition: Callable[[Batch], Cond], *, beta: float = 1.0, alpha: float = 1.0):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise UsageError(f"The share alpha of the conditional bound lies between 0 and 1, found {alpha}.")
        self.cvae, self.condition, self.beta, self.alpha = cvae, condition, beta, alpha

    def nets(self) -> Mapping[str, nn.Module]:
        return {"cvae": self.cvae}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("cvae",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        return self.of(*self.read(batch, rng), rng)

    def read(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Cond]:
        """The pictures to be told and the condition they belong to."""
        y = self.cvae.likelihood.observe(batch["image"], rng)
        return y, self.condition({**batch, "image": y})

    def of(self, y: Tensor, cond: Cond, rng: torch.Generator) -> Losses:
        """The losses of pictures y with the condition they belong to."""
        c = self.cvae.given.numbers(cond, len(y), y)
        q, p = self.cvae.laws(y, c)
        eps = torch.randn(q.mean.shape, generator=rng, device=rng.device, dtype=q.mean.dtype)
        reconstruction = -self.cvae.told(y, q.draw(eps), c).mean()
        kl = kl_between(q, p).mean()
        losses = {"reconstruction": self.alpha * reconstruction, "kl": self.alpha * self.beta * kl}
        if self.alpha < 1:
            losses["gsnn"] = -(1 - self.alpha) * self.cvae.told(y, p.draw(eps), c).mean()
        return losses | {"_elbo": -(reconstruction + kl).detach(), "_active": active_share(q.mean)}
