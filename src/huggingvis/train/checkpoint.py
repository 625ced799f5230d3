"""Checkpoints on disk: a folder of safetensors files and one state.json, there as a whole or not at all.

`step-00001000/` holds `<name>.safetensors` for every named set of tensors and `state.json`, which lists the files
with their sizes. A folder is written under a temporary name, brought to the disk, then renamed; one that does not
agree with its list (power cut, full disk, damaged copy) is not a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain, to_disk, usual_mode

_NAME = re.compile(r"step-(\d{8,})$")
_TEMPORARY = ".writing-"
_RETIRED = ".removing-"


@final
@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint folder."""

    path: Path
    step: int

    def state(self) -> dict[str, Any]:
        """What `state.json` says."""
        return json.loads((self.path / "state.json").read_text("utf-8"))

    def names(self) -> list[str]:
        """The sets of tensors it holds."""
        return sorted(file.removesuffix(".safetensors") for file in self.state()["files"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """One set of tensors, on the CPU. Raises `FileProblem` if it is missing or damaged."""
        path = self.path / f"{name}.safetensors"
        if not path.is_file():
            raise FileProblem(f"The checkpoint {self.path} has no {name!r}; it holds {', '.join(self.names())}.")
        try:
            return load_file(path)
        except SafetensorError as error:
            raise FileProblem(
                f"{path} is damaged ({error}). Delete its folder to go on from the checkpoint before it."
            ) from error


def write(folder: Path, step: int, sets: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Checkpoint:
    """Writes `folder/step-XXXXXXXX`, all or nothing. Raises `FileProblem` where the system refuses."""
    final_path = folder / f"step-{step:08d}"
    temporary = folder / f"{_TEMPORARY}{final_path.name}-{os.getpid()}"
    try:
        temporary.mkdir(parents=True)
        for name, tensors in sets.items():
            _save(tensors, temporary / f"{name}.safetensors")
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        with open(temporary / "state.json", "w", encoding="utf-8") as file:
            json.dump({"step": step, **state, "files": sizes}, file, indent=1)
        for path in [*temporary.iterdir(), temporary]:
            to_disk(path)
        if final_path.exists():
            _remove(final_path)
        os.replace(temporary, final_path)
        to_disk(folder)
    except OSError as error:
        problem = explain(error, final_path)
        raise FileProblem(f"{problem} Checkpoints written before this one are intact.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Checkpoint(final_path, step)


def find(folder: Path) -> tuple[list[Checkpoint], list[Path]]:
    """The complete checkpoints in `folder`, oldest first, and what was left half-written there."""
    good, broken = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.match(path.name)
        if match and _complete(path):
            good.append(Checkpoint(path, int(match[1])))
        elif match or path.name.startswith((_TEMPORARY, _RETIRED)):
            broken.append(path)
    return sorted(good, key=lambda c: c.step), broken


def prune(folder: Path, keep_last: int, keep_every: int) -> None:
    """Removes all checkpoints but the newest `keep_last` and those at multiples of `keep_every`."""
    good, _ = find(folder)
    for old in good[:-keep_last]:
        if not (keep_every and old.step % keep_every == 0):
            _remove(old.path)


def clean(folder: Path) -> None:
    """Removes what a killed training left half-written. Only for the process that holds the folder's lock."""
    for path in find(folder)[1]:
        shutil.rmtree(path, ignore_errors=True)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    seen: set[int] = set()
    plain = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:  # tied or a view: a file holds copies
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(tensor.untyped_storage().data_ptr())
        plain[key] = tensor
    try:
        with usual_mode(path):
            save_file(plain, path)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


def _complete(path: Path) -> bool:
    try:
        files = json.loads((path / "state.json").read_text("utf-8"))["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _remove(path: Path) -> None:
    """A folder under removal no longer has a checkpoint's name, so a kill half-way leaves nothing that looks whole."""
    retired = path.with_name(f"{_RETIRED}{path.name}-{os.getpid()}")
    os.replace(path, retired)
    shutil.rmtree(retired, ignore_errors=True)
