"""Train a model by a recipe; ctrl-C stops it with everything saved.

hvis train ddpm --data mnist                                 a run in runs/ddpm
hvis train latent_diffusion --data folder:photos --size 64 --run runs/photos
hvis train --run runs/photos --resume                        goes on from the last checkpoint
hvis train ddpm --help                                       the numbers of one recipe
torchrun --nproc-per-node 2 -m huggingvis train ddpm         on two processes; with --shard each keeps half of the net

A run keeps its two newest checkpoints, each with weights, averages and optimiser: a few times the size of the weights.
When it is done, the newest is enough to draw from and to go on. `hvis models list` shows what every run takes.
"""

from __future__ import annotations

import argparse
import shlex
import time
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.arguments import add_record, words_of
from huggingvis.app.preferences import Preferences, preferences
from huggingvis.app.screen import Screen, size_of
from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe, recipes
from huggingvis.core.errors import Cancelled, FileProblem, UsageError
from huggingvis.core.files import check_folder
from huggingvis.core.flags import parse

if TYPE_CHECKING:
    from huggingvis.train.run import Run

ROOM = 64 << 20
"""Bytes that must be free before a training starts: a few checkpoints of a small model."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("recipe", nargs="?", help="what to train; `hvis train RECIPE --help` shows its numbers")
    parser.add_argument("--run", metavar="FOLDER", type=Path, help="where everything goes (default runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on in that folder, from its last checkpoint")
    parser.add_argument("--config", metavar="FILE", type=Path, help="numbers of the recipe in a TOML file")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")
    parser.add_argument("--shard", action="store_true", help="under torchrun: cut the nets among the processes (FSDP2)")
    named = words[0] if words and not words[0].startswith("-") else _recipe_to_resume(words)
    if named is not None:  # the recipe's own flags are known once it is
        module = find_recipe(named)
        parser.prog, parser.description = f"{parser.prog} {named}", module.__doc__
        add_record(parser, module.Config)
        return
    rows = "\n".join(f"  {name:<20}  {recipe.doc}" for name, recipe in recipes().items())
    parser.epilog = f"Recipes, to be named before any flag:\n{rows}"


def _recipe_to_resume(words: Sequence[str]) -> str | None:
    """The recipe of the run that the words `--run FOLDER --resume` name, if it can be read; `run` says why not."""
    folders = [word.removeprefix("--run=") for word in words if word.startswith("--run=")]
    folders += [after for word, after in pairwise(words) if word == "--run"]
    if "--resume" not in words or not folders:
        return None
    try:
        named = tomllib.loads((Path(folders[-1]) / "config.toml").read_text(encoding="utf-8")).get("recipe")
    except (OSError, ValueError, RecursionError):
        return None
    return named if isinstance(named, str) and named in recipes() else None


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    usual = preferences()
    if args.recipe is None and not (args.resume and args.run):
        raise UsageError(
            f"Say which recipe to train, as in `hvis train ddpm`:\n{_grouped()}\n`hvis catalog recipes` says what each "
            "is, `hvis train RECIPE --help` shows its numbers. To go on with a run, give --run FOLDER --resume."
        )
    folder = args.run or usual.runs / args.recipe.replace("-", "_")
    check_folder(folder, ROOM)
    recipe, numbers = _numbers(args, folder, usual)
    if args.resume and _stored(folder) is None:
        screen.note(f"There is nothing to go on with in {folder} yet: a new run begins.")
    from huggingvis import api
    from huggingvis.recipes.describing import Describes
    from huggingvis.recipes.loading import Binds

    began, before = time.perf_counter(), _reached(folder)
    device = args.device or usual.device
    try:
        done = api.train(recipe, folder, records.to_dict(numbers), resume=args.resume, device=device, shard=args.shard)
    except Cancelled as stopped:
        again = ["hvis", "train", "--run", str(folder), "--resume"]
        stored, steps = _stored(folder), records.to_dict(numbers).get("steps")
        if stored is None:
            raise Cancelled(str(stopped)) from None
        again += [] if stored[1].get("steps") == steps else ["--steps", str(steps)]
        raise Cancelled(f"{stopped} To go on: {shlex.join(again)}") from None
    seconds = round(time.perf_counter() - began, 3)
    last, since = _last(done), before.get(done.path, 0)
    if done.parallel.writes:
        _report(done, f"{recipe} in {folder}", since, int(last.get("step", 0)), seconds, screen)
    if done.parallel.writes:
        made = find_recipe(str(done.config["recipe"]))
        if isinstance(made, Binds):
            screen.say(f"Pictures of it: hvis generate --model {done.path}")
        if isinstance(made, Describes):
            screen.say(f"Sentences of pictures: hvis describe PICTURE --model {done.path}")
    record = {"run": str(folder), "recipe": recipe, "config": records.to_dict(numbers)}
    return {**record, "from_step": since, "last": last, "seconds": seconds}


def _grouped() -> str:
    """The names of all recipes, a line for each group."""
    groups: dict[str, list[str]] = {}
    for recipe in recipes().values():
        groups.setdefault(recipe.chapter, []).append(recipe.name)
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in groups.items())


def _numbers(args: argparse.Namespace, folder: Path, usual: Preferences) -> tuple[str, Any]:
    """The recipe and its Config: flags on top of the run that goes on, of a file, or of the recipe's defaults."""
    stored = _stored(folder) if args.resume else None
    recipe = stored[0] if args.recipe is None and stored else args.recipe
    if recipe is None:
        raise FileProblem(
            f"There is no run in {folder} to go on with. Check the folder, or name a recipe to start one."
        )
    cls = find_recipe(recipe).Config
    words = words_of(cls, args)
    if stored is not None and find_recipe(stored[0]).Config is cls:
        base = records.from_dict(cls, stored[1])
    elif args.config is not None:
        base = records.load(cls, args.config)
    else:
        base = None
        if "root" in records.types_of(cls):
            words = [f"--root={usual.data}", *words]
    return find_recipe(recipe).__name__.rpartition(".")[2], parse(cls, words, base=base)


def _stored(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """What a run was started with, or None where there is no run."""
    from huggingvis.train.run import Run

    if not (folder / "config.toml").exists():
        return None
    found = Run.open(folder).config
    recipe, numbers = found.get("recipe"), found.get("config")
    if not isinstance(recipe, str) or not isinstance(numbers, dict):
        raise FileProblem(f"{folder / 'config.toml'} does not say which recipe made this run. Restore the file.")
    return recipe, numbers


def _reached(folder: Path) -> dict[Path, int]:
    """The step that each run in the folder has come to: a recipe may train in several stages, a run each."""
    from huggingvis.train import checkpoint

    found = {path.parent: checkpoint.find(path.parent / "checkpoints")[0] for path in folder.rglob("config.toml")}
    return {path: good[-1].step for path, good in found.items() if good}


def _report(run: Run, what: str, since: int, step: int, seconds: float, screen: Screen) -> None:
    """What the training did, all of it, the rest of it or nothing, and what that takes on the disk."""
    kept = run.checkpoints()
    if kept and since >= step:
        further = shlex.join(["hvis", "train", "--run", str(run.path), "--resume", "--steps", str(2 * step)])
        screen.say(f"{run.path} was finished already, at step {step}: nothing was trained. To train further: {further}")
    else:
        steps = f"from step {since} to {step}" if since else f"{step} steps"
        screen.say(f"Trained {what}: {steps}, {seconds:.1f} s.")
    if kept:
        taken = size_of(sum(file.stat().st_size for found in kept for file in found.path.iterdir()))
        told = f"{len(kept)} checkpoints take {taken}" if len(kept) > 1 else f"The checkpoint takes {taken}"
        spare = "; the newest is enough to go on, older ones may be deleted" if len(kept) > 1 else ""
        screen.say(f"{told} in {run.path / 'checkpoints'}{spare}.")


def _last(run: Run) -> dict[str, Any]:
    """The newest numbers of the log, training and validation together."""
    merged: dict[str, Any] = {}
    for line in run.metrics()[-2:]:
        merged.update(line)
    return merged
