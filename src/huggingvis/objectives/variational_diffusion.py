r"""Variational diffusion: the bound of the likelihood itself is minimised, and its schedule makes it easy to estimate.

Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630. In nats, with -log p(x_0) <= prior + steps + data as in
`objectives.continuous_bound`, the steps are (Sec. 4.1 and 4.2)

    L_inf = 1/2 E_{eps, t ~ U} [ -SNR'(t) |x_0 - x^_0|^2 ]
    L_T   = T/2 E_{eps, k ~ U} [ (SNR(t_{k-1}) - SNR(t_k)) |x_0 - x^_0|^2 ]

with times that a batch spreads evenly (App. I.1). L_inf depends on no more of the schedule than its ends, so the bound
teaches network and ends, and a turn of its own the shape between the ends: it minimises the mean square of what one
datum is estimated at, which is the variance, as the mean stays (App. I.2, where both gradients come out of one backward
pass; here the turn is taken now and then instead). L_T does depend on the shape: there the bound teaches it. It works
on any process, with a net of any prediction; without a learnt process there is one turn.
Book: chapter 4, "Variational diffusion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.core.shapes import expand
from huggingvis.objectives.continuous_bound import ContinuousBound, Integral, OverTime
from huggingvis.objectives.denoise import Denoising, stratified
from huggingvis.objectives.ledger import Ledger, in_bits
from huggingvis.processes.learned_gamma import LearnedGamma

SHAPE = "gamma"
"""The net of a learnt process that has a turn of its own in continuous time."""


@final
class VariationalDiffusion(Objective):
    """Batch: `x0` [B, ...] and what `simple` reads beside it. Minimises the bound in bits per dimension.

    `simple` has the net and its prediction, `ledger` the bound of the same process, in continuous time or of a depth.
    `every`: steps between two turns of a learnt shape. Logged: `_bits_per_dim`, and `_spread`, the standard deviation
    of the steps' estimate.
    """

    def __init__(self, simple: Denoising, ledger: ContinuousBound, every: int = 4):
        super().__init__()
        self.simple, self.ledger, self.every = simple, ledger, every
        over_time = OverTime(ledger.process, ledger.least, ledger.last)
        self.integral: Integral = over_time if ledger.depth is None else ledger.integral

    def nets(self) -> Mapping[str, nn.Module]:
        process = self.simple.process
        return {**self.simple.nets(), **(process.parts() if isinstance(process, LearnedGamma) else {})}

    def turns(self, step: int) -> tuple[Turn, ...]:
        names = tuple(self.nets())
        if SHAPE not in names or self.ledger.depth is not None:
            return (Turn(self.loss, names),)
        taught = tuple(name for name in names if name != SHAPE)
        return Turn(self.loss, taught), Turn(self.variance, (SHAPE,), every=self.every, name="variance")

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        """The bound, of which each part is in bits per dimension."""
        each = self.each(batch, rng)
        whole = each.pop("bits_per_dim")
        spread = each["steps"].detach().std(correction=0)
        told = {"_bits_per_dim": whole.detach().mean(), "_spread": spread}
        return {name: bits.mean() for name, bits in each.items()} | told

    def variance(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        """The mean square of the steps' estimate: its variance, and a square that the shape does not change."""
        bits = in_bits({"steps": self.steps(batch, rng)}, batch["x0"][0].numel())["steps"]
        return {"square": bits.square().mean()}

    def each(self, batch: Batch, rng: torch.Generator) -> Ledger:
        """The ledger of each datum by one draw, [B], in bits per dimension; gradients go to net and process."""
        x0 = batch["x0"]
        nats = {"prior": self.ledger.prior(x0), "steps": self.steps(batch, rng), "data": self.ledger.data(x0, rng)}
        return in_bits(nats, x0[0].numel())

    def steps(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """L_inf or L_T of each datum by one time, nats [B]."""
        x0 = batch["x0"]
        t, weight = self.integral(stratified(len(x0), rng))
        asked = self.simple.ask_at(batch, t, rng)
        wide = torch.promote_types(asked.x.dtype, torch.float32)
        believed = self.simple.prediction.belief(self.simple.process, asked.out.to(wide), asked.x.to(wide), t).x0
        return (expand(weight, believed) * (x0 - believed).square()).flatten(1).sum(1)
