r"""Completing a picture of which a part is seen, by a conditional autoencoder: the paper's task on digits.

Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative Models" (NeurIPS),
Sec. 5.1: one, two or three quadrants are given. Completions are draws of z ~ p(z|x); without chance (Sec. 4.1) it is

    y* = E[y | x, z*],  z* = E[z | x]

and `Independent` is the paper's baseline, the same network without z. Book: chapter 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep
from huggingvis.objectives.cvae import CVAE, ConditionalELBO, Given
from huggingvis.objectives.vae import Likelihood, gaussian

NOTHING_GIVEN = (
    "This model completes pictures and draws none of nothing. Give it one: `hvis explore complete PICTURE "
    "--model RUN`, or in Python the condition 'concat', [B, C, H, W]."
)


@final
@dataclass(frozen=True)
class Quadrants:
    """One, two or three quarters of `cond["concat"]` [B, C, H, W] are given: lower left, upper left, upper right.

    Hidden values of the picture given are not looked at.
    """

    seen: int

    def __post_init__(self) -> None:
        if self.seen not in (1, 2, 3):
            raise UsageError(f"One, two or three quadrants of a picture can be given, found {self.seen}.")

    def mask(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """Where the picture is given, [H, W] bool."""
        lower = torch.arange(height, device=device)[:, None] >= height // 2
        left = torch.arange(width, device=device)[None, :] < width // 2
        quarters = (lower & left, ~lower & left, ~lower & ~left)
        return torch.stack(quarters[: self.seen]).any(0)

    def _seen(self, like: Tensor) -> Tensor:
        return self.mask(like.shape[2], like.shape[3], like.device).to(like.dtype)

    def numbers(self, cond: Cond, n: int, like: Tensor) -> Tensor:
        if "concat" not in cond:
            raise UsageError(NOTHING_GIVEN)
        picture = cond["concat"].to(like)
        return (picture * self._seen(picture)).flatten(1)  # [B, C H W]

    def open(self, values: Tensor) -> Tensor:
        return values * (1 - self._seen(values))

    def complete(self, y: Tensor, cond: Cond) -> Tensor:
        seen = self._seen(y)
        return y * (1 - seen) + cond["concat"].to(y) * seen


@final
class Completer(nn.Module):
    """A conditional autoencoder of `Quadrants` as one that completes pictures: `Completes` of `core.protocols`.

    It is `Generative` too, of pictures given as `cond["concat"]` [n, C, H, W], and `DrawsNone` without.
    """

    why_none = NOTHING_GIVEN

    def __init__(self, cvae: CVAE, quadrants: Quadrants):
        super().__init__()
        self.cvae, self.quadrants = cvae, quadrants

    def seen(self, x: Tensor) -> Tensor:
        return self.quadrants.mask(x.shape[2], x.shape[3], x.device)[None, None]

    def complete(self, x: Tensor, *, noise: Noise) -> Tensor:
        return self.sample(len(x), {"concat": x}, noise=noise)

    def likeliest(self, x: Tensor) -> Tensor:
        cond = {"concat": x}
        return self.cvae.decode(gaussian(self.cvae.prior(self.quadrants.numbers(cond, len(x), x))).mean, cond)

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        return self.cvae.sample(n, cond, noise=noise)


@final
class Independent(nn.Module):
    """The paper's baseline: p(y|x) with independent values, decoder c [B, P] -> [B, C, H, W], no z."""

    def __init__(self, decoder: nn.Module, likelihood: Likelihood, given: Given):
        super().__init__()
        self.decoder, self.likelihood, self.given = decoder, likelihood, given

    def log_prob(self, x: Tensor, cond: Cond) -> Tensor:
        """log p(y|x) of what is not given, exactly. Nats, [B]."""
        out = self.decoder(self.given.numbers(cond, len(x), x)).to(x.dtype)
        return self.given.open(self.likelihood.each(out, x)).flatten(1).sum(1)

    def predict(self, cond: Cond) -> Tensor:
        """The mean of p(y|x), completed by what is given, [B, C, H, W]."""
        like = next(self.decoder.parameters())
        n = len(next(iter(cond.values())))
        return self.given.complete(self.likelihood.mean(self.decoder(self.given.numbers(cond, n, like))), cond)


@final
class BesideBaseline(Objective):
    """A conditional autoencoder and its baseline, trained on the same pictures; neither touches the other.

    Held-out pictures are also scored as the paper does: `_negative_cll` by importance sampling with `draws` draws,
    beside `baseline`.
    """

    def __init__(self, conditional: ConditionalELBO, baseline: Independent, draws: int = 20):
        super().__init__()
        self.conditional, self.baseline, self.draws = conditional, baseline, draws

    def nets(self) -> Mapping[str, nn.Module]:
        return {**self.conditional.nets(), "baseline": self.baseline}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("cvae", "baseline")),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        y, cond = self.conditional.read(batch, rng)
        return {**self.conditional.of(y, cond, rng), "baseline": -self.baseline.log_prob(y, cond).mean()}

    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        y, cond = self.conditional.read(batch, rng)
        losses = {**self.conditional.of(y, cond, rng), "baseline": -self.baseline.log_prob(y, cond).mean()}
        return losses | {"_negative_cll": -self.conditional.cvae.log_prob(y, cond, draws=self.draws).mean()}
