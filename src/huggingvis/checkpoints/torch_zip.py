"""What a PyTorch zip file (`.ckpt .pt .pth .bin`, PyTorch 1.6 and later) holds, read without executing anything.

Such a file is a zip archive: `data.pkl`, a pickle of the saved object, in which each tensor is a reference to numbers
in an entry `data/KEY` stored beside it. Here the pickle may build plain containers and `Stored` descriptions of
tensors; no number is read. PyTorch's own restricted reader (`torch.load(weights_only=True)`) refuses a whole file for
one name that it does not know, and checkpoints of training frameworks hold some (those of latent diffusion name
`pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint`). Inert objects therefore stand for names of packages;
they import nothing and swallow all that the pickle gives them. Names of Python's own library, through which pickles
take over a machine, are refused with the file. Format: torch/csrc/jit/docs/serialization.md of PyTorch.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.checkpoints.pickle_bounds import Allowance, check_opcodes, checked, explained, said
from huggingvis.core.errors import FileProblem

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
        torch.uint64, torch.complex64, torch.complex128,
    )
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip
_BYSTANDERS = {
    "argparse", "collections", "copyreg", "copy_reg", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "pathlib", "typing", "uuid",
}  # fmt: skip
"""Modules of Python's library whose objects trainings leave in their files, and which can do nothing."""
_PLAIN_BUILTINS = ("object", "int", "float", "bool", "str", "bytes", "type", "NoneType")
_DANGER = frozenset(sys.stdlib_module_names) | {"__builtin__", "commands", "exceptions", "urllib2"}
_MOST_NAMES = 10_000
_UNFOLD = 4
"""Bytes of tensors per byte of file, at most: several may be views of the same numbers."""


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: `begin` is the byte where its first number lies, `stride` counts numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    begin: int

    @property
    def contiguous(self) -> bool:
        """Whether its numbers lie in order, without gaps."""
        expected = 1
        for n, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if n != 1 and step != expected:
                return False
            expected *= n
        return True

    @property
    def span(self) -> int:
        """Numbers from its first to its last."""
        return 0 if 0 in self.shape else 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride))


class Unbuilt:
    """Stands for an object of a class that is not built; `kind` is the name the file gives it."""

    __slots__ = ()
    kind = ""

    def __new__(cls, *args: object, **named: object) -> Unbuilt:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Nothing: what the file would put into the object is not kept."""

    def extend(self, values: object) -> None:
        """As `append`."""

    add = append
    update = extend


@final
@dataclass(frozen=True, slots=True)
class _Numbers:
    """Where a storage lies in the file; `size` in bytes."""

    dtype: torch.dtype
    begin: int
    size: int


@final
class Mapped:
    """A file mapped into memory, copy on write: tensors in it cost nothing until they are looked at."""

    def __init__(self, path: Path):
        self._whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def tensor(self, stored: Stored) -> Tensor:
        """The tensor where it lies."""
        empty = torch.empty(0, dtype=stored.dtype)
        if stored.span == 0:
            return empty.reshape(stored.shape)
        part = self._whole[stored.begin : stored.begin + stored.span * stored.dtype.itemsize]
        return empty.set_(part, 0, stored.shape, stored.stride)


def read_zip(path: Path) -> Any:
    """The object in the file, tensors as `Stored`, objects of unknown classes as `Unbuilt`. Raises `FileProblem`."""
    with (
        explained(path, "is a PyTorch zip that cannot be read"),
        path.open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        entries = {info.filename: info for info in archive.infolist()}
        pickled = next(name for name in entries if name.rsplit("/", 1)[-1] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
        for name in (pickled, root + "byteorder"):
            if name in entries and entries[name].compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError(f"its entry {name:.60} is compressed, which PyTorch never does")
        if root + "byteorder" in entries and archive.read(root + "byteorder") != sys.byteorder.encode():
            raise FileProblem(f"{path} was written on a machine of another byte order. Get its safetensors version.")
        text = io.BytesIO(archive.read(pickled))
        check_opcodes(text)
        return _Reader(text, path, lambda key: _place(file, entries, f"{root}data/{key}")).load()


def _place(file: Any, entries: Mapping[str, zipfile.ZipInfo], name: str) -> tuple[int, int]:
    """(first byte, number of bytes) of an entry of the archive."""
    info = entries.get(name)
    if info is None or info.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"the numbers {name:.60} are {'not there' if info is None else 'compressed'}")
    file.seek(info.header_offset)
    head = file.read(30)  # the entry's own header: its name and extra field, of lengths at 26 and 28, come after it
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise pickle.UnpicklingError(f"the numbers {name:.60} have no header")
    begin = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if begin + info.file_size > file.seek(0, io.SEEK_END):
        raise pickle.UnpicklingError(f"the numbers {name:.60} reach beyond its end")
    return begin, info.file_size


class _Reader(pickle.Unpickler):
    """An unpickler that builds containers and descriptions, and puts `Unbuilt` in the place of all else."""

    def __init__(self, file: io.BytesIO, path: Path, place: Callable[[str], tuple[int, int]]):
        super().__init__(file)
        self._path, self._place = path, place
        self._names = _names(Allowance(_UNFOLD * path.stat().st_size))

    def find_class(self, module: str, name: str) -> Any:
        key = f"{module}.{name}"
        if key not in self._names:
            top = module.partition(".")[0]
            plain = top in _BYSTANDERS or (top == "builtins" and name in _PLAIN_BUILTINS)
            if (top in _DANGER and not plain) or len(self._names) > _MOST_NAMES:
                raise FileProblem(
                    f"{self._path} was refused and nothing in it was executed: it asks for {key!r:.120}, a program and "
                    "no tensor. Pickles can run anything when opened, and no training needs this one to be saved. "
                    "Get a safetensors version from its publisher, and do not open this file with other programs."
                )
            self._names[key] = type("Unbuilt", (Unbuilt,), {"__slots__": (), "kind": key})
        return self._names[key]

    def persistent_load(self, pid: Any) -> _Numbers:
        kind, dtype, key, _, count = checked(pid, tuple)
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a reference to {said(kind)}, which is no storage")
        begin, size = self._place(checked(key, str))
        if checked(count, int) < 0 or count * dtype.itemsize > size:
            raise pickle.UnpicklingError(f"a storage of {said(count)} numbers in {size} bytes")
        return _Numbers(dtype, begin, count * dtype.itemsize)


def _names(allowed: Allowance) -> dict[str, Any]:
    """What a pickle gets for the names that are known. Made for one file, so that what it does to them ends with it."""

    class Table(dict[Any, Any]):
        def __init__(self) -> None:
            super().__init__()

        def __setstate__(self, state: object) -> None:
            pass  # `_metadata` of a state_dict

    def tensor(numbers: object, offset: object, size: Any, stride: Any, *rest: object) -> Stored:
        where = checked(numbers, _Numbers)
        if len(rest) > 2 and rest[2]:
            raise pickle.UnpicklingError("a tensor to be conjugated or negated")
        return _view(where, where.dtype, offset, size, stride, allowed)

    def typed(numbers: object, offset: object, size: Any, stride: Any, *rest: object) -> Stored:
        return _view(checked(numbers, _Numbers), checked(rest[2], torch.dtype), offset, size, stride, allowed)

    table: dict[str, Any] = {
        "collections.OrderedDict": Table,
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": typed,
        "torch._utils._rebuild_parameter": lambda data, *rest: checked(data, Stored),
        "torch._utils._rebuild_parameter_with_state": lambda data, *rest: checked(data, Stored),
        "torch._tensor._rebuild_from_type_v2": lambda make, kind, facts, state: (
            make(*facts) if make in (tensor, typed, table["torch._utils._rebuild_parameter"]) else Unbuilt()
        ),
        "torch.Size": lambda sides: tuple(checked(side, int) for side in sides),
        "_codecs.encode": lambda text, *rest: b"",
    }
    for module in ("builtins", "__builtin__"):
        plain: dict[str, Any] = {
            "set": lambda items=(): frozenset(), "frozenset": lambda items=(): frozenset(), "dict": Table,
            "list": lambda items=(): [], "tuple": lambda items=(): (), "complex": lambda *parts: 0j,
            "bytearray": lambda *parts: b"", "slice": lambda *parts: None, "range": lambda *parts: None,
        }  # fmt: skip
        table |= {f"{module}.{name}": made for name, made in plain.items()}
    table |= {f"torch.{name}": dtype for name, dtype in (_DTYPES | _STORAGES).items()}
    return table | {"torch.storage.UntypedStorage": torch.uint8}


def _view(where: _Numbers, dtype: torch.dtype, offset: object, size: Any, stride: Any, allowed: Allowance) -> Stored:
    """A tensor of a storage, if the storage holds it."""
    first = checked(offset, int)
    found = Stored(dtype, tuple(size), tuple(stride), where.begin + first * dtype.itemsize)
    whole = all(type(n) is int and n >= 0 for n in (*found.shape, *found.stride, first))
    if len(found.shape) != len(found.stride) or not whole:
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    held = where.size // dtype.itemsize
    if first + found.span > held or prod(found.shape) > held:
        raise pickle.UnpicklingError(f"a tensor that reaches beyond the {held} numbers stored for it")
    allowed.spend("tensors", prod(found.shape) * dtype.itemsize)
    return found
