"""Samplers of one model side by side: quality against the number of network calls.

Every sampler starts from the same noise as a fine solution of the same probability-flow ODE, and one without fresh
noise, whose limit the solution is, is measured by how far from it its pictures end: PSNR of the pictures, and the
relative error |x - x*|/|x*| in model space. That needs no data and no judge. Where real pictures are named, all are
measured by the Fréchet distance to them as well (`recipes.likeness`), those with fresh noise by it alone.
Book: chapter 4, "Samplers".
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.shapes import check_finite
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.edits.generate import fingerprint
from huggingvis.export.grid import Sheet, beside, contact_sheet
from huggingvis.export.plot import COLOURS, Axes, Curve, plot
from huggingvis.recipes.compared_cells import Cell, CellPlan, Kept, Made
from huggingvis.recipes.drawing_by_name import Drawing, paced
from huggingvis.recipes.evaluation import Wanted
from huggingvis.recipes.likeness import LEAST, Likeness, likeness
from huggingvis.recipes.pictures import View
from huggingvis.recipes.sampler_facts import Kind, Walk, kind_of
from huggingvis.recipes.sampler_panels import level_of, panels, points
from huggingvis.samplers.names import OF_MODELS, sampler_names, sampler_of, schedule_of

CELL = 96
"""Pixels of a picture on the sheet."""
SAMPLERS = ("ddim", "heun", "dpm++2m", "dpm++2s", "deis", "unipc", "lms", "plms")
"""Those that are compared where none are named."""
ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """What is compared and how.

    Attributes:
        samplers: names in any community's spelling, those that only the model itself knows, such as learned ones, or
            all of these; what cannot run is then left out, with the reason.
        nfe: numbers of network calls, guidance not counted; a sampler takes as many whole steps as fit.
        schedule: the grid that all of them walk; none: the model's own.
        prompt: what is drawn; none: captions of the pictures in `against`, else the model's example.
        count: pictures, from the seeds `seed`, `seed` + 1, ...
        minutes: take fewer pictures where more would take longer.
        seed: of the noise.
        fine: steps of the reference, by Heun's method.
        against: real pictures to measure a Fréchet distance to, named as in training; none: no distance.
        split: which part of them, train, validation or test; a folder is all test.
        root: folder in which standard data sets lie.
        judge: weights or run of the network in whose features the distance is; none: the packaged judge.
    """

    samplers: tuple[str, ...] = SAMPLERS
    nfe: tuple[int, ...] = (5, 10, 20, 50)
    schedule: str | None = None
    prompt: str | None = None
    count: int = 4
    minutes: float | None = None
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
        if not self.every:
            known = [name for name in self.samplers if name not in OF_MODELS]
            self._check_noise([kind_of(name, sampler_of(name)) for name in known])

    @property
    def every(self) -> bool:
        """Whether all samplers are asked for, and not certain ones."""
        return self.samplers == (ALL,)

    def plan(self, system: System) -> CellPlan:
        """The cells that `system` can draw. Raises `UsageError` for names that neither it nor the table knows, and for
        samplers with fresh noise that are named where nothing is `against`."""
        drawing = Drawing(system, self.schedule, self.seed, [system.example if self.prompt is None else self.prompt])
        own = [name for name in system.limits.samplers if name not in sampler_names()]
        kinds: list[Kind] = []
        left: list[dict[str, Any]] = []
        for name in (*sampler_names(), *own) if self.every else self.samplers:
            try:
                kinds.append(_own_kind(name, drawing) if name in own else kind_of(name, sampler_of(name)))
            except UsageError as error:
                if not self.every:
                    raise
                left.append({"sampler": name, "reason": str(error)})
        self._check_noise(kinds)

        def fault(cell: Cell) -> str:
            try:
                if cell.kind.name in own:
                    drawing.model(cell.kind.name, cell.steps)
            except UsageError as error:
                return str(error)
            return ""

        plan = CellPlan.of(kinds, self.nfe, self.against is not None, fault)
        return replace(plan, left_out=(*plan.left_out, *left))

    def _check_noise(self, kinds: Sequence[Kind]) -> None:
        """Raises `UsageError` for samplers with fresh noise that are named where nothing is `against`."""
        fresh = next((kind.name for kind in kinds if kind.stochastic), None)
        if fresh and self.against is None and not self.every:
            raise UsageError(
                f"The sampler {fresh!r} draws fresh noise, so its pictures have no reference to be near to. Name real "
                "pictures with --against, and it is compared by its distance to them."
            )


def _own_kind(name: str, drawing: Drawing) -> Kind:
    """Of a sampler that only the model knows, in the number of steps that the model usually takes."""
    model = drawing.model(name, drawing.system.defaults.steps)
    return kind_of(name, model.sampler, Walk(model.process, model.grid(model.process.pace)))


@dataclass(frozen=True)
class Compared:
    """`record` in JSON values, `plot` of quality against calls, `sheet`: rows are samplers, columns numbers of calls.

    A row of `record` holds, where the sampler draws no fresh noise, `psnr` of all pictures together, which the few that
    are furthest off decide, `psnr_median` over the pictures (both None where equal) and `relative_error`;
    `frechet` where there were pictures to compare with.
    """

    record: dict[str, Any]
    plot: Picture
    sheet: Picture


def compare_samplers(
    system: System,
    how: Comparison = Comparison(),
    tick: Callable[[int], None] = lambda done: None,
    *,
    say: Callable[[str], None] = lambda text: None,
    keep: Path | None = None,
) -> Compared:
    """Runs the comparison. `say` is told beforehand how long it takes. `keep`: the folder in which what is done is kept
    and from which a comparison that was stopped goes on; none: nothing is kept.

    Raises `UsageError` for models that do not diffuse, for a folder with other things and where no cell could be
    measured, `NumericalTrouble` for NaN.
    """
    if system.shows is not None:
        raise UsageError(
            f"{system.spec.name!r} was trained to change pictures and sees one beside its noise, which a comparison of "
            "samplers does not give it. Compare a model that makes pictures from noise alone."
        )
    plan = how.plan(system)
    kept = Kept(keep)
    how = _within(system, how, plan, say, kept)
    real = _real(system, how)
    drawing = Drawing(system, how.schedule, how.seed, _prompts(system, how, real))
    kept.begin({"model": system.spec.name, "weights": fingerprint(system), **_lasting(how)})
    goal = kept.made(lambda: drawing("heun", how.fine))
    rows, left, tiles = [], list(plan.left_out), {}
    for done, cell in enumerate(plan.cells, 1):
        try:
            row, shown = kept.row(cell, partial(_cell, cell, drawing, goal, real))
        except (UsageError, NumericalTrouble) as error:
            if not how.every:
                raise
            left.append({"sampler": cell.kind.name, "nfe": cell.nfe, "reason": str(error)})
        else:
            rows.append(row | {"stochastic": cell.kind.stochastic, "family": cell.kind.family})
            tiles[cell.kind.name, cell.nfe] = shown
        tick(done)
    numbers = {"schedule": drawing.schedule, "prompts": drawing.prompts[:4], "seed": how.seed, "count": how.count}
    reference = {"sampler": "heun", "steps": how.fine} | _likeness(goal, real)
    same = real is not None and drawing.prompts == list(real.captions)
    against = {"against": real.record | {"floor": real.floor, "same_prompts": same}} if real else {}
    record = {"model": system.spec.name, **numbers, "reference": reference, **against, "rows": rows, "left_out": left}
    return Compared(record, _plotted(record), _sheet(tiles, how.nfe, Picture.from_signal(goal.pictures[0].numpy())))


def _within(system: System, how: Comparison, plan: CellPlan, say: Callable[[str], None], kept: Kept) -> Comparison:
    """`how` with as many pictures as there is time for, or as what is kept has."""
    if how.minutes is not None and (before := kept.count) is not None:
        return replace(how, count=before)
    prompt = system.example if how.prompt is None else how.prompt
    pace = paced(Drawing(system, how.schedule, how.seed, [prompt] * min(how.count, 8)))
    if how.minutes is not None:
        least = 1 if how.against is None else LEAST
        how = replace(how, count=pace.count(plan, how.fine, how.count, least, how.minutes))
    say(pace.told(plan, how.fine, how.count))
    return how


def _lasting(how: Comparison) -> dict[str, Any]:
    """All that cells depend on; which of them there are, and how long they may take, are not."""
    return {k: v for k, v in asdict(how).items() if k not in ("samplers", "nfe", "minutes")}


def _cell(cell: Cell, drawing: Drawing, goal: Made, real: Likeness | None) -> tuple[dict[str, Any], Picture]:
    """A row of the record, and the first picture."""
    began = time.perf_counter()
    made = drawing(cell.kind.name, cell.steps)
    row = {"sampler": cell.kind.name, "nfe": cell.nfe, "steps": cell.steps, "calls_per_step": cell.kind.each}
    row |= {"calls": made.calls, "seconds": round(time.perf_counter() - began, 3)}
    row |= ({} if cell.kind.stochastic else nearness(made, goal)) | _likeness(made, real)
    return row, Picture.from_signal(made.pictures[0].numpy())


def _sheet(tiles: dict[tuple[str, int], Picture], nfe: Sequence[int], goal: Picture) -> Picture:
    """A row for each sampler, a column for each number of calls, the reference last; white where there is no cell."""
    names = tuple(dict.fromkeys(name for name, _ in tiles))
    blank = Picture(np.full_like(goal.pixels, 255))
    shown = [tile for name in names for tile in (*(tiles.get((name, n), blank) for n in nfe), goal)]
    columns = (*(f"{n} calls" for n in nfe), "reference")
    return contact_sheet(shown, Sheet(cell=CELL, row_labels=names, column_labels=columns))


def nearness(made: Made, goal: Made) -> dict[str, Any]:
    """How near samples are to those of the reference, as a row of a record tells it. Raises `NumericalTrouble`."""
    x, goal_x = made.latents.double(), goal.latents.double()  # the squares of a diverged sample overflow float32
    error = check_finite((x - goal_x).norm() / goal_x.norm(), "The relative error")
    each = [_psnr(one, other) for one, other in zip(made.pictures, goal.pictures, strict=True)]
    middle = sorted(math.inf if one is None else one for one in each)[len(each) // 2]
    return {
        "psnr": _psnr(made.pictures, goal.pictures),
        "psnr_median": middle if math.isfinite(middle) else None,
        "relative_error": float(error),
    }


def _likeness(made: Made, real: Likeness | None) -> dict[str, Any]:
    return {"frechet": real(made.pictures)} if real else {}


def _real(system: System, how: Comparison) -> Likeness | None:
    if how.against is None:
        return None
    view = View(min(system.spec.size), system.spec.channels)
    data = Wanted(how.against, Split(how.split), how.root)
    return likeness(data, how.count, view, system.device, judge=Path(how.judge) if how.judge else None)


def _prompts(system: System, how: Comparison, real: Likeness | None) -> list[str]:
    """One for each picture."""
    if how.prompt is None and system.limits.prompt_required and real is not None and real.captions:
        return list(real.captions)
    return [system.example if how.prompt is None else how.prompt] * how.count


def _psnr(x: Tensor, y: Tensor) -> float | None:
    """In decibels, for pictures in [-1, 1]; None where they are equal."""
    error = float((x.clamp(-1, 1) - y.clamp(-1, 1)).double().square().mean())
    return 10 * math.log10(4 / error) if error > 0 else None


def _plotted(record: dict[str, Any]) -> Picture:
    """PSNR against calls, and beside it the Fréchet distance where it was measured."""
    if not record["rows"]:
        last = "; ".join(f"{x['sampler']}: {x['reason']}" for x in record["left_out"][-2:])
        raise UsageError(f"No cell of the comparison could be measured. {last}")
    if len({row["sampler"] for row in record["rows"]}) > len(COLOURS):
        return panels(record)
    title, plots = f"{record['model']}: {record['schedule']}", []
    calls = tuple(sorted({float(row["nfe"]) for row in record["rows"]}))
    curves = _curves(record, "psnr")
    if curves or "against" not in record:
        plots.append(plot(curves, Axes(title, "network calls", "PSNR, dB", log_x=True, x_ticks=calls)))
    if "against" in record:
        level = [Curve(level_of(record), [(nfe, record["against"]["floor"]) for nfe in (calls[0], calls[-1])])]
        against = f"{title} against {_short(record['against']['data'])}"
        axes = Axes(against, "network calls", "Fréchet", log_x=True, log_y=True, x_ticks=calls)
        plots.append(plot([*_curves(record, "frechet"), *level], axes))
    return beside(plots)


def _curves(record: dict[str, Any], key: str) -> list[Curve]:
    """A curve for each sampler that has a finite number under `key`."""
    inks = list(dict.fromkeys(row["sampler"] for row in record["rows"]))  # a sampler has one colour in every plot
    return [Curve(name, spots, marked=True, ink=inks.index(name)) for name, spots in points(record, key).items()]


def told(result: Compared) -> Sequence[str]:
    """Tables for people: a line for each sampler, a column for each number of calls."""
    record = result.record
    lines = _table(record, "psnr", "PSNR against the reference, in decibels, by network calls")
    middle = _table(record, "psnr_median", "Median PSNR of the pictures, in decibels")
    lines += ["", *middle] if middle else []
    if "against" in record:
        against = record["against"]
        lines += [
            "",
            *_table(record, "frechet", f"Fréchet distance to {against['count']} pictures of {against['data']}"),
        ]
        distance = record["reference"]["frechet"]
        lines.append(f"{'reference':<20}  {distance:.4g};  {level_of(record)}: {against['floor']:.4g}")
    return lines


def _short(data: str) -> str:
    """The name of pictures with only the end of where they lie: `mnist:digits`."""
    name, colon, place = data.partition(":")
    return f"{name}{colon}{place.replace(os.sep, '/').rpartition('/')[2]}"


def _table(record: dict[str, Any], key: str, title: str) -> list[str]:
    cells: dict[str, list[str]] = {}
    for row in record["rows"]:
        if key in row:
            number = "equal" if row[key] is None else f"{row[key]:5.1f}" if key != "frechet" else f"{row[key]:7.4g}"
            cells.setdefault(row["sampler"], []).append(f"{row['nfe']:>4}: {number}")
    return [title, *(f"{name:<20}  {'  '.join(numbers)}" for name, numbers in cells.items())] if cells else []
