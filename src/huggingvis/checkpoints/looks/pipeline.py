"""A whole model as a folder of diffusers: `model_index.json` and a folder for each part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from huggingvis.checkpoints.bases import Base
from huggingvis.checkpoints.kinds import INDEX, Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import PRECISIONS, VARIANTS, channels, settings_of, unet_base, weights_in
from huggingvis.checkpoints.looks.single import PREDICTS
from huggingvis.checkpoints.report import listed
from huggingvis.checkpoints.training_notes import plain


@final
class _Pipeline(Kind):
    name, title, rank = "pipeline", "a model as a diffusers folder", 10

    def found(self, subject: Subject) -> bool:
        return subject.has(INDEX)

    def tell(self, subject: Subject) -> Told:
        index = subject.settings
        parts = {name: str(row[1]) for name, row in index.items() if name.isidentifier() and _is_part(row)}
        there = {name: bool(subject.files(name)) or (subject.path / name).is_dir() for name in parts}
        weights = {name: weights_in(subject, name) for name in parts if there[name]}
        unet = settings_of(subject, "unet") or settings_of(subject, "transformer")
        scheduler = settings_of(subject, "scheduler")
        base = _base(unet)
        sees = channels(unet, {})
        predicts = scheduler.get("prediction_type", "epsilon" if scheduler else None)
        facts: dict[str, Any] = {
            "pipeline": index.get("_class_name"), "diffusers": index.get("_diffusers_version"), "channels": sees,
            "prediction": {"value": {"v_prediction": "v"}.get(str(predicts), predicts), "sure": bool(scheduler)},
            "scheduler": {key: _in_json(x) for key, x in scheduler.items() if not isinstance(x, list | dict)},
            "bytes": sum(row["bytes"] for rows in weights.values() for row in rows.values()),
            "parts": {name: {"class": kind, "here": there[name], "weights": weights.get(name, {})}
                      for name, kind in parts.items()},
        }  # fmt: skip
        named = f"{base.name}{VARIANTS.get(sees or 0, '')}" if base else "a model"
        title = f"{named} as a diffusers folder ({plain(index.get('_class_name'), 60)})"
        return Told(title, base, tuple(_sentences(parts, there, weights, scheduler, facts["prediction"])), facts)


def _in_json(value: object) -> object:
    """A setting; JSON knows no infinity, which DPM-Solver's files have for `lambda_min_clipped`."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_part(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(word, str) for word in row)


def _base(unet: Mapping[str, Any]) -> Base | None:
    if str(unet.get("_class_name")) == "PixArtTransformer2DModel" or unet.get("caption_channels") == 4096:
        width = unet.get("cross_attention_dim")
        return Base("PixArt", (width if type(width) is int else 1152,))
    return unet_base(unet)


def _sentences(
    parts: Mapping[str, str], there: Mapping[str, bool], weights: Mapping[str, Any],
    scheduler: Mapping[str, Any], prediction: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    said = [f"Its parts are {listed(parts, 12)}."]
    missing = [name for name, here in there.items() if not here]
    empty = [name for name in ("unet", "vae", "text_encoder", "transformer") if there.get(name) and not weights[name]]
    if missing:
        said.append(f"Of these the folders of {listed(missing)} are not here.")
    if empty:
        said.append(f"There are no weights in {listed(empty)}: only settings, so it cannot paint.")
    variants = {key.partition(",")[0] for rows in weights.values() for key in rows}
    types = {PRECISIONS.get(t, t) for rows in weights.values() for row in rows.values() for t in row.get("dtypes", ())}
    if variants - {"main"}:
        said.append(f"It has the variants {listed(sorted(variants))}.")
    if types:
        said.append(f"Its weights are stored in {listed(sorted(types))}.")
    if scheduler:
        how = PREDICTS.get(str(prediction["value"]), str(prediction["value"]))
        said.append(f"Its scheduler is {plain(scheduler.get('_class_name'), 60)}, and the net predicts {plain(how)}.")
    return said


KIND = _Pipeline()
