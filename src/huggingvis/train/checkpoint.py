"""Checkpoints on disk: a folder of safetensors files and one state.json, there as a whole or not at all.

`step-00001000/` holds `<name>.safetensors` for every named set of tensors and `state.json`, which lists the files
with their sizes. A folder is written under a temporary name, brought to the disk, then renamed; one that does not
agree with its list (power cut, full disk, damaged copy) is not a checkpoint. In the midst of a sharded training the
sets lie in parts instead, a file for each process (`train.shard_files`); both kinds are read alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain, to_disk, usual_mode
from huggingvis.train.parallel import Parallel
from huggingvis.train.tensor_sets import Live, Sets

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
        state = self.state()
        return sorted(state.get("sharded") or [file.removesuffix(".safetensors") for file in state["files"]])

    def tensors(self, name: str, live: Live | None = None) -> dict[str, Tensor]:
        """One set of tensors, whole and on the CPU, or cut like what `live` names. Raises `FileProblem`."""
        if name not in self.names():
            raise FileProblem(f"The checkpoint {self.path} has no {name!r}; it holds {', '.join(self.names())}.")
        if "sharded" in self.state():
            from huggingvis.train import shard_files

            return shard_files.load(self.path, name, live or _nothing)
        path = self.path / f"{name}.safetensors"
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise FileProblem(
                f"{path} is damaged ({error}). Delete its folder to go on from the checkpoint before it."
            ) from error
        if live is None:
            return tensors
        from huggingvis.train.sharding import cut_like

        return {key: cut_like(tensor, live(key)) for key, tensor in tensors.items()}

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of one set. Raises `FileProblem`."""
        if "sharded" in self.state():
            from huggingvis.train import shard_files

            return shard_files.shapes(self.path, name)
        return {key: tuple(value.shape) for key, value in self.tensors(name).items()}


def _nothing(key: str) -> None:
    return None


def write(folder: Path, step: int, sets: Sets, state: Mapping[str, Any]) -> Checkpoint:
    """Writes `folder/step-XXXXXXXX`, all or nothing. Raises `FileProblem` where the system refuses."""
    temporary = folder / f"{_TEMPORARY}{_name(step)}-{os.getpid()}"
    with _all_or_nothing(temporary, folder / _name(step)):
        temporary.mkdir(parents=True)
        for name, tensors in sets.items():
            _save(tensors, temporary / f"{name}.safetensors")
        return _finished(temporary, folder, step, state)


def write_parts(folder: Path, step: int, sets: Sets, state: Mapping[str, Any], parallel: Parallel) -> None:
    """As `write`, each process the parts it holds; all of them must do it together."""
    from huggingvis.train import shard_files

    temporary = folder / f"{_TEMPORARY}{_name(step)}"  # one name for all; the folder is locked
    with _all_or_nothing(temporary if parallel.writes else None, folder / _name(step)):
        if parallel.writes:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        parallel.barrier()
        shard_files.save(sets, temporary)
        if parallel.writes:
            _finished(temporary, folder, step, {**state, "sharded": sorted(sets)})


@contextlib.contextmanager
def _all_or_nothing(temporary: Path | None, final_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = explain(error, final_path)
        raise FileProblem(f"{problem} Checkpoints written before this one are intact.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _finished(temporary: Path, folder: Path, step: int, state: Mapping[str, Any]) -> Checkpoint:
    """The list of files is added, all of it reaches the disk, and takes its name."""
    final_path = folder / _name(step)
    sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    with open(temporary / "state.json", "w", encoding="utf-8") as file:
        json.dump({"step": step, **state, "files": sizes}, file, indent=1)
    for path in [*temporary.iterdir(), temporary]:
        to_disk(path)
    if final_path.exists():
        _remove(final_path)
    os.replace(temporary, final_path)
    to_disk(folder)
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
