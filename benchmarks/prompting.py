"""What weights in a prompt and what negative prompts do to the shipped model's pictures, told by the world's judge.

    python benchmarks/prompting.py                              both questions, ten minutes of one core
    python benchmarks/prompting.py weights --values 0.5 1 1.5   other weights
    python benchmarks/prompting.py negative --each 8

weights: "a (red:w) circle to the left of a blue star" for every colour and shape: how often the first thing has its
colour, how often the second has its own, and how often both are there at all. negative: a shape without a colour word,
with each colour as negative prompt: how often that colour comes, beside without; and two things of which one is the
negative prompt: how often it is left out. A model that plans before it draws is asked with its plan and without: the
plan, which is made of the whole sentence, says most of what is drawn. All settings start from the same noise. Shares
stand with the half width of their 95 % interval. `curves/prompting.json` and `.png` are written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import HERE, command, write_json

import huggingvis as hv
from huggingvis.core.machine import cores, machine, versions
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Prompt, Request
from huggingvis.core.system import System
from huggingvis.data.captions import article
from huggingvis.data.sprites import COLOURS, objects_v1
from huggingvis.edits.generate import fingerprint
from huggingvis.export.image import save
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.metrics.scene_accuracy import Detections
from huggingvis.systems.judges.world import bind as bind_world

CHUNK = 64
SHAPES = [shape.id for shape in objects_v1().shapes]
Asked = tuple[Prompt, Callable[[Detections], dict[str, bool]]]
"""A prompt, and what of it is answered by what is found in its picture."""
PLAN = "plan"


def judged(system: System, asked: Sequence[Asked], like: Request) -> dict[str, dict[str, float]]:
    """The share of each answer, with the half width of its interval; picture i from the seed of `like` + i."""
    judge = bind_world()
    answers: dict[str, list[bool]] = {}
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        requests = [replace(like, prompt=prompt) for prompt, _ in part]
        for found, (_, right) in zip(judge(drawn(system, requests, like.sampling.seed + start)), part, strict=True):
            for name, yes in right(found).items():
                answers.setdefault(name, []).append(yes)
    return {name: {"share": round(float(np.mean(yes)), 4), "plus_minus": wide(yes)} for name, yes in answers.items()}


def wide(yes: Sequence[bool]) -> float:
    """Half the width of Wilson's 95 % interval (1927): it has one where all answers are alike, too."""
    n, z = len(yes), 1.96
    share = float(np.mean(yes))
    return round(z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5, 4)


@torch.inference_mode()
def drawn(system: System, requests: Sequence[Request], seed: int) -> np.ndarray:
    """A picture for each, uint8 [N, H, W, 3]."""
    cond = system.conditioner.prepare(system.conditioner(requests))
    noise = SeedNoise([seed + i for i in range(len(requests))])
    x = system.codec.decode(system.generator(requests[0]).sample(len(requests), cond, noise=noise))
    return np.stack([Picture.from_signal(one.numpy()).pixels for one in x.float().cpu()])


# ---- weights ---------------------------------------------------------------------------------------------------------


def pairs(each: int) -> Iterator[tuple[str, str, str, str]]:
    """(colour, shape) to the left of (colour, shape), all colours and shapes of the first alike often."""
    colours, shapes = list(COLOURS), SHAPES
    for turn in range(each):
        for i, colour in enumerate(colours):
            for j, shape in enumerate(shapes):
                other = colours[(i + 1 + (j + turn) % (len(colours) - 1)) % len(colours)]
                yield colour, shape, other, shapes[(j + 1 + (i + turn) % (len(shapes) - 1)) % len(shapes)]


def weighted(weight: float, each: int) -> list[Asked]:
    """The first colour spoken with `weight`."""

    def one(colour: str, shape: str, other: str, thing: str) -> Asked:
        said = f"a ({colour}:{weight:g}) {shape} to the left of {article(other)} {other} {thing}"

        def right(found: Detections) -> dict[str, bool]:
            names = {d.name for d in found}
            return {
                "first colour": any((d.name, d.colour) == (shape, colour) for d in found),
                "second colour": any((d.name, d.colour) == (thing, other) for d in found),
                "both there": {shape, thing} <= names,
            }

        return Prompt(said), right

    return [one(*names) for names in pairs(each)]


# ---- negative prompts ------------------------------------------------------------------------------------------------


def coloured(negative: bool, each: int) -> list[Asked]:
    """A shape without a colour word; with `negative`, each colour is what it should not be."""

    def one(colour: str, shape: str) -> Asked:
        def right(found: Detections) -> dict[str, bool]:
            return {"the colour": any((d.name, d.colour) == (shape, colour) for d in found),
                    "the shape": any(d.name == shape for d in found)}  # fmt: skip

        return Prompt(f"a {shape}", f"{colour} {shape}" if negative else ""), right

    return [one(colour, shape) for _ in range(each) for colour in COLOURS for shape in SHAPES]


def left_out(negative: bool, each: int) -> list[Asked]:
    """Two things; with `negative`, the second is what should not be there."""

    def one(first: str, second: str) -> Asked:
        def right(found: Detections) -> dict[str, bool]:
            names = {d.name for d in found}
            return {"the second thing": second in names, "the first thing": first in names}

        return Prompt(f"a {first} and a {second}", f"a {second}" if negative else ""), right

    turns = range(1, 1 + each)
    return [one(shape, SHAPES[(i + turn) % len(SHAPES)]) for turn in turns for i, shape in enumerate(SHAPES)]


# ---- the record ------------------------------------------------------------------------------------------------------


def points(given: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[Asked]]]:
    """Every setting that is asked for, and its prompts."""
    if given.what in ("weights", "both"):
        for weight in given.values:
            yield {"question": "weights", "weight": weight}, weighted(weight, given.each)
    if given.what in ("negative", "both"):
        for negative in (False, True):
            yield {"question": "colour as negative prompt", "negative": negative}, coloured(negative, given.each)
        for negative in (False, True):
            yield {"question": "thing as negative prompt", "negative": negative}, left_out(negative, 7)


def main() -> int:
    given = _options().parse_args()
    system = hv.load(given.model, device="cpu")
    system = replace(system, defaults=replace(system.defaults, seed=given.seed))
    record: dict[str, Any] = {
        "command": command(__file__, sys.argv[1:]), "model": system.spec.name, "weights": fingerprint(system),
        "seed": given.seed, "machine": machine(cores()), "versions": versions(()), "points": [],
    }  # fmt: skip
    for how in [{PLAN: "yes"}, {PLAN: "no"}] if PLAN in system.limits.options else [{}]:
        like = Request(sampling=system.defaults, options=how)
        for about, asked in points(given):
            began = time.perf_counter()
            told = judged(system, asked, like)
            seconds = round(time.perf_counter() - began, 1)
            record["points"].append({**about, **how, "pictures": len(asked), **told, "seconds": seconds})
            print(record["points"][-1], flush=True)
            write_json(HERE / "curves" / "prompting.json", record)
    if given.what != "negative" and len(given.values) > 1:
        axes = Axes(system.spec.name, "weight of the first colour", "share right")
        save(plot(list(curves(record["points"])), axes), HERE / "curves" / "prompting.png")
    return 0


def curves(found: Sequence[dict[str, Any]]) -> Iterator[Curve]:
    """Shares by the weight, of each way of drawing."""
    spots = [point for point in found if point["question"] == "weights"]
    for plan in dict.fromkeys(point.get(PLAN) for point in spots):
        own = [point for point in spots if point.get(PLAN) == plan]
        for name in ("first colour", "second colour", "both there"):
            way = {"yes": f"{name}, planned", "no": f"{name}, no plan"}.get(str(plan), name)
            yield Curve(way, [(point["weight"], point[name]["share"]) for point in own], marked=True)


def _options() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    out.add_argument("what", nargs="?", default="both", choices=("both", "weights", "negative"))
    out.add_argument("--values", type=float, nargs="+", default=[0.0, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0])
    out.add_argument("--each", type=int, default=2, help="times that every colour and shape are asked for")
    out.add_argument("--model", default="tiny")
    out.add_argument("--seed", type=int, default=0)
    return out


if __name__ == "__main__":
    sys.exit(main())
