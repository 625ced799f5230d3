"""The settings that peft keeps beside an adapter, and diffusers in its header: what alpha each layer has.

`adapter_config.json` beside `adapter_model.safetensors`, or `lora_adapter_metadata` in the header of
`pytorch_lora_weights.safetensors`, with a table for each part. Only what changes the numbers is read; settings that
make a file something else than a sum with the base's weights are refused by name. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.lora_formats_names import Address
from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain

HEADER_KEY = "lora_adapter_metadata"
METHODS = ("LORA", "LOHA", "LOKR")

Json = Mapping[str, Any]

_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin a training that take a part out of the base's weights, which a file of factors alone does not hold."""


@final
@dataclass(frozen=True)
class Settings:
    """Tables of settings by part; the part "" stands for all."""

    parts: Mapping[str, Json] = field(default_factory=dict)

    def alpha(self, layer: Address, rank: int | None) -> float | None:
        """What stands for alpha in alpha / rank; rank None: alpha / rank itself, of a change that has no rank."""
        said = self.parts.get(layer.part or "", self.parts.get(""))
        if said is None:
            return None
        alpha = _of_layer(said, "alpha_pattern", layer.path, said.get("lora_alpha", said.get("alpha")))
        if alpha is None:
            return None
        if rank is None:
            return alpha / (_of_layer(said, "rank_pattern", layer.path, said.get("r")) or 1.0)
        return alpha * sqrt(rank) if said.get("use_rslora") else alpha


def _of_layer(said: Json, table: str, path: str, default: Any) -> float | None:
    for pattern, value in (said.get(table) or {}).items():
        literal = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if path == literal or path.endswith(f".{literal}"):
            return float(value)
    return None if default is None else float(default)


def read_settings(path: Path) -> Settings:
    """An `adapter_config.json`. Raises `FileProblem`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise explain(error, path, "read") if isinstance(error, OSError) else _no_table(path) from error
    return Settings({"": _checked(_table(text, path), path)})


def from_header(text: str | None, path: Path) -> Settings:
    """The settings in a safetensors header, where it has some. Raises `FileProblem`."""
    if not text:
        return Settings()
    table = _table(text, path)
    parts: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        part, _, name = key.rpartition(".")
        parts.setdefault(part, {})[name] = value
    return Settings({part: _checked(said, path) for part, said in parts.items()})


def _table(text: str, path: Path) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise _no_table(path)
    return table


def _no_table(path: Path) -> FileProblem:
    return FileProblem(f"{path} should hold the settings of an adapter as a JSON object, but does not. Get it again.")


def _checked(said: dict[str, Any], path: Path) -> dict[str, Any]:
    method = said.get("peft_type") or "LORA"
    if method not in METHODS:
        raise FileProblem(f"{path} is an adapter of the method {str(method)[:40]}; known here: {', '.join(METHODS)}.")
    start = str(said.get("init_lora_weights")).lower()
    if start.startswith(_OTHER_BASE):
        raise FileProblem(
            f"{path} was trained from a {start} start, which takes a part of the base's weights away, so its factors "
            "do not belong to the base as published. Save it converted to an ordinary LoRA (peft's "
            "`path_initial_model_for_weight_conversion`)."
        )
    if said.get("fan_in_fan_out"):
        raise FileProblem(f"{path} has fan_in_fan_out, layers stored transposed, which no net of ours has.")
    for key in ("r", "lora_alpha", "alpha"):
        _positive(said.get(key), key, path)
    for table in ("rank_pattern", "alpha_pattern"):
        entries = said.get(table) or {}
        if not isinstance(entries, dict):
            raise _no_table(path)
        for pattern, value in entries.items():
            _positive(value, f"{table} of {pattern!r}", path)
            if re.search(r"[*+?()\[\]{}|]", pattern):
                raise FileProblem(f"{path}: the {table} names layers by the pattern {pattern[:60]!r}; only plain names "
                                  "are read. Save it with a name for each layer.")  # fmt: skip
    return said


def _positive(value: Any, key: str, path: Path) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    if value is not None and not number:
        raise FileProblem(f"{path}: {key} should be a number, found {str(value)[:40]!r}. Get the file again.")
