"""The contact sheet of docs/from-pictures.md: what the shipped model makes of one picture, way by way.

    python benchmarks/from_pictures_sheet.py

Image-to-image by strength, a hole filled by each method, and the picture grown; written to docs/pictures.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from huggingvis.api import load
from huggingvis.core.media import Picture
from huggingvis.core.request import Canvas, FromPicture, Inpaint, Outpaint, Prompt, Request, Source
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save

SHEET = Path(__file__).parents[1] / "docs" / "pictures" / "from-pictures.png"
PROMPT, CHANGED = "a fox to the left of a pizza", "a cat to the left of a pizza"
SEED, CELL = 7, 128
HOLE = (32, 12, 64, 56)


def made(model: System, prompt: str, source: Source | None, seed: int, plan: str = "yes") -> Picture:
    sampling = replace(model.defaults, seed=seed)
    if getattr(source, "method", "") == "repaint":
        sampling = replace(sampling, sampler="ddpm", steps=30)
    return generate(model, Request(Prompt(prompt), Canvas(), sampling, source, options={"plan": plan}))[0]


def main() -> None:
    model = load("tiny")
    with tempfile.TemporaryDirectory() as folder:
        start, mask = Path(folder) / "start.png", Path(folder) / "mask.png"
        first = made(model, PROMPT, None, SEED)
        save(first.bare(), start)
        hole = np.zeros((64, 64), np.uint8)
        hole[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = 255
        Image.fromarray(hole).save(mask)
        told: list[tuple[str, Picture]] = [("start", first)]
        told += [
            (f"strength {s:g}", made(model, CHANGED, FromPicture(str(start), s), 5)) for s in (0, 0.4, 0.6, 0.8, 1)
        ]
        fills = {
            "blend": Inpaint(str(start), str(mask)),
            "blend, blur 3": Inpaint(str(start), str(mask), blur=3.0),
            "fill, strength 0.8": Inpaint(str(start), str(mask), 0.8, fill="fill"),
            "only masked": Inpaint(str(start), str(mask), region="masked", padding=4),
            "repaint": Inpaint(str(start), str(mask), method="repaint", jump=5, resamples=3),
        }
        told += [
            ("mask", Picture(hole)),
            *((n, made(model, "a fox to the left of a cat", s, 4)) for n, s in fills.items()),
        ]
        grown = {
            "right 32": Outpaint(str(start), right=32),
            "right 32, repaint": Outpaint(str(start), right=32, method="repaint", jump=5, resamples=3),
            "left 32, seam 8": Outpaint(str(start), left=32, seam=8),
            "top 32": Outpaint(str(start), top=32),
            "bottom 20": Outpaint(str(start), bottom=20),
            "every side 16": Outpaint(str(start), 16, 16, 16, 16),
        }
        told += [(name, made(model, PROMPT, source, 2, "no")) for name, source in grown.items()]
    names, pictures = zip(*told, strict=True)
    print(save(contact_sheet([p.bare() for p in pictures], Sheet(6, CELL), names), SHEET))


if __name__ == "__main__":
    main()
