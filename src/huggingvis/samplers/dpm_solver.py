r"""DPM-Solver++ (2M): a second-order multistep method, one call of the network per step.

Lu, Zhou, Bao, Chen, Li, Zhu 2022, arXiv 2211.01095, Algorithm 2. With lambda = log(alpha/sigma), h = lambda_s -
lambda_t, the previous step's h' and belief x_0', and r = h'/h,

    D   = x_0 + (x_0 - x_0')/(2 r)
    x_s = sigma_s/sigma_t x_t - alpha_s (exp(-h) - 1) D

written below with alpha_s (1 - exp(-h)) = alpha_s - alpha_t sigma_s/sigma_t, which stays finite at both ends. There is
no history at the first step, and a step to sigma = 0 has infinite h: both are of first order (DDIM).
Book: chapter 4, "DPM-Solver++".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sample import Sampler, State
from huggingvis.samplers._levels import clean, half_log_snr, levels


@final
@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    """DPM-Solver++ 2M; its state is (previous belief, its lambda).

    `lower_order_final`: steps that end at this time or before it are of first order. 0 is only the step to clean data,
    which must be; a grid that ends at a table's first knot wants that knot's time, 1/T, when its steps are few.
    """

    lower_order_final: float = 0.0
    order = 2

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        here, there = half_log_snr(c.a_t, c.s_t), half_log_snr(c.a_s, c.s_s)
        shrink = c.s_s / c.s_t
        believed = x0
        if state is not None and math.isfinite(there) and float(s) > self.lower_order_final + 1e-12:
            before, x0_before = state[1], state[0]
            weight = (there - here) / (2 * (here - before))  # 1/(2 r); 0 where the previous step began at alpha = 0
            believed = (1 + weight) * x0 - weight * x0_before  # [B, ...]
        return shrink * x + (c.a_s - c.a_t * shrink) * believed, (x0, here)
