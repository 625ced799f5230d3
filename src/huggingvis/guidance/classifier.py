r"""Classifier guidance: towards what a classifier of noisy data takes for the class that is asked for.

Dhariwal, Nichol 2021, arXiv 2105.05233, Algorithms 1 and 2, as Sohl-Dickstein et al. 2015, arXiv 1503.03585, first
wrote it. By Bayes grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t); with the second term times s, and since
the belief and the score are affine in each other (x_0 = (x + sigma^2 score)/alpha),

    x_0' = x_0 + s sigma^2/alpha grad_x log p(y | x_t)

on every process and for every sampler; s = 1 is the conditional model. Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.shapes import expand

LogProb = Callable[[Tensor, Tensor, Cond], Tensor]
"""log p(y | x_t) [B] in nats, differentiable in x [B, ...], at times `t` [] or [B]; y is in the condition."""


@final
@dataclass(frozen=True)
class Classifier:
    """Guidance by `log_prob` on `process`. `scale` s: 0 is none, and no call of the classifier.

    `interval` (lo, hi): the times at which it acts. At a time without any signal there is nothing to classify, and the
    belief stays as it is.
    """

    log_prob: LogProb
    process: Process
    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            belief = denoise(x, t, cond)
            if not isinstance(belief, Gaussian):
                raise TypeError(f"a classifier's gradient moves continuous data, found {type(belief).__name__}")
            alpha = self.process.alpha(t)
            acts = (t >= self.interval[0]) & (t <= self.interval[1]) & (alpha > 0)  # [] or [B]
            if self.scale == 0.0 or not bool(acts.any()):
                return belief
            far = torch.where(acts, self.scale * self.process.sigma(t) ** 2 / alpha, torch.zeros_like(alpha))
            return replace(belief, x0=belief.x0 + expand(far, x) * self.slope(x, t, cond).to(belief.x0.dtype))

        return guided

    def slope(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """grad_x log p(y | x_t), like x; also where gradients are switched off around it."""
        with torch.inference_mode(False), torch.enable_grad():
            at = x.detach().clone().requires_grad_()
            clear = {k: v.clone() for k, v in cond.items()}  # inference tensors cannot be kept for backward
            (slope,) = torch.autograd.grad(self.log_prob(at, t.clone(), clear).sum(), at)
        return slope
