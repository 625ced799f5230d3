"""Single-file checkpoints of the Stable Diffusion family (`.safetensors .ckpt .pt`), read into our nets and written.

    parts = read_parts("model.safetensors", dtype=torch.bfloat16)
    write_single_file("copy.safetensors", parts)

Reading decides from the header what the file is (`single_file_detect`), compares every name and shape with the nets to
be filled, and only then reads tensors, one by one into their type; writing puts them back under the same names.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from huggingvis.checkpoints import ldm_autoencoder, ldm_unet
from huggingvis.checkpoints.assign import assign, empty
from huggingvis.checkpoints.diffusers_unet_config import same_net
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.inspect import Facts, inspect
from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.checkpoints.single_file_detect import UNTOLD, detect, layout_of, look
from huggingvis.checkpoints.single_file_family import CONV_HEADS, FAMILY, LINEAR_HEAD_DIM
from huggingvis.checkpoints.single_file_layout import NOTHING, AutoencoderLayout, Layout, Said, UNetLayout
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.nets.autoencoder_kl import AutoencoderKL
from huggingvis.nets.unet import UNet

__all__ = ["Layout", "Parts", "Said", "detect", "look", "parts_of", "read_parts", "write_single_file"]

Tensors = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]
Net = TypeVar("Net", bound=nn.Module)


@dataclass
class Parts:
    """What a file holds, read. `towers`: the tensors of each text tower under their full names; `extra` likewise."""

    layout: Layout
    unet: UNet | None = None
    autoencoder: AutoencoderKL | None = None
    towers: dict[str, Tensors] = field(default_factory=dict)
    extra: Tensors = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def read_parts(
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    said: Said = NOTHING,
    channels_last: bool = False,
    autoencoder_alone: bool = False,
) -> Parts:
    """The nets in a file, in evaluation mode, and its other tensors.

    `dtype`: of the nets and towers; None keeps the file's, but 8-bit floats, with which nothing computes, become
    bfloat16. `extra` keeps its own. `channels_last`: as in `io.load`. `autoencoder_alone`: the others stay unread.
    Raises `FileProblem` for everything wrong with the file, before a net is filled.
    """
    facts = inspect(path)
    layout = layout_of(facts, said)
    if autoencoder_alone:
        layout = replace(layout, unet=None, towers={}, extra=())
    unet: UNet | None = None
    autoencoder: AutoencoderKL | None = None
    nets: dict[str, tuple[nn.Module, KeyMap]] = {}
    if (where := layout.unet) is not None:
        keymap = ldm_unet.keymap(where.config, linear=where.linear, prefix=where.prefix)
        unet = _fitting(facts, layout, "unet", partial(UNet, where.config), keymap)
        nets["unet"] = unet, keymap
    if (there := layout.autoencoder) is not None:
        keymap = ldm_autoencoder.keymap(there.config, linear=there.linear, prefix=there.prefix)
        autoencoder = _fitting(facts, layout, "autoencoder", partial(AutoencoderKL, there.config), keymap)
        nets["autoencoder"] = autoencoder, keymap
    kind = torch.bfloat16 if dtype is None and layout.eight_bit else dtype
    loaded = load(
        facts.path,
        dtype=kind,
        device=device,
        wanted=lambda name: layout.part_of(name) != "",
        channels_last=channels_last,
    )
    parts: dict[str, Tensors] = {part: {} for part in ("unet", "autoencoder", *layout.towers)}
    for name in list(loaded):
        parts[layout.part_of(name)][name] = loaded.pop(name)
    for part, (net, keymap) in nets.items():
        assign(net, keymap.consume(parts[part]))
        net.eval()
    kept = set(layout.extra)
    extra = load(facts.path, wanted=lambda name: name in kept) if kept else {}
    towers = {part: parts[part] for part in layout.towers}
    return Parts(layout, unet, autoencoder, towers, extra, dict(facts.metadata))


def _fitting(facts: Facts, layout: Layout, part: str, build: Callable[[], Net], keymap: KeyMap) -> Net:
    """The net without numbers, once all that the file has for it fits. Raises `FileProblem`."""
    advice = f"Say the `groups` and `heads` of its {part} if you know them; if not, the file is damaged: get it again."
    with about(facts.path):
        net = empty(build, advice)
    needed = {name: tuple(x.shape) for name, x in keymap.to_theirs(net.state_dict()).items()}
    found = {name: fact.shape for name, fact in facts.tensors.items() if layout.part_of(name) == part}
    differ = _differences(needed, found)
    if differ:
        raise FileProblem(
            f"{facts.path} begins like {layout.title}, but its {part} differs: {differ}. The file is damaged, cut "
            "short, or a variant of another build: get it again, or another version of it."
        )
    return net


def _differences(needed: Shapes, found: Shapes) -> str:
    """How many tensors are missing, unexpected or of another shape, with one example of each; empty for none."""
    shaped = [f"{n} {list(found[n])}, not {list(needed[n])}" for n in needed if n in found and found[n] != needed[n]]
    kinds = (
        ("missing", [name for name in needed if name not in found]),
        ("unexpected", [name for name in found if name not in needed]),
        ("of another shape", shaped),
    )
    return "; ".join(f"{len(names)} {kind} ({names[0]:.120})" for kind, names in kinds if names)


def parts_of(
    unet: UNet | None = None,
    autoencoder: AutoencoderKL | None = None,
    *,
    towers: Mapping[str, Tensors] | None = None,
    prediction: str = "epsilon",
    linear: bool | None = None,
) -> Parts:
    """Nets that did not come from a single file, as parts to be written.

    `towers`: their tensors under the full names that they shall have. `linear`: the U-Net's projections are written as
    linear layers; None: as in the member of the family that has its sizes. Raises `UsageError` for a net that this
    layout has no names for.
    """
    unet_layout = autoencoder_layout = None
    if unet is not None:
        sizes = (unet.config.tokens_dim, unet.config.vector_dim)
        known = next((row.linear for row in FAMILY if (row.tokens_dim, row.vector_dim) == sizes), True)
        unet_layout = UNetLayout(ldm_unet.PREFIX, unet.config, known if linear is None else linear)
    if autoencoder is not None:
        autoencoder_layout = AutoencoderLayout(ldm_autoencoder.PREFIX, autoencoder.config, False)
    said = prediction if unet is not None else ""
    layout = Layout("parts", unet=unet_layout, autoencoder=autoencoder_layout, prediction=said, predicted=True)
    parts = Parts(layout, unet, autoencoder, {part: dict(x) for part, x in (towers or {}).items()})
    parts.layout = _read_back(parts, _tensors(parts))
    return parts


def write_single_file(path: Path | str, parts: Parts, metadata: Mapping[str, str] | None = None) -> Path:
    """Write `parts` in the names that they were read under, as safetensors; returns the path.

    The file's metadata is kept, with what its shapes do not tell and `metadata` added. Raises `UsageError` for nets
    that the layout has no names for, `FileProblem` where the system refuses.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"Checkpoints are written as .safetensors, which cannot carry programs; found {path.name!r}.")
    tensors = _tensors(parts)
    layout = _read_back(parts, tensors)
    return save(path, tensors, {**_metadata(parts, layout), **(metadata or {})})


def _tensors(parts: Parts) -> Tensors:
    """All tensors under their names in the file."""
    out = dict(parts.extra)
    if parts.unet is not None and parts.layout.unet is not None:
        where = parts.layout.unet
        keymap = ldm_unet.keymap(parts.unet.config, linear=where.linear, prefix=where.prefix)
        out |= _named(keymap, parts.unet)
    if parts.autoencoder is not None and parts.layout.autoencoder is not None:
        there = parts.layout.autoencoder
        out |= _named(
            ldm_autoencoder.keymap(parts.autoencoder.config, linear=there.linear, prefix=there.prefix),
            parts.autoencoder,
        )
    for tensors in parts.towers.values():
        out |= tensors
    return out


def _named(keymap: KeyMap, net: nn.Module) -> Tensors:
    try:
        return keymap.to_theirs(net.state_dict())
    except FileProblem:
        raise _nameless(net) from None


def _nameless(net: nn.Module) -> UsageError:
    return UsageError(
        f"This {type(net).__name__} has sizes or settings that single files of Stable Diffusion have no names for. "
        "Save it as a diffusers folder or in this library's own format instead."
    )


def _read_back(parts: Parts, tensors: Tensors) -> Layout:
    """What a reader will take `tensors` for; it must be the nets they are of. Raises `UsageError`."""
    facts = {name: TensorFact(str(x.dtype), tuple(x.shape)) for name, x in tensors.items()}
    try:
        layout = detect(facts, parts.metadata, _said(parts))
    except FileProblem:
        if parts.unet is None and parts.autoencoder is None:
            raise UsageError("A single file needs a U-Net or an autoencoder; these parts have neither.") from None
        raise _nameless(parts.unet or parts.autoencoder or nn.Identity()) from None
    if parts.unet is not None and not (layout.unet and same_net(layout.unet.config, parts.unet.config)):
        raise _nameless(parts.unet)
    if parts.autoencoder is not None and not (
        layout.autoencoder and layout.autoencoder.config == parts.autoencoder.config
    ):
        raise _nameless(parts.autoencoder)
    return layout


def _said(parts: Parts) -> Said:
    """What the shapes of these nets do not tell."""
    heads = groups = dim = prediction = autoencoder_groups = None
    if parts.unet is not None:
        c = parts.unet.config
        dim, heads, groups = (c.head_dim, None, c.groups) if c.head_dim else (None, c.heads, c.groups)
        prediction = parts.layout.prediction if parts.layout.predicted else None
    if parts.autoencoder is not None:
        autoencoder_groups = parts.autoencoder.config.groups
    return Said(prediction, heads, dim, groups, autoencoder_groups)


def _metadata(parts: Parts, layout: Layout) -> dict[str, str]:
    kept = {key: value for key, value in parts.metadata.items() if key not in ("modelspec.hash_sha256", UNTOLD)}
    out = {"format": "pt", **kept}
    if layout.member is not None and layout.member.architecture:
        wide = "-768-v" if layout.member.unsure and layout.prediction == "v" else ""
        out.setdefault("modelspec.sai_model_spec", "1.0.1")
        out.setdefault("modelspec.architecture", layout.member.architecture + wide)
    if layout.predicted and layout.prediction in ("epsilon", "v"):
        out["modelspec.prediction_type"] = layout.prediction
    usual: dict[str, object] = {"groups": 32, "autoencoder_groups": 32, "prediction": layout.prediction}
    if layout.unet is not None:
        usual |= {"head_dim": LINEAR_HEAD_DIM} if layout.unet.linear else {"heads": CONV_HEADS}
    untold = {k: v for k, v in asdict(_said(parts)).items() if v is not None and usual.get(k) != v}
    return out | ({UNTOLD: json.dumps(untold)} if untold else {})
