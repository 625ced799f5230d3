r"""Training the variance of the reverse process: the plain loss and a little of the variational bound.

Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 16 and Sec. 3.1, over the T knots of a table, with s the knot before t,

    L_hybrid = L_simple + 0.001 L_vlb,    L_vlb = T E_t[ L_t ] in bits per dimension
    L_t = KL( q(x_s | x_t, x_0) || N(mu, Sigma) ),    at the first knot  -log P(x_0 | x_1)

each of them a line of the ledger in `objectives.discrete_bound`, by which trained models are measured too. In the bound
x_0^ is a constant: it teaches the variance, and the plain loss the mean. Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.objectives.denoise import Asked, Denoising
from huggingvis.objectives.discrete_bound import DiscreteBound


@final
class Hybrid(Objective):
    """`simple` on a table of `T` knots, and the share `bound` of L_vlb; x_0 are pictures in [-1, 1].

    `simple.prediction` tells a variance (`core.learned_variance`), and its times are knots. `mean_too` lets the bound
    teach the mean as well, and `mse` is the share of the plain loss: 0, with `bound=1`, is the paper's L_vlb.
    """

    def __init__(self, simple: Denoising, T: int, *, bound: float = 1e-3, mse: float = 1.0, mean_too: bool = False):
        super().__init__()
        if T < 2:
            raise UsageError(f"The variances that L_hybrid teaches need a table of two knots or more, found {T}.")
        self.simple, self.T, self.bound, self.mse, self.mean_too = simple, T, bound, mse, mean_too
        self.ledger = DiscreteBound(simple.process, torch.arange(T + 1, dtype=torch.float64) / T)

    def nets(self) -> Mapping[str, nn.Module]:
        return self.simple.nets()

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, tuple(self.nets())),)

    def after(
        self,
        turn: Turn,
        step: int,
        *,
        params: Mapping[str, list[nn.Parameter]],
        batch: Batch,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        self.simple.after(turn, step, params=params, batch=batch, reduce=reduce)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        asked = self.simple.ask(batch, rng)
        squares = self.simple.squares(asked)  # [B]
        squares, bits = self.simple.level(asked.t).to(squares) * squares, self.T * self.bits(asked)
        self.simple.note(asked.t, self.mse * squares + self.bound * bits)
        weight = self.simple.times.weight(asked.t).to(squares)  # [B]
        return {
            "mse": self.mse * (weight * squares).mean(),
            "bound": self.bound * (weight * bits).mean(),
            "_bits_per_dim": (weight * bits).mean().detach(),
        }

    def bits(self, asked: Asked) -> Tensor:
        """L_t in bits per dimension, [B]."""
        wide = torch.promote_types(asked.x.dtype, torch.float32)
        x0 = asked.x0.to(wide)
        prediction, process = self.simple.prediction, self.simple.process
        belief = prediction.belief(process, asked.out.to(wide), asked.x.to(wide), asked.t)
        assert belief.v is not None, "a hybrid objective trains a network that tells a variance"
        mean, v = belief.x0 if self.mean_too else belief.x0.detach(), belief.v
        k = (asked.t * self.T).round().long()
        later = self.ledger.divergence(x0, replace(belief, x0=mean), k.clamp(min=2))
        first = (k == 1).to(x0.device)
        # elsewhere the mass of a bin may underflow, and a gradient of zero times that is no number
        there = first.view(-1, *[1] * (x0.ndim - 1))
        seen = replace(belief, x0=torch.where(there, mean, x0), v=torch.where(there, v, 0.0))
        nats = torch.where(first, self.ledger.decoded(x0, seen), later)
        return nats / (x0[0].numel() * math.log(2))
