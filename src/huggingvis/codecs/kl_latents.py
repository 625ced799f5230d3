"""Pictures to normalised latents and back, by a KL autoencoder.

Rombach et al. 2022 (arXiv 2112.10752): diffusion wants latents of unit size, so z is shifted and scaled channel by
channel with statistics of the training set (a single `scale` in Stable Diffusion).
Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from huggingvis.codecs.tiles import Tiling
from huggingvis.core.noise import Noise
from huggingvis.nets.autoencoder_kl import AutoencoderKL, Posterior


@final
class KLLatents(nn.Module):
    """`encode` [B, 3, H, W] in [-1, 1] -> z [B, C, H/f, W/f] with mean 0 and deviation 1; `decode` back, clamped.

    `tiling`: how a large picture is cut, None: not at all. The autoencoder runs in its own dtype; latents and pictures
    come back in float32 or wider.
    """

    mean: Tensor
    std: Tensor
    by_chance: bool = True

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        mean: Tensor | float = 0.0,
        std: Tensor | float = 1.0,
        tiling: Tiling | None = None,
    ):
        super().__init__()
        channels = autoencoder.config.latent_channels
        self.autoencoder, self.tiling = autoencoder, tiling
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).expand(channels).clone())
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).expand(channels).clone())

    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) in the autoencoder's own units."""
        whole, x = self.autoencoder, x.to(self._dtype)
        q = whole.posterior(x) if self.tiling is None else self.tiling.posterior(whole, x)
        wide = torch.promote_types(q.mean.dtype, torch.float32)
        return Posterior(q.mean.to(wide), q.logvar.to(wide))

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The mean of q(z|x), or with `noise` a draw of it."""
        posterior = self.posterior(x)
        z = posterior.mean if noise is None else posterior.draw(noise.draw(posterior.mean))
        return (z - self.mean.to(z.dtype)[:, None, None]) / self.std.to(z.dtype)[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        z = z * self.std.to(z.dtype)[:, None, None] + self.mean.to(z.dtype)[:, None, None]
        whole, z = self.autoencoder, z.to(self._dtype)
        x = whole.decode(z) if self.tiling is None else self.tiling.decode(whole, z)
        return x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-1, 1)

    def tiled(self, tiling: Tiling | None) -> KLLatents:
        """The same codec, cut so."""
        return KLLatents(self.autoencoder, self.mean, self.std, tiling)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.autoencoder.parameters()).dtype


@torch.no_grad()
def fit_statistics(autoencoder: AutoencoderKL, pictures: list[Tensor]) -> KLLatents:
    """Measure mean and deviation of each latent channel over `pictures` and build the codec."""
    z = torch.cat([autoencoder.encode(x).float() for x in pictures])  # [N, C, h, w]
    return KLLatents(autoencoder, z.mean((0, 2, 3)), z.std((0, 2, 3)))
