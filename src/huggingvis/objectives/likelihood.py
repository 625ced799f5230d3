r"""Maximum likelihood of any model that tells a density of pictures, and what such a density says of 8-bit ones.

Uniform dequantisation (Theis, van den Oord & Bethge 2015, arXiv 1511.01844, Sec. 3.1): a value v of `levels` is spread
evenly over its bin, x = 2 (v + u) / levels - 1 with u ~ U[0, 1), and

    log P(v) = log E_u p(x) + D log(2 / levels) >= E_u log p(x) + D log(2 / levels)

is minimised as bits per dimension, -log P / (D log 2). `_nats` is log p of pictures scaled to [0, 1], the unit of NICE
(Dinh et al. 2014, arXiv 1410.8516, Sec. 5.1). With several draws of u the bound is tighter (Ho et al. 2019, arXiv
1902.00275, Sec. 3.1). Book: chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Likelihood
from huggingvis.nets.flows.bijection import wide
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.objectives.discretised import level_of

CHECK_EVERY = 50
"""Steps between checks where looking at a number waits for the device."""


BITS = (
    "Bits per dimension are of pictures of 256 values, rounded to the nearest; a density tells them of pictures "
    "dequantised evenly, x = 2 (v + u)/256 - 1 with u in [0, 1)"
)
"""What every family's bits per dimension are of, in words."""


class Watched(Protocol):
    """A model that can tell how healthy it is."""

    def watch(self, x: Tensor) -> Mapping[str, Tensor]:
        """Named numbers to log, on held-out pictures `x`."""
        ...

    def diagnose(self, x: Tensor) -> str:
        """What stopped being finite, in words."""
        ...


def dequantise(x: Tensor, rng: torch.Generator, levels: int = 256) -> Tensor:
    """Pictures in [-1, 1] -> the same, each value drawn anew from the one of `levels` equal bins that it belongs to."""
    v = level_of(x, levels)
    u = torch.rand(x.shape, generator=rng, device=rng.device, dtype=v.dtype).to(x.device)
    return 2 * (v + u) / levels - 1


@torch.no_grad()
def log_probability(model: Likelihood, x: Tensor, *, draws: int = 1, seed: int = 0, levels: int = 256) -> Tensor:
    """log P of pictures with `levels` values, by `draws` dequantisations of each: a lower bound in expectation.

    x [B, C, H, W] in [-1, 1]; nats, float64 [B] on the CPU. Divide by -(C H W log 2) for bits per dimension.
    """
    if draws < 1:
        raise UsageError(f"The bound needs at least one draw, found {draws}.")
    rng = torch.Generator(x.device).manual_seed(seed)
    each = [model.log_prob(dequantise(x, rng, levels)).cpu().double() for _ in range(draws)]
    return torch.logsumexp(torch.stack(each), 0) - math.log(draws) + x[0].numel() * math.log(2 / levels)


def measure_density(model: Likelihood, batch: Batch, draws: int, seed: int, levels: int = 256) -> dict[str, Tensor]:
    """What papers tell of a density on `image`, [B] each: bits per dimension of its `levels`, and the log-density of
    pictures scaled to [0, 1], by `draws` dequantisations."""
    x = batch["image"]
    log_p, dims = log_probability(model, x, draws=draws, seed=seed, levels=levels), x[0].numel()
    return {"bits_per_dim": -log_p / (dims * math.log(2)), "log_density": log_p + dims * math.log(levels)}


@final
@dataclass(frozen=True, eq=False)
class OfClass:
    """log p(x|y) of a batch's `label` [B] under a flow whose `prior` knows classes, and -log2 p(y|x) times `weight`.

    The second is the term by which Glow's published code keeps classes apart (0.01 there, of a classifier of its own;
    here p(y|x) is the flow's by Bayes' rule): a class is worth log2 K bits of a picture's thousands at most.
    """

    flow: nn.Module
    prior: ClassPrior
    weight: float = 0.01

    def __call__(self, x: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        z, log_det = self.flow(x)
        each, label = self.prior.each(wide(z)) + log_det[:, None], batch["label"]  # [B, K], [B]
        chosen = each.gather(1, label[:, None]).squeeze(1)  # [B]
        bits = (each.logsumexp(1) - chosen).mean() / math.log(2)
        return chosen, {"class": self.weight * bits, "_right": (each.argmax(1) == label).float().mean()}


@final
class MaximumLikelihood(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]. Minimises bits per dimension of `model`, an `nn.Module` with `log_prob`.

    With `of_class` they are those of pictures whose class is known. A density that is not finite raises
    `NumericalTrouble`; with `watched` it says which layer is to blame, and the health of the model is logged with each
    validation.
    """

    def __init__(
        self, model: nn.Module, levels: int = 256, watched: Watched | None = None, of_class: OfClass | None = None
    ):
        super().__init__()
        if not isinstance(model, Likelihood):
            raise TypeError(f"{type(model).__name__} has no log_prob(x), so its likelihood cannot be maximised")
        self.model, self.levels, self.of_class = model, levels, of_class
        self.watched = [watched]  # in a list: it may be `model`, which is registered once

    def nets(self) -> Mapping[str, nn.Module]:
        return {"flow": self.model}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("flow",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x = dequantise(batch["image"], rng, self.levels)
        log_p, more = self.of_class(x, batch) if self.of_class else (self.model.log_prob(x), {})  # [B]
        if x.device.type == "cpu" or step % CHECK_EVERY == 0:
            self._check(log_p, x)
        return self._losses(log_p.mean(), x[0].numel()) | more

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Held-out losses of the model as it is used afterwards: without autocast."""
        with torch.autocast(batch["image"].device.type, enabled=False):
            losses = dict(self.loss(batch, 0, rng))
            for watched in self.watched:
                if watched is not None:
                    losses.update(watched.watch(dequantise(batch["image"], rng, self.levels)))
        return losses

    def _losses(self, log_p: Tensor, dims: int) -> dict[str, Tensor]:
        bits = -(log_p / dims + math.log(2 / self.levels)) / math.log(2)
        return {"bits_per_dim": bits, "_nats": log_p.detach() + dims * math.log(2)}

    def _check(self, log_p: Tensor, x: Tensor) -> None:
        good = torch.isfinite(log_p)
        if good.all():
            return
        where = next((w.diagnose(x[~good]) for w in self.watched if w is not None), "the density itself")
        raise NumericalTrouble(
            f"The log-density of {int((~good).sum())} of {len(log_p)} pictures is not finite. What broke first is "
            f"{where}. The last checkpoint is sound: resume it with a lower learning rate, a longer warm-up or tighter "
            "clipping, with bounded scales (tanh), or in float32."
        )
