"""A picture made again from its own record, and how the two compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.core.errors import FileProblem

if TYPE_CHECKING:
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep
    from huggingvis.core.system import System


@dataclass(frozen=True)
class Repetition:
    """How a repeated picture compares: the largest difference in 255ths, and what was different about its making."""

    apart: int
    differs: Mapping[str, tuple[Any, Any]]

    @property
    def identical(self) -> bool:
        return self.apart == 0


def repeat(path: str | Path, *, system: System, on_step: OnStep | None = None) -> tuple[Picture, Repetition]:
    """The picture file `path` made again from its own record, and how the two compare.

    Raises `FileProblem` for a file without a record, `UsageError` where `system` cannot do what the record asks.
    """
    from huggingvis.core.picture_files import open_picture
    from huggingvis.edits.generate import CHUNK
    from huggingvis.edits.generate import repeat as again
    from huggingvis.export.image import read_provenance

    told = read_provenance(path)
    index, chunk = told.made.get("batch_index", 0), told.made.get("chunk", CHUNK)
    if not (type(index) is int and type(chunk) is int and chunk > 0):
        raise FileProblem(f"The record in {path} is damaged: batch index or chunk is no number. Use an intact copy.")
    picture = again(system, told.request(), index, chunk=chunk, on_step=on_step)
    before, after = open_picture(path).pixels.astype(int), picture.pixels.astype(int)
    apart = int(abs(before - after).max()) if before.shape == after.shape else 255
    differs = {
        key: (told.made[key], picture.made.get(key))
        for key in ("model", "weights", "backend", "version", "precision", "prediction")
        if key in told.made and told.made[key] != picture.made.get(key)
    }
    return picture, Repetition(apart, differs)
