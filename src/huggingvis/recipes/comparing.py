"""Samplers of one model side by side: quality against the number of network calls.

Every sampler starts from the same noise as a fine solution of the same probability-flow ODE, and is measured by how far
from it its pictures end: PSNR of the pictures, and the relative error |x - x*|/|x*| in model space. That needs no
data and no judge, and holds for samplers without fresh noise, whose limit the solution is; those with fresh noise are
refused. Book: chapter 4, "Samplers".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.core.shapes import check_finite
from huggingvis.core.system import System
from huggingvis.edits.generate import possible
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.samplers._facts import calls_of
from huggingvis.samplers.names import sampler_of, schedule_of

CELL = 96
"""Pixels of a picture on the sheet."""
SAMPLERS = ("ddim", "heun", "dpm++2m", "dpm++2s", "deis", "unipc", "lms", "plms")
"""Those that are compared where none are named."""


def calls_without_noise(name: str) -> int:
    """Network calls of a step of the sampler `name`. Raises `UsageError` for one with fresh noise."""
    calls, stochastic = calls_of(sampler_of(name))
    if stochastic:
        raise UsageError(
            f"The sampler {name!r} draws fresh noise, so its pictures have no reference to be near to. Compare "
            "samplers without, or measure its law with `hvis evaluate` on a folder of its pictures."
        )
    return calls


@dataclass(frozen=True)
class Comparison:
    """What is compared and how.

    samplers: names in any community's spelling.
    nfe: numbers of network calls, guidance not counted; a sampler takes as many whole steps as fit.
    schedule: the grid that all of them walk.
    prompt: what is drawn.
    count: pictures, from the seeds `seed`, `seed` + 1, ...
    fine: steps of the reference, by Heun's method.

    Raises `UsageError` for names that are not known and for samplers with fresh noise.
    """

    samplers: tuple[str, ...] = SAMPLERS
    nfe: tuple[int, ...] = (5, 10, 20, 50)
    schedule: str = "logsnr"
    prompt: str = ""
    count: int = 4
    seed: int = 0
    fine: int = 200

    def __post_init__(self) -> None:
        if not self.samplers or not self.nfe or min(self.nfe) < 1 or self.count < 1 or self.fine < max(self.nfe):
            raise UsageError(
                "A comparison needs a sampler, a picture, numbers of calls of at least 1 and a reference with at least "
                f"as many steps; found {self.samplers}, {self.count}, {self.nfe} and {self.fine}."
            )
        schedule_of(self.schedule, self.fine)
        for name in self.samplers:
            calls_without_noise(name)


@dataclass(frozen=True)
class Compared:
    """`record` in JSON values, `plot` of PSNR against calls, `sheet`: rows are samplers, columns numbers of calls."""

    record: dict[str, Any]
    plot: Picture
    sheet: Picture


def compare_samplers(
    system: System, how: Comparison = Comparison(), tick: Callable[[int], None] = lambda done: None
) -> Compared:
    """Runs the comparison. Raises `UsageError` for models that do not diffuse, `NumericalTrouble` for NaN."""
    calls = {name: calls_without_noise(name) for name in how.samplers}
    fine, best = _run(system, how, "heun", how.fine)
    rows, curves, tiles = [], [], []
    for name in how.samplers:
        points = []
        for nfe in how.nfe:
            began = time.perf_counter()
            x, pictures = _run(system, how, name, max(1, nfe // calls[name]))
            seconds = time.perf_counter() - began
            error = float((x - fine).norm() / fine.norm())
            psnr = _psnr(pictures, best)
            steps = max(1, nfe // calls[name])
            rows.append({"sampler": name, "nfe": nfe, "steps": steps, "calls_per_step": calls[name], "psnr": psnr,
                         "relative_error": error, "seconds": round(seconds, 3)})  # fmt: skip
            points.append((float(nfe), math.inf if psnr is None else psnr))
            tiles.append(Picture.from_signal(pictures[0].numpy()))
            tick(len(rows))
        curves.append(Curve(name, points, marked=True))
    axes = Axes(f"{system.spec.name}: {how.schedule}", "network calls", "PSNR, dB", log_x=True)
    columns = tuple(f"{nfe} calls" for nfe in how.nfe)
    sheet = Sheet(cell=CELL, row_labels=(*how.samplers, f"reference, {how.fine} steps"), column_labels=columns)
    tiles += [Picture.from_signal(best[i % how.count].numpy()) for i in range(len(how.nfe))]
    record = {"model": system.spec.name, "schedule": how.schedule, "prompt": how.prompt, "seed": how.seed,
              "count": how.count, "reference": {"sampler": "heun", "steps": how.fine}, "rows": rows}  # fmt: skip
    return Compared(record, plot(curves, axes), contact_sheet(tiles, sheet))


@torch.inference_mode()
def _run(system: System, how: Comparison, sampler: str, steps: int) -> tuple[Tensor, Tensor]:
    """Samples in model space [N, ...] and as pictures [N, C, H, W]."""
    sampling: Sampling = replace(system.defaults, steps=steps, seed=how.seed)
    request = possible(system, Request(Prompt(how.prompt), Canvas(count=how.count), sampling))
    model = system.generator(request)
    if not isinstance(model, Diffusion):
        raise UsageError(
            f"{system.spec.name!r} is a {type(model).__name__}: it has no sampler to compare. Take a diffusion model."
        )
    # by name here and not through the request, so that models whose own limits are narrower are compared too
    model = replace(model, sampler=sampler_of(sampler), grid=schedule_of(how.schedule, steps))
    cond = system.conditioner.prepare(system.conditioner([request] * how.count))
    z = model.sample(how.count, cond, noise=SeedNoise([how.seed + i for i in range(how.count)]))
    check_finite(z, f"The sample of {sampler} in {steps} steps")
    return z.float().cpu(), system.codec.decode(z).float().cpu()


def _psnr(x: Tensor, y: Tensor) -> float | None:
    """In decibels, for pictures in [-1, 1]; None where they are equal."""
    error = float((x.clamp(-1, 1) - y.clamp(-1, 1)).square().mean())
    return 10 * math.log10(4 / error) if error > 0 else None


def told(result: Compared) -> Sequence[str]:
    """A line for each sampler: PSNR at every number of calls."""
    names = dict.fromkeys(row["sampler"] for row in result.record["rows"])
    lines = []
    for name in names:
        cells = [row for row in result.record["rows"] if row["sampler"] == name]
        numbers = [(row["nfe"], "equal" if row["psnr"] is None else f"{row['psnr']:5.1f}") for row in cells]
        lines.append(f"{name:<20}  {'  '.join(f'{nfe:>4}: {psnr}' for nfe, psnr in numbers)}")
    return lines
