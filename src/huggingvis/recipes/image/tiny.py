"""The shipped bilingual text-to-image model, from nothing: every stage in order, by one command.

    hvis train tiny --run runs/tiny

1. the judge of the world, frozen first (world_judge, twice: plain, then with more nested scenes);
2. the autoencoder (latent_autoencoder); 3. the text encoder (reading); 4. the U-Net (text_to_image).
Stages that are done are not done again, so a stopped training goes on with `--resume`. `model/` in the run folder is
then a model folder, and `judge/` the judge's; copied to the package's `weights/` they are what ships. Book: chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingvis.core.errors import UsageError
from huggingvis.recipes.image import latent_autoencoder, text_to_image
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.perception import world_judge
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.text import reading
from huggingvis.systems import tiny
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Config:
    """Numbers of every stage. The defaults are those of the shipped model on two CPU cores."""

    judge: world_judge.Config = world_judge.Config(steps=2800, layouts=80_000)
    nested: world_judge.Config = world_judge.Config(steps=600, layouts=30_000, nested=0.2, lr=5e-4, seed=1)
    autoencoder: latent_autoencoder.Config = latent_autoencoder.Config(layouts=40_000)
    reading: reading.Config = reading.Config(steps=2000, batch=128, layouts=60_000)
    generator: text_to_image.Config = field(default_factory=lambda: text_to_image.Config("", ""))


def train(config: Config, setting: Setting) -> Run:
    """All stages, each in a folder of its own inside `setting`'s run folder."""
    if setting.parallel.world > 1:
        raise UsageError("The stages of `tiny` follow each other; run them one by one to use several processes.")
    root = setting.path
    place = {name: root / name for name in ("judge-first", "judge-run", "autoencoder", "reading", "generator")}
    stage(world_judge, config.judge, setting, place["judge-first"])
    nested = replace(config.nested, start=str(place["judge-first"]))
    world_judge.publish(stage(world_judge, nested, setting, place["judge-run"]), root / "judge")
    stage(latent_autoencoder, config.autoencoder, setting, place["autoencoder"])
    stage(reading, config.reading, setting, place["reading"])
    numbers = replace(config.generator, autoencoder=str(place["autoencoder"]), reading=str(place["reading"]))
    run = stage(text_to_image, numbers, setting, place["generator"])
    tiny.save(root / "model", bind_run(run.path), {"training": run.config})
    return run


def stage(module: object, config: object, setting: Setting, path: Path) -> Run:
    """One stage: trained, gone on with, or only opened when it is complete."""
    there = (path / "config.toml").exists()
    run: Run = module.train(config, replace(setting, path=path, resume=there))  # type: ignore[attr-defined]
    return run
