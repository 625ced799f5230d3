r"""A sampler whose coefficients are learned: few steps, each the best for a given model instead of the solver's.

Watson, Chan, Ho, Norouzi 2022, "Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality"
(arXiv 2202.05830). GGDM: a step may look at every belief so far. With the grid t_0 > t_1 > ... > t_N and the belief
x_0^i held at t_i,

    x_{n+1} = a_n x_n + sum_{i <= n} b_{n i} x_0^i + c_n z

(the believed noise (x_n - alpha x_0^n)/sigma is such a sum). DDSS: a, b and c are fitted by gradients of a measure of
samples, theirs a kernel distance, through the unrolled chain; to begin with they are DDIM's (Song, Meng, Ermon 2020,
arXiv 2010.02502, Eq. 12). Beliefs are recomputed backwards, so memory does not grow with the model's depth.
Book: chapter 4, "Learned samplers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sample import Grid, Sampler, State
from huggingvis.samplers._levels import clean, levels

SYSTEM = {
    "name": "GGDM",
    "chapter": 4,
    "paper": "2202.05830",
    "files": ["samplers/learned_steps.py"],
    "built": "tests/walks/test_samplers.py::test_learned_steps_come_nearer_to_a_long_chain",
    "exact": "tests/oracle/test_learned_steps.py::test_a_kernel_distance_falls",
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
class Coefficients(nn.Module):
    """a, b and c of every step along `grid`, float64. Fresh ones are DDIM's with the share `eta` of fresh noise.

    `kept` [N] is a, `beliefs` [N, N] is b (row n is step n's; nothing is read beyond its diagonal), `fresh` [N] is c.
    """

    def __init__(self, process: Process, grid: Grid, eta: float = 0.0):
        super().__init__()
        self.times = tuple(grid.times.tolist())
        each = [levels(process, t, s) for t, s in grid.pairs()]
        fresh = [eta * c.fresh**0.5 * c.s_s / c.s_t for c in each]
        kept = [max(c.s_s**2 - z**2, 0.0) ** 0.5 / c.s_t for c, z in zip(each, fresh, strict=True)]
        own = [c.a_s - c.a_t * a for c, a in zip(each, kept, strict=True)]
        self.kept = nn.Parameter(torch.tensor(kept, dtype=torch.float64))
        self.beliefs = nn.Parameter(torch.diag(torch.tensor(own, dtype=torch.float64)))
        self.fresh = nn.Parameter(torch.tensor(fresh, dtype=torch.float64), requires_grad=eta > 0)


@final
@dataclass(frozen=True, eq=False)
class LearnedSteps(Sampler):
    """GGDM's sampler with `numbers`. `recompute`: hold no graph of the model, but call it again in backward.

    Raises `UsageError` on another grid than the numbers are for.
    """

    numbers: Coefficients
    recompute: bool = False
    order = 1

    def init(self) -> State:
        """The beliefs so far."""
        return ()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        n, c = len(state), self.numbers
        if n + 1 >= len(c.times) or (float(t), float(s)) != (c.times[n], c.times[n + 1]):
            raise UsageError(
                f"These learned steps are for a grid of {len(c.times) - 1} steps of its own; step {n + 1} of this one "
                f"goes from {float(t):g} to {float(s):g}. Sample on the grid that they were made for."
            )

        def believed(x: Tensor) -> Tensor:
            return clean(denoise(x, t))

        held = checkpoint(believed, x, use_reentrant=False) if self.recompute and x.requires_grad else believed(x)
        beliefs = (*state, held)
        weights = c.beliefs[n].to(x)  # [N]
        out = c.kept[n].to(x) * x + sum((weights[i] * x0 for i, x0 in enumerate(beliefs)), torch.zeros_like(x))
        if c.fresh.requires_grad:
            out = out + c.fresh[n].to(x) * noise.draw(x)
        return out, beliefs
