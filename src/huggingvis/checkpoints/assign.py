"""Putting tensors into a module, exactly or not at all.

Every name and shape is compared before the first number moves, so a refused checkpoint leaves the module as it was, and
the report is one paragraph, not a page of names. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from torch import Tensor, nn

from huggingvis.core.errors import FileProblem
from huggingvis.core.hollow import hollow

Net = TypeVar("Net", bound=nn.Module)
_FEW = 4
_DAMAGED = "The file that tells them is damaged or was changed: get it again."


@dataclass(frozen=True)
class Mismatch:
    """Where a checkpoint and a module differ. `shapes`: name -> (the module's, the checkpoint's)."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        """One clause per kind of difference: the first few names, and how many there are."""
        sizes = [f"{name} is {list(ours)} here, {list(theirs)} there" for name, (ours, theirs) in self.shapes.items()]
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", sizes))
        return "; ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds if names)


def _few(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")


def ties(module: nn.Module) -> list[list[str]]:
    """Names under which one and the same parameter appears in `module`, for each that has several."""
    groups: dict[int, list[str]] = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(value), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _complete_ties(groups: list[list[str]], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, where a tied parameter that a file holds once has it under all its names."""
    out = dict(tensors)
    for names in groups:
        first = next((name for name in names if name in tensors), None)
        if first is not None:
            out |= {name: tensors[first] for name in names if name not in tensors}
    return out


def compare(module: nn.Module, tensors: Mapping[str, Tensor]) -> Mismatch:
    """How `tensors` differ from what `module` needs."""
    needed = module.state_dict()
    shapes = {
        name: (tuple(needed[name].shape), tuple(tensor.shape))
        for name, tensor in tensors.items()
        if name in needed and needed[name].shape != tensor.shape
    }
    missing = tuple(name for name in needed if name not in tensors)
    return Mismatch(missing, tuple(name for name in tensors if name not in needed), shapes)


def assign(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> Mismatch:
    """Load `tensors` into `module`; returns what differed (nothing, when strict).

    A module with parts on the meta device takes the tensors themselves, with their dtype and device and without a copy;
    any other copies the numbers into its own; tied parameters stay tied. Not strict, missing and unexpected names are
    allowed, other shapes and parameters that would stay empty on the meta device never. Raises `FileProblem`; the
    module is then unchanged.
    """
    tied = ties(module)
    tensors = _complete_ties(tied, tensors)
    differ = compare(module, tensors)
    if differ.shapes or (strict and differ):
        raise FileProblem(
            f"The checkpoint does not fit {type(module).__name__} of {len(module.state_dict())} tensors: {differ}. "
            "It belongs to another model or another size of it, or its names need a key map."
        )
    _check_real(module, tensors)
    meta = [name for name, value in _named(module) if value.is_meta]
    empty = [name for name in meta if name not in tensors]
    if empty:
        raise FileProblem(
            f"{type(module).__name__} would keep {len(empty)} tensors without values ({_few(empty)}): the checkpoint "
            "does not bring them and nothing else has set them. Use a complete checkpoint."
        )
    module.load_state_dict(tensors, strict=False, assign=bool(meta))
    for first, *others in tied if meta else ():
        for name in others:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(first))
    return differ


def _check_real(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raises `FileProblem` for whole or complex numbers where the module computes with real ones."""
    needed = {name for name, value in module.state_dict().items() if value.is_floating_point()}
    other = [name for name, tensor in tensors.items() if name in needed and not tensor.is_floating_point()]
    if other:
        raise FileProblem(
            f"The checkpoint does not fit {type(module).__name__}: of its weights {len(other)} are no real numbers but "
            f"{tensors[other[0]].dtype} ({_few(other)}). It is damaged, or quantised in a way that is not read here: "
            "get it in float32, float16 or bfloat16."
        )


def empty(build: Callable[[], Net], advice: str = _DAMAGED) -> Net:
    """The net that `build` makes, without numbers (`core.hollow`).

    Raises `FileProblem` for sizes that make no net; `advice`: what may be done about it.
    """
    try:
        with hollow():
            return build()
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise FileProblem(f"The sizes that are told make no network: {why}. {advice}") from error


def filled(build: Callable[[], Net], tensors: Mapping[str, Tensor]) -> Net:
    """The net that `build` makes, with these tensors, in evaluation mode.

    Raises `FileProblem` for sizes that make no net, and for tensors that do not fit it.
    """
    net = empty(build)
    assign(net, tensors)
    return net.eval()


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)))
