"""LoRA files of every spelling: kohya and LyCORIS, peft, diffusers new and old.

`read` gives what a file says, under its own names; `lora_formats_fit.fit` finds the layers of our nets these mean;
`lora_formats_write.write` is the way back. Nothing in a file is executed, and every tensor is accounted for: a change
with a part missing is damage, a method that is not computed here is refused by name, what is no LoRA is counted.
Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from torch import Tensor

from huggingvis.adapters.lora_factors import Factors, Full, LowRank, Rescaled
from huggingvis.adapters.lora_lycoris import Hadamard, Kronecker
from huggingvis.checkpoints.formats import Format, read_header, sniff
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.lora_formats_bases import made_for
from huggingvis.checkpoints.lora_formats_names import (
    PARTS,
    WEIGHTS,
    Spelling,
    address,
    factor_of,
    refuse_strangers,
    spelling_of,
)
from huggingvis.checkpoints.lora_formats_settings import HEADER_KEY, Settings, from_header, read_settings
from huggingvis.core.errors import FileProblem

__all__ = ["LoraFile", "Spelling", "read"]


@final
@dataclass(frozen=True)
class LoraFile:
    """What a file says. `targets`: the name of the tensor changed, as the file spells its layer -> the change of it."""

    path: Path
    targets: Mapping[str, Factors]
    spelling: Spelling
    metadata: Mapping[str, str]
    unread: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The model it was made for, in words; "" where nothing tells."""
        return made_for(self.inputs, self.metadata)

    @property
    def inputs(self) -> dict[str, int]:
        """Layer -> how many channels its input has, where the change tells it."""
        named = {name.removesuffix(".weight"): _inputs(factors) for name, factors in self.targets.items()}
        return {name: many or 0 for name, many in named.items()}


def _inputs(factors: Factors) -> int | None:
    match factors:
        case LowRank(down=x) | Hadamard(w1_b=x):
            return x.shape[1]
        case Full(diff=x) if x.ndim > 1:
            return x.shape[1]
        case Kronecker():
            return factors.inputs
        case Rescaled():
            return _inputs(factors.of)
    return None


Groups = dict[str, dict[str, Tensor]]  # layer -> factor -> tensor


def read(path: Path | str) -> LoraFile:
    """The LoRA in a file, or in a folder as peft and diffusers write it.

    Raises `FileProblem` for damage, strangers and files without a LoRA, `NumericalTrouble` for NaN and infinity.
    """
    path = Path(path)
    if path.is_dir():
        inside = [folder for part in PARTS if (folder := path / part).is_dir()]
        here = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
        if here is None and inside:
            return _together(path, {folder.name: read(folder) for folder in inside})
        if here is None:
            raise FileProblem(f"{path} holds no LoRA: expected one of {', '.join(WEIGHTS)}. Name the file inside.")
        path = here
    tensors = load(path, check=True)
    metadata = dict(read_header(path).metadata) if sniff(path) is Format.SAFETENSORS else {}
    beside = path.parent / "adapter_config.json"
    if path.name.startswith("adapter_model.") and beside.is_file():
        said = read_settings(beside)
    else:
        said = from_header(metadata.get(HEADER_KEY), path)
    refuse_strangers(tensors, str(path))
    return _built(path, tensors, metadata, said)


def _together(path: Path, files: Mapping[str, LoraFile]) -> LoraFile:
    """One LoRA of several parts, from a folder for each."""
    targets = {f"{part}.{name}": factors for part, file in files.items() for name, factors in file.targets.items()}
    first = next(iter(files.values()))
    unread = tuple(f"{part}.{name}" for part, file in files.items() for name in file.unread)
    return LoraFile(path, targets, first.spelling, first.metadata, unread)


def _built(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], said: Settings) -> LoraFile:
    groups: Groups = {}
    unread = []
    for name, tensor in tensors.items():
        found = factor_of(name)
        if found is None:
            unread.append(name)
        elif groups.setdefault(found[0], {}).setdefault(found[1], tensor) is not tensor:
            raise FileProblem(f"{path} holds {found[1]} of {found[0]!r} twice, in two spellings. Get it again.")
    targets: dict[str, Factors] = {}
    for layer, group in groups.items():
        targets |= _changes(path, layer, group, said)
    if not targets:
        few = ", ".join(list(tensors)[:3])
        raise FileProblem(
            f"{path} should be a LoRA, but none of its {len(tensors)} tensors is a factor of one ({few}, ...). It may "
            "be a whole model or an embedding: give it where these go."
        )
    names = [name for name in tensors if name not in set(unread)]
    return LoraFile(path, targets, spelling_of(names), metadata, tuple(unread))


_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


def _changes(path: Path, layer: str, group: dict[str, Tensor], said: Settings) -> dict[str, Factors]:
    """The changes of a layer's weight and bias from its tensors, all of which must find their use."""
    left = dict(group)
    try:
        alpha = _number(left.pop("alpha")) if "alpha" in left else None
        if "lengths" in left:  # peft: of outputs, [O] or of a convolution [1, O, 1, 1]
            left.setdefault("magnitude", left.pop("lengths").reshape(-1))
        made = _weight(left)
        if made is not None and not isinstance(made, Full):
            whole = isinstance(made, Kronecker) and made.whole  # which LyCORIS scales by nothing, whatever its alpha
            told = said.alpha(address(layer), None if whole else made.rank)
            made = replace(made, alpha=told if alpha is None or whole else alpha)
        out: dict[str, Factors] = {}
        if "up_bias" in left and isinstance(made, LowRank):
            out[f"{layer}.bias"] = Full(left.pop("up_bias").float() * made.scale)
        if "diff_b" in left:
            out[f"{layer}.bias"] = Full(left.pop("diff_b"))
        if made is not None:
            scaled = "magnitude" in left
            out[f"{layer}.weight"] = Rescaled(made, left.pop("magnitude")) if scaled else made
        if left:
            raise ValueError(f"{', '.join(left)} without the tensors that belong with it")
        if not out:
            raise ValueError("alpha without factors")
    except ValueError as error:
        raise FileProblem(
            f"{path} has a damaged change of the layer {layer!r}: {error}. Download the file again, or ask its maker "
            "for a complete one."
        ) from error
    return out


def _number(alpha: Tensor) -> float:
    value = float(alpha) if alpha.numel() == 1 else math.nan
    if not math.isfinite(value):
        raise ValueError(f"alpha should be one number, found shape {list(alpha.shape)}")
    return value


def _weight(left: dict[str, Tensor]) -> LowRank | Hadamard | Kronecker | Full | None:
    """The change of the weight, without its scale; what it uses leaves `left`."""
    bad = [role for role, x in left.items() if not x.is_floating_point() or x.numel() == 0]
    if bad:
        raise ValueError(f"{bad[0]} of type {left[bad[0]].dtype} and shape {list(left[bad[0]].shape)}")
    if "down" in left and "up" in left:
        return _low_rank(left.pop("up"), left.pop("down"), left.pop("mid", None))
    if all(role in left for role in _HADA):
        one, two, three, four = (left.pop(role) for role in _HADA)
        return _hadamard((one, two, three, four), left.pop("hada_t1", None), left.pop("hada_t2", None))
    lokr = {role.removeprefix("lokr_"): left.pop(role) for role in list(left) if role.startswith("lokr_")}
    if lokr:
        return _kronecker(lokr)
    return Full(left.pop("diff")) if "diff" in left else None


def _matching(inner: int, other: int, what: str) -> None:
    if inner != other:
        raise ValueError(f"ranks {inner} and {other} of {what} differ")


def _low_rank(up: Tensor, down: Tensor, mid: Tensor | None) -> LowRank:
    if up.ndim < 2 or down.ndim < 2 or up[0].numel() != up.shape[1]:
        raise ValueError(f"factors of shapes {list(up.shape)} and {list(down.shape)}")
    _matching(up.shape[1], down.shape[0] if mid is None else mid.shape[0], "its factors")
    if mid is not None:
        _matching(mid.shape[1], down.shape[0], "its core")
    return LowRank(up, down, mid)


def _hadamard(four: tuple[Tensor, Tensor, Tensor, Tensor], t1: Tensor | None, t2: Tensor | None) -> Hadamard:
    if any(x.ndim < 2 for x in four) or (t1 is None) != (t2 is None):
        raise ValueError("a Hadamard product of other parts than four matrices, and two cores or none")
    for a, b, t in ((four[0], four[1], t1), (four[2], four[3], t2)):
        _matching(a.shape[1] if t is None else a.shape[0], b.shape[0], "a Hadamard product")
        if t is not None and tuple(t.shape[:2]) != (a.shape[0], b.shape[0]):
            raise ValueError(f"a core of shape {list(t.shape)}")
    return Hadamard(four[0], four[1], four[2], four[3], t1, t2)


def _kronecker(parts: dict[str, Tensor]) -> Kronecker:
    for which in ("w1", "w2"):
        halves = [f"{which}_a" in parts, f"{which}_b" in parts]
        if halves[0] != halves[1] or halves[0] == (which in parts):
            raise ValueError(f"a Kronecker product whose part {which} is neither whole nor two factors")
    if any(x.ndim < 2 for x in parts.values()) or ("t2" in parts and "w2_a" not in parts):
        raise ValueError("a Kronecker product of other parts than matrices")
    if "w1_a" in parts:
        _matching(parts["w1_a"].shape[1], parts["w1_b"].shape[0], "a Kronecker product")
    if "w2_a" in parts:
        a, b = parts["w2_a"], parts["w2_b"]
        _matching(a.shape[0 if "t2" in parts else 1], b.shape[0], "a Kronecker product")
        if "t2" in parts and tuple(parts["t2"].shape[:2]) != (a.shape[0], b.shape[0]):
            raise ValueError(f"a core of shape {list(parts['t2'].shape)}")
    get = parts.get
    return Kronecker(get("w1"), get("w1_a"), get("w1_b"), get("w2"), get("w2_a"), get("w2_b"), get("t2"))
