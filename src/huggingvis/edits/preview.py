r"""What becomes of a picture, shown while it is made: the belief about x_0 as a small picture, at next to no cost.

A decoder of latents is nearly linear as seen from afar. So its picture, twice as wide as the latents, is

    rgb = W z_3x3 + b,    W [12, 9 C]: 2 x 2 pixels from 3 x 3 latents

with the W and b that fit best, by least squares, what the decoder makes of random latents: white noise and patches of
one value, so that flat areas count as much as detail. No picture is needed for it, and any model's own autoencoder
gives its own. A TAESD decoder (`systems.taesd`) may be used in its place. Book: chapter 6, "Looking on".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import BatchNoise
from huggingvis.core.protocols import Step
from huggingvis.core.system import System
from huggingvis.nets.tiny_autoencoder import TinyAutoencoder

Look = Callable[[Tensor], Tensor]
"""Latents [B, C, h, w] -> pictures [B, 3, h', w'] in about [-1, 1]."""
Show = Callable[[list[Picture], Step], None]

SIDE = 16
"""Latents a side of what the linear map is fitted to."""
PATCHES = (1, 2, 4, 1, 2, 4)
"""Sides of the patches of one value, one for each random map that it is fitted to."""
FINER = 2
RIDGE = 1e-5
_FITTED: WeakKeyDictionary[nn.Module, Linear] = WeakKeyDictionary()


@final
class Preview:
    """An `on_step` that shows every `every`-th step, and the last, as small pictures, by `show(pictures, step)`.

    `decoder`: shows latents in the place of the fitted map. Raises `UsageError` for one of other latents.
    """

    def __init__(self, system: System, show: Show, every: int = 1, decoder: TinyAutoencoder | None = None):
        if every < 1:
            raise UsageError(f"A preview is shown every n-th step, n at least 1; found {every}.")
        self.show, self.every = show, every
        self.look = look_of(system, decoder)

    @torch.inference_mode()
    def __call__(self, step: Step) -> None:
        if (step.index + 1) % self.every and step.index + 1 < step.total:
            return
        belief = step.belief
        z = belief.x0 if isinstance(belief, Gaussian) else step.x
        if not z.is_floating_point() or z.ndim != 4:
            return
        x = self.look(z.float()).float().cpu().numpy()  # [B, C, h, w]
        self.show([Picture.from_signal(one) for one in x], step)


def look_of(system: System, decoder: TinyAutoencoder | None = None) -> Look:
    """How a system's latents are shown: by `decoder`, else by a fitted map; pictures that are diffused show themselves.

    Raises `UsageError` for a decoder of other latents.
    """
    codec = system.codec
    if decoder is None:
        return fitted(codec) if isinstance(codec, KLLatents) else codec.decode
    own, channels = codec.mean.shape[0] if isinstance(codec, KLLatents) else 0, decoder.config.latent_channels
    if channels != own:
        raise UsageError(
            f"The preview decoder reads latents of {channels} channels, but {system.spec.name!r} has {own or 'none'}. "
            "Use the decoder made for its family, or none: a linear map is fitted then."
        )
    return decoder.to(system.device).decode


@final
@dataclass(frozen=True)
class Linear:
    """Pictures [B, 3, 2h, 2w] of latents [B, C, h, w] by one convolution: `weight` [12, C, 3, 3], `bias` [12]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        z = F.pad(z, (1, 1, 1, 1), mode="replicate")
        return F.pixel_shuffle(F.conv2d(z, self.weight.to(z), self.bias.to(z)), FINER)


def fitted(codec: KLLatents) -> Linear:
    """The linear map of a codec, fitted on first use and kept as long as its autoencoder."""
    if codec.autoencoder not in _FITTED:
        _FITTED[codec.autoencoder] = fit(codec)
    return _FITTED[codec.autoencoder]


@torch.inference_mode()
def fit(codec: KLLatents) -> Linear:
    """The linear map nearest to what `codec` decodes of random latents."""
    channels, noise = codec.mean.shape[0], BatchNoise(0)
    rows, wanted = [], []
    for patch in PATCHES:
        z = noise.draw(codec.mean.new_empty(1, channels, SIDE // patch, SIDE // patch))
        z = F.interpolate(z, scale_factor=patch, mode="nearest")  # [1, C, h, w]
        x = codec.decode(z)
        small = F.interpolate(x, (FINER * SIDE, FINER * SIDE), mode="area")
        rows.append(F.unfold(F.pad(z, (1, 1, 1, 1), mode="replicate"), 3)[0].T)  # [h w, 9 C]
        wanted.append(F.pixel_unshuffle(small, FINER)[0].flatten(1).T)  # [h w, 4 * 3]
    a, y = torch.cat(rows).double().cpu(), torch.cat(wanted).double().cpu()
    a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], 1)
    normal = a.T @ a + RIDGE * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    w = torch.linalg.solve(normal, a.T @ y).float()  # [9 C + 1, 12]
    return Linear(w[:-1].T.reshape(y.shape[1], channels, 3, 3), w[-1])
