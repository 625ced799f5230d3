r"""Self-conditioning: a denoiser that is also told what was believed of x_0 one call before.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202), Sec. 2.2 and Algorithm 1, for any network with a `concat`
port and any prediction. In training a share of the data (half of them) is told the net's own first belief, which no
gradient enters, and the rest zeros; in sampling the last belief, zeros at first:

    x_0^ = D(x_t, t, 0),    loss || D(x_t, t, stop(x_0^)) - x_0 ||^2

A sampler's loop (`core.sample`) hands the last belief on under `cond["estimate"]`; where nobody does (a likelihood, the
first call), the estimate is zero and the network is a plain one. Book: chapter 4, "Self-conditioning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond, Denoiser

ESTIMATE = "estimate"


def with_estimate(cond: Cond, x: Tensor) -> dict[str, Tensor]:
    """`cond` whose `concat` ends in the estimate of x_0 for `x` [B, C, H, W]: `cond["estimate"]`, or zeros."""
    told = {key: value for key, value in cond.items() if key != ESTIMATE}
    estimate = cond[ESTIMATE].to(x.dtype) if ESTIMATE in cond else torch.zeros_like(x)
    told["concat"] = torch.cat([told["concat"], estimate], 1) if "concat" in told else estimate
    return told


@final
@dataclass(frozen=True)
class SelfConditioning:
    """Wraps a denoiser whose net takes the estimate as the last channels of its `concat` port.

    `share`: how many of the data are told an estimate in training.
    """

    share: float = 0.5

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def told(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            return denoise(x, t, with_estimate(cond, x))

        return told

    def estimates(self, denoise: Denoiser, x: Tensor, t: Tensor, cond: Cond, rng: torch.Generator) -> Cond:
        """What the net is told in training at `x` [B, C, H, W] and `t` [B]: its first belief, for a share of them.

        Which of them is drawn anew each time; how many is the nearest whole number below or above, right on average.
        The net is called even if it is none, for a net that is sharded is called equally often on all ranks.
        """
        estimate = torch.zeros_like(x)
        count = int(self.share * len(x) + float(torch.rand((), generator=rng, device=rng.device)))
        chosen = torch.randperm(len(x), generator=rng, device=rng.device)[: max(count, 1)]
        some, when = chosen.to(x.device), chosen.to(t.device)
        with torch.no_grad():
            belief = self(denoise)(x[some], t[when], {key: value[some] for key, value in cond.items()})
        torch.clear_autocast_cache()  # older PyTorch keeps casts of weights that no gradient goes through
        estimate[some[:count]] = _clean(belief)[:count].to(x.dtype)
        return with_estimate({**cond, ESTIMATE: estimate}, x)


def _clean(belief: Belief) -> Tensor:
    if not isinstance(belief, Gaussian):
        raise UsageError("Self-conditioning tells a network its estimate of continuous data; this one's are discrete.")
    return belief.x0
