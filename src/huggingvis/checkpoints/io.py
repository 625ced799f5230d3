"""Tensors from files and back, executing nothing that a file contains.

Tensors wanted as they are stored are mapped, of safetensors and of PyTorch's zip files alike, and cost nothing until
they are looked at. Those to be cast or moved are read in pieces, so that a model is never in memory twice. PyTorch's
zip files (`.pt .pth .ckpt .bin .th`) are read by `checkpoints.torch_zip`, those from before 1.6 by PyTorch's restricted
unpickler; folders by their `*.index.json`. Writing is safetensors only, all or nothing.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from huggingvis.checkpoints.assign import Mismatch, assign
from huggingvis.checkpoints.formats import BITS, Format, TensorFact, read_header, sniff
from huggingvis.checkpoints.streaming import Stream, Target
from huggingvis.checkpoints.torch_zip import Mapped, Stored, read_zip
from huggingvis.checkpoints.unwrap import WRAPPERS, Leaf, tables, unwrap
from huggingvis.core.errors import FileProblem, NumericalTrouble, UsageError
from huggingvis.core.files import explain, replace_atomically

__all__ = ["SUFFIXES", "WRAPPERS", "Mismatch", "Tensors", "assign", "check_finite", "load", "save"]

Tensors = dict[str, Tensor]
Wanted = Callable[[str], bool]

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".th")

_CASTABLE = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_SPELLING = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float16": "F16", "bfloat16": "BF16",
    "float32": "F32", "float64": "F64", "complex64": "C64",
}  # fmt: skip


def load(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    check: bool = False,
    wanted: Wanted | None = None,
    inside: str | None = None,
    channels_last: bool = False,
) -> Tensors:
    """All tensors of a checkpoint file, a sharded folder or its index, by name.

    `dtype`: floating tensors are cast to it while loading; integers keep theirs. In memory there are then the cast
    tensors and a few MiB of the file, no second copy. `check`: refuse NaN and infinity.
    `wanted`: only names it says yes to. `inside`: the key that holds the weights in a nested PyTorch file.
    `channels_last`: convolutions' weights are laid out with the channels last, also without a second copy.
    Uncast CPU tensors may be views of the mapped file (copy-on-write: changing them never changes the file).
    Raises `FileProblem` for anything wrong with the file, `NumericalTrouble` from `check`.
    """
    path = Path(path)
    out: Tensors = {}
    for name, tensor in _read(path, wanted or (lambda name: True), inside, Target(dtype, device, channels_last)):
        out[name] = tensor
        if check:
            check_finite(out[name], name, path)
    return out


def facts(path: Path | str, *, inside: str | None = None) -> dict[str, TensorFact]:
    """Name, type and shape of the tensors in a PyTorch file; of a zip file no number is read. Raises as `load`."""
    return {name: _fact(leaf) for name, leaf in unwrap(Path(path), _content(path), inside).items()}


def all_facts(path: Path | str) -> dict[str, TensorFact]:
    """As `facts`; where all tensors lie in tables, as in embeddings and IP-Adapters, these together, as TABLE.NAME."""
    content = _content(path)
    inner = tables(content) if isinstance(content, Mapping) else {}
    if not inner or any(key in content for key in WRAPPERS) or any(isinstance(x, Leaf) for x in content.values()):
        return {name: _fact(leaf) for name, leaf in unwrap(Path(path), content, None).items()}
    return {f"{table}.{name}": _fact(leaf) for table, row in inner.items() for name, leaf in row.items()}


def _content(path: Path | str) -> Any:
    path = Path(path)
    kind = sniff(path)
    return read_zip(path) if kind is Format.TORCH_ZIP else _read_legacy(path, kind)


def _fact(leaf: Leaf) -> TensorFact:
    plain = str(leaf.dtype).removeprefix("torch.")
    return TensorFact(_SPELLING.get(plain, plain), tuple(leaf.shape))


def check_finite(tensor: Tensor, name: str, path: Path) -> None:
    """`NumericalTrouble` that names the tensor and the file if `tensor` holds NaN or infinity."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)  # float8 knows no isfinite
    if not finite.all():
        bad = int((~finite).sum())
        raise NumericalTrouble(
            f"The weights in {path} should be finite, but {bad} of {tensor.numel()} numbers of {name!r} are NaN or "
            "infinite. The training that made them diverged, or the file is damaged: take an earlier checkpoint, or "
            "get it again."
        )


def save(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file, all or nothing; returns its path.

    `metadata` is strings to strings. Tensors that share memory are written once each, since the format knows no ties.
    Raises `FileProblem` when the system refuses (full disk, read-only folder) and `UsageError` for other metadata.
    """
    path, metadata = Path(path), dict(metadata or {})
    for key, value in metadata.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise UsageError(f"Checkpoint metadata is text, but {key!r} holds a {type(value).__name__}: use str().")
    plain = _unshared(tensors)

    def make(place: Path) -> None:
        try:
            save_file(plain, place, metadata=metadata)
        except SafetensorError as error:
            code = re.search(r"(?:code: |os error )(\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code.group(1)), str(error)) from error

    return replace_atomically(path, make)


def _unshared(tensors: Mapping[str, Tensor]) -> Tensors:
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return plain


def _read(path: Path, wanted: Wanted, inside: str | None, target: Target) -> Iterator[tuple[str, Tensor]]:
    if path.is_dir():
        path = _inside_folder(path)
    if path.name.endswith(".index.json"):
        yield from _read_shards(path, wanted, target)
        return
    kind = sniff(path)
    if kind is Format.SAFETENSORS:
        yield from _read_safetensors(path, wanted, target)
        return
    if path.suffix == ".safetensors":
        raise FileProblem(
            f"{path} is named .safetensors but is a pickle ({kind.value}), a format that can carry programs. Somebody "
            "renamed it: get the real safetensors file, or, if you know its source, rename it to .pt."
        )
    yield from (_read_zip if kind is Format.TORCH_ZIP else _read_old)(path, wanted, inside, target)


def _read_safetensors(path: Path, wanted: Wanted, target: Target) -> Iterator[tuple[str, Tensor]]:
    header = read_header(path)
    if os.fsencode(path).decode(errors="replace") != str(path):
        raise FileProblem(f"{path} has a name that is no UTF-8, by which its library opens no file: rename it.")
    try:
        with safe_open(path, framework="pt") as file, Stream(path, target) as stream:
            at = header.begin
            for name, fact in header.tensors.items():  # in the order of their bytes, which have no holes
                stored = _CASTABLE.get(fact.dtype)
                if wanted(name):
                    streamed = stored is not None and target.changes(stored, fact.shape)
                    whole = stream.read(at, fact.shape, stored) if stored and streamed else None
                    yield name, target.place(file.get_tensor(name)) if whole is None else whole
                at += fact.numel * BITS[fact.dtype] // 8
    except SafetensorError as error:
        raise FileProblem(f"{path} could not be read as safetensors ({error}). Download or copy it again.") from error
    except OSError as error:
        raise explain(error, path, "read") from error


def _read_zip(path: Path, wanted: Wanted, inside: str | None, target: Target) -> Iterator[tuple[str, Tensor]]:
    made: dict[Stored, Tensor] = {}  # tensors under several names
    try:
        mapped = Mapped(path)
        with Stream(path, target) as stream:
            for name, leaf in unwrap(path, read_zip(path), inside).items():
                if not wanted(name):
                    continue
                assert isinstance(leaf, Stored)
                if leaf not in made:
                    streamed = target.changes(leaf.dtype, tuple(leaf.shape)) or leaf.begin % leaf.dtype.itemsize
                    if streamed and leaf.contiguous:
                        made[leaf] = stream.read(leaf.begin, leaf.shape, leaf.dtype)
                    else:
                        made[leaf] = target.place(mapped.tensor(leaf))
                yield name, made[leaf]
    except OSError as error:
        raise explain(error, path, "read") from error


def _read_old(path: Path, wanted: Wanted, inside: str | None, target: Target) -> Iterator[tuple[str, Tensor]]:
    """Files from before 1.6, which cannot be mapped; a tensor leaves memory as it is handed on."""
    content = _read_legacy(path, Format.TORCH_LEGACY)
    weights = unwrap(path, content, inside)
    del content
    for name in [name for name in weights if wanted(name)]:
        leaf = weights.pop(name)
        assert isinstance(leaf, Tensor)
        yield name, target.place(leaf)


def _read_legacy(path: Path, kind: Format) -> Any:
    try:
        with path.open("rb") as file:  # by its bytes: by its name, PyTorch takes it for what that says
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except OSError as error:
        raise explain(error, path, "read") from error
    except (RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileProblem(
            f"{path} is a {kind.value} that cannot be read: {first}. It is damaged or cut short: get it again."
        ) from error


def _refused(path: Path, error: Exception) -> FileProblem:
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = f"it asks for {named.group(1)!r}, a program and no tensor" if named else "it holds more than tensors"
    return FileProblem(
        f"{path} was refused and nothing in it was executed: {what}. Pickles can run anything when opened, so only "
        "plain tensors are read from them. Get a safetensors version, or ask its author to save the state_dict alone."
    )


def _inside_folder(folder: Path) -> Path:
    """The one checkpoint in `folder`: its shard index, or else its only safetensors (then only PyTorch) file."""
    files = sorted(p for p in folder.iterdir() if p.is_file())
    indexes = [p for p in files if p.name.endswith(".index.json")]
    safe = [p for p in files if p.suffix == ".safetensors"]
    for found in (indexes, safe, [p for p in files if p.suffix in SUFFIXES]):
        if len(found) == 1:
            return found[0]
        if found:
            raise FileProblem(
                f"{folder} holds {len(found)} checkpoints, so it is not clear which one is meant: name one of "
                f"{', '.join(p.name for p in found[:6])}."
            )
    raise FileProblem(f"{folder} holds no checkpoint: expected *.index.json or a file ending in {', '.join(SUFFIXES)}.")


def _read_shards(index: Path, wanted: Wanted, target: Target) -> Iterator[tuple[str, Tensor]]:
    """Tensors in the files that the index names; each must be where the index says."""
    shards: dict[str, set[str]] = {}
    for name, file in _weight_map(index).items():
        shards.setdefault(file, set()).add(name)
    absent = sorted(file for file in shards if not (index.parent / file).is_file())
    if absent:
        raise FileProblem(
            f"{index} names {len(shards)} files, but {len(absent)} are missing: {', '.join(absent[:5])}. "
            f"Download them into {index.parent}."
        )
    for file, names in sorted(shards.items()):
        found = set()
        each = _read(index.parent / file, lambda name, names=names: name in names, None, target)  # type: ignore[misc]
        for name, tensor in each:
            found.add(name)
            if wanted(name):
                yield name, tensor
        if names - found:
            first = min(names - found)
            raise FileProblem(
                f"{index} says that {index.parent / file} holds {len(names)} tensors, but {len(names - found)} are not "
                f"in it, {first!r} for one. Index and files belong to different versions: download both again."
            )


def _weight_map(index: Path) -> dict[str, str]:
    try:
        table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise explain(error, index, "read") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise FileProblem(f"{index} should be JSON with a `weight_map` of tensor to file. Download it again.")
    for name, file in table.items():
        beside = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not beside or file in ("", "..") or file.endswith(".json"):
            raise FileProblem(
                f"{index} places tensor {name!r} in {file!r}; shards must be files right beside the index. "
                "Do not trust this checkpoint; get it from its original source."
            )
    return table
