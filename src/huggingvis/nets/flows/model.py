r"""A normalising flow: an exact density of pictures that can be drawn from.

log p(x) = log p_Z(f(x)) + log |det df/dx|: Dinh, Krueger & Bengio 2014, NICE, arXiv 1410.8516, Eq. 3. Classes, where
a flow knows some, are places among the latents (`class_prior`). Temperature T draws latents T times as far from their
middle before they become pictures (Kingma & Dhariwal 2018, Glow, arXiv 1807.03039, Sec. 6).
Inverses that blow up are found as Behrmann et al. 2021 (arXiv 2006.09347) find them, by going there and back.
Book: chapter 3.
"""

from __future__ import annotations

from math import prod
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.noise import BatchNoise, Noise
from huggingvis.core.protocols import Cond, OnStep
from huggingvis.nets.flows.bijection import Bijection, Shape, wide
from huggingvis.nets.flows.prior import Prior

OVERFLOW = 1e3
"""Before they become pixels, values of pictures are below 20 even as logits; beyond this the inverse has blown up."""


@final
class Flow(nn.Module):
    """`pixels` maps pictures [B, C, H, W] in [-1, 1] to numbers without bounds, `body` these to latents [B, D].

    `Encodes`, `Decodes`, `Likelihood` and `Generative` of `core.protocols`. `temperature` is that of `sample`.
    """

    def __init__(self, pixels: Bijection, body: Bijection, prior: Prior, shape: Shape, temperature: float = 1.0):
        super().__init__()
        if temperature < 0:
            raise UsageError(f"A temperature is 0 (the middle of the density) or above, found {temperature}.")
        self.pixels, self.body, self.prior = pixels, body, prior
        self.shape, self.temperature = shape, temperature

    @property
    def dims(self) -> int:
        """Numbers in a picture, and in its latents."""
        return prod(self.shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, D] and log |det| [B]."""
        h, first = self.pixels(x)
        z, log_det = self.body(h)
        return z, first + log_det

    def log_prob(self, x: Tensor, cond: Cond | None = None) -> Tensor:
        """log p(x), or p(x|class), of the continuous density over pictures in [-1, 1]; nats, [B]."""
        z, log_det = self(x)
        return self.prior.log_prob(wide(z), cond) + log_det

    def encode(self, x: Tensor) -> Tensor:
        """Latents, [B, D]."""
        z: Tensor = self(x)[0]
        return z

    @property
    def middle(self) -> Tensor:
        """The middle of the latents' density, [D]."""
        return next(self.parameters()).new_zeros(self.dims)

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """Draws of the latents' density at temperature 1, [n, D]; of classes, where a flow knows some."""
        return self.prior.draw(self.middle.expand(n, -1), noise, cond)

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """[B, D] -> [B, C, H, W]; inside [-1, 1] where the density is. Nothing else conditions it: classes are in z."""
        return self.pixels.inverse(self.body.inverse(z))

    @torch.no_grad()
    def draw(
        self, n: int, noise: Noise, temperature: float | None = None, cond: Cond | None = None
    ) -> tuple[Tensor, Tensor]:
        """Samples [n, C, H, W], and which of them overflowed [n] (those are plain grey)."""
        t = self.temperature if temperature is None else temperature
        h = self.body.inverse(self.prior.draw(self.middle.expand(n, -1), noise, cond, t))
        bad = ~(h.abs() < OVERFLOW).flatten(1).all(1)  # written so that NaN is bad
        x = self.pixels.inverse(h)
        return torch.where(bad[:, None, None, None], torch.zeros_like(x), x), bad

    def sample(
        self,
        n: int,
        cond: Cond,
        *,
        noise: Noise,
        on_step: OnStep | None = None,
        temperature: float | None = None,
    ) -> Tensor:
        """`n` pictures at `temperature` (none: the model's own). Raises `NumericalTrouble` where some overflow."""
        x, bad = self.draw(n, noise, temperature, cond)
        if bad.any():
            raise NumericalTrouble(self.overflow(bad, temperature))
        return x

    def overflow(self, bad: Tensor, temperature: float | None = None) -> str:
        """What to do about draws of which those in `bad` [n] overflowed."""
        t = self.temperature if temperature is None else temperature
        return (
            f"{int(bad.sum())} of {len(bad)} draws overflowed on their way back through the flow at temperature {t:g}: "
            "latents that far out were never seen in training. Lower the temperature (0.7 is usual), or train with "
            "bounded scales and a lower learning rate."
        )

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Sets what starts from data by a first batch of dequantised pictures [B, C, H, W]."""
        self.body.initialise(self.pixels.initialise(x))

    @torch.no_grad()
    def watch(self, x: Tensor) -> dict[str, Tensor]:
        """How healthy the inverse is: worst error of x -> z -> x, and the share of 16 samples that overflow."""
        error = (self.decode(self.encode(x)) - x).abs().max()
        bad = self.draw(16, BatchNoise(0))[1]
        return {"_inverse_error": error, "_sample_overflow": bad.float().mean()}

    @torch.no_grad()
    def diagnose(self, x: Tensor) -> str:
        """Which layer first gives something that is not finite for pictures `x`, in words."""
        for part, name in ((self.pixels, "pixels"), (self.body, "body")):
            for number, layer in enumerate(part.layers()):
                for what, parameter in layer.named_parameters():
                    if not torch.isfinite(parameter).all():
                        return f"the parameter {what} of layer {number} ({type(layer).__name__}) of the {name}"
                x, log_det = layer(x)
                if not torch.isfinite(log_det).all():
                    return f"the log-determinant of layer {number} ({type(layer).__name__}) of the {name}"
                if not torch.isfinite(x).all():
                    return f"the output of layer {number} ({type(layer).__name__}) of the {name}"
        return "the density of the latents, which lie too far out"
