"""Training the autoencoder of latent diffusion: reconstruction, a little KL, own-feature perception, patch adversary.

Rombach et al. 2022 (arXiv 2112.10752), section 3.1 and appendix G; the adversary's features serve as the perceptual
space (Larsen et al. 2016, arXiv 1512.09300, eq. 5), so no foreign network is needed; hinge losses (Lim & Ye 2017,
arXiv 1705.02894). Book: chapter 5, "A space worth diffusing in".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.nets.autoencoder_kl import AutoencoderKL
from huggingvis.nets.patch_discriminator import PatchDiscriminator


@dataclass(frozen=True)
class Weights:
    """How much each term counts. `adversary_from` is the step at which the patch adversary joins.

    `latent_noise`: the decoder alone learns, on latents off by this share of their deviation, as a generator's are; the
    space that other nets were trained in stays as it is. None: both halves learn.
    """

    l1: float = 1.0
    l2: float = 1.0
    kl: float = 1e-6
    perceptual: float = 0.1
    adversarial: float = 0.02
    adversary_from: int = 1000
    latent_noise: float | None = None


@final
class LatentAutoencoder(Objective):
    """Batch: `image` [B, 3, H, W] in [-1, 1] and, if some pixels matter more, their `weight` [B, 1, H, W].

    Nets: `autoencoder`, and `critic` (patch logits and their features).
    """

    def __init__(self, autoencoder: AutoencoderKL, critic: PatchDiscriminator, weights: Weights):
        super().__init__()
        self.autoencoder, self.critic, self.weights = autoencoder, critic, weights

    def nets(self) -> Mapping[str, nn.Module]:
        return {"autoencoder": self.autoencoder, "critic": self.critic}

    def turns(self, step: int) -> tuple[Turn, ...]:
        build = Turn(self.build, ("autoencoder",), name="build")
        if step < self.weights.adversary_from:
            return (build,)
        return build, Turn(self.judge, ("critic",), name="judge")

    def _rebuilt(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        off = self.weights.latent_noise
        with torch.set_grad_enabled(torch.is_grad_enabled() and off is None):
            q = self.autoencoder.posterior(x)
        eps = torch.randn(q.mean.shape, generator=rng, device=rng.device).to(q.mean.dtype)
        z = q.draw(eps) if off is None else q.mean + off * q.mean.std((0, 2, 3), keepdim=True) * eps
        return self.autoencoder.decode(z).float(), q.kl().float().mean()

    def build(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x, w = batch["image"], self.weights
        y, kl = self._rebuilt(x, rng)
        off, matters = (y - x).abs(), batch.get("weight", torch.ones_like(x[:, :1]))
        matters = matters / matters.mean()  # [B, 1, H, W]
        losses = {"l1": w.l1 * (off * matters).mean(), "l2": w.l2 * (off.square() * matters).mean(), "kl": w.kl * kl}
        if step >= w.adversary_from:
            fake, features = _features(self.critic, y)
            with torch.no_grad():
                _, true = _features(self.critic, x)
            near = [F.l1_loss(a.float(), b.float()) for a, b in zip(features, true, strict=True)]
            losses["perceptual"] = w.perceptual * torch.stack(near).mean()
            losses["adversarial"] = -w.adversarial * fake.float().mean()
        with torch.no_grad():
            losses["_psnr"] = -10 * torch.log10(F.mse_loss(y, x) / 4)
        return losses

    def judge(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        """Hinge: mean max(0, 1 - D(x)) + max(0, 1 + D(y))."""
        x = batch["image"]
        with torch.no_grad():
            y, _ = self._rebuilt(x, rng)
        real, fake = self.critic(x).float(), self.critic(y).float()
        return {"hinge": 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())}


def _features(critic: PatchDiscriminator, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits of the critic, and the maps after each non-linearity on the way."""
    maps, h = [], x
    for layer in critic.layers:
        h = layer(h)
        if isinstance(layer, nn.LeakyReLU):
            maps.append(h)
    return h, maps
