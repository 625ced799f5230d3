"""How fast the captioned world is drawn, on one core, beside reading the same pictures from PNG files in memory.

    python benchmarks/world.py

Training draws its pictures from the world instead of from a disk, so the question is whether drawing one costs more
than decoding one would. Every round draws layouts that were never drawn before.
"""

from __future__ import annotations

import io
from itertools import count

import numpy as np
from common import Report, clock, interleaved, parser, row
from PIL import Image

from huggingvis.data.artwork import emoji_font_path
from huggingvis.data.world import World

PNG = "Pillow decodes PNG"
SIZES = (64, 128)
KEPT = 500  # PNG files that a round reads again and again


def main() -> None:
    adds = parser(__doc__, repeats=9, threads=1)
    adds.add_argument("--pictures", type=int, default=1000, help="drawn in a round (default: %(default)s)")
    options = adds.parse_args()
    if emoji_font_path() is None:
        print("Not measured: the world's sprites need a colour-emoji font (Debian: fonts-noto-color-emoji).")
        return
    report = Report(__file__, options, ("numpy", "pillow"))
    for size in SIZES:
        measure(report, size, options.pictures)
    report.write()


def measure(report: Report, size: int, pictures: int) -> None:
    """Rows of one picture size, in things per second."""
    world = World(size=size, seed=report.options.seed)
    files = [_png(Image.fromarray(world.image(world.layout(-1 - i)))) for i in range(min(KEPT, pictures))]
    numbers = count()
    described = [world.layout(next(numbers)) for _ in range(pictures)]

    def draw() -> float:
        return pictures / clock(lambda: [world.image(world.layout(next(numbers))) for _ in range(pictures)])

    def lay_out() -> float:
        return pictures / clock(lambda: [world.layout(next(numbers)) for _ in range(pictures)])

    def describe() -> float:
        return pictures / clock(
            lambda: [world.caption(x, ("en", "zh")[i % 2], next(numbers) % 32) for i, x in enumerate(described)]
        )

    def read() -> float:
        return pictures / clock(lambda: [np.asarray(_open(files[i % len(files)])) for i in range(pictures)])

    kinds = {"layout and picture": draw, PNG: read, "layout alone": lay_out, "caption, both languages": describe}
    speeds = interleaved(kinds, report.options.repeats)
    for what, values in speeds.items():
        who, unit = (PNG, "pictures/s") if what == PNG else ("huggingvis", f"{_things(what)}/s")
        beside = {PNG: speeds[PNG]} if what == "layout and picture" else None
        report.add(row(f"{size} px: {what}", who, unit, values, beside=beside))
    both = [1 / (1 / a + 1 / b) for a, b in zip(speeds["layout and picture"], speeds["caption, both languages"])]
    what = f"{size} px: layout, picture and caption"
    report.add(row(what, "huggingvis", "pictures/s", both, beside={PNG: speeds[PNG]}))


def _things(what: str) -> str:
    return {"layout alone": "layouts", "caption, both languages": "captions"}.get(what, "pictures")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


if __name__ == "__main__":
    main()
