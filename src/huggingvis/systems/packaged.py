"""Weights that ship inside the package: where they lie and how a folder of them is written and read.

A model folder holds `model.json` (what it is, sizes of its nets, its card) and one safetensors file a net.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.eight_bits import SCALE, packed, unpacked
from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.local_folders import SUFFIXES
from huggingvis.checkpoints.report import listed
from huggingvis.checkpoints.training_notes import plain
from huggingvis.core.config import default_of, from_dict, types_of
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.files import explain, to_disk, write_atomically
from huggingvis.core.hollow import hollow

RECORD = "model.json"
AGAIN = "Fetch or export the model again."

T = TypeVar("T")
Net = TypeVar("Net", bound=nn.Module)


def packaged(name: str) -> Path:
    """Folder of the packaged model `name`."""
    return Path(str(resources.files("huggingvis"))) / "weights" / name


def is_model(folder: Path) -> bool:
    """Whether `folder` is a model folder (a run folder is not)."""
    return (folder / RECORD).is_file()


def write(
    folder: Path,
    record: Mapping[str, Any],
    nets: Mapping[str, nn.Module],
    dtype: torch.dtype,
    small: Collection[str] = (),
    beside: Mapping[str, Callable[[Path], object]] | None = None,
) -> None:
    """Write `model.json` and each net's floating tensors as `dtype`, those of the nets `small` in eight bits.

    `beside`: what writes each other file of the model, by the file's name. All or nothing, over an older model too.
    Raises `FileProblem` where the system refuses.
    """
    with _together(folder) as place:
        for name, make in (beside or {}).items():
            make(place / name)
        for name, net in nets.items():
            tensors = {key: value.detach().contiguous().cpu() for key, value in net.state_dict().items()}
            tensors = packed(tensors) if name in small else tensors
            kept = {key for key in tensors if key.endswith(SCALE)} if name in small else set()
            save(place / f"{name}.safetensors", {key: _as(value, dtype, key in kept) for key, value in tensors.items()})
        text = json.dumps(record, indent=2, ensure_ascii=False)
        write_atomically(place / RECORD, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def _together(folder: Path) -> Iterator[Path]:
    """A place inside `folder` for a model's files: once all are there, they take those of their names in `folder`.

    Meanwhile, for the time of some renames, `folder` has no record and so is no model, rather than a mixture of two.
    """
    place = folder / f".writing-{secrets.token_hex(4)}"
    try:
        place.mkdir(parents=True)
        yield place
        files = sorted(place.iterdir(), key=lambda path: path.name == RECORD)  # the record last
        for taken in (folder / file.name for file in files):
            if taken.is_dir():
                raise explain(IsADirectoryError(errno.EISDIR, "is a directory"), taken)
        (folder / RECORD).unlink(missing_ok=True)
        for file in files:
            os.replace(file, folder / file.name)
        to_disk(folder)
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _as(tensor: Tensor, dtype: torch.dtype, kept: bool) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() and not kept else tensor


def read_record(folder: Path) -> dict[str, Any]:
    """`model.json` of a folder; `FileProblem` where it is missing or damaged."""
    path = folder / RECORD
    if not path.is_file():
        advice = "Give a complete model folder, or leave the model out to use the one that ships with the package."
        raise no_model(folder, advice)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain(error, path, "read") from error
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path} is damaged: {error}. {AGAIN}") from error
    if not isinstance(record, dict):
        raise FileProblem(f"{path} should hold a table, found a {type(record).__name__}. Fetch or export it again.")
    return _Record(path, record)


def no_model(folder: Path, advice: str) -> FileProblem:
    """The error for a folder that holds no model, with what it seems to hold instead."""
    return FileProblem(
        f"{folder} is no model: expected a model.json of this library, a config.toml of a run, or a model_index.json "
        f"of diffusers in it. {_instead(folder)}{advice}"
    )


def _instead(folder: Path) -> str:
    """What a folder that is no model may be."""
    if (folder / "config.json").is_file():
        return (
            "Its config.json is of one part of a model: name the folder that holds them all, or give the part beside a "
            "U-Net with --vae or --text-encoder. "
        )
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    files = [name for name in names if name.lower().endswith(SUFFIXES)]
    if files:
        tells = f"`hvis models list --models {folder}` tells what each is"
        return f"It holds {plain(listed(files, 3))}: name the one that you mean; {tells}. "
    return "It is empty. " if folder.is_dir() and not names else ""


def read_as(folder: Path, kind: type[T]) -> T:
    """`model.json` as the dataclass `kind`; keys that it does not have are not looked at.

    Raises `FileProblem` that names the file and the key for one that is missing or not what it should be.
    """
    record, path = read_record(folder), folder / RECORD
    known = types_of(kind)
    given = {field.name: record[field.name] for field in fields(kind) if default_of(field) is MISSING}  # type: ignore[arg-type]
    try:
        found = from_dict(kind, given | {key: value for key, value in record.items() if key in known})
        _check_numbers(found, ())
    except UsageError as error:
        raise FileProblem(f"{path} is damaged: {error} {AGAIN}") from error
    return found


def _check_numbers(value: object, place: tuple[str, ...]) -> None:
    """Whole numbers of a model's record are sizes and counts, and all are finite. Raises `UsageError`."""
    if is_dataclass(value):
        for field in fields(value):
            _check_numbers(getattr(value, field.name), (*place, field.name))
    elif isinstance(value, tuple):
        for item in value:
            _check_numbers(item, place)
    elif (isinstance(value, int) and value < 0) or (isinstance(value, float) and not math.isfinite(value)):
        kind = "a whole number from 0 on" if isinstance(value, int) else "a finite number"
        raise UsageError(f"{'.'.join(place)!r} must be {kind}, but {value} was found.")


def built(folder: Path, key: str, make: Callable[[], Net]) -> Net:
    """The network that `key` of a folder's record describes, without memory for its weights.

    Raises `FileProblem` for numbers that do not go together.
    """
    try:
        with hollow():
            return make()
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise FileProblem(
            f"{folder / RECORD} is damaged: {key!r} describes a network that cannot be built ({error}). {AGAIN}"
        ) from error


class _Record(dict[str, Any]):
    """A model's record; a key that it lacks is explained by the name of its file."""

    def __init__(self, path: Path, record: Mapping[str, Any]):
        super().__init__(record)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise FileProblem(f"{self.path} does not say {key!r}, so it is incomplete. {AGAIN}")


def fill(net: nn.Module, path: Path, device: torch.device) -> nn.Module:
    """Load `path` into `net` as float32, checked for NaN and for fit; frozen, in evaluation mode, on `device`."""
    assign(net, unpacked(load(path, dtype=torch.float32, check=True), path))
    return net.to(device).eval().requires_grad_(False)
