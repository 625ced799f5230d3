"""Inverts held-out pictures with a trained style-based generator: `hvis explore invert` as an experiment on record.

Abdal, Qin & Wonka 2019, "Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space?" (arXiv 1904.03189), in W
or in W+. The run folder gets the sheet (pictures above what was found), `styles.safetensors` with `ws` [N, L, D], and
each picture's PSNR in metrics.jsonl. Book: chapter 2.

    hvis train gan_inversion --run runs/inverted --model runs/stylegan --data world --search.space WPlus
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.system import System
from huggingvis.edits.explore.invert import Exploration
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import View, open_source
from huggingvis.systems import stylegan
from huggingvis.train.run import Run

SYSTEM = {
    "name": "GAN inversion",
    "chapter": 2,
    "paper": "1904.03189",
    "files": ["edits/gan_inversion.py", "edits/explore/invert.py"],
    "built": "tests/walks/test_stylegan.py::test_held_out_pictures_are_inverted",
    "exact": "tests/oracle/test_gan_inversion.py::test_own_pictures_are_found_again",
    "trained": "benchmarks/trained/gan_inversion.json",
    "explained": None,
    "usable": None,
}

CELL = 64
"""Pixels in which smaller pictures are shown."""


@dataclass(frozen=True)
class Config:
    """Numbers of the inversion.

    Attributes:
        model: run folder of the recipe stylegan, or an official .pkl file.
        data: whose held-out pictures are inverted, as in trainings.
        root: folder in which standard data sets lie or are downloaded to.
        count: pictures.
        search: how, as in `hvis explore invert`.
    """

    model: str = ""
    data: str = "mnist"
    root: str = "data"
    count: int = 8
    search: Exploration = Exploration()


def model(config: Config, device: torch.device) -> System:
    """The generator that `config` names."""
    if not config.model:
        raise UsageError(
            "Which generator shall be inverted? Give --model, a run of the recipe stylegan or a .pkl file."
        )
    path = Path(config.model)
    return stylegan.bind(path, device) if path.suffix == ".pkl" else bind_run(path, device)


def train(config: Config, setting: Setting) -> Run:
    """Invert in `setting`'s run folder. Raises `UsageError` for a generator without styles."""
    system = model(config, setting.device)
    source = open_source(config.data, View(system.spec.size[0], system.spec.channels), root=config.root)
    x = source.held_out.batch(0, min(config.count, len(source.held_out)))["image"]  # [N, C, H, W]
    run = setting.begin("gan_inversion", config)
    source.facts.keep(run)
    began = time.monotonic()
    found = config.search(system, [Picture.from_signal(image) for image in x.numpy()])
    seconds = time.monotonic() - began
    save_tensors(run.path / "styles.safetensors", dict(found.tensors))
    tiles, cell = found.tiles, max(CELL, system.spec.size[0])
    sheet = contact_sheet(tiles.pictures, Sheet(tiles.columns, cell, tiles.row_labels, gap=2), tiles.captions)
    save(sheet, run.samples / "inverted.png")
    decibels: list[float] = found.record["psnr_db"]
    each = {f"validation.psnr.{i}": value for i, value in enumerate(decibels)}
    mean = sum(decibels) / len(decibels)
    run.log(config.search.steps, {"validation.psnr": mean, **each, "seconds": round(seconds, 3)})
    run.close()
    return run
