r"""Variational autoencoder: a latent-variable model trained on a lower bound of its likelihood.

Kingma & Welling 2013, arXiv 1312.6114, with q(z|x) = N(mu, diag sigma^2), p(z) = N(0, I):

    log p(x) >= E_q log p(x|z) - KL(q || p)                             Eq. 3
    z = mu + sigma eps,  eps ~ N(0, I)                                  Eq. 4 and Sec. 2.4
    KL = -1/2 sum (1 + log sigma^2 - mu^2 - sigma^2)                    Eq. 10, App. B
    log p(x|z) of Bernoulli and Gaussian pixels                         Eq. 11 and 12, App. C

The KL term may weigh `beta` (Higgins et al. 2017, beta-VAE, ICLR). The bound of Burda, Grosse & Salakhutdinov 2015,
arXiv 1509.00519, Eq. 8,

    L_k = E log 1/k sum_i p(x, z_i) / q(z_i|x) <= log p(x),    non-decreasing in k (their theorem 1),

is what `VAE.log_prob` tells, and what `ImportanceWeighted` trains instead of Eq. 3. Book: chapter 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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

    def each(self, out: Tensor, x: Tensor) -> Tensor:
        """log p of each value given z, in nats, [B, C, H, W]."""
        ...

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) in nats, [B]: values are independent given z."""
        ...

    def mean(self, out: Tensor) -> Tensor:
        """E[x|z], the picture to show."""
        ...

    def saying(self, mean: Tensor, std: Tensor) -> Tensor:
        """What the decoder gives, [C] or more, where it says `mean` and as well as it can `std` of each channel [C]."""
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

    def each(self, out: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none")

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        return self.each(out, x).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return 2 * torch.sigmoid(out) - 1

    def saying(self, mean: Tensor, std: Tensor) -> Tensor:
        return torch.logit((mean + 1) / 2, eps=1e-3)


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

    def each(self, out: Tensor, x: Tensor) -> Tensor:
        return -0.5 * ((x - out) / self.std) ** 2 - math.log(self.std) - 0.5 * math.log(2 * math.pi)

    def log_prob(self, out: Tensor, x: Tensor) -> Tensor:
        return self.each(out, x).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return out

    def saying(self, mean: Tensor, std: Tensor) -> Tensor:
        return mean


def gaussian(out: Tensor) -> Posterior:
    """The diagonal normal that a net's output [B, 2 D] says, at least float32; its log-variance in exp's reach."""
    mean, logvar = out.to(torch.promote_types(out.dtype, torch.float32)).chunk(2, dim=1)
    return Posterior(mean, logvar.clamp(-30.0, 20.0))


def importance_bound(q: Posterior, log_weight: Callable[[Tensor], Tensor], draws: int, seed: int) -> Tensor:
    """log 1/k sum_i w_i with k = `draws`, nats, [B]; `log_weight(eps)` tells log w [B] of z drawn from q by eps [B, D].

    In expectation a lower bound of log E[w]. One draw at a time, so that thousands need no more memory than one.
    """
    if draws < 1:
        raise UsageError(f"The importance bound needs at least one draw, found {draws}.")
    rng = torch.Generator().manual_seed(seed)
    total = q.mean.new_full((len(q.mean),), -math.inf)
    for _ in range(draws):
        eps = torch.randn(q.mean.shape, generator=rng, dtype=q.mean.dtype).to(q.mean.device)  # [B, D]
        total = torch.logaddexp(total, log_weight(eps))
    return total - math.log(draws)


def active_share(mean: Tensor) -> Tensor:
    """Share of the latent numbers that say something about the picture: posterior means [B, D] of variance over 0.01.

    Burda et al. 2015, Sec. 5.2. It falls towards 0 when the posterior collapses onto the prior.
    """
    return (mean.detach().float().var(0, correction=0) > 0.01).float().mean()


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
        return gaussian(self.encoder(x))

    def log_weight(self, x: Tensor, q: Posterior, eps: Tensor) -> Tensor:
        """log p(x, z)/q(z|x), nats, [B], at the draw z of q(z|x) that eps [B, D] makes."""
        z = q.draw(eps)
        # log p(z) - log q(z|x): the constants of the two normals cancel
        ratio = 0.5 * (eps**2 + q.logvar - z**2).sum(1)  # [B]
        return self.likelihood.log_prob(self.decoder(z).to(x.dtype), x) + ratio

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x), [B, D]."""
        return self.posterior(x).mean

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """The mean of p(x|z), [B, C, H, W]; nothing conditions it."""
        return self.likelihood.mean(self.decoder(z))

    @property
    def middle(self) -> Tensor:
        """The mean of p(z), [D]."""
        return next(self.decoder.parameters()).new_zeros(self.latent_dim)

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """Draws of p(z) = N(0, I), [n, D]."""
        return noise.draw(self.middle.expand(n, -1))

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """Means of p(x|z) for `n` draws z ~ N(0, I): [n, C, H, W]. There are no steps to report."""
        return self.decode(self.latents(n, cond, noise=noise))

    @torch.no_grad()
    def log_prob(self, x: Tensor, draws: int = 64, seed: int = 0) -> Tensor:
        """L_k with k = `draws`: in expectation a lower bound of log p(x). Nats, [B]."""
        q = self.posterior(x)
        return importance_bound(q, lambda eps: self.log_weight(x, q, eps), draws, seed)

    @torch.no_grad()
    def measure(self, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        """Both bounds of log p of `image` as it is observed once: Eq. 3 by one draw, and L_k. Nats, [B]."""
        rng = torch.Generator(batch["image"].device).manual_seed(seed)
        x = self.likelihood.observe(batch["image"], rng)
        q = self.posterior(x)
        eps = torch.randn(q.mean.shape, generator=rng, device=rng.device, dtype=q.mean.dtype)
        given = self.likelihood.log_prob(self.decoder(q.draw(eps)).to(x.dtype), x)
        return {"elbo": given - q.kl(), "log_likelihood": self.log_prob(x, draws, seed)}


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
        return {"reconstruction": reconstruction, "kl": self.beta * kl, "_elbo": bound, "_active": active_share(q.mean)}


@final
class ImportanceWeighted(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]. Minimises -L_k with k = `draws`, in nats per picture.

    With one draw it is the bound of `NegativeELBO` with the KL term drawn too. `_effective` is the share of the draws
    that count, 1 / (k sum of squared normalised weights): near 1/k, a single draw decides and more would help.
    """

    def __init__(self, vae: VAE, draws: int):
        super().__init__()
        if draws < 1:
            raise UsageError(f"The importance bound needs at least one draw, found {draws}.")
        self.vae, self.draws = vae, draws

    def nets(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("vae",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        k = self.draws
        x = self.vae.likelihood.observe(batch["image"], rng)
        q = self.vae.posterior(x)
        eps = torch.randn((k * len(x), q.mean.shape[1]), generator=rng, device=rng.device, dtype=q.mean.dtype)
        each = Posterior(q.mean.repeat(k, 1), q.logvar.repeat(k, 1))  # [K B, D]
        log_w = self.vae.log_weight(x.repeat(k, 1, 1, 1), each, eps).unflatten(0, (k, -1))  # [K, B]
        bound = (log_w.logsumexp(0) - math.log(k)).mean()
        with torch.no_grad():
            effective = (1 / (k * log_w.softmax(0).square().sum(0))).mean()
            told = {"_elbo": log_w.mean(), "_effective": effective, "_active": active_share(q.mean)}
        return {"bound": -bound, **told}
