"""LoRAs written for others: kohya's file, diffusers' file with its header, peft's folder.

Our names go back through the key map that the net's checkpoint is read with, and factors take the shape that the layer
has there (a 1x1 convolution has factors of four axes). kohya's form holds every kind of change; diffusers and peft
hold LoRA and DoRA, peft LoHa too. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.adapters.lora_factors import Factors, Full, LowRank, Rescaled, Shape
from huggingvis.adapters.lora_lycoris import Hadamard, Kronecker
from huggingvis.checkpoints.io import save
from huggingvis.checkpoints.lora_formats_fit import Host, layer_and_leaf
from huggingvis.checkpoints.lora_formats_names import Spelling
from huggingvis.checkpoints.lora_formats_settings import HEADER_KEY
from huggingvis.checkpoints.transforms import ConvToLinear, Identity
from huggingvis.core.errors import UsageError
from huggingvis.core.files import explain, write_atomically

Tensors = dict[str, Tensor]
Changes = Mapping[str, Factors]
Layers = list[tuple[str, str, Factors, Shape]]  # their layer, leaf, change, the tensor's shape


def write(
    path: Path | str,
    parts: Mapping[str, Changes],
    hosts: Mapping[str, Host],
    spelling: Spelling = Spelling.KOHYA,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write changes by our names, as `fit` gives them; returns the path: a file, or a folder for peft.

    `metadata`: strings for the header (trigger words, training). Raises `UsageError` for a change that the spelling
    cannot hold and for tensors that have no name of their own there.
    """
    path = Path(path)
    there = {part: _layers(changes, hosts[part]) for part, changes in parts.items() if changes}
    if not there:
        raise UsageError("There is no change to write: the LoRA is empty.")
    if spelling is Spelling.KOHYA:
        plain = {key: value for key, value in (metadata or {}).items() if key != HEADER_KEY}  # alphas are tensors here
        return save(path, _kohya(there, "text_encoder_2" in hosts), plain)
    if spelling is Spelling.DIFFUSERS:
        return _diffusers(path, there, metadata)
    if spelling is Spelling.PEFT:
        for part, layers in there.items():
            _peft(path if len(there) == 1 else path / part, layers, metadata)
        return path
    raise UsageError(f"LoRAs are not written in the spelling of {spelling.value}, which nobody needs: take another.")


def _layers(changes: Changes, host: Host) -> Layers:
    """Their layers, with factors in the shapes that these have there."""
    links = {link.ours: link for link in host.maps[0].links(changes)}
    plain = {ours[0]: link for ours, link in links.items() if len(ours) == len(link.theirs) == 1}
    out: Layers = []
    for name, factors in changes.items():
        link = plain.get(name)
        if link is None or not isinstance(link.transform, Identity | ConvToLinear):
            raise UsageError(f"The change of {name!r} cannot be written: that layer is stored in another layout there.")
        ours = torch.empty(host.shapes[name], device="meta")
        theirs = tuple(link.transform.to_theirs((ours,))[0].shape)
        out.append((*layer_and_leaf(link.theirs[0]), _shaped(factors, theirs), theirs))
    return out


def _shaped(factors: Factors, shape: Shape) -> Factors:
    """The factors with the axes of a kernel of this shape, where they lack them or have too many."""
    if len(shape) < 2:
        return factors
    ones = (1,) * (len(shape) - 2)
    match factors:
        case LowRank(mid=None):
            up = factors.up.reshape(*factors.up.shape[:2], *ones)
            down = factors.down.reshape(factors.rank, *shape[1:])
            return LowRank(up, down, None, factors.alpha)
        case Rescaled():
            lengths = factors.magnitude
            axis = 0 if lengths.shape[0] == lengths.numel() else 1
            kept = [1] * len(shape)
            kept[axis] = shape[axis]
            return Rescaled(_shaped(factors.of, shape), lengths.reshape(kept))
        case Full():
            return Full(factors.diff.reshape(shape))
    return factors


_KOHYA = {"up": "lora_up.weight", "down": "lora_down.weight", "mid": "lora_mid.weight", "diff": "diff"}


def _kohya(there: Mapping[str, Layers], two_towers: bool) -> Tensors:
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if two_towers else "lora_te",
                "text_encoder_2": "lora_te2", "transformer": "lora_transformer"}  # fmt: skip
    out: Tensors = {}
    for part, layers in there.items():
        if part not in prefixes:
            raise UsageError(f"kohya's files have no name for a part called {part!r}; they know {', '.join(prefixes)}.")
        for layer, leaf, factors, _ in layers:
            stem = f"{prefixes[part]}_{layer.replace('.', '_')}"
            if leaf == "bias":
                out[f"{stem}.diff_b"] = _whole(factors, layer).diff
            else:
                out |= {f"{stem}.{name}": x for name, x in _of_kohya(factors).items()}
    return out


def _whole(factors: Factors, layer: str) -> Full:
    if not isinstance(factors, Full):
        raise UsageError(f"The change of the bias of {layer!r} should be a whole difference, as files hold it.")
    return factors


def _of_kohya(factors: Factors) -> Tensors:
    if isinstance(factors, Rescaled):
        return _of_kohya(factors.of) | {"dora_scale": factors.magnitude}
    own = {field.name: getattr(factors, field.name) for field in fields(factors)}  # type: ignore[arg-type]
    alpha = own.pop("alpha", None)
    match factors:
        case Hadamard():
            named = {f"hada_{name}": x for name, x in own.items() if x is not None}
        case Kronecker():
            named = {f"lokr_{name}": x for name, x in own.items() if x is not None}
            alpha = _without_scale(factors, named)
        case _:
            named = {_KOHYA[name]: x for name, x in own.items() if x is not None}
    return named if alpha is None else named | {"alpha": torch.tensor(float(alpha))}


def _without_scale(factors: Kronecker, named: Tensors) -> float | None:
    """The alpha to write; programs that read two whole parts ignore it, so there it goes into the first of them."""
    if factors.whole and factors.scale != 1.0:
        named["lokr_w1"] = named["lokr_w1"] * factors.scale
    return None if factors.whole else factors.alpha


def _diffusers(path: Path, there: Mapping[str, Layers], metadata: Mapping[str, str] | None) -> Path:
    tensors: Tensors = {}
    header: dict[str, Any] = {}
    for part, layers in there.items():
        named, settings = _adapter(layers, "diffusers", (LowRank,))
        tensors |= {f"{part}.{name}": x for name, x in named.items()}
        header |= {f"{part}.{key}": value for key, value in settings.items()}
    said = json.dumps(header, indent=2, sort_keys=True)
    return save(path, tensors, {"format": "pt", **(metadata or {}), HEADER_KEY: said})


def _peft(folder: Path, layers: Layers, metadata: Mapping[str, str] | None) -> None:
    named, settings = _adapter(layers, "peft", (LowRank, Hadamard))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder, "write") from error
    tensors = {f"base_model.model.{name}": x for name, x in named.items()}
    save(folder / "adapter_model.safetensors", tensors, {"format": "pt", **(metadata or {})})
    text = (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
    write_atomically(folder / "adapter_config.json", lambda file: file.write(text))


def _adapter(layers: Layers, who: str, kinds: tuple[type[LowRank] | type[Hadamard], ...]) -> tuple[Tensors, Any]:
    """Tensors and settings of one part as peft has them: one method, one rank and alpha with exceptions by layer."""
    tensors: Tensors = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for layer, leaf, factors, _ in layers:
        inner = factors.of if isinstance(factors, Rescaled) else factors
        if leaf != "weight" or not isinstance(inner, kinds) or (isinstance(inner, LowRank) and inner.mid is not None):
            raise UsageError(
                f"The {type(inner).__name__} change of the {leaf} of {layer!r} has no place in a LoRA of {who}: write "
                "it in kohya's spelling, which holds every kind."
            )
        ranks[layer], alphas[layer] = inner.rank, float(inner.rank if inner.alpha is None else inner.alpha)
        tensors |= {f"{layer}.{name}": x for name, x in _of_peft(factors, inner).items()}
    methods = {(type(f), None) if not isinstance(f, Rescaled) else (type(f.of), "DoRA") for _, _, f, _ in layers}
    if len(methods) > 1:
        raise UsageError(
            f"A LoRA of {who} is of one method, but this mixes {len(methods)}: write it in kohya's spelling."
        )
    kind, rescaled = methods.pop()
    if kind is LowRank:
        usual = _usual(ranks, alphas, "lora_alpha")
        return tensors, usual | {"peft_type": "LORA", "bias": "none", "use_dora": bool(rescaled)}
    usual = _usual(ranks, alphas, "alpha")
    return tensors, usual | {"peft_type": "LOHA", "use_effective_conv2d": _around_cores(layers)}


def _around_cores(layers: Layers) -> bool:
    """Whether convolutions have LoHas around cores, which peft knows for all of them together."""
    cored = {
        change.t1 is not None for _, _, change, shape in layers if isinstance(change, Hadamard) and prod(shape[2:]) > 1
    }
    if len(cored) > 1:
        raise UsageError("peft has LoHas around cores in all convolutions or in none: write it in kohya's spelling.")
    return True in cored


def _of_peft(factors: Factors, inner: LowRank | Hadamard) -> Tensors:
    if isinstance(inner, Hadamard):
        if inner is not factors:
            raise UsageError("peft has no LoHa with DoRA's lengths: write it in kohya's spelling.")
        return {name: x for name, x in _of_kohya(inner).items() if name != "alpha"}
    named = {"lora_A.weight": inner.down, "lora_B.weight": inner.up}
    if isinstance(factors, Rescaled):
        lengths = factors.magnitude
        if lengths.shape[0] != lengths.numel():
            raise UsageError("peft and diffusers have DoRA's lengths for outputs only: write it in kohya's spelling.")
        named["lora_magnitude_vector"] = lengths.reshape(-1) if lengths.ndim == 2 else lengths.transpose(0, 1)
    return named


def _usual(ranks: Mapping[str, int], alphas: Mapping[str, float], alpha_key: str) -> dict[str, Any]:
    """The most frequent rank and alpha, and where others are."""
    rank, alpha = (Counter(table.values()).most_common(1)[0][0] for table in (ranks, alphas))
    return {
        "rank_pattern": {layer: r for layer, r in ranks.items() if r != rank},
        "alpha_pattern": {layer: _plain(a) for layer, a in alphas.items() if a != alpha},
        "target_modules": sorted(ranks), "r": rank, alpha_key: _plain(alpha),
    }  # fmt: skip


def _plain(alpha: float) -> int | float:
    return int(alpha) if alpha == int(alpha) else alpha
