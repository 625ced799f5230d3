r"""Classification of noisy data: the gradient that guides a diffusion model needs an opinion at every noise level.

Dhariwal & Nichol 2021 (arXiv 2105.05233), Sec. 4.1, on any process: minimise -log p(y | x_t) over times t. The network
is given x_t divided by its standard deviation and told log(sigma/alpha)/4, as in EDM (`core.preconditioning`), so that
one classifier's numbers mean the same on every process. Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import Process
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.shapes import per_sample
from huggingvis.nets.noisy_classifier import NoisyClassifier
from huggingvis.objectives.denoise import EvenLevels


@final
@dataclass(frozen=True)
class NoisyLogits:
    """The logits [B, K] of `net` for x_t of `process`; beyond the levels it was trained at, as at the last of them."""

    net: NoisyClassifier
    process: Process

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(*self._seen(x, t))

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """What the last layer of `net` sees of x_t, [B, C]."""
        return self.net.features(*self._seen(x, t))

    def _seen(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        scaled, levels = Preconditioned(), EvenLevels(self.process)
        clock = scaled.clock(self.process, t).clamp(levels.low / 4, levels.high / 4)
        given = scaled.given(self.process, x, t).to(next(self.net.parameters()).dtype)
        return given, per_sample(clock.to(torch.float32), x)

    def log_prob(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """log p(y | x_t) [B] for the class that is one-hot in the condition's `vector`; 0 for none."""
        told = F.log_softmax(self(x, t).float(), dim=1)
        return (told * cond["vector"]).sum(1)


@final
class NoisyClassification(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1] and `label` [B]. Trains `net(x, clock) -> logits`."""

    def __init__(self, net: NoisyClassifier, process: Process):
        super().__init__()
        self.net, self.process, self.times = net, process, EvenLevels(process)

    def nets(self) -> Mapping[str, nn.Module]:
        return {"net": self.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("net",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x0, label = batch["image"], batch["label"]
        t = self.times.draw(len(x0), rng)  # [B]
        eps = torch.randn(x0.shape, generator=rng, device=rng.device, dtype=x0.dtype)
        logits = NoisyLogits(self.net, self.process)(self.process.add_noise(x0, eps, t), t).float()
        right = (logits.argmax(1) == label).float()
        clean = (self.process.log_snr(t) > 0).to(right)  # more signal than noise
        return {
            "cross_entropy": F.cross_entropy(logits, label),
            "_accuracy": right.mean(),
            "_accuracy_clean": (right * clean).sum() / clean.sum().clamp(min=1),
        }
