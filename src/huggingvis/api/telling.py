"""What models, files and the library hold: `explore`, `inspect`, `catalog`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.api.loading import load
from huggingvis.core.catalog import systems
from huggingvis.core.config import from_dict

if TYPE_CHECKING:
    from huggingvis.api.loading import Model
    from huggingvis.core.media import Picture
    from huggingvis.edits.exploring import Finding

CELL = 96
"""Pixels of a cell of the sheets that explorations make."""


def explore(
    name: str,
    model: Model,
    pictures: Sequence[Picture | str | Path] = (),
    *,
    numbers: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> tuple[Picture, Finding]:
    """What the latents of a model hold, as one labelled sheet, and what was found in words, numbers, tensors and notes.

    `name`: a file of edits/explore (reconstruct, interpolate, traverse, ...); `numbers` differ from its defaults.
    Raises `UsageError` for a model that cannot do it.
    """
    from huggingvis.core.media import Picture
    from huggingvis.core.picture_files import open_picture
    from huggingvis.edits.exploring import exploration, unlike
    from huggingvis.export.grid import Sheet, contact_sheet

    explorer = from_dict(exploration(name), dict(numbers or {}))
    given = [p if isinstance(p, Picture) else open_picture(p) for p in pictures]
    system = load(model, device=device)
    found = explorer(system, given)
    found = replace(found, notes=unlike(system, given) + found.notes)
    tiles = found.tiles
    sheet = Sheet(tiles.columns, CELL, tiles.row_labels, tiles.column_labels)
    return contact_sheet(tiles.pictures, sheet, tiles.captions), found


def inspect(path: str | Path, *, base: str | Path | None = None, hashes: bool = True) -> dict[str, Any]:
    """What a file or folder is, in JSON values: `kind`, `title`, a `summary` for people, and all that it tells.

    Of a checkpoint, a LoRA, an embedding and the like: for which base it is, types and sizes, trigger words, what its
    maker wrote into it, licence and hashes; of a picture how it was made; of a model folder, a packaged model by its
    name or a run folder: its name, family or recipe and steps, and the sizes of its parts. Of safetensors only the
    header is read, and the whole once for its `hashes`; nothing is executed.
    Of `owner/name` at a hub only settings are fetched, and of a safetensors file its header.
    `base`: a model, or `sd1`, `sd2`, `sdxl`, `refiner`: `fits` then says whether it can be used with it, and why not.
    Raises `FileProblem` for what is missing or damaged, `UsageError` for an unknown base.
    """
    from huggingvis.recipes.inspecting import inspected

    return inspected(path, base=base, hashes=hashes)


def catalog(chapter: int | str | None = None) -> list[dict[str, Any]]:
    """A record for each system of the library, with the proof of each claim."""
    return [record.to_dict() for record in systems(None if chapter is None else str(chapter))]
