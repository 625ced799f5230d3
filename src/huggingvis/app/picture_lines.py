"""What a picture's file says of its making, in lines for people: what was asked for first, then with what.

Values that are the usual ones are left out; `hvis inspect PICTURE --json` tells all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from huggingvis.app.screen import size_of
from huggingvis.core.config import to_dict
from huggingvis.core.request import Request

_FIRST = ("sampler", "schedule", "steps", "guidance_scale", "seed")
"""Numbers that are shown whatever they are."""


def lines_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each line that says something, of what `api.inspect` tells of a picture."""
    return [(name, str(value)) for name, value in _rows(facts) if value not in (None, "")]


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    width, height = facts["size"]
    yield "picture", f"{facts['path']}, {width}x{height} pixels, {size_of(facts['bytes'])}"
    yield "notes of", facts["program"] or (
        f"a program that is not known here: {', '.join(facts['texts'])}" if facts["texts"] else
        "nobody: it does not say how it was made. Programs that edit or send pictures often remove such notes."
    )  # fmt: skip
    request, made = facts["request"] or {}, facts["made"]
    if request:
        yield from _asked(request, made)
    for axis, told in made.get("grid", {}).items():
        yield axis, f"{told['name']} {', '.join(map(str, told['values']))}"
    yield from _with(made)
    for file in facts["files"]:
        digits = f", hash {file['hash']}" if file["hash"] else ""
        weight = f", weight {file['weight']:g}" if file["kind"] in ("lora", "controlnet") else ""
        yield file["kind"], f"{file['name'] or 'not named'}{weight}{digits}"
    for note in facts["notes"]:
        yield "note", note


def _asked(request: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    usual = to_dict(Request())
    prompt = request.get("prompt", {})
    yield "prompt", prompt.get("text")
    yield "negative", prompt.get("negative")
    yield "typed", prompt.get("written")
    yield "typed, not", prompt.get("written_negative")
    yield "styles", ", ".join(prompt.get("styles") or ())
    canvas, sampling = request.get("canvas", {}), request.get("sampling", {})
    if canvas.get("width") and canvas.get("height"):
        yield "canvas", f"{canvas['width']}x{canvas['height']}"
    told = {**sampling, **{name: made[name] for name in ("seed", "variation_seed") if name in made}}
    same = usual["sampling"]
    shown = {name: value for name, value in told.items() if name in _FIRST or _list(value) != _list(same.get(name))}
    yield "sampling", ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in shown.items())
    for name in ("source", "refine", "options"):
        if part := request.get(name):
            yield name, ", ".join(f"{key} {_plain(value)}" for key, value in part.items() if value not in (None, ""))
    for use in request.get("adapters", ()):
        yield "adapter", f"{use.get('path')}, weight {use.get('weight', 1.0):g}"


def _with(made: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    digits = f" (sha256 {made['model_hash'][:10]})" if made.get("model_hash") else ""
    yield "model", f"{made['model']}{digits}" if "model" in made else None
    yield "file", made.get("model_path")
    for file in made.get("files", ()):
        yield str(file.get("kind")), f"{file.get('path')} (sha256 {str(file.get('sha256', ''))[:10]})"
    solver = [str(made[name]) for name in ("sampler", "schedule") if name in made]
    yield "its own", ", ".join(solver)
    yield "licence", made.get("licence")
    yield "made by", f"huggingvis {made['version']}, {made.get('backend')}" if "version" in made else None
    for note in made.get("notes", ()):
        yield "note", note


def _list(value: Any) -> Any:
    """Pairs are lists in JSON."""
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "x".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
