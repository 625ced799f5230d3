r"""Training the variance of the reverse process: the plain loss and a little of the variational bound.

Nichol, Dhariwal 2021, arXiv 2102.09672, Eq. 16 and Sec. 3.1, over the T knots of a table, with s the knot before t,

    L_hybrid = L_simple + 0.001 L_vlb,    L_vlb = T E_t[ L_t ] in bits per dimension
    L_t = KL( q(x_s | x_t, x_0) || N(mu, Sigma) ),    at the first knot  -log P(x_0 | x_1)

The two means differ by g (x_0 - x_0^), g = alpha_s beta/sigma_t^2 (`samplers.variances`), so with the gap squared,

    KL = [ log Sigma/beta-tilde + (beta-tilde + g^2 (x_0 - x_0^)^2)/Sigma - 1 ]/2

In the bound x_0^ is a constant: it teaches the variance, and the plain loss the mean. P is a Gaussian's mass in the bin
of an 8-bit value (Ho et al. 2020, arXiv 2006.11239, Eq. 13). Book: chapter 4, "Improved DDPM".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.core.shapes import expand
from huggingvis.objectives.denoise import Asked, Denoising


@final
class Hybrid(Objective):
    """`simple` on a table of `T` knots, and the share `bound` of L_vlb; x_0 are pictures in [-1, 1].

    `simple.prediction` tells a variance (`core.learned_variance`), and its times are knots. `mean_too` lets the bound
    teach the mean as well, and `mse` is the share of the plain loss: 0, with `bound=1`, is the paper's L_vlb.
    """

    def __init__(self, simple: Denoising, T: int, *, bound: float = 1e-3, mse: float = 1.0, mean_too: bool = False):
        super().__init__()
        self.simple, self.T, self.bound, self.mse, self.mean_too = simple, T, bound, mse, mean_too

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
        squares, bits = self.simple.squares(asked), self.T * self.bits(asked)  # [B] each
        self.simple.note(asked.t, self.mse * squares + self.bound * bits)
        weight = self.simple.times.weight(asked.t).to(squares)  # [B]
        return {
            "mse": self.mse * (weight * squares).mean(),
            "bound": self.bound * (weight * bits).mean(),
            "_bits_per_dim": (weight * bits).mean().detach(),
        }

    @torch.no_grad()
    def measure(self, batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        """L_vlb of each item, `bits`, with the divergence from the law that samples start from; and `mse`; [B]."""
        rng = torch.Generator(batch["x0"].device).manual_seed(seed)
        bits, squares = [], []
        for asked in (self.simple.ask(batch, rng) for _ in range(draws)):
            weight = self.simple.times.weight(asked.t).to(asked.x)
            bits.append(weight * self.T * self.bits(asked))
            squares.append(weight * self.simple.squares(asked))
        end = torch.ones((), dtype=torch.float64)
        signal = float(self.simple.process.alpha(end) / self.simple.process.sigma(end))
        prior = (signal * batch["x0"]).square().flatten(1).mean(1) / (2 * math.log(2))
        return {"bits": torch.stack(bits).mean(0) + prior, "mse": torch.stack(squares).mean(0)}

    def bits(self, asked: Asked) -> Tensor:
        """L_t in bits per dimension, [B]."""
        process, t = self.simple.process, asked.t
        wide = torch.promote_types(asked.x.dtype, torch.float32)
        x0 = asked.x0.to(wide)
        belief = self.simple.prediction.belief(process, asked.out.to(wide), asked.x.to(wide), t)
        assert belief.v is not None, "a hybrid objective trains a network that tells a variance"
        mean = belief.x0 if self.mean_too else belief.x0.detach()
        pull, beta, _ = self._step(t)
        small = self._step(t.clamp(min=2 / self.T))[2]  # at the first knot, where it is 0, that of the second
        log_beta, log_small = (expand(torch.log(c), x0) for c in (beta, small))
        log_var = belief.v * log_beta + (1 - belief.v) * log_small  # [B, C, ...]
        gap = expand(pull, x0) ** 2 * (x0 - mean) ** 2
        kl = (log_var - log_small + (log_small.exp() + gap) / log_var.exp() - 1) / 2
        first = expand((t < 1.5 / self.T).to(wide), x0).bool()
        nats = torch.where(first, -pixel_log_prob(x0, mean, log_var), kl)
        return nats.flatten(1).mean(1) / math.log(2)

    def _step(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(g, beta, beta-tilde) of the step from knots `t` [B] to the ones before, in float64."""
        process, s = self.simple.process, (t - 1 / self.T).clamp(min=0)
        a_t, s_t, a_s, s_s = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
        beta = s_t**2 - (a_t / a_s * s_s) ** 2
        return a_s * beta / s_t**2, beta, beta * s_s**2 / s_t**2


def pixel_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log P of each 8-bit value x in [-1, 1]: the mass of N(mean, exp log_var) in its bin; the ends take the tails."""
    rate = torch.exp(-log_var / 2)
    above, below = (x + 1 / 255 - mean) * rate, (x - 1 / 255 - mean) * rate
    above = torch.where(x > 1 - 1 / 255, torch.full_like(x, math.inf), above)
    below = torch.where(x < -1 + 1 / 255, torch.full_like(x, -math.inf), below)
    # of Phi(a) - Phi(b) = Phi(-b) - Phi(-a), the form whose terms are small keeps its digits
    turned = above + below > 0
    above, below = torch.where(turned, -below, above), torch.where(turned, -above, below)
    high = torch.special.log_ndtr(above)
    return high + torch.log(-torch.expm1((torch.special.log_ndtr(below) - high).clamp(max=-1e-7)))
