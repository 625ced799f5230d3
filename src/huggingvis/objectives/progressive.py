"""Adversarial training that grows: both nets begin at a few pixels, and each finer resolution is faded in.

Karras, Aila, Laine & Lehtinen 2017 (arXiv 1710.10196), Sec. 2 and App. A: each resolution fades in over `fade` images
and then settles for `settle` (800,000 each in the paper); real pictures are faded just as the nets are. How far the
nets have grown follows from the images seen, hence from the step alone, so a resumed training goes on exactly.
Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, OnStep
from huggingvis.nets.pggan import Growth, ProgressiveCritic, ProgressiveGenerator, upsampled
from huggingvis.objectives.denoise import unconditional
from huggingvis.objectives.gan import Contest, Players, Rules, normal


@final
@dataclass(frozen=True)
class Growing:
    """Which resolution counts when.

    Attributes:
        stages: resolutions in all.
        batch: images a step.
        fade: images over which a resolution fades in.
        settle: images after that, before the next one; also those of the first resolution. With 0 and a `fade` of 0
            nothing grows: the finest resolution counts in full from the first step on.
    """

    stages: int
    batch: int
    fade: int
    settle: int

    def __post_init__(self) -> None:
        if min(self.stages, self.batch) < 1 or min(self.fade, self.settle) < 0:
            raise UsageError(
                "Growing needs at least one resolution and one image a step, and fades and settles over 0 images or "
                f"more, found {self}."
            )

    def at(self, step: int) -> Growth:
        """How far the nets have grown at step `step` (0 is the first)."""
        if self.fade + self.settle == 0:
            return Growth(self.stages - 1)
        since = step * self.batch - self.settle  # images since the first resolution settled
        if since < 0:
            return Growth(0)
        stage, within = divmod(since, self.fade + self.settle)
        if stage + 1 >= self.stages:
            return Growth(self.stages - 1)
        return Growth(stage + 1, min(within / self.fade, 1.0) if self.fade else 1.0)

    @property
    def last(self) -> int:
        """The first step at which the finest resolution counts in full."""
        return -(-(self.stages - 1) * (self.fade + self.settle) // self.batch)


@final
class ProgressiveGAN(nn.Module):
    """A growing generator as it stands. `Generative` and `Decodes`: always pictures of the full size [B, C, H, W]."""

    def __init__(self, generator: ProgressiveGenerator, latent_dim: int, growth: Growth, size: tuple[int, int]):
        super().__init__()
        self.generator, self.latent_dim, self.growth, self.size = generator, latent_dim, growth, size

    @property
    def middle(self) -> Tensor:
        """The mean of z, [D]."""
        return next(self.generator.parameters()).new_zeros(self.latent_dim)

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """`n` draws of z ~ N(0, I), [n, D]."""
        return noise.draw(self.middle.expand(n, -1))

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """The pictures of z [B, D]; coarse ones are enlarged by nearest neighbour. Nothing conditions them."""
        return F.interpolate(self.generator(z, self.growth), size=self.size, mode="nearest")

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """[n, C, H, W]. There are no steps to report."""
        return self.decode(self.latents(n, cond, noise=noise))


def faded(x: Tensor, growth: Growth, stages: int) -> Tensor:
    """Real pictures x [B, C, H, W] at the resolution grown to, as sharp as the nets are: [B, C, h, w]."""
    x = F.avg_pool2d(x, 2 ** (stages - 1 - growth.stage))
    if growth.stage == 0 or growth.alpha == 1:
        return x
    return torch.lerp(upsampled(F.avg_pool2d(x, 2)), x, growth.alpha)


@final
class ProgressiveTraining(Contest):
    """Growing generator against growing critic. Nets: generator, critic."""

    def __init__(
        self,
        generator: ProgressiveGenerator,
        critic: ProgressiveCritic,
        latent_dim: int,
        growing: Growing,
        rules: Rules,
    ):
        super().__init__(latent_dim, normal, rules, unconditional)
        self.generator, self.critic, self.growing = generator, critic, growing

    def nets(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def players(self, step: int) -> Players:
        growth = self.growing.at(step)
        return Players(
            lambda z, cond: self.generator(z, growth),
            lambda x, cond: self.critic(x, growth),
            lambda x: faded(x, growth, self.growing.stages),
        )

    def newest(self, size: tuple[int, int]) -> ProgressiveGAN:
        """The generator at the step played last."""
        return ProgressiveGAN(self.generator, self.latent_dim, self.growing.at(self.latest), size)
