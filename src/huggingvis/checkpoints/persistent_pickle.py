"""Official StyleGAN2-ADA and StyleGAN3 `.pkl` files, read for their tensors without executing anything in them.

Such a file is a pickle of networks whose classes travel along as source code, to be run when it is opened; whoever
opens one with `pickle.load` trusts its author with the machine. Here a pickle may only build plain containers, numpy
arrays, tensors and inert `Record`s of the networks' state: each name it may ask for is in one table below, made anew
for each file, with stand-ins of our own behind most of them; the source code is thrown away unread. Any other name, any
file that is no such pickle, and one that unfolds to more than its size (`checkpoints.pickle_bounds`), is refused.
Layout: github.com/NVlabs/stylegan3, torch_utils/persistence.py, version 6. Book: chapter 2.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from huggingvis.checkpoints.pickle_bounds import (
    Allowance,
    Numbers,
    check_opcodes,
    checked,
    explained,
    said,
    tensor_over,
)
from huggingvis.core.errors import FileProblem, unknown

Names = dict[tuple[str, str], Any]

_KINDS = "biuf?"  # of numpy numbers: signed, unsigned, float, bool
_DEEPEST, _LONGEST = 32, 200  # parts within parts; letters of a name (official files: 5 and about 30)
_WORKSHOP = "only networks of the official PyTorch repositories (stylegan2-ada-pytorch, stylegan3) are read"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Record:
    """A persistent network as it was stored: the name of its class, and its state, which holds records again."""

    kind: str
    state: Mapping[str, Any]

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a network with a second state")

    def child(self, name: str) -> Record:
        """The part of that name. Raises `FileProblem` where there is none."""
        found = _table(self.state, "_modules").get(name)
        if not isinstance(found, Record):
            raise FileProblem(
                f"The stored network {self.kind!r} has no part {name!r}: it is another kind of network; {_WORKSHOP}."
            )
        return found

    def parts(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(_name(key) for key in _table(self.state, "_modules"))

    def settings(self) -> Record:
        """What the network was made with, as far as that was said: the arguments of its constructor by their names."""
        return Record(self.kind, _table(self.state, "_init_kwargs"))

    def whole(self, key: str, low: int, high: int) -> int:
        """The whole number `key` of the state. Raises `FileProblem` where it is missing or not from `low` to `high`."""
        found = self.state.get(key)
        if not (type(found) is int and low <= found <= high):
            raise self._other(f"a whole number {key!r} from {low} to {high}", key)
        return found

    def real(self, key: str, low: float, high: float) -> float:
        """The number `key` of the state. Raises `FileProblem` where it is missing or not from `low` to `high`."""
        found: Any = self.state.get(key)
        if type(found) not in (int, float) or not low <= found <= high:  # NaN is not
            raise self._other(f"a number {key!r} from {low:g} to {high:g}", key)
        return float(found)

    def _other(self, wanted: str, key: str) -> FileProblem:
        found = said(self.state[key]) if key in self.state else "nothing of that name"
        return FileProblem(
            f"The stored network {self.kind!r} should state {wanted}, but holds {found}. The file is damaged or holds "
            "another kind of network: get it again, or another."
        )

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, as a module's `state_dict` would give them; what several names share, once.

        Raises `FileProblem` for a network that contains itself, is nested too deeply, or has more numbers in its
        tensors than in the file.
        """
        found = dict(self._walk("", (), set()))
        behind = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in found.values()}
        if sum(value.numel() * value.itemsize for value in found.values()) > sum(behind.values()):
            raise FileProblem(
                f"The tensors of the stored network {self.kind!r} should each have numbers of their own, but share "
                "them. The file was made to look larger than it is: get it from its publisher."
            )
        return found

    def _walk(self, prefix: str, path: tuple[int, ...], seen: set[int]) -> Iterator[tuple[str, Tensor]]:
        """`path`: the tables of parts around this record; `seen`: all tables that were walked."""
        for kind in ("_parameters", "_buffers", "_modules"):
            table = _table(self.state, kind)
            here = (*path, id(table))
            if table and (id(table) in path or len(here) > _DEEPEST):
                raise FileProblem(
                    f"The stored network {self.kind!r} should be a tree of parts, at most {_DEEPEST} deep, but "
                    f"{prefix[:60]!r} leads {'back to itself' if id(table) in path else 'further'}. The file is "
                    "damaged or hostile: get it again."
                )
            entries = {} if id(table) in seen else table
            seen.add(id(table))
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    yield prefix + _name(name), value.detach().as_subclass(Tensor)
                elif isinstance(value, Record):
                    yield from value._walk(f"{prefix}{_name(name)}.", here, seen)


_NOTHING: Mapping[str, Any] = {}


def _table(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = state.get(key)
    return found if isinstance(found, dict) else _NOTHING


def _name(key: object) -> str:
    if not isinstance(key, str) or len(key) > _LONGEST:
        raise FileProblem(
            f"Names in a pickle of networks should be texts of at most {_LONGEST} letters, found {said(key)}. It is "
            "damaged, or no official file: get it again."
        )
    return key


def load_networks(path: Path | str) -> dict[str, Any]:
    """What an official network file holds by name: `G`, `D`, `G_ema` and `augment_pipe` as `Record`s, and settings.

    Raises `FileProblem` for a file that is missing, damaged, asks for anything but plain data, or holds no networks.
    """
    path = Path(path)
    with explained(path, "cannot be read as a pickle of networks"):
        file = io.BytesIO(path.read_bytes())
        check_opcodes(file)
        content = _Reader(file, path).load()
    if not isinstance(content, dict) or not any(isinstance(value, Record) for value in content.values()):
        raise FileProblem(f"{path} holds a {type(content).__name__} without networks; {_WORKSHOP}.")
    return {_name(key): value for key, value in content.items()}


def network(path: Path | str, name: str = "G_ema") -> Record:
    """One network of an official file. Raises `FileProblem` as `load_networks`, `UsageError` for an unknown name."""
    networks = {key: value for key, value in load_networks(path).items() if isinstance(value, Record)}
    if name not in networks:
        raise unknown(f"network in {path}", name, networks)
    return networks[name]


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names of one table and no other."""

    def __init__(self, file: io.BytesIO, path: Path):
        super().__init__(file)
        self.path, self.names = path, _names(Allowance(file.getbuffer().nbytes))

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
        raise FileProblem(f"{self.path} was refused: it refers to data outside itself ({said(pid)}); {_WORKSHOP}.")


def _names(allowed: Allowance) -> Names:
    """What a pickle may ask for. Made for one file, so that whatever it does to them is gone with it."""

    class Table(dict[Any, Any]):
        """dnnlib.EasyDict and OrderedDict: an empty dictionary to be filled, and nothing else."""

        def __init__(self) -> None:
            super().__init__()

        def __setstate__(self, state: object) -> None:
            if state:
                raise pickle.UnpicklingError("a table with hidden attributes")

    def sized(kind: str, value: Any) -> Any:
        allowed.spend(kind, len(value))
        return value

    table: Names = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): lambda meta: _record(meta),
        ("dnnlib.util", "EasyDict"): Table,
        ("dnnlib", "EasyDict"): Table,
        ("collections", "OrderedDict"): Table,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *facts: tensor_over(*facts),
        ("torch._utils", "_rebuild_parameter"): lambda data, *rest: checked(data, Tensor),
        ("torch.storage", "_load_from_bytes"): lambda data: Numbers(sized("tensors", checked(data, bytes))),
        ("torch", "Size"): lambda sides: tuple(int(side) for side in sized("shapes", sides)),
        ("_codecs", "encode"): lambda text, coding: sized("texts", checked(text, str)).encode("latin1"),
    }
    for module in ("builtins", "__builtin__"):
        table[module, "set"] = lambda items: set(sized("sets", checked(items, list)))
        table[module, "bytearray"] = lambda raw=b"", *rest: sized("bytes", _bytes(raw, *rest))
    return table | _array_names(allowed)


def _array_names(allowed: Allowance) -> Names:
    """numpy arrays and numbers, through stand-ins that check before numpy sees them."""

    class DType:
        def __init__(self, spec: object, *rest: object):
            if not (isinstance(spec, str) and spec[:1] in _KINDS and spec[1:].isdecimal() and len(spec) <= 3):
                raise pickle.UnpicklingError(f"numpy numbers of type {said(spec)}")
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
            plain = np.frombuffer(checked(raw, bytes), checked(dtype, DType).real())
            allowed.spend("arrays", plain.nbytes)
            state_of: Any = plain.reshape(shape, order="F" if fortran else "C").__reduce__()[2]
            super().__setstate__(state_of)

    def number(dtype: object, raw: object) -> object:
        return np.frombuffer(checked(raw, bytes), checked(dtype, DType).real())[0].item()

    def from_buffer(raw: object, dtype: object, shape: Any, order: str) -> np.ndarray[Any, Any]:
        plain = np.frombuffer(_bytes(raw), checked(dtype, DType).real())
        allowed.spend("arrays", plain.nbytes)
        return plain.reshape(shape, order="F" if order == "F" else "C")

    out: Names = {("numpy", "dtype"): DType, ("numpy", "ndarray"): "numpy.ndarray"}
    for core in ("numpy.core", "numpy._core"):
        out |= {
            (f"{core}.multiarray", "_reconstruct"): lambda *facts: Array((0,)),
            (f"{core}.multiarray", "scalar"): number,
        }
        out |= {(f"{core}.numeric", "_frombuffer"): from_buffer}
    return out


def _bytes(raw: object = b"") -> bytes:
    return bytes(raw) if isinstance(raw, bytearray | pickle.PickleBuffer) else bytes(checked(raw, bytes))


def _record(meta: object) -> Record:
    """What stands where the pickle would have had its class built from source and filled with its state."""
    table = checked(meta, dict)
    if table.get("type") != "class" or table.get("version") != 6:
        raise pickle.UnpicklingError(f"a persistent {said(table.get('type'))} of version {said(table.get('version'))}")
    return Record(checked(table.get("class_name"), str)[:_LONGEST], checked(table.get("state"), dict))
