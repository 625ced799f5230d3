"""Inverts held-out pictures with a trained style-based generator: their styles, and how near the pictures come.

Abdal, Qin & Wonka 2019, "Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space?" (arXiv 1904.03189), in W
or in W+. The run folder gets the sheet (pictures above what was found), `styles.safetensors` with `ws` [N, L, D], and
each picture's PSNR in metrics.jsonl. Book: chapter 2.

    hvis train gan_inversion --run runs/inverted --model runs/stylegan --data world --space WPlus
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.edits.gan_inversion import Search, W, WPlus, invert
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.nets.stylegan import StyleGenerator
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import View, open_source
from huggingvis.systems import stylegan2
from huggingvis.train.run import Run

SYSTEM = {
    "name": "GAN inversion",
    "chapter": 2,
    "paper": "1904.03189",
    "files": ["edits/gan_inversion.py", "edits/explore/invert.py"],
    "built": "tests/walks/test_stylegan.py::test_held_out_pictures_are_inverted",
    "exact": "tests/oracle/test_gan_inversion.py::test_own_pictures_are_found_again",
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Config:
    """Numbers of the inversion.

    Attributes:
        model: run folder of the recipe stylegan, or an official .pkl file.
        data: whose held-out pictures are inverted, as in trainings.
        root: folder in which standard data sets lie or are downloaded to.
        count: pictures.
        space: W, one style for all layers, or WPlus, one for each.
        steps: of the search.
        lr: its largest learning rate.
    """

    model: str = ""
    data: str = "mnist"
    root: str = "data"
    count: int = 8
    space: W | WPlus = W()
    steps: int = 500
    lr: float = 0.1


def generator(config: Config, device: torch.device) -> StyleGenerator:
    """The generator that `config` names. Raises `UsageError` for a model of another kind."""
    path = Path(config.model)
    if path.suffix == ".pkl":
        return stylegan2.generator(path).to(device)
    if not config.model:
        raise UsageError(
            "Which generator shall be inverted? Give --model, a run of the recipe stylegan or a .pkl file."
        )
    net = bind_run(path, device).parts.get("generator")
    if not isinstance(net, StyleGenerator):
        raise UsageError(f"{path} holds no style-based generator, and others have no styles. Give a run of stylegan.")
    return net


def train(config: Config, setting: Setting) -> Run:
    """Invert in `setting`'s run folder."""
    net = generator(config, setting.device)
    made = net.decode(net.w_avg[None])  # [1, C, H, W]
    source = open_source(config.data, View(made.shape[2], made.shape[1]), root=config.root)
    run = setting.begin("gan_inversion", config)
    source.facts.keep(run)
    x = source.held_out.batch(0, min(config.count, len(source.held_out)))["image"].to(setting.device)
    began = time.monotonic()
    found = invert(net, x, config.space, Search(config.steps, config.lr))
    seconds = time.monotonic() - began
    save_tensors(run.path / "styles.safetensors", {"ws": found.ws})
    save(_sheet(torch.cat([x, found.pictures])), run.samples / "inverted.png")
    each = {f"validation.psnr.{i}": float(value) for i, value in enumerate(found.psnr)}
    run.log(config.steps, {"validation.psnr": float(found.psnr.mean()), **each, "seconds": round(seconds, 3)})
    run.close()
    return run


def _sheet(x: Tensor) -> Picture:
    pictures = [Picture.from_signal(image) for image in x.float().cpu().numpy()]
    return contact_sheet(pictures, Sheet(columns=len(pictures) // 2, gap=2))
