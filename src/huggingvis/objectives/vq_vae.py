r"""VQ-VAE: an autoencoder with a grid of codes between its halves, and a prior over the grids.

van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning" (arXiv 1711.00937):

    L = -log p(x|z_q(x)) + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2      Eq. 3
    log p(x) >= log p(x|z_q(x)) + log p(z_q(x))                            Sec. 3.2

The first term is taken per value of the picture, the others per number of the latents, as in the authors' published
example, so that beta means the same for every size. With lookup-free quantisers in place of the codebook the middle
term falls away. Book: chapter 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.nets.quantisers import Quantised, perplexity
from huggingvis.nets.vq_autoencoder import VQAutoencoder
from huggingvis.objectives.code_prior import Codes
from huggingvis.objectives.vae import Likelihood


@final
class VQVAE(nn.Module):
    """The autoencoder, the likelihood of pixels given its decoder's output, and p(c).

    `Encodes`, `Decodes`, `Shaped`, `Likelihood` and `Generative` of `core.protocols`; model space is codes, int64
    [B, h, w].
    """

    def __init__(self, autoencoder: VQAutoencoder, likelihood: Likelihood, codes: Codes):
        super().__init__()
        self.autoencoder, self.likelihood, self.codes = autoencoder, likelihood, codes

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """[h, w] of codes, as those of which p(c) tells."""
        return self.codes.grid

    def encode(self, x: Tensor) -> Tensor:
        """Codes of pictures [B, C, H, W]."""
        return self.autoencoder.encode(x)

    def decode(self, codes: Tensor) -> Tensor:
        """E[x|c], [B, C, H, W]."""
        return self.likelihood.mean(self.autoencoder.decode(codes))

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """E[x|c] for `n` draws c ~ p(c): [n, C, H, W]."""
        return self.decode(self.codes.sample(n, cond, noise=noise, on_step=on_step))

    def given(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The codes of x [B, C, H, W], and log p(x|c) in nats, [B]."""
        out, found = self.autoencoder(x)
        return found.codes, self.likelihood.log_prob(out, x)

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Cond | None = None) -> Tensor:
        """log p(x|c) + log p(c) at the codes of x: a lower bound of log p(x) in nats, [B].

        It is one of probabilities where the likelihood is one of 8-bit or binary values; x must then be such.
        """
        codes, given = self.given(x)
        return given + self.codes.log_prob(codes, cond or {}).to(given.dtype)

    def measure(self, batch: Batch, condition: Callable[[Batch], Cond], seed: int) -> dict[str, Tensor]:
        """The bound of log p of `image` as it is observed once, given its condition: nats, [B]."""
        x = self.likelihood.observe(batch["image"], torch.Generator(batch["image"].device).manual_seed(seed))
        return {"log_likelihood": self.log_prob(x, condition(batch))}


@final
class VectorQuantised(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]. Minimises Eq. 3 in nats per value; the net is `autoencoder`.

    Watched: `_perplexity`, the number of codes in even use in the batch, and `_elbo`, the bound of Sec. 3.2 under
    the uniform prior, in nats per picture; with `discrete` pixels also `_bits_per_dim`.
    """

    def __init__(self, autoencoder: VQAutoencoder, likelihood: Likelihood, discrete: bool = False):
        super().__init__()
        self.autoencoder, self.likelihood, self.discrete = autoencoder, likelihood, discrete

    def nets(self) -> Mapping[str, nn.Module]:
        return {"autoencoder": self.autoencoder}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("autoencoder",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x = self.likelihood.observe(batch["image"], rng)
        z = self.autoencoder.latents(x)
        found: Quantised = self.autoencoder.quantiser(z)
        self.autoencoder.quantiser.observe(z, found.codes, rng)
        return self._losses(x, found)

    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        x = self.likelihood.observe(batch["image"], rng)
        return self._losses(x, self.autoencoder.quantiser(self.autoencoder.latents(x)))

    def _losses(self, x: Tensor, found: Quantised) -> Losses:
        given = self.likelihood.log_prob(self.autoencoder.decoded(found.z).to(x.dtype), x).mean()
        dims, size = x[0].numel(), self.autoencoder.quantiser.size
        losses = {"reconstruction": -given / dims, **{name: loss.mean() for name, loss in found.losses.items()}}
        with torch.no_grad():
            losses["_perplexity"] = perplexity(found.codes, size)
            losses["_elbo"] = given - found.codes[0].numel() * math.log(size)
            if self.discrete:
                losses["_bits_per_dim"] = -losses["_elbo"] / (dims * math.log(2))
        return losses

    def after(
        self,
        turn: Turn,
        step: int,
        *,
        params: Mapping[str, list[nn.Parameter]],
        batch: Batch,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        self.autoencoder.quantiser.settle(reduce)
