r"""The bound of a diffusion model in T steps, for the times 0 = t_0 < t_1 < ... < t_T of any process.

    prior   L_T      = KL( q(x_T|x_0) || N(0, sigma_T^2) )
    steps   L_{k-1}  = KL( q(x_{k-1}|x_k, x_0) || p(x_{k-1}|x_k) ),  k = 2..T        p's mean from the believed x_0
    data    L_0      = -log p(x_0|x_1)

Sources: Ho, Jain, Abbeel 2020 (arXiv 2006.11239, Eq. 5-8 and 13); Nichol & Dhariwal 2021 (arXiv 2102.09672, Eq. 4-7).
Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from huggingvis.core.belief import Gaussian
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.shapes import expand
from huggingvis.objectives.ledger import Ledger, believed, noised, over_steps, prior_cost
from huggingvis.objectives.observed import Levels, Observed


@final
@dataclass(frozen=True)
class DiscreteBound:
    """The bound of the chain whose steps are those of `samplers.ancestral` between `times` [T + 1], rising from 0.

    A belief may tell its variance, by `logvar` or `v` (`samplers.variances`). Where it does not, `v` is that of the
    steps, 0 for beta-tilde, 1 for beta (Nichol & Dhariwal's Eq. 15, fixed); the last step, where beta-tilde is 0, takes
    the one before it, as theirs does. Where data have a density, beta is right for the small noises, and only with it
    does the bound become tight with more steps.
    """

    process: Process
    times: Tensor
    observed: Observed = Levels()
    v: float = 1.0

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` of the T - 1 of them; all of them, each once, where there are no more."""
        return {
            "prior": prior_cost(self.process, x, float(self.times[-1])),
            "steps": over_steps(
                lambda k: self.step(denoise, x, k, rng), range(2, len(self.times)), x, rng, draws, self.share
            ),
            "data": self.data(denoise, x, rng),
        }

    @property
    def share(self) -> Tensor:
        """How the steps 2..T share their sum, as a guess, [T - 1] float64: by what each tells of a datum from N(0, I),
        1/2 log(1 + SNR) at its end less that at its start. Of the 1,000 steps of a table the first dozen are a third
        of it, and drawn evenly they would be missed."""
        told = softplus(self.process.log_snr(self.times[1:]))
        return told[:-1] - told[1:]

    def step(self, denoise: Bound, x: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """L_{k-1} of each datum for its own `k` [B] in 2..T, nats [B]."""
        t = self.times[k]
        return self.divergence(x, believed(denoise, noised(self.process, x, t, rng), t), k)

    def data(self, denoise: Bound, x: Tensor, rng: torch.Generator) -> Tensor:
        """L_0 of each datum, nats [B]."""
        t = self.times[1]
        return self.decoded(x, believed(denoise, noised(self.process, x, t, rng), t))

    def divergence(self, x: Tensor, belief: Gaussian, k: Tensor) -> Tensor:
        """L_{k-1} of data x [B, ...] under the belief at the times `k` [B], nats [B].

        The two means differ by g (x_0 - x^_0), g = alpha_s beta/sigma_t^2 (`samplers.variances`).
        """
        pull, beta, tilde = self._chain(k)
        gain = expand(pull**2 / tilde, x)
        if belief.logvar is None:
            wider = self._v(x, belief) * expand((beta / tilde).log(), x)  # log of the model's variance over beta-tilde
        else:
            wider = torch.log1p(gain * belief.logvar.exp())
        gap = gain * (x - belief.x0) ** 2
        # each of d and expm1(-d) keeps its digits where the two variances are nearly one
        return 0.5 * (wider + torch.expm1(-wider) + gap * torch.exp(-wider)).flatten(1).sum(1)

    def decoded(self, x: Tensor, belief: Gaussian) -> Tensor:
        """L_0 of data x [B, ...] under the belief at the first time, nats [B]."""
        if belief.logvar is not None:
            return -self.observed(x, belief.x0, torch.exp(belief.logvar / 2))
        beta = self._chain(torch.tensor(1))[1].log()
        tilde = self._chain(torch.tensor(2))[2].log() if len(self.times) > 2 else beta
        v = self._v(x, belief)
        return -self.observed(x, belief.x0, torch.exp((v * expand(beta, x) + (1 - v) * expand(tilde, x)) / 2))

    def _v(self, x: Tensor, belief: Gaussian) -> Tensor:
        return torch.full((), self.v, dtype=x.dtype, device=x.device) if belief.v is None else belief.v

    def _chain(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(g, beta, beta-tilde) of the steps from the times `k` [] or [B] to the ones before, float64."""
        times = self.times.to(k.device)
        t, s = times[k], times[k - 1]
        a_t, s_t, a_s, s_s = self.process.alpha(t), self.process.sigma(t), self.process.alpha(s), self.process.sigma(s)
        beta = s_t**2 - (a_t / a_s * s_s) ** 2
        return a_s * beta / s_t**2, beta, beta * s_s**2 / s_t**2
