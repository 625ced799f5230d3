"""What trainers and publishers write into a safetensors file's metadata, sorted for a reader.

kohya's scripts write `ss_*` (github.com/kohya-ss/sd-scripts), many programs `modelspec.*` (github.com/Stability-AI/
ModelSpec). Values are text, of strangers: nothing is believed or executed, what does not parse is passed over.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

MOST_TAGS = 12
_LONGEST = 1 << 22
"""Characters of a table in the metadata that are worth parsing."""

GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "named": {
        "title": ("modelspec.title", "ss_output_name"), "author": ("modelspec.author",),
        "date": ("modelspec.date", "ss_training_finished_at"), "description": ("modelspec.description",),
        "how to use": ("modelspec.usage_hint",), "comment": ("ss_training_comment",),
        "merged from": ("modelspec.merged_from",), "tags": ("modelspec.tags",),
    },
    "made from": {
        "base": ("ss_sd_model_name",), "version": ("ss_base_model_version", "modelspec.architecture"),
        "hash of the base": ("ss_new_sd_model_hash", "ss_sd_model_hash"), "autoencoder": ("ss_vae_name",),
        "predicts v": ("ss_v_parameterization",), "prediction": ("modelspec.prediction_type",),
        "clip skip": ("ss_clip_skip",), "resolution": ("modelspec.resolution", "ss_resolution"),
    },
    "network": {
        "module": ("ss_network_module",), "rank": ("ss_network_dim",), "alpha": ("ss_network_alpha",),
        "arguments": ("ss_network_args",),
    },
    "training": {
        "pictures": ("ss_num_train_images",), "regularisation pictures": ("ss_num_reg_images",),
        "epochs": ("ss_epoch",),
        "of epochs": ("ss_num_epochs",), "steps": ("ss_steps",), "of steps": ("ss_max_train_steps",),
        "batch": ("ss_total_batch_size", "ss_batch_size_per_device"), "learning rate": ("ss_learning_rate",),
        "of the U-Net": ("ss_unet_lr",), "of the text encoder": ("ss_text_encoder_lr",),
        "schedule": ("ss_lr_scheduler",), "optimizer": ("ss_optimizer",), "precision": ("ss_mixed_precision",),
        "noise offset": ("ss_noise_offset",), "min SNR gamma": ("ss_min_snr_gamma",), "seed": ("ss_seed",),
    },
}  # fmt: skip
"""Group -> what a reader calls it -> the keys that say it, the better first."""


@final
@dataclass(frozen=True)
class Triggers:
    """Words that call a file: `phrases` its maker names, and the most frequent `tags` of its training, with counts."""

    phrases: tuple[str, ...]
    tags: dict[str, int]


def notes(metadata: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The metadata that people ask for first, by `GROUPS`; groups without any are left out."""
    found: dict[str, dict[str, str]] = {}
    for group, rows in GROUPS.items():
        for label, keys in rows.items():
            value = next((metadata[key] for key in keys if metadata.get(key) not in (None, "", "None", "null")), None)
            if value is not None:
                found.setdefault(group, {})[label] = _date(value) if label == "date" else value
    return found


def _date(value: str) -> str:
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(float(value), UTC).date().isoformat()
    return value


def triggers(metadata: Mapping[str, str]) -> Triggers:
    """The words that the metadata names."""
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    counts: dict[str, int] = {}
    tables = _table(metadata.get("ss_tag_frequency", ""))
    for table in tables.values():
        for tag, count in table.items() if isinstance(table, dict) else ():
            if type(count) is int and count > 0 and (tag := str(tag).strip()):
                counts[tag] = counts.get(tag, 0) + count
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_TAGS]
    return Triggers((phrase,) if phrase else (), dict(most))


def _table(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text) if text and len(text) <= _LONGEST else {}
        if isinstance(found, dict):
            return found
    return {}


_LICENCE = re.compile(r"^license(?:_name)?:\s*[\"']?([^\"'\n#]+)", re.MULTILINE)


def licence(metadata: Mapping[str, str], folder: Path | None = None) -> str | None:
    """The licence that the metadata, or a folder's card (`README.md`) or `LICENSE`, names; None: nothing says it.

    On one line and not longer than a name: it goes into the records of pictures.
    """
    return plain(_told(metadata, folder) or "") or None


def _told(metadata: Mapping[str, str], folder: Path | None) -> str | None:
    told = metadata.get("modelspec.license") or metadata.get("license") or metadata.get("ss_license")
    if told or folder is None:
        return told or None
    card = re.match(r"\s*---\s*\n(.*?)\n---", _beginning(folder / "README.md"), re.DOTALL)
    named = [found.strip() for found in _LICENCE.findall(card[1])] if card else []
    if named:
        return next((name for name in named if name != "other"), named[0])
    text = next((text for name in ("LICENSE", "LICENSE.md", "LICENSE.txt") if (text := _beginning(folder / name))), "")
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def _beginning(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(1 << 14)
    except OSError:
        return ""


def plain(text: object, longest: int = 200) -> str:
    """Text of a stranger on one line: nothing in it can move a terminal's cursor or colour it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
