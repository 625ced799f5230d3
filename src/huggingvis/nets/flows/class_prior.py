r"""Latents of classes: each class has its own place and spread among them, so that a flow is a density of each class.

    z_i = mu_{y,i} + sigma_{y,i} eps_i  for the coarsest latents,  z_i = eps_i  for the others

with eps of the unconditional density: the learned top prior in the published code of Glow (Kingma & Dhariwal 2018,
arXiv 1807.03039), which has one mu and sigma for each channel, here for each latent. All else of the flow knows no
class, so that one pass tells log p(x|y) of every class, and with them, exactly, under classes that are alike likely,

    log p(x) = logsumexp_y log p(x|y) - log K,        p(y|x) = softmax_y log p(x|y)

Fresh parameters are zero, and all classes one. Book: chapter 3.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.classes import some_class
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond
from huggingvis.nets.flows.prior import Prior


@final
class ClassPrior(nn.Module):
    """A `Prior` of latents [B, D] whose first `top` numbers are placed by a class, `cond["vector"]` [B, K] one-hot.

    Rows without a class are of any: scored by the mixture of all, drawn from a class by lot.
    """

    def __init__(self, base: Prior, classes: int, top: int):
        super().__init__()
        self.base, self.top = base, top
        self.mean = nn.Parameter(torch.zeros(classes, top))
        self.log_scale = nn.Parameter(torch.zeros(classes, top))

    def each(self, z: Tensor) -> Tensor:
        """log p(z|y) of every class, nats, [B, K]."""
        eps = (z[:, None, : self.top] - self.mean) * torch.exp(-self.log_scale)  # [B, K, top]
        rest = self.base.log_prob(z[:, self.top :])  # [B]
        return self.base.log_prob(eps) - self.log_scale.sum(1) + rest[:, None]

    def log_prob(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        each = self.each(z)
        mixture = each.logsumexp(1) - math.log(len(self.mean))
        if cond is None or "vector" not in cond:
            return mixture
        vector = cond["vector"].to(each)  # [B, K]
        return torch.where(vector.any(1), (each * vector).sum(1), mixture)

    def draw(self, like: Tensor, noise: Noise, cond: Cond | None = None, temperature: float = 1.0) -> Tensor:
        asked = (cond or {}).get("vector", like.new_zeros(len(like), len(self.mean)))
        y = some_class(asked.to(like), noise).argmax(1)  # [B]
        eps = self.base.draw(like, noise, temperature=temperature)
        top = self.mean[y] + eps[:, : self.top] * self.log_scale[y].exp()
        return torch.cat([top.to(like), eps[:, self.top :]], dim=1)
