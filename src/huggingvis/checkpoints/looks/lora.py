"""A LoRA in any spelling: also LoHa, LoKr, DoRA and full differences, and the methods that are not computed here.

Which layers it changes, by which method, rank and alpha, and for which base, is told from its header; only its alphas,
a number each, are read. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.bases import Base, base_of
from huggingvis.checkpoints.embedding_names import BUNDLE
from huggingvis.checkpoints.formats import Format, read_numbers
from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.lora_formats_bases import made_for, reading_width
from huggingvis.checkpoints.lora_formats_names import (
    PARTS,
    WEIGHTS,
    address,
    factor_of,
    refuse_strangers,
    spelling_of,
    stranger,
)
from huggingvis.checkpoints.lora_formats_settings import HEADER_KEY, Settings, from_header, read_settings
from huggingvis.checkpoints.report import listed
from huggingvis.checkpoints.single_file_family import unet_prefix
from huggingvis.checkpoints.training_notes import plain
from huggingvis.core.errors import FileProblem

Shape = tuple[int, ...]
_METHODS = (("hada_", "LoHa"), ("lokr_", "LoKr"), ("magnitude", "DoRA"), ("lengths", "DoRA"), ("down", "LoRA"),
            ("diff", "full differences"))  # fmt: skip
_TOWERS = {768: 768, 1024: 1024, 1280: 2048}
"""Width of a text tower -> width of the text tokens of the base that has it."""
NAMES = {"unet": "U-Net", "text_encoder": "text encoder", "text_encoder_2": "second text encoder",
         "transformer": "transformer", "": "layers"}  # fmt: skip


@final
class _LoRA(Kind):
    name, title, rank, adapter = "lora", "a LoRA", 50, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return bool(_files(subject.path))
        if unet_prefix(subject.tensors) is not None:
            return False
        roles = {found[1] for name in subject.tensors if (found := factor_of(name)) is not None}
        return bool(roles - {"alpha"}) or any(stranger(name) for name in subject.tensors if _adapts(name))

    def tell(self, subject: Subject) -> Told:
        layers = _Layers()
        for part, file in _files(subject.path) if subject.is_folder else [("", subject.path)]:
            inner = Subject(file) if subject.is_folder else subject
            try:
                refuse_strangers(inner.tensors, inner.path.name)
            except FileProblem as error:
                return Told("an adapter of another method than LoRA", refused=str(error), sentences=(str(error),))
            layers.add(inner, part)
        return layers.told()


def _files(folder: Path) -> list[tuple[str, Path]]:
    """(part, file) of a folder as peft and diffusers write it."""
    for parts in (("",), PARTS):
        found = [(part, folder / part / name) for part in parts for name in WEIGHTS]
        there = {part: file for part, file in reversed(found) if file.is_file()}
        if there:
            return list(reversed(there.items()))
    return []


def _adapts(name: str) -> bool:
    """Whether a name is of an adapter's tensor: as LoRAs' are, it begins with the part that is changed."""
    return address(name).part is not None or name.startswith(("lycoris_", "oft_", "base_model.model.", "lora_control"))


@final
@dataclass
class _Part:
    """What is changed of one part: number of layers, and how many have which rank and alpha."""

    layers: int = 0
    ranks: Counter[int] = field(default_factory=Counter)
    alphas: Counter[float] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {"layers": self.layers, "ranks": _counts(self.ranks), "alphas": _counts(self.alphas)}

    @property
    def sentence(self) -> str:
        rank = f", rank {_span(self.ranks)}" if self.ranks else ""
        whole = not self.alphas or (len(self.ranks) == len(self.alphas) == 1 and [*self.ranks] == [*self.alphas])
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return f"{layers}{rank}" + ("" if whole else f", alpha {_span(self.alphas)}")


def _counts(values: Counter[Any]) -> dict[str, int]:
    return {f"{value:g}": count for value, count in sorted(values.items())}


def _span(values: Counter[Any]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


class _Layers:
    """The layers of all files of a LoRA."""

    def __init__(self) -> None:
        self.parts: dict[str, _Part] = {}
        self.inputs: dict[str, int] = {}
        self.methods: set[str] = set()
        self.names: list[str] = []
        self.unread: list[str] = []
        self.bundled: set[str] = set()
        self.kernels = False
        self.metadata: Mapping[str, str] = {}

    def add(self, subject: Subject, part: str) -> None:
        """The layers of a file, of this part where the file does not say it."""
        self.metadata = {**subject.metadata, **self.metadata}
        groups: dict[str, dict[str, Shape]] = {}
        alphas: dict[str, str] = {}
        for name, fact in subject.tensors.items():
            found = factor_of(name)
            if found is None:
                (self.bundled.add(name.split(".")[1]) if name.startswith(BUNDLE) else self.unread.append(name))
                continue
            self.names.append(name)
            groups.setdefault(found[0], {})[found[1]] = fact.shape
            if found[1] == "alpha":
                alphas[found[0]] = name
        numbers = _numbers(subject, set(alphas.values()))
        said = _said(subject)
        for layer, shapes in groups.items():
            where = address(layer)
            of = self.parts.setdefault(where.part or part, _Part())
            of.layers += 1
            rank = _rank(shapes)
            if rank is not None:
                of.ranks[rank] += 1
            alpha = numbers.get(alphas.get(layer, ""), said.alpha(where, rank) if layer not in alphas else None)
            if alpha is not None:
                of.alphas[round(alpha, 4)] += 1
            self.inputs[f"{part}.{layer}" if part else layer] = _width(shapes)
            self.methods |= {method for sign, method in _METHODS if any(role.startswith(sign) for role in shapes)}
            self.kernels |= any(len(shape) == 4 and shape[-1] > 1 for shape in shapes.values())

    def told(self) -> Told:
        methods = self.methods - ({"LoRA"} if "DoRA" in self.methods else set())
        called = " and ".join(sorted(methods)) or "LoRA"
        called = "LoRA that also changes convolutions (LoCon)" if called == "LoRA" and self.kernels else called
        spelling = spelling_of(self.names)
        changes = "; ".join(f"{NAMES.get(part, part)}: {of.sentence}" for part, of in self.parts.items())
        sentences = [f"It is in the spelling of {spelling.value} and changes {changes}."]
        base = self._base()
        if base is None:
            said = plain(made_for(self.inputs, self.metadata), 60)
            told = f"; its maker's notes say {said!r}" if said else ""
            sentences.append(f"Which base it was made for, its shapes do not tell{told}.")
        if self.bundled:
            sentences.append(f"It brings embeddings along: {listed(sorted(map(plain, self.bundled)))}.")
        if self.unread:
            some = plain(listed(self.unread, 2))
            are = "is" if len(self.unread) == 1 else "are"
            sentences.append(f"{len(self.unread)} of its tensors {are} no part of a LoRA and {are} not used ({some}).")
        facts = {
            "spelling": spelling.value,
            "methods": sorted(methods),
            "parts": {part or "layers": of.as_json() for part, of in self.parts.items()},
        }
        article = "full differences (a LoRA without a rank)" if called == "full differences" else f"a {called}"
        return Told(article, base, tuple(sentences), facts, tuple(sorted(self.bundled)))

    def _base(self) -> Base | None:
        width = reading_width(self.inputs.items())
        if width is not None:
            return base_of(width)
        family = made_for(self.inputs, {})
        if family:
            return Base(family, foreign=True)
        if any(layer.startswith(("lora_te2_", "text_encoder_2.")) for layer in self.inputs):
            return base_of(2048)
        own = [layer for layer in self.inputs if "self_attn" in layer and layer.startswith(("lora_te_", "text_"))]
        towers = {self.inputs[layer] for layer in own}
        tower = towers.pop() if len(towers) == 1 else 0
        return base_of(_TOWERS[tower]) if tower in _TOWERS else None


def _numbers(subject: Subject, names: set[str]) -> dict[str, float]:
    """The alphas of a file; none of one that only a hub has."""
    if not names or subject.is_remote:
        return {}
    if subject.format is Format.SAFETENSORS:
        return read_numbers(subject.path, subject.header, names)
    from huggingvis.checkpoints.io import load

    return {name: float(x) for name, x in load(subject.path, wanted=names.__contains__).items() if x.numel() == 1}


def _said(subject: Subject) -> Settings:
    beside = subject.path.parent / "adapter_config.json"
    if subject.path.name.startswith("adapter_model.") and beside.is_file():
        return read_settings(beside)
    return from_header(subject.metadata.get(HEADER_KEY), subject.path)


def _rank(shapes: Mapping[str, Shape]) -> int | None:
    """The rank that a change's factors have, None for one that has none."""
    for role, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
        if len(shapes.get(role, ())) > axis:
            return shapes[role][axis]
    return None


def _width(shapes: Mapping[str, Shape]) -> int:
    """Channels of a layer's input, 0 where no shape tells."""
    for role in ("down", "hada_w1_b", "diff"):
        if len(shapes.get(role, ())) > 1:
            return shapes[role][1]
    firsts, seconds = ([shapes[role] for role in roles if role in shapes] for roles in (_FIRST, _SECOND))
    sides = [shape[1] for group in (firsts, seconds) for shape in group if len(shape) > 1]
    return sides[0] * sides[1] if len(sides) == 2 else 0


_FIRST, _SECOND = ("lokr_w1", "lokr_w1_b"), ("lokr_w2", "lokr_w2_b")
KIND = _LoRA()
