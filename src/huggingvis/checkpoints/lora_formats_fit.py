"""A LoRA file's layers found in our nets, and its factors brought into their layout.

Which layer a name means is looked up in the key maps that the nets' checkpoints are read with: run over the names of a
net they give every name that a layer has elsewhere, with dots or with the underscores of kohya, whose ambiguity an
exact look-up does not have. Where a map moves numbers as well, the factors move with them. No number of a net is read,
so it may lie on the meta device, and a LoRA of another model is refused in one sentence. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.adapters.lora_factors import Factors, Full, LowRank, Rescaled, Shape
from huggingvis.checkpoints.keymap import KeyMap, Link
from huggingvis.checkpoints.lora_formats import LoraFile
from huggingvis.checkpoints.lora_formats_bases import WIDTHS, reading_width
from huggingvis.checkpoints.lora_formats_names import ORIGINAL, Address, address
from huggingvis.checkpoints.transforms import ConvToLinear, Identity, Split
from huggingvis.core.errors import FileProblem

_FUSED = re.compile(r"(.+)_(weight|bias)")
_STRAY = 2
"""Layers of another shape that a LoRA may have and still be one of this model: the first and last of a variant."""


@final
@dataclass(frozen=True)
class Host:
    """A net that LoRAs may sit on, and the key maps of the formats its layers have names in (diffusers first)."""

    net: nn.Module
    maps: tuple[KeyMap, ...]

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The net's tensors."""
        return {name: tuple(x.shape) for name, x in self.net.state_dict().items()}

    @cached_property
    def _names(self) -> tuple[dict[str, dict[str, Link]], dict[str, dict[str, Link]]]:
        """Their layer -> leaf -> what it is here; with dots, and with underscores (None of two that look alike)."""
        dotted: dict[str, dict[str, Link]] = {}
        for keymap in self.maps:
            for link in keymap.links(self.shapes):
                for name in link.theirs:
                    layer, leaf = layer_and_leaf(name.removeprefix(ORIGINAL))
                    dotted.setdefault(layer, {}).setdefault(leaf, link)
        for layer in [layer for layer in dotted if layer.startswith("text_model.")]:
            dotted.setdefault(layer.removeprefix("text_model."), dotted[layer])
        alike: dict[str, list[dict[str, Link]]] = {}
        for layer, leaves in dotted.items():
            alike.setdefault(layer.replace(".", "_"), []).append(leaves)
        return dotted, {layer: of[0] for layer, of in alike.items() if all(leaves == of[0] for leaves in of)}

    def find(self, layer: Address, leaf: str) -> Link | None:
        """What a file's layer is here, or None."""
        names = self._names[0] if layer.dotted else self._names[1]
        for path in (layer.path, layer.path.removeprefix("text_model" + ("." if layer.dotted else "_"))):
            if leaf in names.get(path, {}):
                return names[path][leaf]
        return None

    @property
    def reads(self) -> int | None:
        """The width of the text tokens its cross-attention reads."""
        weights = ((layer, leaves["weight"].ours[0]) for layer, leaves in self._names[0].items() if "weight" in leaves)
        return reading_width((layer, self.shapes[name][1]) for layer, name in weights if len(self.shapes[name]) > 1)


def layer_and_leaf(name: str) -> tuple[str, str]:
    """A tensor's name as layer and leaf: `a.b.weight`; fused `a.in_proj_weight`; a bare parameter is its own layer."""
    layer, _, leaf = name.rpartition(".")
    fused = _FUSED.fullmatch(leaf)
    if fused:
        return f"{layer}.{fused[1]}", fused[2]
    return (layer, leaf) if leaf in ("weight", "bias") else (name, "weight")


@final
@dataclass(frozen=True)
class Fitted:
    """`parts`: part -> name of our tensor -> change. `left`: why -> what did not apply."""

    parts: Mapping[str, Mapping[str, Factors]]
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def report(self) -> str:
        """What did not apply, in one paragraph; "" if everything did."""
        if not self.left:
            return ""
        applied = sum(len(changes) for changes in self.parts.values())
        total = applied + sum(map(len, self.left.values()))
        kinds = (f"{len(names)} {why} ({names[0]}{', ...' * (len(names) > 1)})" for why, names in self.left.items())
        return f"{applied} of {total} changes apply; left out are {'; '.join(kinds)}."


def fit(file: LoraFile, hosts: Mapping[str, Host]) -> Fitted:
    """The file's changes by our names. `hosts`: `unet`, `text_encoder`, `text_encoder_2`, ... as diffusers calls parts.

    Raises `FileProblem` if nothing applies, or if shapes show that it was made for another model.
    """
    parts: dict[str, dict[str, Factors]] = {part: {} for part in hosts}
    left: dict[str, list[str]] = {"that are no factors of a LoRA": list(file.unread)} if file.unread else {}
    strange: list[str] = []
    for name, factors in file.targets.items():
        layer, leaf = name.rpartition(".")[::2]
        where = address(layer)
        possible = hosts if where.part is None else {p: host for p, host in hosts.items() if p == where.part}
        found = next(((p, link) for p, host in possible.items() if (link := host.find(where, leaf))), None)
        if found is None:
            why = f"for layers that the {where.part or 'model'} here does not have"
            left.setdefault(why if possible else f"for a {where.part}, which is not here", []).append(layer)
            continue
        part, link = found
        shapes = [hosts[part].shapes[ours] for ours in link.ours]
        moved = moved_factors(factors, link, shapes)
        if moved is None:
            strange.append(layer)
        elif parts[part].keys() & set(link.ours):
            left.setdefault("for layers that the file changes under another name as well", []).append(layer)
        else:
            parts[part] |= dict(zip(link.ours, moved))
    applied = sum(map(len, parts.values()))
    asked, read = reading_width(file.inputs.items()), next(_widths(hosts), None)
    other = asked is not None and read is not None and asked != read
    if not applied or other or len(strange) > min(_STRAY, applied):
        raise _of_another_base(file, hosts, strange, left)
    if strange:
        left["of another shape than here"] = strange
    return Fitted(parts, {why: tuple(names) for why, names in left.items()})


def moved_factors(factors: Factors, link: Link, shapes: list[Shape]) -> tuple[Factors, ...] | None:
    """A change of their tensor as changes of ours; None if it is not of this shape, or depends on what was fused."""
    if isinstance(link.transform, Identity | ConvToLinear):
        return (factors,) if factors.fits(shapes[0]) else None
    if len(link.theirs) > 1:
        return None  # a part of what is one tensor here
    theirs = link.transform.to_theirs(tuple(torch.empty(shape, device="meta") for shape in shapes))[0]
    if not factors.fits(tuple(theirs.shape)):
        return None
    if isinstance(link.transform, Split) and link.transform.dim == 0:
        rows = _rows(factors, link.transform)
        if rows is not None:
            return rows
    if isinstance(factors, Rescaled):
        return None
    like = torch.empty(theirs.shape, device="meta", dtype=torch.float32)
    return tuple(map(Full, link.transform.to_ours((_dense(factors, like),))))


def _dense(factors: Factors, like: Tensor) -> Tensor:
    """The change itself, of a tensor that is known by its shape only."""
    return factors.delta(torch.zeros((), dtype=like.dtype).expand(like.shape))


def _rows(factors: Factors, split: Split) -> tuple[Factors, ...] | None:
    """Of a product, the factors of each part are rows of the first factor; so are lengths of outputs."""
    if isinstance(factors, LowRank) and factors.mid is None:
        return tuple(replace(factors, up=up) for up in split.to_ours((factors.up,)))
    if isinstance(factors, Rescaled) and factors.magnitude.shape[0] == factors.magnitude.numel():
        inner = _rows(factors.of, split)
        lengths = split.to_ours((factors.magnitude,))
        return None if inner is None else tuple(map(Rescaled, inner, lengths))
    return None


def _of_another_base(
    file: LoraFile, hosts: Mapping[str, Host], strange: list[str], left: Mapping[str, list[str]]
) -> FileProblem:
    what = f"for {file.base}" if file.base else "for a model that its names and metadata do not tell"
    width = next(_widths(hosts), None)
    here = f"{WIDTHS.get(width, 'one')} (text tokens {width} wide)" if width else f"one with {', '.join(hosts)}"
    if strange:
        fault = f"{len(strange)} of its {len(file.targets)} changes have other shapes here ({strange[0]} for one)"
    else:
        fault = "none of its changes has a place here: " + "; ".join(f"{len(of)} {why}" for why, of in left.items())
    return FileProblem(
        f"{file.path} is a LoRA made {what}, but the model is {here}: {fault}. Use it with the base it was made for."
    )


def _widths(hosts: Mapping[str, Host]) -> Iterator[int]:
    for host in hosts.values():
        if host.reads is not None:
            yield host.reads
