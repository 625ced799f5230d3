"""Folders of diffusers as systems: `model_index.json` says which parts there are, a file here what they make together.

A file of systems/ that binds some of diffusers' pipelines has a table `PIPELINES` of their class names and a function
`bind_pipeline(folder, index, how)`; it is found by the names in its source, so a new kind is a new file.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints.json_files import read_json
from huggingvis.checkpoints.training_notes import licence
from huggingvis.core.errors import FileProblem, nearest
from huggingvis.core.system import Spec, System

INDEX = "model_index.json"
ORIGIN = "diffusers"
"""Under this a system's card keeps the settings that its parts came with, by the names of the parts."""
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class How:
    """On which device, in which precision, with which parts from elsewhere.

    Attributes:
        device: of everything.
        dtype: of the nets; None: as the files have it.
        codec: of the autoencoder; None: as `dtype`.
        vae: a file or folder with an autoencoder in the place of the model's own.
        prediction: `epsilon` or `v`, where a file does not tell what its net predicts.
        text_encoders: files or folders with text encoders in the place of the model's own.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None
    codec: torch.dtype | None = None
    vae: Path | None = None
    prediction: str | None = None
    text_encoders: tuple[Path, ...] = ()

    @property
    def of_codec(self) -> torch.dtype | None:
        """The autoencoder's precision; None: as its file has it."""
        return self.codec or self.dtype

    def on(self, spec: Spec, path: Path) -> Spec:
        """`spec`, with where the model lies, and its parts that lie elsewhere."""
        return replace(spec, path=str(path), vae=str(self.vae or ""), text_encoders=tuple(map(str, self.text_encoders)))


def bind_folder(folder: Path, how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for a pipeline that is not known, or parts missing."""
    index = read_json(folder / INDEX)
    name = index.get("_class_name")
    module = _modules().get(str(name))
    if module is None:
        near = nearest(str(name), _modules())
        raise FileProblem(
            f"{folder / INDEX} is of the pipeline {name!r}, which this library does not bind yet. It binds "
            f"{', '.join(near or sorted(_modules()))}."
        )
    system: System = importlib.import_module(module).bind_pipeline(folder, index, how)
    return replace(system, spec=how.on(replace(system.spec, licence=licence({}, folder) or ""), folder))


def name_of(folder: Path) -> str:
    """What a model's folder is called: in the cache of a hub, where it has a commit for a name, `owner/name`."""
    folder = folder.resolve()
    kept = folder.parent.parent.name
    cached = folder.parent.name == "snapshots" and kept.startswith("models--")
    return kept.removeprefix("models--").replace("--", "/", 1) if cached else folder.name


def part(folder: Path, index: Mapping[str, Any], name: str) -> Path | None:
    """The sub-folder of a part; None where the pipeline has none. Raises `FileProblem` where it should be there."""
    told = index.get(name)
    if told is None or told == [None, None]:
        return None
    if not (folder / name).is_dir():
        raise FileProblem(
            f"{folder / INDEX} says that there is a {name!r}, but the folder {folder / name} is missing. Download the "
            "model again, or that part of it."
        )
    return folder / name


def whole(folder: Path, index: Mapping[str, Any], *names: str) -> list[Path]:
    """The sub-folders of parts that a model cannot do without. Raises `FileProblem` for one that it lacks."""
    found = [(name, part(folder, index, name)) for name in names]
    lacking = [name for name, place in found if place is None]
    if lacking:
        raise FileProblem(f"{folder} has no {lacking[0]!r}, without which no picture can be made. Use a whole model.")
    return [place for _, place in found if place is not None]


def _modules() -> dict[str, str]:
    """Module by the name of each pipeline that it binds, told from the sources without importing them."""
    import ast

    found: dict[str, str] = {}
    for path in sorted(_HERE.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "def bind_pipeline(" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PIPELINES":
                found |= dict.fromkeys(ast.literal_eval(node.value), f"huggingvis.systems.{path.stem}")
    return found
