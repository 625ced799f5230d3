"""Pictures through a model and back: what its latents keep of them. Book: chapter 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Decodes, Encodes
from huggingvis.core.system import System
from huggingvis.edits.exploring import Finding, Tiles, able
from huggingvis.metrics.psnr import psnr


@final
@dataclass(frozen=True)
class Exploration:
    """Each picture above its reconstruction by the model, or by the autoencoder of latent diffusion, with the PSNR."""

    @torch.no_grad()
    def __call__(self, system: System, pictures: Sequence[Picture]) -> Finding:
        latents = isinstance(system.codec, Encodes) and not isinstance(system.codec, Pixels)
        there = system.codec if latents else able(system, Encodes, "encoder")
        back = system.codec if latents else able(system, Decodes, "decoder")
        assert isinstance(there, Encodes)
        x = system.signals(pictures)
        y = back.decode(there.encode(x))
        decibels = [round(float(d), 2) for d in psnr(y.clamp(-1, 1), x, data_range=2.0)]
        captions = ("",) * len(x) + tuple(f"{d:.1f} dB" for d in decibels)
        shown = system.pictures(torch.cat([x, y]))
        tiles = Tiles(shown, len(x), ("picture", "reconstruction"), captions=captions)
        mean = sum(decibels) / len(decibels)
        text = f"Reconstructions of {len(x)} pictures: {mean:.2f} dB on average."
        return Finding(tiles, text, {"psnr_db": decibels})
