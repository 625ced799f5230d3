"""InvokeAI: `invokeai_metadata` (JSON, from version 3), `sd-metadata` (JSON, version 2), `Dream` (a command line, 1).

Noise is drawn on the CPU where `rand_device` is `cpu`, that of the steps on the GPU from seed ^ 0xFFFFFFFF: `rng`
invoke. The schedulers are diffusers', with the spacing of the model's own settings. `clip_skip` counts from 0 there.
Version 2 has the negative words in [brackets] within the prompt.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from huggingvis.core.request import Prompt, Request
from huggingvis.core.request_sampling import OWN
from huggingvis.export.dialects import solvers
from huggingvis.export.dialects.reading import Reading, Told, Wanted, sampling_of, solver_of

PROGRAM = "InvokeAI"
_NUMBERS = {
    "steps": "steps",
    "guidance_scale": "cfg_scale",
    "guidance_rescale": "cfg_rescale_multiplier",
    "seed": "seed",
}
_SAYS_NOTHING = ("app_version", "generation_mode", "created_by", "positive_style_prompt", "negative_style_prompt",
                 "app_id", "type", "threshold", "model_hash", "queue_item_id", "_canvas_objects", "canvas_v2_metadata",
                 "ref_images", "regions")  # fmt: skip
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_COMMAND = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height", "-C": "cfg_scale", "-A": "sampler",
            "-f": "strength", "-I": "init_image"}  # fmt: skip
_WEIGHTS = re.compile(r"[)\w][+]+(?=[\s,)]|$)|[)\w]-{2,}(?=[\s,)]|$)")


def read(texts: Mapping[str, str]) -> Reading | None:
    """The reading of the newest of its three notes."""
    if isinstance(told := _json(texts.get("invokeai_metadata")), dict):
        return _version_3(told)
    if isinstance(told := _json(texts.get("sd-metadata")), dict) and isinstance(told.get("image"), dict):
        return _version_2(told)
    if texts.get("Dream"):
        return _dream(texts["Dream"])
    return None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


def _version_3(values: Mapping[str, Any]) -> Reading:
    told = Told(values)
    prompt = Prompt(told.text("positive_prompt") or "", told.text("negative_prompt") or "")
    files = [_model(told, "model", "checkpoint"), _model(told, "vae", "vae")]
    for lora in _rows(told, "loras"):
        files.append(_named(lora.get("model") or lora.get("lora"), "lora", lora.get("weight")))
    for name in ("controlnets", "t2iAdapters"):
        for row in _rows(told, name):
            model = row.get("control_model") or row.get("t2i_adapter_model")
            files.append(_named(model, "controlnet", row.get("control_weight", row.get("weight"))))
    for row in _rows(told, "ipAdapters"):
        files.append(_named(row.get("ip_adapter_model"), "ip-adapter", row.get("weight")))
    skip = told.whole("clip_skip", 0, 24)
    options = {"clip_skip": str(skip + 1)} if skip else {}
    rng = "philox" if told.text("rand_device") == "cuda" else "invoke"
    return _reading(told, prompt, [file for file in files if file], rng, options)


def _version_2(values: Mapping[str, Any]) -> Reading:
    told = Told({**values["image"], "model": values.get("model_weights")})
    parts = values["image"].get("prompt")
    rows = parts if isinstance(parts, list) else [{"prompt": parts}]
    texts = [str(row.get("prompt", "")) for row in rows if isinstance(row, dict)]
    if len(texts) > 1:
        told.notes.append("Its prompt has several parts with weights of their own; here they are one sentence.")
    told.ignore("prompt", "perlin")
    if (amount := values["image"].get("perlin")) not in (None, 0, 0.0):
        told.notes.append(f"Its noise has a part of Perlin's ({amount!r:.20}), here it has none.")
    digits = str(values.get("model_hash") or "")
    name = told.text("model")
    files = [Wanted("checkpoint", name, hash=digits)] if name else []
    return _reading(told, _bracketed(" ".join(texts)), files, OWN, {})


def _dream(command: str) -> Reading:
    """`"a fox" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`; the quotation marks may be missing."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    begin = next((i for i, word in enumerate(words) if re.fullmatch(r"--?[a-zA-Z]\S*", word)), len(words))
    values: dict[str, Any] = {}
    rest = iter(words[begin:])
    for word in rest:
        flag, glued = (word[:2], word[2:]) if word[:2] in _COMMAND else (word, "")
        if flag in _COMMAND:
            values[_COMMAND[flag]] = glued or next(rest, None)
        elif word.startswith("-"):
            values[word] = True
    return _reading(Told(values), _bracketed(" ".join(words[:begin])), [], OWN, {})


def _bracketed(text: str) -> Prompt:
    negative = ", ".join(part.strip() for part in _BRACKETS.findall(text))
    return Prompt(_BRACKETS.sub("", text).strip(), negative)


def _reading(told: Told, prompt: Prompt, files: list[Wanted], rng: str, options: Mapping[str, str]) -> Reading:
    numbers = sampling_of(told, _NUMBERS)
    label = told.text("scheduler") or told.text("sampler")
    if label is not None:
        numbers |= solver_of(told, PROGRAM, label, solvers.INVOKE.get(label))
    canvas = told.canvas("width", "height")
    strength = told.number("strength", 0.0, 1.0)
    image = told.values.get("init_image")
    told.ignore("init_image", "denoising_strength")
    if isinstance(image, dict) or told.text("init_image"):
        name = image.get("image_name", "") if isinstance(image, dict) else image
        told.start({"strength": strength or 0.75}, str(name))
    if _WEIGHTS.search(prompt.text) or _WEIGHTS.search(prompt.negative):
        told.notes.append("InvokeAI's weights (word+, (words)--) mean nothing here: write (word:1.1) in their place.")
    told.ignore(*_SAYS_NOTHING)
    return Reading.of(told, PROGRAM, Request(prompt, canvas, options=dict(options)), {**numbers, "rng": rng}, files)


def _rows(told: Told, name: str) -> list[Mapping[str, Any]]:
    told.ignore(name)
    rows = told.values.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _model(told: Told, name: str, kind: str) -> Wanted | None:
    told.ignore(name)
    return _named(told.values.get(name), kind, 1.0)


def _named(model: Any, kind: str, weight: Any) -> Wanted | None:
    """A model as {"name" or "model_name", "hash"}; hashes of kinds that we do not make (blake3) are left out."""
    if not isinstance(model, dict):
        return None
    name, digits = model.get("name") or model.get("model_name"), str(model.get("hash") or "")
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and abs(weight) <= 100
    known = digits.removeprefix("sha256:") if ":" not in digits or digits.startswith("sha256:") else ""
    return Wanted(kind, str(name), float(weight) if good else 1.0, known) if name else None
