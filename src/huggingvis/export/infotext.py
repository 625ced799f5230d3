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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.sizes import Refine
from huggingvis.core.upscalers import upscaler_of

if TYPE_CHECKING:
    from huggingvis.core.request import Request
    from huggingvis.samplers import names

_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*([\w /]+?):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


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
        lines = text.strip().split("\n")
        pairs = _PAIR.findall(lines[-1])
        settings = {key: _unquote(value) for key, value in pairs} if len(pairs) >= 3 else {}
        if settings:
            lines.pop()
        body = "\n".join(lines)
        prompt, _, negative = _split_negative(body)
        return cls(prompt.strip(), negative.strip(), settings)


def describe(picture: Picture) -> Infotext:
    """The text for a generated picture. Names without a label of their own in that program stay as they are.

    `picture.made` may bring `batch_index`, `model`, `model_hash` (10 hex digits or more) and `version`. The seed
    written is the picture's own, the request's plus its index. Raises `UsageError` for a picture without request.
    """
    from huggingvis.samplers import names  # here, because it brings torch, which reading a text does not need

    request, made = picture.request, picture.made
    if request is None:
        raise UsageError("This picture carries no request, so nothing is known of its making. Generate it anew.")
    how, (width, height) = request.sampling, picture.size
    settings = {
        "Steps": str(how.steps),
        "Sampler": _label(names.SAMPLERS, how.sampler),
        "Schedule type": _label(names.SCHEDULES, how.schedule),
        "CFG scale": f"{how.guidance_scale:g}",
        "Seed": str(how.seed + int(made.get("batch_index", 0))),
        "Size": f"{width}x{height}",
    }
    if "model_hash" in made:
        settings["Model hash"] = str(made["model_hash"])[:10]
    if "model" in made:
        settings["Model"] = str(made["model"])
    if request.source is not None:
        settings["Denoising strength"] = f"{request.source.strength:g}"
    if request.refine is not None:
        settings |= hires_settings(request.refine)
        for key, rows, name in (
            ("Hires sampler", names.SAMPLERS, request.refine.sampler),
            ("Hires schedule type", names.SCHEDULES, request.refine.schedule),
        ):
            settings |= {key: _label(rows, name)} if name else {}
        settings["Size"] = "x".join(str(side) for side in _first_size(request, (width, height)))
    if request.refiner is not None:
        settings |= {"Refiner": Path(request.refiner.model).stem, "Refiner switch at": f"{request.refiner.at:g}"}
    settings["Version"] = f"huggingvis {made['version']}" if "version" in made else "huggingvis"
    return Infotext(request.prompt.text, request.prompt.negative, settings)


def _first_size(request: Request, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the first pass, of a finished picture of `size`."""
    refine, canvas = request.refine, request.canvas
    assert refine is not None
    scale = refine.scale if refine.width is None and refine.height is None else 1.0
    return canvas.width or round(size[0] / scale), canvas.height or round(size[1] / scale)


def hires_settings(refine: Refine) -> dict[str, str]:
    """A second pass in that program's words; it writes a size in the place of the enlargement, 0 for a free side."""
    size = {"Hires upscale": f"{refine.scale:g}"}
    if refine.width is not None or refine.height is not None:
        size = {"Hires resize": f"{refine.width or 0}x{refine.height or 0}"}
    own = {"Hires prompt": refine.prompt, "Hires negative prompt": refine.negative}
    if refine.guidance_scale is not None:
        own["Hires CFG Scale"] = f"{refine.guidance_scale:g}"
    return {
        **size,
        "Hires steps": str(refine.steps),
        "Hires upscaler": upscaler_of(refine.upscaler).label,
        **{key: value for key, value in own.items() if value},
        "Denoising strength": f"{refine.strength:g}",
    }


def _label(rows: Iterable[names.SamplerRow | names.ScheduleRow], name: str) -> str:
    """The label of that program for our name; a name it has no label for stays as it is."""
    return next((row.a1111[0] for row in rows if row.name == name and row.a1111), name)


def _split_negative(body: str) -> tuple[str, str, str]:
    if body.startswith(_NEGATIVE):
        return "", _NEGATIVE, body.removeprefix(_NEGATIVE)
    return body.partition(f"\n{_NEGATIVE}")


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:\n"') else value


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except json.JSONDecodeError:
            return value
    return value.strip()
