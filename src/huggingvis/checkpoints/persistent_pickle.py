"""Official StyleGAN2-ADA and StyleGAN3 `.pkl` files, read for their tensors without executing anything in them.

Such a file is a pickle of networks whose classes travel along as source code, to be run when it is opened; whoever
opens one with `pickle.load` trusts its author with the machine. Here a pickle may only build plain containers, numpy
arrays, tensors and inert `Record`s of the networks' state: each name it may ask for is in one table below, made anew
for each file, with stand-ins of our own behind most of them; the source code is thrown away unread. Any other name, and
any file that is no such pickle, is refused. Layout: github.com/NVlabs/stylegan3, torch_utils/persistence.py, version 6.
Book: chapter 2.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem, unknown
from huggingvis.core.files import explain

Names = dict[tuple[str, str], Any]

_KINDS = "biuf?"  # of numpy numbers: signed, unsigned, float, bool
_WORKSHOP = "only networks of the official PyTorch repositories (stylegan2-ada-pytorch, stylegan3) are read"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A persistent network as it was stored: the name of its class, and its state, which holds records again."""

    kind: str
    state: Mapping[str, Any]

    def child(self, name: str) -> Record:
        """The part of that name. Raises `FileProblem` where there is none."""
        found = _table(self.state, "_modules").get(name)
        if not isinstance(found, Record):
            raise FileProblem(f"The stored network {self.kind!r} has no part {name!r}: it is another kind of network.")
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, as a module's `state_dict` would give them."""
        return dict(self._walk(""))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for kind in ("_parameters", "_buffers"):
            for name, value in _table(self.state, kind).items():
                if isinstance(value, Tensor):
                    yield prefix + name, value.detach()
        for name, part in _table(self.state, "_modules").items():
            if isinstance(part, Record):
                yield from part._walk(f"{prefix}{name}.")


def _table(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = state.get(key, {})
    return found if isinstance(found, dict) else {}


def load_networks(path: Path | str) -> dict[str, Any]:
    """What an official network file holds by name: `G`, `D`, `G_ema` and `augment_pipe` as `Record`s, and settings.

    Raises `FileProblem` for a file that is missing, damaged, asks for anything but plain data, or holds no networks.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Reader(file, path).load()
    except FileProblem:
        raise
    except OSError as error:
        raise explain(error, path, "read") from error
    except Exception as error:  # a pickle that lies fails in any way; nothing in it has run
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileProblem(
            f"{path} cannot be read as a pickle of networks: {first}. It is damaged, cut short, or something else: get "
            "it again."
        ) from error
    if not isinstance(content, dict) or not any(isinstance(value, Record) for value in content.values()):
        raise FileProblem(f"{path} holds a {type(content).__name__} without networks; {_WORKSHOP}.")
    return {str(key): value for key, value in content.items()}


def network(path: Path | str, name: str = "G_ema") -> Record:
    """One network of an official file. Raises `FileProblem` as `load_networks`, `UsageError` for an unknown name."""
    networks = {key: value for key, value in load_networks(path).items() if isinstance(value, Record)}
    if name not in networks:
        raise unknown(f"network in {path}", name, networks)
    return networks[name]


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names of one table and no other."""

    def __init__(self, file: io.BufferedReader, path: Path):
        super().__init__(file)
        self.path, self.names = path, _names()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.names:
            return self.names[module, name]
        if (module, name) == ("dnnlib.tflib.network", "Network"):
            raise FileProblem(
                f"{self.path} is a TensorFlow pickle of the first StyleGAN or of StyleGAN2; {_WORKSHOP}. Convert it "
                "with legacy.py of stylegan3, or get the .pkl of the PyTorch release."
            )
        raise FileProblem(
            f"{self.path} was refused and nothing in it was executed: it asks for {module + '.' + name!r:.120}, which "
            f"is neither a tensor nor a plain container; {_WORKSHOP}. Do not open it with other programs."
        )

    def persistent_load(self, pid: Any) -> Any:
        raise FileProblem(f"{self.path} was refused: it refers to data outside itself ({pid!r:.80}); {_WORKSHOP}.")


def _names() -> Names:
    """What a pickle may ask for. Made for one file, so that whatever it does to them is gone with it."""

    class Table(dict[Any, Any]):
        """dnnlib.EasyDict: a dictionary, and nothing else."""

        def __setstate__(self, state: object) -> None:
            if state:
                raise pickle.UnpicklingError("a table with hidden attributes")

    arrays = _array_names()
    table: Names = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): lambda meta: _record(meta),
        ("dnnlib.util", "EasyDict"): Table,
        ("dnnlib", "EasyDict"): Table,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *facts: _tensor(*facts),
        ("torch._utils", "_rebuild_parameter"): lambda data, *rest: _checked(data, Tensor),
        ("torch.storage", "_load_from_bytes"): lambda data: _storage(data),
        ("torch", "Size"): lambda sides: tuple(int(side) for side in sides),
        ("_codecs", "encode"): lambda text, coding: _checked(text, str).encode("latin1"),
    }
    for module in ("builtins", "__builtin__"):
        table |= {(module, "set"): lambda items: set(items), (module, "bytearray"): lambda *raw: _bytes(*raw)}
    return table | arrays


def _array_names() -> Names:
    """numpy arrays and numbers, through stand-ins that check before numpy sees them."""

    class DType:
        def __init__(self, spec: object, *rest: object):
            if not (isinstance(spec, str) and spec[:1] in _KINDS and spec[1:].isdecimal() and len(spec) <= 3):
                raise pickle.UnpicklingError(f"numpy numbers of type {spec!r:.40}")
            self.spec, self.order = spec, "="

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
                raise pickle.UnpicklingError("numpy numbers with parts")
            self.order = state[1]

        def real(self) -> np.dtype[Any]:
            return np.dtype((">" if self.order == ">" else "=") + self.spec)

    class Array(np.ndarray[Any, Any]):
        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _, shape, dtype, fortran, raw = state
            plain = np.frombuffer(_checked(raw, bytes), _checked(dtype, DType).real())
            state_of: Any = plain.reshape(shape, order="F" if fortran else "C").__reduce__()[2]
            super().__setstate__(state_of)

    def array(kind: object, shape: object, code: object) -> Array:
        return Array((0,))

    def number(dtype: object, raw: object) -> object:
        return np.frombuffer(_checked(raw, bytes), _checked(dtype, DType).real())[0].item()

    def from_buffer(raw: object, dtype: object, shape: Any, order: str) -> np.ndarray[Any, Any]:
        plain = np.frombuffer(_bytes(raw), _checked(dtype, DType).real())
        return plain.reshape(shape, order="F" if order == "F" else "C")

    out: Names = {("numpy", "dtype"): DType, ("numpy", "ndarray"): "numpy.ndarray"}
    for core in ("numpy.core", "numpy._core"):
        out |= {(f"{core}.multiarray", "_reconstruct"): array, (f"{core}.multiarray", "scalar"): number}
        out |= {(f"{core}.numeric", "_frombuffer"): from_buffer}
    return out


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _bytes(raw: object = b"") -> bytes:
    return bytes(raw) if isinstance(raw, bytearray | pickle.PickleBuffer) else bytes(_checked(raw, bytes))


def _record(meta: object) -> Record:
    """What stands where the pickle would have had its class built from source and filled with its state."""
    table = _checked(meta, dict)
    if table.get("type") != "class" or table.get("version") != 6:
        raise pickle.UnpicklingError(f"a persistent {table.get('type')!r:.20} of version {table.get('version')!r:.20}")
    return Record(str(table.get("class_name")), _checked(table.get("state"), dict))


def _storage(data: object) -> Any:
    """A tensor's numbers, which are a PyTorch file within the file: read by PyTorch's own restricted reader."""
    return torch.load(io.BytesIO(_checked(data, bytes)), map_location="cpu", weights_only=True)


def _tensor(storage: object, offset: int, size: Any, stride: Any, *rest: object) -> Tensor:
    """A tensor over `storage`, all of it within."""
    numbers: torch.TypedStorage = _checked(storage, torch.TypedStorage)
    steps = list(zip(size, stride, strict=True))
    last = offset + sum((n - 1) * step for n, step in steps)
    if (
        offset < 0
        or any(n < 0 or step < 0 for n, step in steps)
        or (all(size) and last >= numbers._untyped_storage.nbytes() // numbers.dtype.itemsize)
    ):
        raise pickle.UnpicklingError(f"a tensor of shape {list(size)!r:.60} that reaches beyond its numbers")
    return torch.empty(0, dtype=numbers.dtype).set_(numbers._untyped_storage, offset, tuple(size), tuple(stride))
