"""One number of a model's sampling against what it draws: the U-curve of guidance, few steps and many.

    python benchmarks/sweep.py guidance_scale 1 2 3 4 5 6 7 8 --model tiny --count 300
    python benchmarks/sweep.py steps 10 20 50 --samplers ddim,ddpm --model runs/ddpm --against mnist --judge lenet.pth
    python benchmarks/sweep.py ... --budget                 only says how long that takes here

Of a model that reads sentences: scene accuracy and the Fréchet distance in the judge's features, on the same English
test prompts. Of others: the Fréchet distance to the pictures `--against`, and where they know classes that the judge
tells, how often they draw the one that was asked for and how much the pictures of a class differ. All points start from
the same noise. `curves/KNOB-MODEL.json` and `.png` are written after each point; a second call goes on where the first
was stopped, if it asks for the same model with the same weights, count, seed and pictures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, command, placed, write_json
from torch import Tensor

import huggingvis as hv
from huggingvis.core.errors import UsageError
from huggingvis.core.machine import cores, machine, versions
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Classifies
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.data.world import World
from huggingvis.data.worldset import to_tensor
from huggingvis.edits.generate import fingerprint, possible
from huggingvis.export.grid import beside
from huggingvis.export.image import save
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.metrics.features import gather
from huggingvis.metrics.frechet import frechet
from huggingvis.metrics.scene_accuracy import OVERALL, scene_accuracy
from huggingvis.recipes.drawing import drawn, prompts_for
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.judging import open_judge
from huggingvis.recipes.likeness import likeness
from huggingvis.recipes.pictures import View
from huggingvis.recipes.scene_evaluation import ceiling_of, draw, layouts_of
from huggingvis.systems.judges.world import bind as bind_world

CURVES = HERE / "curves"
KNOBS = ("guidance_scale", "steps", "eta", "guidance_rescale")
PROBE = 8
Told = dict[str, float]


@dataclass(frozen=True)
class Sweep:
    """What is measured: `measure` of pictures by a setting, with the `levels` that its figures stand between; `draw`
    draws the first so many."""

    measure: Callable[[Sampling], Told]
    draw: Callable[[Sampling, int], object]
    levels: Mapping[str, Mapping[str, float]]


# ---- what is measured ------------------------------------------------------------------------------------------------


def scenes(system: System, given: argparse.Namespace) -> Sweep:
    """Scene accuracy on English test prompts, beside that by other pictures' prompts, and the Fréchet distance to true
    pictures of other prompts; its floor is that of true pictures of these, which a perfect model would reach."""
    world, judge = World(size=system.spec.size[0], split="test"), bind_world()
    layouts = layouts_of(world, given.count, given.seed)
    captions = [world.caption(layout, "en", 0) for layout in layouts]
    shuffled = layouts[:]
    random.Random(given.seed).shuffle(shuffled)
    true, real = (
        judge.features(to_tensor(np.stack([world.image(layout) for layout in these])))
        for these in (layouts, layouts_of(world, given.count, given.seed + 1))
    )

    def share(pictures: np.ndarray, of: Sequence[Any]) -> float:
        return scene_accuracy(judge, {"en": pictures}, of).accuracy["en"][OVERALL].value

    def measure(numbers: Sampling) -> Told:
        pictures = draw(system, captions, numbers)
        return {
            "accuracy": share(pictures, layouts),
            "by_chance": share(pictures, shuffled),
            "frechet": frechet(judge.features(to_tensor(pictures)), real),
        }

    ceiling = ceiling_of(system, judge, world, layouts).accuracy["en"][OVERALL].value
    levels = {"accuracy": {"ceiling": ceiling}, "frechet": {"floor": frechet(true, real)}}
    return Sweep(measure, lambda numbers, n: draw(system, captions[:n], numbers), levels)


def samples(system: System, given: argparse.Namespace) -> Sweep:
    """Fréchet distance to real pictures; with classes, how often the judge sees the one asked for, and diversity: the
    mean distance of two pictures of a class in its features, over that of real ones."""
    if given.against is None:
        raise UsageError("Name real pictures with --against: there is no other measure of a model without sentences.")
    classes = [str(name) for name in system.spec.card.get("classes") or ()] if given.judge else []
    if given.count < 2 * len(classes):
        raise UsageError(
            f"How much pictures of a class differ is told from two of each at least: {len(classes)} classes need "
            f"--count {2 * len(classes)} or more, found {given.count}."
        )
    view = View(min(system.spec.size), system.spec.channels)
    data = Wanted(given.against, Split(given.split), given.root)
    real = likeness(data, given.count, view, system.device, judge=given.judge)
    prompts = prompts_for(system, given.count)
    judge = open_judge(given.judge, Classifies, "tell classes", system.device) if classes else None
    labels = torch.arange(given.count) % max(1, len(classes))
    levels: dict[str, dict[str, float]] = {"frechet": {"floor": real.floor}}
    spread = 1.0
    if judge is not None:
        pictures = data.open(view)
        known = pictures.all_labels()
        if known is None or not list(pictures.facts.classes) == classes == list(judge.classes):
            raise UsageError(f"Model, judge and {given.against} must know the same classes, in one order: {classes}.")
        each = given.count // len(classes)
        chosen = torch.cat([(known == k).nonzero().flatten()[:each] for k in range(len(classes))])
        seen = pictures.images(chosen.numpy(), np.zeros(len(chosen), dtype=bool))
        spread = within(gather(real.extract, seen.split(64)), known[chosen])
        levels["accuracy"] = {"real": right(judge, seen, known[chosen]), "chance": 1 / len(classes)}
        levels["diversity"] = {"real": 1.0}

    def pictures_of(numbers: Sampling, n: int = given.count) -> Tensor:
        return torch.cat(list(drawn(system, prompts[:n], numbers)))

    def measure(numbers: Sampling) -> Told:
        x = pictures_of(numbers)
        told = {"frechet": real(x)}
        if judge is not None:
            features = gather(real.extract, x.split(64))
            told |= {"accuracy": right(judge, x, labels), "diversity": within(features, labels) / spread}
        return told

    return Sweep(measure, pictures_of, levels)


def right(judge: Classifies, x: Tensor, labels: Tensor) -> float:
    """Share of the pictures x [N, C, H, W] that the judge takes for their class."""
    seen = torch.cat([judge.log_probs(part).argmax(1).cpu() for part in x.split(64)])
    return float((seen == labels).double().mean())


def within(features: Tensor, labels: Tensor) -> float:
    """Mean distance of two of the features [N, D] that are of one class; some class has two."""
    groups = [features[labels == k].double() for k in labels.unique()]
    return float(torch.stack([torch.pdist(group).mean() for group in groups if len(group) > 1]).mean())


# ---- the curve -------------------------------------------------------------------------------------------------------


def settings(system: System, given: argparse.Namespace) -> list[Sampling]:
    """Every point's, samplers one after another. Raises `UsageError` for what the model cannot do."""
    if not system.limits.samplers:
        raise UsageError(f"{system.spec.name!r} ({system.spec.family}) is no diffusion model: it has no {given.knob}.")
    whole = given.knob == "steps"
    out = []
    for sampler, value in product(given.samplers or [system.defaults.sampler], given.values):
        said = {"sampler": sampler, "seed": given.seed, given.knob: int(value) if whole else value}
        said |= {"schedule": given.schedule} if given.schedule else {}
        asked = Request(Prompt(system.example), sampling=replace(system.defaults, **said))
        out.append(possible(system, asked).sampling)
    return out


def budget(sweep: Sweep, points: Sequence[Sampling], count: int) -> float:
    """Seconds that drawing all points takes, from `PROBE` pictures of the first."""
    sweep.draw(points[0], PROBE)
    began = time.perf_counter()
    sweep.draw(points[0], PROBE)
    each = (time.perf_counter() - began) / PROBE / points[0].steps
    return each * count * sum(point.steps for point in points)


def run(system: System, sweep: Sweep, given: argparse.Namespace, record: dict[str, Any]) -> None:
    """Measures the points that `record` lacks, and writes it after each."""
    stem = CURVES / f"{given.knob}-{system.spec.name}"
    for point in settings(system, given):
        key = {"sampler": point.sampler, given.knob: getattr(point, given.knob)}
        if any(key.items() <= kept.items() for kept in record["points"]):
            continue
        began = time.perf_counter()
        told = {name: round(value, 5) for name, value in sweep.measure(point).items()}
        record["points"].append({**key, **told, "seconds": round(time.perf_counter() - began, 1)})
        record["points"].sort(key=lambda p: (p["sampler"], p[given.knob]))
        record["seconds"] = round(sum(p["seconds"] for p in record["points"]), 1)
        write_json(stem.with_suffix(".json"), record)
        save(plotted(record), stem.with_suffix(".png"))
        print({**key, **told}, flush=True)
    print(f"{stem.with_suffix('.json').name}: {len(record['points'])} points")


def begun(system: System, sweep: Sweep, given: argparse.Namespace) -> dict[str, Any]:
    """The record to go on with: the one that is there, if it asks for the same, or a fresh one."""
    asked = {name: placed(str(getattr(given, name))) for name in ("count", "seed", "schedule", "against", "split")}
    asked["judge"] = given.judge.name if given.judge else "judge-world"
    asked["weights"] = fingerprint(system)
    path = CURVES / f"{given.knob}-{system.spec.name}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            return kept
        print(f"{path.name} is of another question and begins anew.", file=sys.stderr)
    about = {"command": command(__file__, sys.argv[1:]), "seed": given.seed, "seconds": 0.0}
    where = {"machine": machine(cores()), "versions": versions(())}
    what = {"model": system.spec.name, "knob": given.knob, "asked": asked}
    return {**about, **what, **where, "levels": sweep.levels, "points": []}


def plotted(record: Mapping[str, Any]) -> Picture:
    """A plot for each figure, with its floor and ceiling as level lines."""
    knob, points = record["knob"], record["points"]
    ends = [float(f(p[knob] for p in points)) for f in (min, max)]
    plots = []
    for name, levels in record["levels"].items():
        curves = []
        for sampler in dict.fromkeys(p["sampler"] for p in points):
            spots = [(float(p[knob]), p[name]) for p in points if p["sampler"] == sampler]
            curves.append(Curve(sampler, spots, marked=True))
        if any("by_chance" in p for p in points) and name == "accuracy":
            curves.append(Curve("by chance", [(float(p[knob]), p["by_chance"]) for p in points]))
        curves += [Curve(label, [(x, level) for x in ends]) for label, level in levels.items()]
        steps = knob == "steps"
        plots.append(plot(curves, Axes(record["model"], knob.replace("_", " "), name, log_x=steps, log_y=steps)))
    return beside(plots)


def main() -> int:
    given = _options().parse_args()
    try:
        system = hv.load(given.model, device="cpu")
        points = settings(system, given)
        sweep = (scenes if system.limits.prompt_required else samples)(system, given)
        seconds = budget(sweep, points, given.count)
        print(f"{len(points)} points of {given.count} pictures: about {seconds / 60:.1f} min here", file=sys.stderr)
        if not given.budget:
            run(system, sweep, given, begun(system, sweep, given))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _options() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    out.add_argument("knob", choices=KNOBS)
    out.add_argument("values", type=float, nargs="+")
    out.add_argument("--model", default="tiny", help="a packaged model, a model folder or a run folder")
    out.add_argument("--samplers", type=lambda text: text.split(","), help="NAME,... (default: the model's own)")
    out.add_argument("--schedule", help="(default: the model's own)")
    out.add_argument("--count", type=int, default=300, help="pictures of each point")
    out.add_argument("--seed", type=int, default=0)
    out.add_argument("--against", help="real pictures, named as in training")
    out.add_argument("--split", default="validation", choices=[split.value for split in Split])
    out.add_argument("--root", default="data")
    out.add_argument("--judge", type=Path, help="weights of a judge (default: the packaged one)")
    out.add_argument("--budget", action="store_true", help="only say how long it takes")
    return out


if __name__ == "__main__":
    sys.exit(main())
