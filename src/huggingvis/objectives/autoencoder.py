r"""Autoencoder: a picture through a bottleneck and back, with as little lost as possible.

Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks" (Science 313, 504):

    min over f, g of E error(x, g(f(x))),    z = f(x) of few numbers

where the error is the squared distance or the cross-entropy of grey values; the layers are trained together from fresh
weights, without the paper's layer-wise pretraining. With linear f and g and the squared error the optimum spans the
principal components (Baldi & Hornik 1989, Neural Networks 2, 53), and the loss is the sum of the eigenvalues left out.

An autoencoder has no prior. To draw from one, a normal law is kept of the codes that training has seen
(`observe_codes`): what Ghosh et al. 2019 (arXiv 1903.12436) call ex-post density estimation, done while training so
that every checkpoint can draw. Book: chapter 1.
"""

from __future__ import annotations

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


class PixelError(Protocol):
    """How far the decoder's output is from a picture. Pictures are [B, C, H, W] in [-1, 1]."""

    def error(self, out: Tensor, x: Tensor) -> Tensor:
        """Summed over the picture, [B]."""
        ...

    def picture(self, out: Tensor) -> Tensor:
        """The output as a picture."""
        ...


@final
@dataclass(frozen=True)
class SquaredError:
    """Sum of squares. `logistic`: the output goes through a logistic function, as the paper's units do."""

    logistic: bool = False

    def error(self, out: Tensor, x: Tensor) -> Tensor:
        return (x - self.picture(out)).square().flatten(1).sum(1)

    def picture(self, out: Tensor) -> Tensor:
        return 2 * torch.sigmoid(out) - 1 if self.logistic else out


@final
@dataclass(frozen=True)
class CrossEntropy:
    """-sum p log p_hat + (1 - p) log(1 - p_hat) of grey values p = (x + 1) / 2; the output is logits."""

    def error(self, out: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def picture(self, out: Tensor) -> Tensor:
        return 2 * torch.sigmoid(out) - 1


@final
class Autoencoder(nn.Module):
    """Encoder [B, C, H, W] -> [B, D], decoder [B, D] -> [B, C, H, W], and the normal law of the codes.

    `Encodes`, `Decodes` and `Generative` of `core.protocols`. The law travels with the weights, as buffers.
    """

    code_mean: Tensor
    code_cov: Tensor
    code_count: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: PixelError, latent_dim: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.pixels, self.latent_dim = pixels, latent_dim
        self.register_buffer("code_mean", torch.zeros(latent_dim))
        self.register_buffer("code_cov", torch.eye(latent_dim))
        self.register_buffer("code_count", torch.zeros((), dtype=torch.int64))

    def encode(self, x: Tensor) -> Tensor:
        """The code z, [B, D]."""
        return self.encoder(x)

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """The picture of a code, [B, C, H, W]; nothing conditions it."""
        return self.pixels.picture(self.decoder(z))

    @property
    def middle(self) -> Tensor:
        """The mean of the codes seen, [D]."""
        return self.code_mean

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """Pictures of `n` codes drawn from the normal law of the codes seen, [n, C, H, W]."""
        return self.decode(self.latents(n, cond, noise=noise))

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """Draws of the normal law of the codes seen, [n, D]. Raises `UsageError` where none were seen."""
        if not self.code_count:
            raise UsageError(
                "This autoencoder has seen no codes yet, so there is nothing to draw from. Train it for a step, or "
                "show it pictures: model.observe_codes(model.encode(pictures))."
            )
        eps = noise.draw(self.code_mean.new_empty(n, self.latent_dim))
        # not by Cholesky: a code that never changes leaves the covariance singular; on the CPU, for MPS has no float64
        values, vectors = torch.linalg.eigh(self.code_cov.cpu().double())
        root = (vectors * values.clamp(min=0).sqrt()).to(eps)  # [D, D]
        return self.code_mean + eps @ root.T

    @torch.no_grad()
    def measure(self, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        """The paper's error of `image`: the sum of squares over a picture of values in [0, 1], [B]."""
        return {"squared_error": self.squared_error(batch["image"], self.decode(self.encode(batch["image"])))}

    @staticmethod
    def squared_error(x: Tensor, y: Tensor) -> Tensor:
        """Of pictures in [-1, 1], told for values in [0, 1], [B]."""
        return ((x - y) / 2).square().flatten(1).sum(1)

    @torch.no_grad()
    def observe_codes(
        self, z: Tensor, memory: int = 50, reduce: Callable[[Tensor], Tensor] = lambda told: told
    ) -> None:
        """Let the law follow codes z [B, D]: all of them at first, about the last `memory` calls later on.

        `reduce` averages over data-parallel ranks.
        """
        self.code_count += 1
        share = (1 / self.code_count.to(self.code_mean.dtype)).clamp(min=1 / memory)
        off = z.to(self.code_mean.dtype) - self.code_mean  # [B, D]
        mean, square = reduce(off.mean(0)), reduce(off.T @ off / len(off))
        self.code_cov.copy_((1 - share) * self.code_cov + share * square - share**2 * torch.outer(mean, mean))
        self.code_mean.add_(share * mean)


@final
class Reconstruction(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]. Minimises the error, summed over a picture.

    `_squared_error` is the paper's figure: the sum of squares over a picture of values in [0, 1]. The law of the codes
    is looked after every `EVERY`-th step, which is enough for it and costs next to nothing.
    """

    EVERY = 8

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def nets(self) -> Mapping[str, nn.Module]:
        return {"autoencoder": self.autoencoder}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("autoencoder",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x, pixels = batch["image"], self.autoencoder.pixels
        out = self.autoencoder.decoder(self.autoencoder.encode(x)).to(x.dtype)  # [B, C, H, W]
        with torch.no_grad():
            squared = self.autoencoder.squared_error(x, pixels.picture(out)).mean()
        return {"reconstruction": pixels.error(out, x).mean(), "_squared_error": squared}

    @torch.no_grad()
    def after(
        self,
        turn: Turn,
        step: int,
        *,
        params: Mapping[str, list[nn.Parameter]],
        batch: Batch,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        if step % self.EVERY == 0:
            self.autoencoder.observe_codes(self.autoencoder.encode(batch["image"]), reduce=reduce)
