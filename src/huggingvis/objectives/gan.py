"""Two nets against each other: a generator that makes pictures of noise, and a critic that tells them from real ones.

Goodfellow et al. 2014, "Generative adversarial nets" (arXiv 1406.2661), Algorithm 1: `critic_steps` turns of the
critic, then one of the generator. For a fixed generator with density q the best critic is D = p / (p + q) (Prop. 1),
where the minimax value is -log 4 + 2 JSD(p, q) (Thm. 1). With a label for both it is a conditional GAN (Mirza &
Osindero 2014, arXiv 1411.1784, Eq. 2). Lazy penalties: Karras et al. 2019, arXiv 1912.04958, App. B. Book: chapter 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.classes import some_class
from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.objectives.adversarial import Game, NonSaturating, Penalty
from huggingvis.objectives.denoise import unconditional
from huggingvis.objectives.mode_collapse import effective_rank, spread

Prior = Callable[[Tensor], Tensor]
"""The law of z: standard normal numbers [B, D] -> latents [B, D]."""


def normal(eps: Tensor) -> Tensor:
    """z ~ N(0, I)."""
    return eps


def uniform(eps: Tensor) -> Tensor:
    """z uniform on [-1, 1]^D: 2 Phi(eps) - 1."""
    return torch.erf(eps / math.sqrt(2.0))


@final
class GAN(nn.Module):
    """A generator `net(z [B, D], cond) -> [B, C, H, W]` and the law of its z. `Generative` and `Decodes`."""

    def __init__(self, generator: nn.Module, latent_dim: int, prior: Prior = normal):
        super().__init__()
        self.generator, self.latent_dim, self.prior = generator, latent_dim, prior

    @property
    def middle(self) -> Tensor:
        """The mean of z, [D]."""
        return next(self.generator.parameters()).new_zeros(self.latent_dim)

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """`n` draws of z, [n, D]."""
        return self.prior(noise.draw(self.middle.expand(n, -1)))

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """The pictures of z [B, D], [B, C, H, W]."""
        return self.generator(z, cond or {})

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """[n, C, H, W]. Rows of `cond["vector"]` without a class get one by lot. There are no steps to report."""
        z = self.latents(n, cond, noise=noise)
        return self.decode(z, {"vector": some_class(cond["vector"], noise)} if "vector" in cond else {})


@dataclass(frozen=True)
class Players:
    """Both nets as functions, as they stand at one step.

    `generate`: z [B, D] -> pictures. `judge`: pictures -> outputs [B]. `show`: real pictures as the critic sees them.
    """

    generate: Callable[[Tensor, Cond], Tensor]
    judge: Callable[[Tensor, Cond], Tensor]
    show: Callable[[Tensor], Tensor]

    def score(self, x: Tensor, cond: Cond) -> Tensor:
        """What the critic says of x, in float32 at least: losses and slopes are reckoned in it."""
        out = self.judge(x, cond)
        return out.to(torch.promote_types(out.dtype, torch.float32))


@dataclass(frozen=True)
class Rules:
    """What is played.

    Attributes:
        game: the losses of both.
        penalty: on the critic's slope; none: no such.
        every: take the penalty every that many steps, that many times as strong, as a turn of its own.
        critic_steps: turns of the critic for one of the generator.
    """

    game: Game = NonSaturating()
    penalty: Penalty | None = None
    every: int = 1
    critic_steps: int = 1


class Contest(Objective):
    """Base of adversarial trainings; a subclass says who plays at a step. Batch: `image` [B, C, H, W] in [-1, 1], and
    what `condition` reads.

    Watched: `_spread` and `_rank` of made pictures against real ones (see `mode_collapse`), `_told_apart`, the chance
    that a real picture is rated above a made one: at 1 the critic is sure, and a generator may learn nothing more.
    """

    def __init__(self, latent_dim: int, prior: Prior, rules: Rules, condition: Callable[[Batch], Cond]):
        super().__init__()
        self.latent_dim, self.prior, self.rules, self.condition = latent_dim, prior, rules, condition
        # the step played last, whose players are validated and drawn from; a step comes before either, so that a
        # resumed training needs no memory of it
        self.latest = 0

    @abstractmethod
    def players(self, step: int) -> Players:
        """The nets at step `step`."""

    def turns(self, step: int) -> tuple[Turn, ...]:
        self.latest = step
        critic = Turn(self.critic_loss, ("critic",), repeat=self.rules.critic_steps, name="critic")
        generator = Turn(self.generator_loss, ("generator",), name="generator")
        if self.rules.penalty is None or self.rules.every == 1:
            return critic, generator
        lazy = Turn(self.penalty_loss, ("critic",), every=self.rules.every, name="penalty")
        return critic, lazy, generator

    def critic_loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        players, cond = self.players(step), self.condition(batch)
        real, fake = self._pair(players, batch, cond, rng)
        scores = players.score(real, cond), players.score(fake, cond)
        losses = dict(self.rules.game.critic(*scores))
        if self.rules.penalty is not None and self.rules.every == 1:
            losses["penalty"] = self._penalty(players, real, fake, cond, rng)
        return losses | _watched(real, fake, scores, cond)

    def penalty_loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        players, cond = self.players(step), self.condition(batch)
        real, fake = self._pair(players, batch, cond, rng)
        return {"penalty": self.rules.every * self._penalty(players, real, fake, cond, rng)}

    def generator_loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        players, cond = self.players(step), self.condition(batch)
        fake = players.generate(self._latents(batch, rng), cond)
        return {"adversarial": self.rules.game.generator(players.score(fake, cond))}

    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Both losses, without penalties, and what is watched, on held-out pictures."""
        players, cond = self.players(self.latest), self.condition(batch)
        real, fake = self._pair(players, batch, cond, rng)
        scores = players.score(real, cond), players.score(fake, cond)
        critic = torch.stack([*self.rules.game.critic(*scores).values()]).sum()
        losses = {"critic": critic, "generator": self.rules.game.generator(scores[1])}
        return losses | _watched(real, fake, scores, cond)

    def _latents(self, batch: Batch, rng: torch.Generator) -> Tensor:
        x = batch["image"]
        return self.prior(
            torch.randn((len(x), self.latent_dim), generator=rng, device=rng.device, dtype=x.dtype)
        )  # [B, D]

    def _pair(self, players: Players, batch: Batch, cond: Cond, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            real = players.show(batch["image"])
            return real, players.generate(self._latents(batch, rng), cond).to(real.dtype)

    def _penalty(self, players: Players, real: Tensor, fake: Tensor, cond: Cond, rng: torch.Generator) -> Tensor:
        if self.rules.penalty is None:
            return real.new_zeros(())
        return self.rules.penalty(lambda x: players.score(x, cond), real, fake, rng)


@torch.no_grad()
def _watched(real: Tensor, fake: Tensor, scores: tuple[Tensor, Tensor], cond: Cond) -> dict[str, Tensor]:
    varied = {"_spread": spread(fake, real, cond), "_rank": effective_rank(fake, real, cond)}
    return {**varied, "_told_apart": _told_apart(*scores)}


def _told_apart(real: Tensor, fake: Tensor) -> Tensor:
    """P(real > fake) + P(real = fake) / 2 of outputs [B] each, []: the area under the curve of Mann and Whitney."""
    ordered = fake.sort().values
    below, within = torch.searchsorted(ordered, real), torch.searchsorted(ordered, real, right=True)
    return (below + within).float().mean() / (2 * len(fake))


@final
class Adversarial(Contest):
    """A `GAN` against `critic(x [B, C, H, W], cond) -> [B]`, both the same at every step. Nets: generator, critic."""

    def __init__(
        self,
        gan: GAN,
        critic: nn.Module,
        rules: Rules = Rules(),
        condition: Callable[[Batch], Cond] = unconditional,
    ):
        super().__init__(gan.latent_dim, gan.prior, rules, condition)
        self.generator, self.critic = gan.generator, critic

    def nets(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def players(self, step: int) -> Players:
        return Players(self.generator, self.critic, lambda x: x)
