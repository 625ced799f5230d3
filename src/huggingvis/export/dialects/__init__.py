r"""What other programs write about their pictures: a file for each program, found by its name.

    reading = read({"parameters": "a fox\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"})
    reading.request, reading.files, reading.notes

Each file has `read(texts) -> Reading | None`, where `texts` are those of the picture by their names in PNG
(`export.texts`). Nothing here needs torch, and no text makes it fail. `PROGRAMS` says in which order they are asked: a
program that copies another's note beside its own comes before that one. Book: chapter 6, "Where a picture comes from".
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from huggingvis.export.dialects.reading import Reading

PROGRAMS = ("invoke", "novelai", "comfy", "a1111", "comfy_workflow")
"""ComfyUI's `workflow` is a drawing of what its `prompt` says exactly, and the text of its savers comes between."""


def read(texts: Mapping[str, str]) -> Reading | None:
    """What the texts say; None where no program is known to write such. `a1111` takes any `parameters`."""
    for program in PROGRAMS:
        found: Reading | None = importlib.import_module(f"{__name__}.{program}").read(texts)
        if found is not None:
            return found
    return None
