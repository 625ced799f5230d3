r"""Variational autoencoder: a latent-variable model trained on a lower bound of its likelihood.

Kingma & Welling 2013, arXiv 1312.6114, with q(z|x) = N(mu, diag sigma^2), p(z) = N(0, I):

    log p(x) >= E_q log p(x|z) - KL(q || p)                             Eq. 3
    z = mu + sigma eps,  eps ~ N(0, I)                                  Eq. 4 and Sec. 2.4
    KL = -1/2 sum (1 + log sigma^2 - mu^2 - sigma^2)                    Eq. 10, App. B
    log p(x|z) of Bernoulli and Gaussian pixels                         Eq. 11 and 12, App. C

The KL term may weigh `beta` (Higgins et al. 2017, beta-VAE, ICLR). `VAE.log_prob` is the bound of Burda, Grosse &
Salakhutdinov 2015, arXiv 1509.00519, Eq. 8, which rises to log p(x) with the number of draws. Book: chapter 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.nets.autoencoder_kl import Posterior


class Likelihood(Protocol):
    """p(x|z), given the decoder's output. Pictures are [B, C, H, W] in [-1, 1]."""

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The datum that is modelled, in [-1, 1]: the picture itself, or a draw made of it."""
        ...

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) in nats, [B]."""
        ...

    def mean(self, out: Tensor) -> Tensor:
        """E[x|z], the picture to show."""
        ...


@final
@dataclass(frozen=True)
class Bernoulli:
    """Each value is on (1) or off (-1), the decoder gives logits (Eq. 11).

    `binarise`: a training picture's grey values are read as chances and drawn anew each time (Burda et al. 2015,
    Sec. 5.1), so that losses are nats of binary pictures; else they weigh the two cases as they are.
    """

    binarise: bool = False

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        if not self.binarise:
            return x
        u = torch.rand(x.shape, generator=rng, device=rng.device, dtype=x.dtype)
        return torch.where(u < (x + 1) / 2, 1.0, -1.0).to(x.dtype)

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return 2 * torch.sigmoid(out) - 1


@final
@dataclass(frozen=True)
class Gaussian:
    """Each value is normal around the decoder's output (Eq. 12) with one fixed deviation.

    Learnt deviations have no optimum where a pixel is the same in every picture, so `std` is a number of the model.
    """

    std: float = 0.2

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise UsageError(f"The deviation of Gaussian pixels is positive, found {self.std}; pictures span [-1, 1].")

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        each = -0.5 * ((x - out) / self.std) ** 2 - math.log(self.std) - 0.5 * math.log(2 * math.pi)
        return each.flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return out


@final
class VAE(nn.Module):
    """Encoder [B, C, H, W] -> [B, 2 D], decoder [B, D] -> [B, C, H, W], and the likelihood of pixels.

    `Encodes`, `Decodes`, `Likelihood` and `Generative` of `core.protocols`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, latent_dim: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.likelihood, self.latent_dim = likelihood, latent_dim

    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x)."""
        out = self.encoder(x)  # [B, 2 D]
        mean, logvar = out.to(torch.promote_types(out.dtype, torch.float32)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30.0, 20.0))

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x), [B, D]."""
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x|z), [B, C, H, W]."""
        return self.likelihood.mean(self.decoder(z))

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """Means of p(x|z) for `n` draws z ~ N(0, I): [n, C, H, W]. There are no steps to report."""
        like = next(self.decoder.parameters())
        return self.decode(noise.draw(like.new_empty(n, self.latent_dim)))

    @torch.no_grad()
    def log_prob(self, x: Tensor, draws: int = 64, seed: int = 0) -> Tensor:
        """log 1/k sum_i p(x, z_i)/q(z_i|x) with k = `draws`: in expectation a lower bound of log p(x). Nats, [B]."""
        if draws < 1:
            raise UsageError(f"The importance bound needs at least one draw, found {draws}.")
        q, rng = self.posterior(x), torch.Generator().manual_seed(seed)
        total = torch.full((len(x),), -math.inf, dtype=q.mean.dtype, device=x.device)
        for _ in range(draws):
            eps = torch.randn(q.mean.shape, generator=rng, dtype=q.mean.dtype).to(x.device)  # [B, D]
            z = q.draw(eps)
            # log p(z) - log q(z|x): the constants of the two normals cancel
            ratio = 0.5 * (eps**2 + q.logvar - z**2).sum(1)  # [B]
            total = torch.logaddexp(total, self.likelihood.log_prob(self.decoder(z), x) + ratio)
        return total - math.log(draws)


@final
class NegativeELBO(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]. Minimises -E_q log p(x|z) + beta KL, in nats per picture."""

    def __init__(self, vae: VAE, beta: float = 1.0):
        super().__init__()
        self.vae, self.beta = vae, beta

    def nets(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("vae",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x = self.vae.likelihood.observe(batch["image"], rng)
        q = self.vae.posterior(x)
        eps = torch.randn(q.mean.shape, generator=rng, device=rng.device, dtype=q.mean.dtype)
        out = self.vae.decoder(q.draw(eps)).to(x.dtype)
        reconstruction = -self.vae.likelihood.log_prob(out, x).mean()
        kl = q.kl().mean()
        with torch.no_grad():
            bound = -(reconstruction + kl)
        return {"reconstruction": reconstruction, "kl": self.beta * kl, "_elbo": bound}
