"""What a pickle may make its reader hold, known before it is read: no more than the file has bytes for.

A pickle is a program for a stack machine, and a few bytes of it can ask for gigabytes: a memo slot of a high number, a
length that is not there, one string copied a thousand times. So its opcodes are walked once, and what it copies is
counted. Opcodes: `pickletools` of Python; a tensor's numbers: the file format of PyTorch before 1.6. Book: chapter 2.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import pickletools
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain

_TUPLE = 10_000  # most members of one tuple, its inner ones included: hashing a tuple visits them all, and recurses
_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's legacy files
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def said(value: object) -> str:
    """`value` for a message: in full where that is short, else by its type, whose `repr` could go on for ever."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**12 else "a number of more than 12 digits"
    return f"{value[:60]!r}" if isinstance(value, str) else f"a {type(value).__name__}"


def checked(value: Any, kind: type) -> Any:
    """`value`, if it is of that kind. Raises `UnpicklingError`."""
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


@contextlib.contextmanager
def explained(path: Path, failed: str) -> Iterator[None]:
    """A block that reads the pickle in `path`; what fails there is `FileProblem`, which begins: `path` `failed`."""
    try:
        yield
    except FileProblem:
        raise
    except OSError as error:
        raise explain(error, path, "read") from error
    except Exception as error:  # a pickle that lies fails in any way; nothing in it has run
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise FileProblem(
            f"{path} {failed}: {first}. It is damaged, cut short, or something else: get it again."
        ) from error


@final
class Allowance:
    """What a file of `size` bytes may have made of each kind of thing: as many as it has bytes."""

    def __init__(self, size: int):
        self.size = size
        self._spent: Counter[str] = Counter()

    def spend(self, kind: str, amount: int) -> None:
        """Count `amount` more. Raises `UnpicklingError` where they cannot all have come from the file."""
        self._spent[kind] += amount
        if self._spent[kind] > self.size:
            raise pickle.UnpicklingError(f"its {kind} unfold to more than the {self.size} bytes of the file")


def check_opcodes(file: io.BytesIO) -> None:
    """Walk the pickle that begins here, and come back to its beginning. Raises `UnpicklingError`.

    Refused: a memo slot above the number of opcodes so far, a length beyond the end (by `genops`), a tuple of very many
    members. The weight of a tuple is 1 and those of its members, of anything else 1.
    """
    start, size = file.tell(), file.getbuffer().nbytes
    stack: list[int] = []  # weights; 0 is a mark
    memo: dict[int, int] = {}
    for count, (op, found, _) in enumerate(pickletools.genops(file)):
        arg: Any = found
        if op.name in _PUTS:
            slot = len(memo) if op.name == "MEMOIZE" else int(arg)
            if slot > count:
                raise pickle.UnpicklingError(f"opcode {count} asks for memo slot {slot}")
            memo[slot] = stack[-1]
        elif op.name in _GETS or op.name == "DUP":
            stack.append(stack[-1] if op.name == "DUP" else memo[int(arg)])
        elif op.name == "FRAME" and arg > size:
            raise pickle.UnpicklingError(f"a frame of {arg} bytes in a file of {size}")
        else:
            _step(op, stack)
    file.seek(start)


def _step(op: Any, stack: list[int]) -> None:
    """What `op` does to the weights on the stack."""
    taken: list[int] = []
    for kind in reversed(op.stack_before):
        if kind is pickletools.stackslice:
            while stack[-1]:
                taken.append(stack.pop())
        else:
            taken.append(stack.pop())
    weight = 1 + sum(taken) if op.name in _TUPLES else 1
    if weight > _TUPLE:
        raise pickle.UnpicklingError(f"a tuple of more than {_TUPLE} members")
    stack.extend(0 if kind is pickletools.markobject else weight for kind in op.stack_after)


@final
class _Facts(pickle.Unpickler):
    """A pickle of plain values and, in place of numbers that follow it, the tuple that describes them."""

    def find_class(self, module: str, name: str) -> Any:
        if module != "torch" or name not in _DTYPES:
            raise pickle.UnpicklingError(f"a tensor's numbers ask for {module:.40}.{name:.40}")
        return _DTYPES[name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def stored_numbers(data: bytes) -> Tensor:
    """The numbers [N] of a storage as PyTorch pickles it: a file of the legacy format, which cannot be compressed.

    Magic number, version, machine, description, names, and for each name (here one) a count and the numbers. Raises
    `UnpicklingError` for anything else; other exceptions for bytes that lie.
    """
    if data[:2] == b"PK":
        raise pickle.UnpicklingError("a tensor's numbers in a zip archive, where official files have them plain")
    file, parts = io.BytesIO(data), []
    for _ in range(5):
        check_opcodes(file)
        parts.append(_Facts(file).load())
    magic, version, machine, (tag, dtype, name, _, count, view), names = parts
    if (magic, version, machine["little_endian"], tag, view) != (_MAGIC, _VERSION, True, "storage", None):
        raise pickle.UnpicklingError("a tensor's numbers in an unknown format")
    if not isinstance(dtype, torch.dtype) or names != [name] or struct.unpack("<q", file.read(8)) != (count,):
        raise pickle.UnpicklingError("a tensor's numbers without their description")
    raw = bytearray(file.read())
    if len(raw) != count * dtype.itemsize:
        raise pickle.UnpicklingError(f"{said(count)} numbers in {len(raw)} bytes")
    return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


@final
class _Fixed(Tensor):
    """A tensor that the pickle cannot change after it was checked."""

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a tensor with a state")


@final
class Numbers:
    """What a tensor is a view of."""

    __slots__ = ("flat",)

    def __init__(self, data: bytes):
        self.flat = stored_numbers(data)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a tensor's numbers with a state")


def tensor_over(storage: object, offset: object, size: Any, stride: Any, *rest: object) -> Tensor:
    """A tensor over the numbers of `storage`: all of it within, and no larger than they are."""
    flat = checked(storage, Numbers).flat
    steps = [(checked(n, int), checked(step, int)) for n, step in zip(size, stride, strict=True)]
    first = checked(offset, int)
    if first < 0 or any(n < 0 or step < 0 for n, step in steps):
        raise pickle.UnpicklingError("a tensor that runs backwards")
    if any(n > 1 and step == 0 for n, step in steps) or math.prod(n for n, _ in steps) > len(flat):
        raise pickle.UnpicklingError(f"a tensor larger than the {len(flat)} numbers stored for it")
    last = first + sum((n - 1) * step for n, step in steps)
    if last >= len(flat) and all(n for n, _ in steps):
        raise pickle.UnpicklingError(f"a tensor that reaches beyond the {len(flat)} numbers stored for it")
    return flat.as_strided(tuple(size), tuple(stride), first).as_subclass(_Fixed)
