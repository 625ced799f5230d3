"""What a finished run is shown by: a small labelled picture of what it draws and what it makes of held-out pictures.

A row of draws for each class, or rows of draws; completions beside what they were given; reconstructions: of these
whatever the model can do, as `hvis explore` shows it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

import huggingvis as hv
from huggingvis.core.catalog import find_recipe
from huggingvis.core.config import from_dict
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.edits.exploring import Finding, Tiles, exploration
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.recipes.evaluation import Subject, Wanted
from huggingvis.recipes.loading import Binds
from huggingvis.recipes.pictures import Facts, Pictures, View
from huggingvis.train.run import Run

COLUMNS, ROWS, CELL = 8, 4, 48
SEEN = 4
"""Held-out pictures that completions are shown of."""
MOST_BYTES = 150_000
COLOURS = (256, 64, 16)


def sheet_of(path: Path) -> bytes | None:
    """The sheet of a run as a PNG of at most `MOST_BYTES`; None for what makes no pictures, or only of sentences.

    A run that is no model is shown by the newest sheet of its own, if it kept one. Needs the data that the run was
    trained on. Raises `ValueError` for pictures that no palette makes small enough.
    """
    run = Run.open(path)
    if not isinstance(find_recipe(run.config["recipe"]), Binds):
        kept = sorted(run.samples.glob("*.png"))
        return small(Picture.from_pil(Image.open(kept[-1]))) if kept else None
    system = hv.load(path, device="cpu")
    if system.limits.prompt_required:
        return None
    facts = Facts.of(run)
    held = Wanted(split=Split.VALIDATION).of(run).open(View(facts.size, facts.channels))
    parts = {name: _laid_out(found.tiles) for name, found in _findings(system, held).items()}
    step = int(run.metrics()[-1]["step"])
    captions = [f"{path.resolve().name}, step {step:,}: {name}" for name in parts]
    labelled = [
        contact_sheet([part], Sheet(1), [caption]) for part, caption in zip(parts.values(), captions, strict=True)
    ]
    return small(_stacked(labelled))


def _stacked(parts: Sequence[Picture]) -> Picture:
    """Pictures one below the other, each as high as it is, in the middle of the widest."""
    width = max(part.pixels.shape[1] for part in parts)
    spare = [(width - part.pixels.shape[1], part.pixels) for part in parts]
    rows = [np.pad(x, ((0, 0), (n // 2, n - n // 2), (0, 0)), constant_values=255) for n, x in spare]
    return Picture(np.concatenate(rows))


def _findings(system: System, held: Pictures) -> dict[str, Finding]:
    """What the model can do, by what it is."""
    seen = [Picture.from_signal(x) for x in held.some(COLUMNS).all_images().numpy()]
    found: dict[str, Finding] = {}
    with suppress(UsageError):
        found["held-out pictures completed"] = _explored("complete", system, seen[:SEEN], draws=COLUMNS - 3)
        return found  # it draws nothing unless it is given a part
    with suppress(UsageError):
        found["draws of each class"] = _explored("classes", system, (), columns=COLUMNS)
    if not found:
        found["draws"] = _draws(system)
    with suppress(UsageError):
        found["held-out pictures and their reconstructions"] = _explored("reconstruct", system, seen)
    return found


def _explored(name: str, system: System, pictures: Sequence[Picture], **numbers: int) -> Finding:
    found: Finding = from_dict(exploration(name), numbers)(system, pictures)
    return found


def _draws(system: System) -> Finding:
    """Rows of draws of the seeds 0, 1, 2 ..."""
    subject = Subject(system, system.device, lambda: system)
    x = subject.draw(COLUMNS * ROWS, 0)
    return Finding(Tiles([Picture.from_signal(image) for image in x.numpy()], COLUMNS), "", {})


def _laid_out(tiles: Tiles) -> Picture:
    columns = tiles.columns or len(tiles.column_labels)
    sheet = Sheet(columns, CELL, tiles.row_labels, tiles.column_labels, gap=4)
    return contact_sheet(tiles.pictures, sheet, tiles.captions)


def small(picture: Picture) -> bytes:
    """A picture as a PNG of at most `MOST_BYTES`, with as few colours as that takes."""
    whole = picture.to_pil().convert("RGB")
    for colours in (None, *COLOURS):
        image = whole if colours is None else whole.quantize(colours, method=Image.Quantize.MEDIANCUT)
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        if file.tell() <= MOST_BYTES:
            return file.getvalue()
    raise ValueError(f"The sheet takes {file.tell():,} bytes in {COLOURS[-1]} colours, more than {MOST_BYTES:,}.")
