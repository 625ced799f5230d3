r"""Sample quality as a loss: how far what a sampler draws is from data, through the unrolled chain.

Watson, Chan, Ho, Norouzi 2022 (arXiv 2202.05830): the model stays as it is, and the numbers of its sampler are
fitted to a distance between what it draws and data, theirs that of kernels (KID) between features phi,

    L = KID( phi(x_0), phi(data) ),    x_0 the end of the chain that starts from x_T ~ N(0, sigma_T^2 I)

Book: chapter 4, "Learned samplers".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.noise import BatchNoise
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.process import Process
from huggingvis.core.protocols import Batch, Cond, Denoiser
from huggingvis.samplers._levels import clean
from huggingvis.samplers.learned_steps import Coefficients, LearnedSteps

Distance = Callable[[Tensor, Tensor], Tensor]
"""How far pictures [B, C, H, W] are from others [B', C, H, W], [], with a gradient by the first."""


def recomputed(denoise: Denoiser, process: Process) -> Denoiser:
    """`denoise` as a graph holds it by x_t alone: what lies between that and x_0 is computed again backwards."""

    def again(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        if not x.requires_grad:
            return denoise(x, t, cond)

        def held() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), process.walked(t.reshape(1))  # as it was on the way there

        return Gaussian(checkpoint(lambda x: clean(denoise(x, t, cond)), x, use_reentrant=False, context_fn=held))

    return again


@final
class SampleQuality(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1] and what `told` reads. Trains the numbers of `model`'s sampler.

    `told`: the condition of as many pictures as a batch has. The model is called again on the way back, so that memory
    holds the graph of one call, however many there are.
    """

    def __init__(self, model: Diffusion, numbers: Coefficients, told: Callable[[Batch], Cond], distance: Distance):
        super().__init__()
        self.numbers, self.told, self.distance = numbers, told, distance
        self.model = replace(model, denoise=recomputed(model.denoise, model.process), sampler=LearnedSteps(numbers))

    def nets(self) -> Mapping[str, nn.Module]:
        return {"numbers": self.numbers}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("numbers",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        real = batch["image"]
        noise = BatchNoise(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
        drawn = self.model.sample(len(real), self.told(batch), noise=noise)
        return {"distance": self.distance(drawn, real)}
