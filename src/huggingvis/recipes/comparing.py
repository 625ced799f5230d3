"""Samplers of one model side by side: quality against the number of network calls.

Every sampler starts from the same noise as a fine solution of the same probability-flow ODE, and one without fresh
noise, whose limit the solution is, is measured by how far from it its pictures end: PSNR of the pictures, and the
relative error |x - x*|/|x*| in model space. That needs no data and no judge. Where real pictures are named, all are
measured by the Fréchet distance to them as well (`recipes.likeness`), those with fresh noise by it alone.
Book: chapter 4, "Samplers".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.core.shapes import check_finite
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.edits.generate import possible
from huggingvis.export.grid import Sheet, beside, contact_sheet
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.likeness import Likeness, likeness
from huggingvis.recipes.pictures import View
from huggingvis.recipes.sampler_facts import calls_of
from huggingvis.samplers.names import sampler_of, schedule_of

CELL = 96
"""Pixels of a picture on the sheet."""
SAMPLERS = ("ddim", "heun", "dpm++2m", "dpm++2s", "deis", "unipc", "lms", "plms")
"""Those that are compared where none are named."""
_CHUNK = 64


def _refuse_fresh_noise(facts: dict[str, tuple[int, bool]]) -> None:
    for name, (_, stochastic) in facts.items():
        if stochastic:
            raise UsageError(
                f"The sampler {name!r} draws fresh noise, so its pictures have no reference to be near to. Name real "
                "pictures with --against, and it is compared by its distance to them."
            )


@dataclass(frozen=True)
class Comparison:
    """What is compared and how.

    Attributes:
        samplers: names in any community's spelling.
        nfe: numbers of network calls, guidance not counted; a sampler takes as many whole steps as fit, one at least.
        schedule: the grid that all of them walk; none: the model's own.
        prompt: what is drawn; none: captions of the pictures in `against`, else the model's example.
        count: pictures, from the seeds `seed`, `seed` + 1, ...
        seed: of the noise.
        fine: steps of the reference, by Heun's method.
        against: real pictures to measure a Fréchet distance to, named as in training; none: no distance.
        split: which part of them, train, validation or test; a folder is all test.
        root: folder in which standard data sets lie.
        judge: weights file of the network in whose features the distance is; none: the packaged judge.

    Raises `UsageError` for names that are not known, and for samplers with fresh noise where nothing is `against`.
    """

    samplers: tuple[str, ...] = SAMPLERS
    nfe: tuple[int, ...] = (5, 10, 20, 50)
    schedule: str | None = None
    prompt: str | None = None
    count: int = 4
    seed: int = 0
    fine: int = 200
    against: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    root: str = "data"
    judge: str | None = None

    def __post_init__(self) -> None:
        if not self.samplers or not self.nfe or min(self.nfe) < 1 or self.count < 1 or self.fine < max(self.nfe):
            raise UsageError(
                "A comparison needs a sampler, a picture, numbers of calls of at least 1 and a reference with at least "
                f"as many steps; found {self.samplers}, {self.count}, {self.nfe} and {self.fine}."
            )
        if self.schedule is not None:
            schedule_of(self.schedule, self.fine)
        facts = {name: calls_of(sampler_of(name)) for name in self.samplers}
        if self.against is None:
            _refuse_fresh_noise(facts)


@dataclass(frozen=True)
class Compared:
    """`record` in JSON values, `plot` of quality against calls, `sheet`: rows are samplers, columns numbers of calls.

    A row of `record` holds `psnr` (None where equal) and `relative_error` where the sampler draws no fresh noise,
    `frechet` where there were pictures to compare with.
    """

    record: dict[str, Any]
    plot: Picture
    sheet: Picture


def compare_samplers(
    system: System, how: Comparison = Comparison(), tick: Callable[[int], None] = lambda done: None
) -> Compared:
    """Runs the comparison. Raises `UsageError` for models that do not diffuse, `NumericalTrouble` for NaN."""
    facts = {name: calls_of(sampler_of(name)) for name in how.samplers}
    real = _real(system, how)
    drawing = _Drawing(system, how, _prompts(system, how, real))
    goal = drawing("heun", how.fine)
    rows, tiles = [], []
    for name, (calls, stochastic) in facts.items():
        for nfe in how.nfe:
            began, steps = time.perf_counter(), max(1, nfe // calls)
            made = drawing(name, steps)
            row = {"sampler": name, "nfe": nfe, "steps": steps, "calls_per_step": calls}
            row["seconds"] = round(time.perf_counter() - began, 3)
            rows.append(row | ({} if stochastic else _nearness(made, goal)) | _likeness(made, real))
            tiles.append(Picture.from_signal(made.pictures[0].numpy()))
            tick(len(rows))
        tiles.append(Picture.from_signal(goal.pictures[0].numpy()))
    columns = (*(f"{nfe} calls" for nfe in how.nfe), "reference")
    sheet = contact_sheet(tiles, Sheet(cell=CELL, row_labels=tuple(facts), column_labels=columns))
    numbers = {"schedule": drawing.schedule, "prompts": drawing.prompts[:4], "seed": how.seed, "count": how.count}
    reference = {"sampler": "heun", "steps": how.fine} | _likeness(goal, real)
    against = {"against": real.record | {"floor": real.floor}} if real else {}
    record = {"model": system.spec.name, **numbers, "reference": reference, **against, "rows": rows}
    return Compared(record, _plotted(record), sheet)


class _Made(NamedTuple):
    """Samples in model space [N, ...] and as pictures [N, C, H, W], in float32 on the CPU."""

    latents: Tensor
    pictures: Tensor


def _nearness(made: _Made, goal: _Made) -> dict[str, Any]:
    error = (made.latents - goal.latents).norm() / goal.latents.norm()
    return {"psnr": _psnr(made.pictures, goal.pictures), "relative_error": float(error)}


def _likeness(made: _Made, real: Likeness | None) -> dict[str, Any]:
    return {"frechet": real(made.pictures)} if real else {}


class _Drawing:
    """Pictures of one model by any sampler, always from the same noise."""

    def __init__(self, system: System, how: Comparison, prompts: Sequence[str]):
        self.system, self.prompts, self.seed = system, list(prompts), how.seed
        self.schedule = how.schedule or system.defaults.schedule

    @torch.inference_mode()
    def __call__(self, sampler: str, steps: int) -> _Made:
        sampling: Sampling = replace(self.system.defaults, steps=steps, seed=self.seed)
        canvas = Canvas(count=len(self.prompts))
        requests = [possible(self.system, Request(Prompt(text), canvas, sampling)) for text in self.prompts]
        model = self.system.generator(requests[0])
        if not isinstance(model, Diffuses):
            name, kind = self.system.spec.name, type(model).__name__
            raise UsageError(f"{name!r} is a {kind}: it has no sampler to compare. Take a diffusion model.")
        # by name here and not through the request, so that models whose own limits are narrower are compared too
        diffusion = replace(model.diffusion, sampler=sampler_of(sampler), grid=schedule_of(self.schedule, steps))
        parts = []
        for i in range(0, len(requests), _CHUNK):
            some = requests[i : i + _CHUNK]
            cond = self.system.conditioner.prepare(self.system.conditioner(some))
            z = diffusion.sample(len(some), cond, noise=SeedNoise([self.seed + i + k for k in range(len(some))]))
            check_finite(z, f"The sample of {sampler} in {steps} steps")
            parts.append((z.float().cpu(), self.system.codec.decode(z).float().cpu()))
        latents, pictures = zip(*parts, strict=True)
        return _Made(torch.cat(latents), torch.cat(pictures))


def _real(system: System, how: Comparison) -> Likeness | None:
    if how.against is None:
        return None
    view = View(min(system.spec.size), system.spec.channels)
    data = Wanted(how.against, Split(how.split), how.root)
    return likeness(data, how.count, view, system.device, judge=how.judge)


def _prompts(system: System, how: Comparison, real: Likeness | None) -> list[str]:
    """One for each picture."""
    if how.prompt is None and system.limits.prompt_required and real is not None and real.captions:
        return list(real.captions)
    return [system.example if how.prompt is None else how.prompt] * how.count


def _psnr(x: Tensor, y: Tensor) -> float | None:
    """In decibels, for pictures in [-1, 1]; None where they are equal."""
    error = float((x.clamp(-1, 1) - y.clamp(-1, 1)).square().mean())
    return 10 * math.log10(4 / error) if error > 0 else None


def _plotted(record: dict[str, Any]) -> Picture:
    """PSNR against calls, and beside it the Fréchet distance where it was measured."""
    title, plots = f"{record['model']}: {record['schedule']}", []
    calls = tuple(sorted({float(row["nfe"]) for row in record["rows"]}))
    nearness = _curves(record, "psnr")
    if nearness or "against" not in record:
        plots.append(plot(nearness, Axes(title, "network calls", "PSNR, dB", log_x=True, x_ticks=calls)))
    if "against" in record:
        level = [Curve("floor", [(nfe, record["against"]["floor"]) for nfe in (calls[0], calls[-1])])]
        against = f"{title} against {record['against']['data']}"
        axes = Axes(against, "network calls", "Fréchet", log_x=True, log_y=True, x_ticks=calls)
        plots.append(plot([*_curves(record, "frechet"), *level], axes))
    return beside(plots)


def _curves(record: dict[str, Any], key: str) -> list[Curve]:
    """A curve for each sampler that has a finite number under `key`."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in record["rows"]:
        if row.get(key) is not None:
            points.setdefault(row["sampler"], []).append((float(row["nfe"]), row[key]))
    inks = list(dict.fromkeys(row["sampler"] for row in record["rows"]))  # a sampler has one colour in every plot
    return [Curve(name, spots, marked=True, ink=inks.index(name)) for name, spots in points.items()]


def told(result: Compared) -> Sequence[str]:
    """Tables for people: a line for each sampler, a column for each number of calls."""
    record = result.record
    lines = _table(record, "psnr", "PSNR against the reference, in decibels, by network calls")
    if "against" in record:
        against = record["against"]
        lines += [
            "",
            *_table(record, "frechet", f"Fréchet distance to {against['count']} pictures of {against['data']}"),
        ]
        lines.append(f"{'reference':<20}  {record['reference']['frechet']:.4g};  real pictures: {against['floor']:.4g}")
    return lines


def _table(record: dict[str, Any], key: str, title: str) -> list[str]:
    cells: dict[str, list[str]] = {}
    for row in record["rows"]:
        if key in row:
            number = "equal" if row[key] is None else f"{row[key]:5.1f}" if key == "psnr" else f"{row[key]:7.4g}"
            cells.setdefault(row["sampler"], []).append(f"{row['nfe']:>4}: {number}")
    return [title, *(f"{name:<20}  {'  '.join(numbers)}" for name, numbers in cells.items())] if cells else []
