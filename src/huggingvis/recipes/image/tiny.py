"""The shipped bilingual text-to-image model, from nothing: every stage in order, by one command.

    hvis train tiny --run runs/tiny

1. the judge of the world, frozen first (world_judge, going on twice with more nested scenes);
2. the autoencoder (latent_autoencoder); 3. the text encoder (reading); 4. the planner (planning);
5. the U-Net (text_to_image).
Stages that are done are not done again, so a stopped training goes on with `--resume`. `model/` in the run folder is
then a model folder, and `judge/` the judge's; copied to the package's `weights/` they are what ships. Book: chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingvis.core.errors import UsageError
from huggingvis.recipes.image import latent_autoencoder, text_to_image
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.perception import world_judge
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.text import planning, reading
from huggingvis.systems import tiny
from huggingvis.train.run import Run


@dataclass(frozen=True)
class Config:
    """Numbers of every stage; one with several entries goes on from the entry before. The model card tells its own."""

    judge: tuple[world_judge.Config, ...] = (
        world_judge.Config(steps=2800, layouts=80_000),
        world_judge.Config(steps=600, layouts=30_000, nested=0.2, lr=5e-4, seed=1),
        world_judge.Config(steps=1300, layouts=40_000, nested=0.3, lr=8e-4, seed=2),
    )
    autoencoder: tuple[latent_autoencoder.Config, ...] = (
        latent_autoencoder.Config(steps=3000, layouts=40_000, latent_channels=8, focus=1.0),
        latent_autoencoder.Config(steps=1600, layouts=40_000, focus=1.0, adversary_from=1.0, seed=1),
        latent_autoencoder.Config(steps=2600, layouts=60_000, adversary_from=0.9, seed=2),
        latent_autoencoder.Config(steps=1000, layouts=32_000, lr=5e-4, adversary_from=1.0, latent_noise=0.05, seed=3),
    )
    reading: reading.Config = reading.Config()
    planning: planning.Config = field(default_factory=lambda: planning.Config(""))
    generator: text_to_image.Config = field(default_factory=lambda: text_to_image.Config("", ""))


def train(config: Config, setting: Setting) -> Run:
    """All stages, each in a folder of its own inside `setting`'s run folder."""
    if setting.parallel.world > 1:
        raise UsageError("The stages of `tiny` follow each other; run them one by one to use several processes.")
    root = setting.path
    judge = _chain(world_judge, config.judge, setting, root / "judge-run")
    world_judge.publish(judge, root / "judge")
    autoencoder = _chain(latent_autoencoder, config.autoencoder, setting, root / "autoencoder")
    reader = _stage(reading, config.reading, setting, root / "reading")
    planner = _stage(planning, replace(config.planning, reading=str(reader.path)), setting, root / "planning")
    numbers = replace(
        config.generator, autoencoder=str(autoencoder.path), reading=str(reader.path), planning=str(planner.path)
    )
    run = _stage(text_to_image, numbers, setting, root / "generator")
    tiny.save(root / "model", bind_run(run.path), {"training": run.config})
    return run


def _chain(recipe: ModuleType, configs: tuple[Any, ...], setting: Setting, path: Path) -> Run:
    """Entries one after the other, each in `path`-N from the weights of the one before."""
    run: Run | None = None
    for number, config in enumerate(configs):
        numbers = config if run is None else replace(config, start=str(run.path))
        run = _stage(recipe, numbers, setting, path.with_name(f"{path.name}-{number}"))
    if run is None:
        raise UsageError(f"{path.name} needs at least one entry in its configuration.")
    return run


def _stage(recipe: ModuleType, config: Any, setting: Setting, path: Path) -> Run:
    """One stage: trained, gone on with, or only opened when it is complete."""
    there = (path / "config.toml").exists()
    run: Run = recipe.train(config, replace(setting, path=path, resume=there))
    return run
