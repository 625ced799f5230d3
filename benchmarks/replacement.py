"""Colours and holes filled by replacement, with a model of pixels that was trained for neither.

    hvis train ddpm --run runs/scenes --data world:5000 --size 32 --process cosine --prediction v
    python benchmarks/replacement.py --model runs/scenes --count 60

Pictures of the world that no training sees lose their colours, or their right half. What is made of them by replacement
(Song et al. 2020, arXiv 2011.13456, App. I), in one walk and with RePaint's jumps, is held against other true pictures
by the Fréchet distance in the features of the world's judge, beside what was given and the true pictures themselves,
whose distance a perfect model reaches. All by files and requests. `curves/replacement.json` and `.png`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import command, write_json
from measured_rows import CURVES
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import huggingvis as hv
from huggingvis.core.machine import cores, machine, versions
from huggingvis.core.media import Picture
from huggingvis.core.request import Colourise, Inpaint, Request, Source
from huggingvis.core.system import System
from huggingvis.data.world import World
from huggingvis.data.worldset import to_tensor
from huggingvis.edits.generate import generate
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.metrics.frechet import frechet
from huggingvis.systems.judges.world import bind

SEEN, SHOWN = 64, 8
JUMP, OFTEN = 5, 3


@dataclass(frozen=True)
class Task:
    """What pictures lose, `given` of uint8 [H, W, 3], and the ways to fill it in, from the file of what is left."""

    given: Callable[[np.ndarray], np.ndarray]
    ways: dict[str, Callable[[str], Source]]


def grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(picture.mean(2, keepdims=True)), 3, axis=2).astype(np.uint8)


def half(picture: np.ndarray) -> np.ndarray:
    out = picture.copy()
    out[:, picture.shape[1] // 2 :] = 128
    return out


def tasks(mask: str) -> dict[str, Task]:
    """`mask`: the file that is white on the right."""
    return {
        "grey": Task(
            grey,
            {
                "colours, one walk": Colourise,
                f"colours, {OFTEN} times": lambda path: Colourise(path, jump=JUMP, resamples=OFTEN),
            },
        ),
        "half": Task(
            half,
            {
                "half, one walk": lambda path: Inpaint(path, mask),
                f"half, {OFTEN} times": lambda path: Inpaint(path, mask, method="repaint", jump=JUMP, resamples=OFTEN),
            },
        ),
    }


def features(pictures: np.ndarray) -> Tensor:
    """Of uint8 [N, H, W, 3], as large as the judge learnt them."""
    x = F.interpolate(to_tensor(pictures), (SEEN, SEEN), mode="bilinear", antialias=True)
    return bind().features(x).double()


def made(system: System, sources: list[Source], steps: int) -> np.ndarray:
    """A picture from each source, with seeds from 0 on, uint8 [N, H, W, 3]."""
    out = []
    for seed, source in enumerate(sources):
        request = Request(sampling=replace(system.defaults, steps=steps, seed=seed), source=source)
        out.append(generate(system, request)[0].pixels)
    return np.stack(out)


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--model", type=Path, required=True, help="run folder of a model of the world's pixels")
    options.add_argument("--count", type=int, default=60, help="pictures")
    options.add_argument("--steps", type=int, default=50)
    given, began = options.parse_args(), time.perf_counter()
    torch.set_num_threads(cores())
    system = hv.load(given.model, device="cpu")
    world = World(size=system.spec.size[0], split="test")
    truth, others = (
        np.stack([world.image(world.layout(i)) for i in range(start, start + given.count)])
        for start in (0, given.count)
    )
    real = features(others)
    sheet, rows = {"true": truth}, {"true pictures": {"frechet": frechet(features(truth), real)}}
    with tempfile.TemporaryDirectory() as folder:
        mask = str(Path(folder) / "mask.png")
        Image.fromarray(np.repeat([[0, 255]], world.size // 2, 1).repeat(world.size, 0).astype(np.uint8)).save(mask)
        for name, task in tasks(mask).items():
            left = np.stack([task.given(picture) for picture in truth])
            files = [str(Path(folder) / f"{name}-{i:04d}.png") for i in range(given.count)]
            for path, pixels in zip(files, left, strict=True):
                Image.fromarray(pixels).save(path)
            rows[f"{name}, as given"] = {"frechet": frechet(features(left), real)}
            sheet[name] = left
            for way, source in task.ways.items():
                found = made(system, [source(path) for path in files], given.steps)
                rows[way] = {"frechet": frechet(features(found), real)}
                sheet[way] = found
                print(way, rows[way], flush=True)
    about = {"command": command(__file__, sys.argv[1:]), "seed": 0, "seconds": round(time.perf_counter() - began, 1)}
    where = {"machine": machine(cores()), "versions": versions(())}
    told = {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()}
    write_json(CURVES / "replacement.json", about | where | {"rows": told})
    shown = [Picture(picture) for row in sheet.values() for picture in row[:SHOWN]]
    save(contact_sheet(shown, Sheet(SHOWN, 64, tuple(sheet), gap=2)), CURVES / "replacement.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
