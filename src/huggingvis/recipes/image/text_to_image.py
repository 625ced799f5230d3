"""Text-to-image latent diffusion on the synthetic world: the training of the model that ships with the package.

A U-Net with cross-attention (Rombach et al. 2022, arXiv 2112.10752) over the frozen bilingual text encoder, trained by
rectified flow (Liu et al. 2022, arXiv 2209.03003; Esser et al. 2024, arXiv 2403.03206) on cached latents. Beside the
noisy latents it sees a plan of the picture (nets.plan_map), which thing is to be where: in training that of the
layout, in generation the planner's. Four runs come before it: the autoencoder (recipe latent_autoencoder), the text
encoder (reading), the planner (planning) and, to score it, the judge. Book: chapter 5.

    hvis train text_to_image --run runs/tiny --autoencoder runs/autoencoder --reading runs/reading \
        --planning runs/planning
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.assign import assign
from huggingvis.codecs.kl_latents import KLLatents, fit_statistics
from huggingvis.core.config import from_dict
from huggingvis.core.files import write_atomically
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.system import Spec, System
from huggingvis.data.cache import ArrayCache
from huggingvis.data.sprites import COLOURS, objects_v1
from huggingvis.data.world import World
from huggingvis.data.worldset import WorldSet
from huggingvis.nets.plan_map import Plan, PlanMap
from huggingvis.nets.text_tower import TextTower
from huggingvis.nets.unet import UNet, UNetConfig, seeing_more
from huggingvis.objectives.denoise import Denoising
from huggingvis.recipes.described_latents import CachedLatents, Shares
from huggingvis.recipes.image import latent_autoencoder
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.text.planning import load_planner
from huggingvis.recipes.text_encoders import load_reader, place
from huggingvis.recipes.world_denoising import denoising, fitted
from huggingvis.systems import tiny
from huggingvis.systems.packaged import is_model
from huggingvis.systems.tiny import TinyConditioner, assemble
from huggingvis.train.run import Run
from huggingvis.train.settings import Validation

SYSTEM = {
    "name": "Text-to-image latent diffusion",
    "chapter": 5,
    "paper": "2112.10752",
    "files": [
        "recipes/image/latent_autoencoder.py",
        "recipes/text/reading.py",
        "recipes/text/planning.py",
        "recipes/image/tiny.py",
        "systems/tiny.py",
        "objectives/denoise.py",
        "objectives/reading.py",
        "systems/planner.py",
        "objectives/planning.py",
        "nets/plan_map.py",
        "nets/plan_reader.py",
        "data/tint.py",
        "recipes/described_latents.py",
        "recipes/world_denoising.py",
        "nets/text_tower.py",
        "nets/unet.py",
        "processes/flow.py",
    ],
    "built": "tests/walks/test_text_to_image.py::test_a_run_draws_and_its_folder_draws_the_same",
    "exact": "tests/interop/test_nets.py::test_unet_with_text",
    "trained": "benchmarks/trained/tiny-generator.json",
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config:
    """Numbers of the training.

    Attributes:
        autoencoder: run folder of the autoencoder, or a model folder or packaged model that has one.
        reading: run folder of the text encoder, or a model folder or packaged model that has one.
        planning: run folder of the planner, or a model folder or packaged model that has one; empty: pictures are made
            without a plan. Only making pictures needs it, training does not.
        size: side of the pictures in pixels.
        layouts: layouts rendered and encoded once, then cycled through with a new caption each time.
        lattice: things of training pictures stand on a lattice of this many places across; none: anywhere. As many as
            the latents have cells, and a thing has the same latents wherever it stands.
        channels: width of each U-Net level.
        depth: transformer blocks at each level.
        reads: for each level without transformer blocks, whether its positions look at the text.
        middle: transformer blocks in the middle.
        heads: attention heads.
        steps: optimiser steps.
        batch: pictures a step.
        lr: peak learning rate.
        empty: share of captions replaced by the empty one, without a plan, for classifier-free guidance.
        unplanned: share of the others whose plan is left out, so that the text alone must do.
        wrong: share of the rest whose captions speak of other things, so that the plan is believed (`data.tint`).
        importance: a latent channel of deviation d counts as d to this power (0 evenly, 2 as in raw latents).
        ema: decay of the averaged weights.
        precision: bf16, fp32, or auto: the first where the device is faster in it.
        seed: of the weights and of every draw.
        start: run folder or model folder whose U-Net the training starts from; empty for fresh weights.
    """

    autoencoder: str
    reading: str
    planning: str = ""
    size: int = 64
    layouts: int = 100_000
    lattice: int | None = 8
    channels: tuple[int, ...] = (128, 160)
    depth: tuple[int, ...] = (0, 1)
    reads: tuple[bool, ...] = (True, False)
    middle: int = 1
    heads: int = 4
    steps: int = 15_000
    batch: int = 64
    lr: float = 2e-3
    empty: float = 0.1
    unplanned: float = 0.1
    wrong: float = 0.4
    importance: float = 2.0
    ema: float = 0.9995
    precision: str = "auto"
    seed: int = 0
    start: str = ""


@final
class TextCondition(nn.Module):
    """Token ids -> the `tokens` and `vector` ports, by a frozen text encoder; the plan -> `concat`, by `plan_map`."""

    def __init__(self, tower: TextTower, plan_map: PlanMap):
        super().__init__()
        self.tower, self.plan_map = tower.requires_grad_(False).eval(), plan_map

    @torch.no_grad()
    def forward(self, batch: Batch) -> Cond:
        tokens, mask, pooled = self.tower(batch["ids"])
        plan = Plan(batch["kinds"], batch["colours"], batch["boxes"])
        seen = self.plan_map(plan, *batch["x0"].shape[-2:])
        return {"tokens": tokens, "tokens_mask": mask, "vector": pooled, "concat": seen}


def load_codec(path: Path, device: torch.device) -> KLLatents:
    """The autoencoder of a run folder with the statistics of its latents, measured once on up to 2,048 pictures."""
    if is_model(path):
        return tiny.load_parts(path, device).codec
    run = Run.open(path)
    config = from_dict(latent_autoencoder.Config, run.config["config"])
    net = latent_autoencoder.network(config)
    net.load_state_dict(run.weights("autoencoder"))
    net = net.eval().requires_grad_(False)
    newest = run.latest()
    kept = path / f"latents-{newest.step if newest else 0}.json"  # of these weights: the run may be trained further
    if not kept.exists():
        sample = WorldSet(World(size=config.size), min(2048, config.layouts), first=5_000_000)
        codec = fit_statistics(net, [sample.batch(i, 32)["image"] for i in range(-(-sample.count // 32))])
        text = json.dumps({"mean": codec.mean.tolist(), "std": codec.std.tolist()})
        write_atomically(kept, lambda file: file.write(text.encode()))
    measured = json.loads(kept.read_text())
    return KLLatents(net, torch.tensor(measured["mean"]), torch.tensor(measured["std"])).to(device)


def start_weights(path: Path) -> dict[str, Tensor]:
    """The U-Net of a run folder (averaged) or of a model folder."""
    if is_model(path):
        return tiny.load_parts(path, torch.device("cpu")).unet.state_dict()
    return Run.open(path).weights("net")


def network(config: Config, latent_channels: int, text_dim: int, plan_channels: int) -> UNet:
    """The U-Net with fresh weights."""
    sizes = UNetConfig(
        in_channels=latent_channels,
        out_channels=latent_channels,
        concat_channels=plan_channels,
        channels=config.channels,
        blocks=1,
        attention=config.depth,
        reads=config.reads,
        middle=config.middle,
        heads=config.heads,
        tokens_dim=text_dim,
        vector_dim=text_dim,
        clock_scale=1000.0,
        ff_mult=2.0,
    )
    return UNet(sizes)


def objective_of(config: Config, codec: KLLatents, tower: TextTower) -> Denoising:
    """The U-Net, fresh or from `config.start`, with its loss."""
    plan_map = PlanMap(len(objects_v1()), len(COLOURS))
    net = network(config, codec.autoencoder.config.latent_channels, tower.config.dim, plan_map.channels)
    if config.start:
        assign(net, seeing_more(start_weights(place(config.start)), net))
    return denoising(net, TextCondition(tower, plan_map), codec, config.importance)


def train(config: Config, setting: Setting) -> Run:
    """Train the U-Net in `setting`'s run folder."""
    codec = load_codec(place(config.autoencoder), setting.device)
    tokenizer, tower = load_reader(place(config.reading))
    run = setting.begin("text_to_image", config)

    def cached(split: str, count: int, shares: Shares) -> CachedLatents:
        world = World(size=config.size, split=split, seed=config.seed, lattice=config.lattice)
        data = WorldSet(world, count, pictures=False)
        return CachedLatents(data, codec, tokenizer, ArrayCache(run.path / "cache"), shares)

    torch.manual_seed(config.seed)  # what was loaded has drawn numbers
    objective = objective_of(config, codec, tower)
    shares = Shares(config.empty, config.unplanned, config.wrong)
    held = Validation(cached("test", 1024, Shares()), every=1000, batches=4)
    return fitted(objective, cached("train", config.layouts, shares), run, config, setting, held, warmup=200)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The system of a run: its averaged U-Net with the autoencoder and text encoder it was trained on."""
    codec = load_codec(place(config.autoencoder), device)
    tokenizer, tower = load_reader(place(config.reading))
    planner = load_planner(place(config.planning)).to(device).eval().requires_grad_(False) if config.planning else None
    plan_map = PlanMap(len(objects_v1()), len(COLOURS))
    unet = network(config, codec.autoencoder.config.latent_channels, tower.config.dim, plan_map.channels)
    assign(unet, run.weights("net"))
    unet = unet.to(device).eval().requires_grad_(False)
    conditioner = TinyConditioner(tokenizer, tower.to(device).eval().requires_grad_(False))
    return assemble(Spec(run.path.name, "tiny", (config.size, config.size)), unet, codec, conditioner, planner)
