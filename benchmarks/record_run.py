"""Keeps a finished training as proof: `trained/NAME.json`, a contact sheet `trained/NAME.png`, the mark of its system.

    hvis train vae --run runs/vae --steps 1000
    python benchmarks/record_run.py runs/vae                                 benchmarks/trained/vae.json and vae.png
    python benchmarks/record_run.py runs/vae --sheet docs/pictures/vae.png   with a sheet that there is already

The record holds the command that repeats the training, its seed, seconds, machine and versions, the curves of its
losses (averages over at most 60 stretches), its last held-out losses, the same of each stage before it, and what the
recipe itself compares with a truth of its data. Figures that papers report are added by `published.py record`. A system
whose `trained` mark is empty is marked by the record.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from common import VARIABLE, placed, write_bytes, write_json, write_text
from trainings import RUN_FOLDERS

from huggingvis.core.catalog import ROOT, find_recipe, systems
from huggingvis.core.config import KIND, from_dict, to_dict
from huggingvis.core.machine import cores, machine, versions
from huggingvis.recipes.loading import evaluation_of
from huggingvis.systems.packaged import packaged
from huggingvis.train.run import Run

HERE = Path(__file__).resolve().parent
TRAINED = HERE / "trained"
WEIGHTS = packaged("tiny").parent
STRETCHES = 60


def command(recipe: str, numbers: Mapping[str, Any], run: str) -> str:
    """The command line of a training: only what differs from the recipe's defaults."""
    kind = find_recipe(recipe).Config
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    defaults = to_dict(from_dict(kind, {name: numbers[name] for name in required}))
    words = ["hvis", "train", recipe, "--run", f"runs/{run}"]
    for name, value in numbers.items():
        words += _said(name, value, object() if name in required else defaults.get(name))
    return " ".join(word if VARIABLE in word else shlex.quote(word) for word in words)


def _said(name: str, value: Any, default: Any) -> list[str]:
    """The words that set `name` to `value` where that is not its default; nested records have dotted names."""
    if not isinstance(value, dict):
        return [] if value == default else [f"--{name.replace('_', '-')}", _shown(value)]
    known = default if isinstance(default, dict) else {}
    if value.get(KIND) == known.get(KIND):
        return [w for key in value if key != KIND for w in _said(f"{name}.{key}", value[key], known.get(key))]
    words = [f"--{name.replace('_', '-')}", str(value[KIND])]  # which of several records
    return words + [w for key in value if key != KIND for w in _said(f"{name}.{key}", value[key], object())]


def _shown(value: object) -> str:
    """A value as it stands on a command line: packaged models by their names, test data below their variable."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    if not isinstance(value, str):
        return str(value)
    return Path(value).name if Path(value).parent == WEIGHTS else placed(value)


def curve(lines: Sequence[dict[str, float]], key: str) -> list[list[float]]:
    """[step, mean of `key`] over stretches of the training."""
    points = [(int(line["step"]), line[key]) for line in lines if not isinstance(line.get(key, ""), str)]
    size = max(1, -(-len(points) // STRETCHES))
    pieces = [points[i : i + size] for i in range(0, len(points), size)]
    return [[piece[-1][0], float(f"{statistics.fmean(value for _, value in piece):.5g}")] for piece in pieces]


def course(run: Run) -> dict[str, Any]:
    """What a training logged: its seconds, steps, last held-out losses, and the curves of its losses."""
    lines = run.metrics()
    held_out = [line for line in lines if any(key.startswith("validation.") for key in line)]
    last = {k.removeprefix("validation."): v for k, v in held_out[-1].items() if k != "step"} if held_out else {}
    names = {key for line in lines for key, value in line.items() if _loss(key) and not isinstance(value, str)}
    return {
        "seconds": max(line.get("seconds", 0.0) for line in lines),
        "steps": int(lines[-1]["step"]),
        "held_out": last,
        "curves": {name: curve(lines, name) for name in sorted(names)},
    }


def _loss(key: str) -> bool:
    """Whether a number in metrics.jsonl is a loss, or watched beside the losses."""
    return key not in ("step", "seconds") and not key.startswith(("lr.", "grad_norm."))


def record(path: Path) -> dict[str, Any]:
    """The record of a finished run. Stages with folders of their own inside it are told apart, their seconds in all."""
    run = Run.open(path)
    recipe, numbers = run.config["recipe"], run.config["config"]
    stages = {folder.parent.name: course(Run.open(folder.parent)) for folder in sorted(path.glob("*/config.toml"))}
    own, compared = course(run), evaluation_of(run, torch.device("cpu"))
    return {
        "command": command(recipe, _planned(numbers, path.resolve().parent), path.resolve().name),
        "seed": numbers.get("seed", 0),
        **own,
        "seconds": round(own["seconds"] + sum(stage["seconds"] for stage in stages.values()), 3),
        "machine": machine(cores()),
        "versions": versions(()),
        **({"stages": stages} if stages else {}),
        **({"compared": dict(compared.record)} if compared else {}),
    }


def _planned(numbers: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """`numbers` with other runs in the folder `runs` named as in plans."""
    named = {str(run.parent): f"{RUN_FOLDERS}{run.parent.name}" for run in runs.glob("*/config.toml")}
    return {
        name: named.get(str(Path(value).resolve()), value) if isinstance(value, str) else value
        for name, value in numbers.items()
    }


def keep(told: Mapping[str, Any], name: str) -> Path:
    """Writes a record. Raises `ValueError` for a number that is not finite."""
    return write_json(TRAINED / f"{name}.json", told)


def mark(recipe: str, proof: Path, root: Path = ROOT) -> str:
    """Writes `proof` into the record of the system that `recipe` trains, where it has none yet; says what was done."""
    file = find_recipe(recipe).__name__.partition(".")[2].replace(".", "/") + ".py"
    record = next((system for system in systems(root=root) if file in system.files), None)
    name = proof.relative_to(HERE.parent).as_posix()
    if record is None:
        return f"no system is made by {file}: nothing marked"
    if record.trained:
        return f"{record.name} is marked as trained by {', '.join(record.trained)}"
    target = root / record.files[0]
    text = target.read_text(encoding="utf-8")
    write_text(target, text.replace('"trained": None', f'"trained": "{name}"'))
    return f"{record.name} is now marked as trained by {name}"


def prove(
    path: Path, name: str, more: Mapping[str, Any], sheet: Path | None = None, root: Path = ROOT
) -> dict[str, Any]:
    """Keeps a finished run as proof: its record and `more`, a contact sheet (or the file `sheet`), its system's mark.

    A model that draws only what sentences say has no sheet unless it is given one.
    """
    from run_sheet import sheet_of

    told = {**record(path), **more}
    if sheet is None:
        made = sheet_of(path)
        sheet = made and write_bytes(TRAINED / f"{name}.png", made)
    if sheet is not None:
        told["sheet"] = sheet.resolve().relative_to(HERE.parent).as_posix()
    proof = keep(told, name)
    print(f"Wrote {proof}\n{mark(Run.open(path).config['recipe'], proof, root)}")
    return told


def main() -> int:
    """Keep one run."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("run", type=Path)
    options.add_argument("--name", help="of the record (default: the run folder's)")
    options.add_argument("--sheet", type=Path, help="a picture of what it draws, if there is one already")
    given = options.parse_args()
    prove(given.run, given.name or given.run.resolve().name, {}, given.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
