r"""Distributions over grids of codes, and the training of an autoregressive one.

van den Oord et al. 2017 (arXiv 1711.00937), Sec. 3.2 and 3.3: while the autoencoder learns, the prior is uniform,
-log p(c) = h w log K; afterwards an autoregressive one is fitted by maximum likelihood,

    -log p(c) = -sum_i log p(c_i | c_1 ... c_{i-1}).

A draw is exact: u ~ U(0, 1) at each position is looked up in the cumulated probabilities. Book: chapter 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.noise import Noise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond, OnStep, Step
from huggingvis.nets.code_prior import CodePrior, Past


class Codes(Protocol):
    """p(c) of grids (h, w) of `size` codes, int64 [B, h, w]."""

    size: int
    grid: tuple[int, int]

    def log_prob(self, codes: Tensor, cond: Cond) -> Tensor:
        """Nats, [B]."""
        ...

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """[n, h, w]."""
        ...


def quantile(logits: Tensor, u: Tensor) -> Tensor:
    """The code at which the probabilities of `logits` [..., K] add up to `u` [...] in [0, 1]: a draw if u is one."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = wide.softmax(-1).cumsum(-1)
    total = total / total[..., -1:]  # its end is 1 exactly, so that no u lies beyond it
    return torch.searchsorted(total, u[..., None].to(total.dtype).contiguous())[..., 0]


@final
class UniformCodes(nn.Module):
    """Every grid is equally likely: what an autoencoder is trained under."""

    logits: Tensor

    def __init__(self, size: int, grid: tuple[int, int]):
        super().__init__()
        self.size, self.grid = size, grid
        self.register_buffer("logits", torch.zeros(size), persistent=False)

    def log_prob(self, codes: Tensor, cond: Cond) -> Tensor:
        return self.logits.new_full((len(codes),), -math.prod(self.grid) * math.log(self.size))

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        u = torch.special.ndtr(noise.draw(self.logits.new_empty(n, *self.grid)))
        return quantile(self.logits.expand(*u.shape, -1), u)


@final
class AutoregressiveCodes(nn.Module):
    """Codes one after another, row by row. `on_step` hears of each, with the codes so far (the rest 0) as its x."""

    def __init__(self, net: CodePrior):
        super().__init__()
        self.net, self.size, self.grid = net, net.config.size, (net.config.height, net.config.width)

    def log_prob(self, codes: Tensor, cond: Cond) -> Tensor:
        return -self.surprise(codes, cond).sum(1)

    def surprise(self, codes: Tensor, cond: Cond) -> Tensor:
        """-log p(c_i | c_1 ... c_{i-1}) in nats, [B, h w]."""
        logits = self.net(codes, cond)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").unflatten(0, (len(codes), -1))

    @torch.no_grad()
    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        h, w = self.grid
        u = torch.special.ndtr(noise.draw(self.net.start.new_empty(n, h * w, dtype=torch.float32)))
        codes = torch.zeros(n, h * w, dtype=torch.int64, device=u.device)
        past: Past = []
        for i in range(h * w):
            logits, past = self.net.grow(codes[:, max(i - 1, 0)], past, i, cond)  # [n, K]
            codes[:, i] = quantile(logits, u[:, i])
            if on_step is not None:
                on_step(Step(i, h * w, 1 - i / (h * w), 1 - (i + 1) / (h * w), codes.view(n, h, w), None))
        return codes.view(n, h, w)


class Condition(Protocol):
    """What a training batch tells the net."""

    def __call__(self, batch: Batch) -> Cond: ...


@final
class CodeLikelihood(Objective):
    """Batch: `codes` [B, h, w], what `condition` reads, and held out perhaps `given` [B], log p(x|c) in nats.

    Minimises -log p(c), in nats per code. `dims`: values of a picture; with it, held-out losses hold the bits that each
    costs in all, -(log p(x|c) + log p(c)) / (dims log 2).
    """

    def __init__(self, net: CodePrior, condition: Condition, dims: int | None = None):
        super().__init__()
        self.codes, self.condition, self.dims = AutoregressiveCodes(net), condition, dims

    def nets(self) -> Mapping[str, nn.Module]:
        return {"prior": self.codes.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("prior",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        surprise = self.codes.surprise(batch["codes"], self.condition(batch))  # [B, h w]
        with torch.no_grad():
            whole = surprise.sum(1).mean()
        return {"surprise": surprise.mean(), "_nats": whole}

    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        losses = dict(self.loss(batch, 0, rng))
        if self.dims is not None and "given" in batch:
            losses["_bits_per_dim"] = (losses["_nats"] - batch["given"].mean()) / (self.dims * math.log(2))
        return losses
