"""A net that fills holes, trained from a text-to-image model: nine channels, as Stable Diffusion's for inpainting.

Rombach et al. 2022 (arXiv 2112.10752), Sec. 4.5: beside the noisy latents the U-Net sees the mask and the latents of
the picture without what is under it. Its new channels begin at zero, so that it begins as the model that it is made
from, and learns under random holes (`data.holes`). What it was trained to see of a plan stays empty: where things are
is for the picture to say. Book: chapter 6, "Inpainting".

    hvis train inpainting --run runs/inpainting
    hvis generate "a fox to the left of a pizza" --model runs/inpainting --image cat.png --mask hole.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.assign import assign
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.request import Request
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.data.world import World
from huggingvis.data.worldset import WorldSet
from huggingvis.nets.text_tower import TextTower
from huggingvis.nets.unet import UNet, seeing_more
from huggingvis.recipes.masked_latents import MaskedLatents, shown
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.text_encoders import place
from huggingvis.recipes.world_denoising import denoising, fitted
from huggingvis.systems import tiny
from huggingvis.systems.tiny import TinyConditioner, assemble
from huggingvis.train.run import Run
from huggingvis.train.settings import Validation


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        start: model folder or packaged model that it is made from.
        size: side of the pictures in pixels.
        layouts: layouts drawn once, then cycled through with a new hole and a new caption each time.
        lattice: things of training pictures stand on a lattice of this many places across; none: anywhere.
        steps: optimiser steps.
        batch: pictures a step.
        lr: peak learning rate.
        empty: share of captions replaced by the empty one, for classifier-free guidance.
        importance: a latent channel of deviation d counts as d to this power.
        ema: decay of the averaged weights.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of every draw.
    """

    start: str = "tiny"
    size: int = 64
    layouts: int = 20_000
    lattice: int | None = 8
    steps: int = 3000
    batch: int = 64
    lr: float = 5e-4
    empty: float = 0.1
    importance: float = 2.0
    ema: float = 0.998
    precision: str = "auto"
    seed: int = 0


@final
class TextAndRest(nn.Module):
    """Token ids -> the `tokens` and `vector` ports, by a frozen text encoder; what is beside x_t from the batch."""

    def __init__(self, tower: TextTower):
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, batch: Batch) -> Cond:
        tokens, mask, pooled = self.tower(batch["ids"])
        return {"tokens": tokens, "tokens_mask": mask, "vector": pooled, "concat": batch["concat"]}


@final
@dataclass(frozen=True)
class MaskAndRest:
    """What the net is shown of a picture and its hole."""

    codec: KLLatents
    plan: int
    asks: ClassVar[str] = "a picture and a mask (--image FILE, --mask FILE)"

    def __call__(self, x: Tensor, hole: Tensor | None, noise: Noise) -> Mapping[str, Tensor]:
        if hole is None:
            raise UsageError("This model fills holes: give it a mask, white where the picture is made anew (--mask).")
        return {"concat": shown(self.codec, x, hole, self.plan)}


def widened(net: UNet) -> UNet:
    """The net with room for a mask and latents after what it sees beside x_t; what they say counts nothing yet."""
    config = replace(net.config, concat_channels=net.config.concat_channels + 1 + net.config.in_channels)
    wide = UNet(config)
    assign(wide, seeing_more(net.state_dict(), wide))
    return wide.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # see core.shapes.channels_last


def train(config: Config, setting: Setting) -> Run:
    """Train the widened U-Net in `setting`'s run folder."""
    parts = tiny.load_parts(place(config.start), setting.device)
    run = setting.begin("inpainting", config)
    plan = parts.unet.config.concat_channels

    def masked(split: str, count: int, empty: float) -> MaskedLatents:
        world = World(size=config.size, split=split, seed=config.seed, lattice=config.lattice)
        return MaskedLatents(WorldSet(world, count), parts.codec, parts.tokenizer, plan, empty)

    torch.manual_seed(config.seed)
    net, condition = widened(parts.unet).requires_grad_(True).train(), TextAndRest(parts.tower)
    objective = denoising(net, condition, parts.codec, config.importance)
    held = Validation(masked("test", 256, 0.0), every=500, batches=4)
    return fitted(objective, masked("train", config.layouts, config.empty), run, config, setting, held, warmup=100)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The system of a run: its averaged U-Net with the parts of the model that it was made from."""
    parts = tiny.load_parts(place(config.start), device)
    net = widened(parts.unet)
    assign(net, run.weights("net"))
    return assembled(run.path.name, config, parts, channels_last(net.to(device).eval().requires_grad_(False)))


def assembled(name: str, config: Config, parts: tiny.Parts, net: UNet) -> System:
    """The system that fills holes with `net`, and does nothing else."""
    conditioner = TinyConditioner(parts.tokenizer, parts.tower)
    system = assemble(Spec(name, "tiny", (config.size, config.size)), net, parts.codec, conditioner)
    shows = MaskAndRest(parts.codec, parts.unet.config.concat_channels)
    plain = system.generator

    def generator(request: Request) -> Diffusion:
        if request.source is None:
            raise UsageError(
                f"{name!r} was trained to fill holes and sees a picture beside its noise. Give it {shows.asks}."
            )
        model = plain(request)
        assert isinstance(model, Diffusion)
        return replace(model, prior=None)  # the picture says what is where, not a plan

    return replace(system, generator=generator, shows=shows)
