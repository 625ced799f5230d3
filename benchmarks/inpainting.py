"""Inpainting, outpainting and image-to-image on the synthetic world, whose pictures are known behind every hole.

    python benchmarks/inpainting.py --net runs/inpainting
    python benchmarks/inpainting.py --net runs/inpainting --pictures 2 --sheet trained/inpainting.png     to look at

Each picture of the test split gets a hole that cuts a thing in two (`box`), one that takes a whole thing (`thing`),
and loses a side that cuts a thing (`side`, outpainting). Told of each method: the PSNR inside the hole against the
truth, in dB, and, in the facts, the share of cut things that the world's judge finds in their place, name and colour
(`continued`), beside a floor (blurred surroundings) and a ceiling (the truth). Methods: replacement by the shipped
model as it is, and without its plan, RePaint with several numbers of resamples, and a net trained for it (--net: a run
of recipe inpainting). Then image-to-image by strength, towards another thing: how near to the source (dB), and how
often the judge finds what the prompt says. All by files and requests, as a user would.
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Report, parser, row
from PIL import Image

from huggingvis.api import load
from huggingvis.core.layout import Layout
from huggingvis.core.layout_edits import Replace
from huggingvis.core.media import Picture
from huggingvis.core.request import Canvas, FromPicture, Inpaint, Outpaint, Prompt, Request, Source
from huggingvis.core.system import System
from huggingvis.data.artwork import emoji_font_path
from huggingvis.data.world import World
from huggingvis.edits.generate import generate
from huggingvis.edits.placing import surroundings
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.metrics.holes import continued, cut_things
from huggingvis.metrics.psnr import psnr
from huggingvis.metrics.scene_accuracy import Rules, verdicts
from huggingvis.systems.judges.world import WorldJudge
from huggingvis.systems.judges.world import bind as bind_judge

STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
JUMP = 5
NO_PLAN = {"plan": "no"}
MOST = 60.0
MARGIN = 3  # pixels around a thing that is taken out whole
KINDS = ("box", "thing", "side")


@dataclass(frozen=True)
class Case:
    """A layout, its picture, and a hole: `kept` is the file that is left, `mask` the hole's (none where a side is)."""

    layout: Layout
    truth: np.ndarray
    hole: np.ndarray
    cut: tuple[int, ...]
    kept: Path
    mask: Path | None

    def source(self, **how: Any) -> Source:
        if self.mask is not None:
            return Inpaint(str(self.kept), str(self.mask), **how)
        return Outpaint(str(self.kept), right=int(self.hole[0].sum()), **how)


@dataclass
class Found:
    """What one method did to all cases of a kind."""

    psnr: list[float] = field(default_factory=list)
    continued: list[bool] = field(default_factory=list)
    seconds: float = 0.0


Method = Callable[[Case, int], np.ndarray]


@dataclass(frozen=True)
class Bench:
    """The models and numbers of a run."""

    options: Namespace
    folder: Path
    world: World
    judge: WorldJudge
    tiny: System

    def made(
        self, system: System, prompt: str, source: Source, seed: int, said: Mapping[str, str] | None = None
    ) -> np.ndarray:
        sampling = replace(
            system.defaults, sampler=self.options.sampler, steps=self.options.steps, seed=self.options.seed + seed
        )
        request = Request(Prompt(prompt), Canvas(), sampling, source, options=said or {})
        return generate(system, request)[0].pixels

    def method(self, system: System, said: Mapping[str, str], **how: Any) -> Method:
        def fill(case: Case, number: int) -> np.ndarray:
            return self.made(system, self.world.caption(case.layout), case.source(**how), number, said)

        return fill

    def save(self, name: str, pixels: np.ndarray) -> Path:
        path = self.folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        return path


def main() -> None:
    adds = parser(__doc__, repeats=1, threads=0)
    adds.add_argument("--pictures", type=int, default=50, help="of each kind of hole (default: %(default)s)")
    adds.add_argument("--net", type=Path, help="run of recipe inpainting")
    adds.add_argument("--resamples", type=int, nargs="*", default=[1, 5, 10], help="RePaint's (default: 1 5 10)")
    adds.add_argument("--steps", type=int, default=50, help="of every method (default: %(default)s)")
    adds.add_argument("--sampler", default="ddpm", help="of every method (default: %(default)s)")
    adds.add_argument("--sheet", type=Path, help="draw --pictures cases of each kind of hole as a sheet instead")
    options = adds.parse_args()
    if emoji_font_path() is None:
        print("Not measured: the world's sprites need a colour-emoji font (Debian: fonts-noto-color-emoji).")
        return
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        world = World(size=64, split="test", seed=options.seed, lattice=8)
        bench = Bench(options, Path(folder), world, bind_judge(), load("tiny"))
        methods = {
            "floor: blurred surroundings": _blurred,
            "replacement": bench.method(bench.tiny, {}, method="blend"),
            "replacement, no plan": bench.method(bench.tiny, NO_PLAN, method="blend"),
            **{
                f"RePaint r={r}, no plan": bench.method(bench.tiny, NO_PLAN, method="repaint", jump=JUMP, resamples=r)
                for r in options.resamples
            },
        }
        if options.net is not None:
            methods["nine channels"] = bench.method(load(options.net), {})
        if options.sheet is not None:
            save(sheet(bench, methods), options.sheet)
            return
        report = Report(__file__, options, ("numpy", "pillow"))
        for kind in KINDS:
            holes(report, bench, kind, methods)
        strengths(report, bench)
    report.write()


def _blurred(case: Case, number: int) -> np.ndarray:
    return np.array(surroundings(Image.fromarray(case.truth), case.hole))


def sheet(bench: Bench, methods: dict[str, Method]) -> Picture:
    """A row for each case: the truth, what is left of it, and what each method made."""
    told: list[tuple[str, np.ndarray]] = []
    for number, case in enumerate(case for kind in KINDS for case in cases(bench, kind)):
        left = np.where(case.hole[:, :, None], 127, case.truth).astype(np.uint8)
        told += [("truth", case.truth), ("left", left)]
        told += [(name, fill(case, number)) for name, fill in methods.items()]
    names, pictures = zip(*told, strict=True)
    return contact_sheet([Picture(pixels) for pixels in pictures], Sheet(2 + len(methods), 96), names)


# ---- holes -----------------------------------------------------------------------------------------------------------


def cases(bench: Bench, kind: str) -> Iterator[Case]:
    """`--pictures` cases of a kind, from layouts where it can be made."""
    made, index = 0, 0
    while made < bench.options.pictures:
        layout = bench.world.layout(index)
        index += 1
        render = bench.world.render(layout)
        hole = _hole(layout, kind, bench.world.size)
        cut = cut_things(render.masks, hole)
        if not hole.any() or hole.all() or (kind != "thing" and not cut):
            continue
        kept, mask = render.image, None
        if kind == "side":
            kept = render.image[:, : bench.world.size - int(hole[0].sum())]
        else:
            mask = bench.save(f"{kind}-{made}-mask", hole.astype(np.uint8) * 255)
            kept = np.where(hole[:, :, None], 127, kept).astype(np.uint8)  # nothing of the truth lies under the mask
        yield Case(layout, render.image, hole, cut, bench.save(f"{kind}-{made}", kept), mask)
        made += 1


def _hole(layout: Layout, kind: str, size: int) -> np.ndarray:
    box = layout.things[-1].box  # the one in front
    hole = np.zeros((size, size), bool)
    x0, y0, x1, y1 = (round(side * size) for side in (box.x0, box.y0, box.x1, box.y1))
    if kind == "thing":
        hole[max(0, y0 - MARGIN) : y1 + MARGIN, max(0, x0 - MARGIN) : x1 + MARGIN] = True
    elif kind == "box":
        middle, half = (y0 + y1) // 2, size // 4
        hole[max(0, middle - half) : middle + half, (x0 + x1) // 2 : (x0 + x1) // 2 + 2 * half] = True
    else:
        hole[:, (x0 + x1) // 2 :] = True
    return hole


def holes(report: Report, bench: Bench, kind: str, methods: dict[str, Method]) -> None:
    """A row for each method on one kind of hole."""
    found = {name: Found() for name in methods}
    truth: list[bool] = []
    for number, case in enumerate(cases(bench, kind)):
        truth += _continued(bench, case, case.truth)
        for name, fill in methods.items():
            began = time.perf_counter()
            picture = fill(case, number)
            found[name].seconds += time.perf_counter() - began
            assert np.array_equal(picture[~case.hole], case.truth[~case.hole])  # known pixels are exact
            found[name].psnr.append(decibels(picture, case.truth, case.hole))
            found[name].continued += _continued(bench, case, picture)
    for name, one in found.items():
        facts = {
            "mean": round(float(np.mean(one.psnr)), 3),
            "mean_error": round(float(np.std(one.psnr) / max(1, len(one.psnr) - 1) ** 0.5), 3),
            "continued": _rate(one.continued),
            "continued_ceiling": _rate(truth),
            "cut_things": len(truth),
            "seconds_each": round(one.seconds / len(one.psnr), 3),
        }
        report.add(row(f"hole PSNR, {kind}", name, "dB", one.psnr, facts=facts))


def decibels(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """PSNR where it is asked for, at most `MOST`, which only equal pictures have."""
    a, b = (torch.from_numpy(x.astype(np.float64)).movedim(-1, 0)[None] for x in (picture, truth))
    return min(MOST, float(psnr(a, b, data_range=255.0, mask=torch.from_numpy(where)[None, None])))


def _continued(bench: Bench, case: Case, picture: np.ndarray) -> list[bool]:
    (found,) = bench.judge(np.array(picture[None]))
    return [continued(case.layout, index, found) for index in case.cut]


def _rate(marks: list[bool]) -> float | None:
    return round(float(np.mean(marks)), 4) if marks else None


# ---- image-to-image --------------------------------------------------------------------------------------------------


def strengths(report: Report, bench: Bench) -> None:
    """A row for each strength: how near a picture stays, and whether it shows the thing that the prompt changes."""
    rows = [_edit(bench, number) for number in range(bench.options.pictures)]
    everywhere = np.ones((bench.world.size,) * 2, bool)
    for strength in STRENGTHS:
        near, wanted, kept = [], [], []
        for number, (before, after, path, image) in enumerate(rows):
            source = FromPicture(str(path), strength)
            picture = bench.made(bench.tiny, bench.world.caption(after), source, number)
            near.append(decibels(picture, image, everywhere))
            found = bench.judge(np.array(picture[None]))
            wanted.append(_right(after, found))
            kept.append(_right(before, found))
        facts = {
            "mean": round(float(np.mean(near)), 3),
            "shows_the_prompt": _rate(wanted),
            "shows_the_source": _rate(kept),
        }
        report.add(row("PSNR to the source", f"image-to-image, strength {strength:g}", "dB", near, facts=facts))


def _edit(bench: Bench, number: int) -> tuple[Layout, Layout, Path, np.ndarray]:
    """A layout of one thing, the same with another thing in its place, and its picture."""
    before, other = bench.world.prompts("single", 2, seed=number)
    thing = other.things[0]
    after = bench.world.edit(before, Replace(0, thing.sprite, thing.colour)).layout
    image = bench.world.image(before)
    return before, after, bench.save(f"edit-{number}", image), image


def _right(layout: Layout, found: list[Any]) -> bool:
    marks = [mark for column in verdicts([layout], found, Rules()).values() for mark in column if mark is not None]
    return bool(marks) and all(marks)


if __name__ == "__main__":
    main()
