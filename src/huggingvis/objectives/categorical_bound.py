r"""The ledger of the variational bound of a categorical chain, and what its first authors left of it.

For the times 0 = t_0 < t_1 < ... < t_T (Sohl-Dickstein et al. 2015, arXiv 1503.03585, Eq. 10-14; Austin et al. 2021,
arXiv 2107.03006, Eq. 1), position by position:

    prior   KL( q(x_T|x_0) || pi )
    steps   KL( q(x_{k-1}|x_k, x_0) || p(x_{k-1}|x_k) ),  k = 2..T
    data    the same for k = 1, which is -log p(x_0|x_1)

-log p(x_0) <= prior + steps + data. The first paper does not learn the last step: p(x_0|x_1) is the forward step turned
round, and costs the entropy of q(x_1|x_0) where pi has the mean of the data (its Appendix B), here `fixed_end`.
Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.categorical import CategoricalProcess, believed
from huggingvis.core.protocols import Bound
from huggingvis.objectives.ledger import Ledger, over_steps


@final
@dataclass(frozen=True)
class CategoricalBound:
    """The bound of the chain whose steps are those of `samplers.categorical` between `times` [T + 1], from 0."""

    process: CategoricalProcess
    times: Tensor

    def __call__(self, denoise: Bound, x: Tensor, rng: torch.Generator, draws: int = 10) -> Ledger:
        """`steps` by `draws` of the T - 1 of them; all of them, each once, where there are no more."""
        return {
            "prior": _divergence(self._marginal(x, -1), self.process.prior.to(x.device)),
            "steps": over_steps(lambda k: self.step(denoise, x, k, rng), range(2, len(self.times)), x, rng, draws),
            "data": self.step(denoise, x, torch.ones(len(x), dtype=torch.long), rng),
        }

    def step(self, denoise: Bound, x: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """L_{k-1} of each datum x [B, ...] for its own `k` [B] in 1..T, nats [B]."""
        t, s = self.times[k], self.times[k - 1]
        noisy = self.process.add_noise(x, torch.randn(x.shape, generator=rng, device=rng.device).to(x.device), t)
        return self.cost(denoise, x, noisy, t, s)

    def cost(self, denoise: Bound, x: Tensor, noisy: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The divergence of the step from t to s where x_t is `noisy` [B, ...], nats [B]."""
        true = self.process.posterior(self.process.one_hot(x), noisy, t, s)
        return _divergence(true, self.process.posterior(believed(denoise, noisy, t), noisy, t, s))

    def fixed_end(self, x: Tensor) -> Tensor:
        """What `data` is where the last step is not learned: the entropy of q(x_1|x_0), nats [B]."""
        law = self._marginal(x, 1)
        return torch.special.entr(law).flatten(1).sum(1)

    def _marginal(self, x: Tensor, k: int) -> Tensor:
        return self.process.marginal(x, self.times[k])


def _divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of laws [B, ..., K], summed over positions, nats [B]."""
    return (torch.xlogy(q, q) - torch.xlogy(q, p)).flatten(1).sum(1)
