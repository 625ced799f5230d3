"""What the kinds of nets share: parts of diffusers' folders, their files by precision, and bases told from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.bases import Base, base_of
from huggingvis.checkpoints.formats import Format, TensorFact, read_header, sniff
from huggingvis.checkpoints.hub_files import WEIGHTS
from huggingvis.checkpoints.json_files import read_json
from huggingvis.checkpoints.kinds import Subject
from huggingvis.checkpoints.lora_formats_bases import reading_width
from huggingvis.checkpoints.report import counted
from huggingvis.core.errors import FileProblem

PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64", "F8_E4M3": "fp8", "F8_E5M2": "fp8"}


def weights_in(subject: Subject, part: str = "") -> dict[str, dict[str, Any]]:
    """The weights in a folder or its part, by precision variant and format: bytes, and of safetensors types."""
    found: dict[str, dict[str, Any]] = {}
    for name, size in subject.files(part).items():
        match = WEIGHTS.fullmatch(name)
        if match is None or name.endswith(".index.json"):
            continue
        row = found.setdefault(f"{match['before'] or match['after'] or 'main'}, {match['format']}", {"bytes": 0})
        row["bytes"] += size
        path = subject.path / part / name
        if path.is_file() and sniff(path) is Format.SAFETENSORS:
            told = counted(read_header(path).tensors)
            row["numbers"] = row.get("numbers", 0) + told["numbers"]
            row["dtypes"] = list(dict.fromkeys([*row.get("dtypes", []), *told["dtypes"]]))
    return found


def unet_base(settings: Mapping[str, Any]) -> Base | None:
    """The base that a diffusers U-Net's (or ControlNet's) settings are of."""
    tokens = settings.get("cross_attention_dim")
    if isinstance(tokens, list) and len(set(map(str, tokens))) == 1:
        tokens = tokens[0]
    vector = settings.get("projection_class_embeddings_input_dim") or 0
    return base_of(tokens, vector) if type(tokens) is int and type(vector) is int else None


def base_by_shapes(tensors: Mapping[str, TensorFact]) -> Base | None:
    """The base of a net by the width of the text tokens that it reads."""
    widths = ((name.removesuffix(".weight"), fact.shape[-1]) for name, fact in tensors.items() if len(fact.shape) == 2)
    width = reading_width(widths)
    return None if width is None else base_of(width)


def channels(settings: Mapping[str, Any], tensors: Mapping[str, TensorFact]) -> int | None:
    """What a U-Net sees: 4 channels of latents, 9 to inpaint, 8 to follow instructions."""
    told = settings.get("in_channels")
    if type(told) is int:
        return told
    fact = next((tensors[n] for n in ("conv_in.weight", "unet.conv_in.weight") if n in tensors), None)
    return fact.shape[1] if fact is not None and len(fact.shape) == 4 else None


VARIANTS = {9: " for inpainting (it sees 9 channels)", 8: " of instruct-pix2pix (it sees 8 channels)",
            5: " with depth (it sees 5 channels)"}  # fmt: skip


def settings_of(subject: Subject, name: str) -> Mapping[str, Any]:
    """The settings of a part of a pipeline, empty where they are not here."""
    for file in ("config.json", "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (subject.path / name / file).is_file():
            return read_json(subject.path / name / file)
    return {}


def refusal(error: FileProblem, path: Path) -> str:
    """The reason in an error, without the path at its head."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
