"""The `parameters` text of the AUTOMATIC1111 web UI, the field's common way to note how a picture was made.

    prompt (may have several lines)
    Negative prompt: ...
    Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model: ...

The last line counts as settings only with three pairs or more; values holding a comma, a colon or a newline are
JSON strings. Other tools read and write the same text, so it is written beside our own, exact record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from huggingvis.core.errors import UsageError
from huggingvis.core.request_sampling import OWN, Sampling
from huggingvis.core.request_sizes import Refine
from huggingvis.core.upscalers import upscaler_of
from huggingvis.export.dialects import solvers

if TYPE_CHECKING:
    from huggingvis.core.media import Picture
    from huggingvis.core.request import Request

NOISE = "Noise source"
"""Our key for sources of random numbers that the web UI has no word for."""
_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_LEAST = 3
_DIGITS = 10


@dataclass(frozen=True)
class Infotext:
    """The text taken apart: `settings` in order, values as text."""

    prompt: str
    negative_prompt: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"{_NEGATIVE} {self.negative_prompt}")
        if self.settings:
            lines.append(", ".join(f"{key}: {_quote(value)}" for key, value in self.settings.items()))
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Infotext:
        """Any text is accepted: what has no settings line is all prompt."""
        lines = text.strip().replace("\r\n", "\n").split("\n")
        pairs = _PAIR.findall(lines[-1])
        settings = {key: _unquote(value) for key, value in pairs} if len(pairs) >= _LEAST else {}
        if settings:
            lines.pop()
        begin = next((i for i, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE)), len(lines))
        negative = [line.strip().removeprefix(_NEGATIVE) for line in lines[begin:]]
        return cls("\n".join(lines[:begin]).strip(), "\n".join(negative).strip(), settings)


def describe(picture: Picture) -> Infotext:
    """The text for a generated picture, by which the web UI makes it again where it can.

    Names without a label of their own in that program stay as they are. LoRAs stand in the prompt as `<lora:name:0.8>`.
    `picture.made` may bring `batch_index`, `model`, `model_hash`, `files`, `sampler`, `schedule` (what the model came
    with) and `version`. Raises `UsageError` for a picture without request.
    """
    request, made = picture.request, picture.made
    if request is None:
        raise UsageError("This picture carries no request, so nothing is known of its making. Generate it anew.")
    how, refine = request.sampling, request.refine
    size = picture.size if refine is None else _first_size(request, picture)
    sampler, schedule = (_made_by(request, made, name) for name in ("sampler", "schedule"))
    seeds = how.seeds(int(made.get("batch_index", 0)))
    settings = {
        "Steps": str(how.steps),
        "Sampler": solvers.LABELS.get(sampler, sampler),
        "Schedule type": solvers.SCHEDULE_LABELS.get(schedule, schedule),
        "CFG scale": f"{how.guidance_scale:g}",
        "Seed": str(seeds["seed"]),
        "Size": f"{size[0]}x{size[1]}",
    }
    if "model_hash" in made:
        settings["Model hash"] = str(made["model_hash"])[:_DIGITS]
    if "model" in made:
        settings["Model"] = str(made["model"])
    settings |= _passes(request) | _skipped(request) | _noise(how, seeds)
    files = [file for file in made.get("files", ()) if isinstance(file, Mapping)]
    hashes = {name: _hashes(files, name) for name in ("lora", "embedding")}
    if hashes["lora"]:
        settings["Lora hashes"] = hashes["lora"]
    if hashes["embedding"]:
        settings["TI hashes"] = hashes["embedding"]
    for file in files:
        if file.get("kind") == "vae":
            settings |= {"VAE hash": str(file.get("sha256", ""))[:_DIGITS], "VAE": PurePath(str(file["path"])).name}
    settings["Version"] = f"huggingvis {made['version']}" if "version" in made else "huggingvis"
    return Infotext(_tagged(request, files), request.prompt.negative, settings)


def hires_settings(refine: Refine) -> dict[str, str]:
    """A second pass in that program's words; it writes a size in the place of the enlargement, 0 for a free side."""
    size = {"Hires upscale": f"{refine.scale:g}"}
    if refine.width is not None or refine.height is not None:
        size = {"Hires resize": f"{refine.width or 0}x{refine.height or 0}"}
    own = {
        "Hires sampler": refine.sampler and solvers.LABELS.get(refine.sampler, refine.sampler),
        "Hires schedule type": refine.schedule and solvers.SCHEDULE_LABELS.get(refine.schedule, refine.schedule),
        "Hires prompt": refine.prompt,
        "Hires negative prompt": refine.negative,
        "Hires CFG Scale": None if refine.guidance_scale is None else f"{refine.guidance_scale:g}",
    }
    return {
        **size,
        "Hires steps": str(refine.steps),
        "Hires upscaler": upscaler_of(refine.upscaler).label,
        **{key: value for key, value in own.items() if value},
        "Denoising strength": f"{refine.strength:g}",
    }


def _made_by(request: Request, made: Mapping[str, Any], name: str) -> str:
    """The request's sampler or schedule; where it is the model's own, what that is."""
    asked = str(getattr(request.sampling, name))
    return str(made.get(name, asked)) if asked == OWN else asked


def _first_size(request: Request, picture: Picture) -> tuple[int, int]:
    """The size of the first pass."""
    refine, canvas, (width, height) = request.refine, request.canvas, picture.size
    assert refine is not None
    scale = refine.scale if refine.width is None and refine.height is None else 1.0
    return canvas.width or round(width / scale), canvas.height or round(height / scale)


def _noise(how: Sampling, seeds: Mapping[str, int]) -> dict[str, str]:
    told: dict[str, str] = {}
    if "variation_seed" in seeds:
        told |= {"Variation seed": str(seeds["variation_seed"]),
                 "Variation seed strength": f"{how.variation_strength:g}"}  # fmt: skip
    if any(how.seed_resize):
        told["Seed resize from"] = "x".join(map(str, how.seed_resize))
    if how.eta_noise_seed_delta:
        told["ENSD"] = str(how.eta_noise_seed_delta)
    if how.sampler == "ddim" and how.eta:
        told["Eta DDIM"] = f"{how.eta:g}"
    if how.discard_penultimate:
        told["Discard penultimate sigma"] = "True"
    told["RNG"] = "NV" if how.rng == "philox" else "CPU"
    if how.rng not in (OWN, "philox"):
        told[NOISE] = how.rng
    return told


def _passes(request: Request) -> dict[str, str]:
    told = {} if request.source is None else {"Denoising strength": f"{request.source.strength:g}"}
    if request.refine is not None:
        told |= hires_settings(request.refine)
    if request.refiner is not None:
        told |= {"Refiner": PurePath(request.refiner.model).stem, "Refiner switch at": f"{request.refiner.at:g}"}
    return told


def _skipped(request: Request) -> dict[str, str]:
    skip = request.options.get("clip_skip", "1")
    return {} if skip == "1" else {"Clip skip": skip}


def _hashes(files: Sequence[Mapping[str, Any]], kind: str) -> str:
    """`name: digits, ...` of the files of a kind, by the digits that the web UI calls them by."""
    known = [file for file in files if file.get("kind") == kind and file.get("a1111")]
    return ", ".join(f"{PurePath(str(file['path'])).stem}: {file['a1111']}" for file in known)


def _tagged(request: Request, files: Sequence[Mapping[str, Any]]) -> str:
    """The prompt with the LoRAs of the request, as the web UI is told of them; those that it names are there."""
    loras = {str(file.get("path")) for file in files if file.get("kind") == "lora"}
    text = request.prompt.text
    stems = {PurePath(use.path).stem: use.weight for use in request.adapters if use.path in loras}
    return " ".join([text, *(f"<lora:{stem}:{w:g}>" for stem, w in stems.items() if f"<lora:{stem}:" not in text)])


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:\n"') else value


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except json.JSONDecodeError:
            return value
    return value.strip()
