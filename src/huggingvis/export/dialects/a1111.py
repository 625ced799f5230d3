"""A1111's web UI, Forge, and all who write its `parameters` text (Civitai, SD.Next, ComfyUI's savers, this library).

Defaults where a key is missing, as the web UI itself reads: Clip skip 1, RNG GPU. A missing "Schedule type" is the
model's own even levels: versions that choose another by themselves write it. "Automatic" is the sampler's usual one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Prompt, Refine, Request
from huggingvis.core.request_sampling import OWN, RNGS
from huggingvis.core.request_sources.inpaint import WIDEST_BLUR, Fill, Region
from huggingvis.core.request_sources.kind import LONGEST_MARGIN
from huggingvis.core.upscalers import upscaler_of
from huggingvis.export.dialects import solvers
from huggingvis.export.dialects.reading import Reading, Told, Wanted, sampling_of, solver_of
from huggingvis.export.infotext import NOISE, Infotext

_TAG = re.compile(r" ?<(lora|lyco|hypernet|lycoris):([^:<>]{1,300})((?::[^:<>]{0,60}){0,4})>", re.IGNORECASE)
_OLD_LABEL = re.compile(r"(.+?) (Karras|Exponential|Polyexponential)$")
_RNG = {"GPU": "philox", "NV": "philox", "CPU": "cpu"}
_SAYS_NOTHING = ("Version", "User", "Hashes", "Created Date", "Face restoration", "Init image hash", "Eta DDIM",
                 "Downcast alphas_cumprod", "Pad conds", "Hires resize", "Denoising strength", "Clip skip",
                 "Model hash", "VAE hash", "Lora hashes", "TI hashes", "First pass size")  # fmt: skip
_CONTENTS: Mapping[str, Fill] = {
    "original": "original", "fill": "fill", "latent noise": "noise", "latent nothing": "nothing",
}  # fmt: skip
_AREAS: Mapping[str, Region] = {"Whole picture": "whole", "Only masked": "masked"}
_MODES = {"Inpaint masked": False, "Inpaint not masked": True}


def read(texts: Mapping[str, str]) -> Reading | None:
    """The reading of `parameters`; None where that is none, or no text of this kind."""
    text = texts.get("parameters")
    if text is None or _is_json(text):
        return None
    info = Infotext.parse(text)
    told = Told(info.settings)
    ours = (info.settings.get("Version") or "").startswith("huggingvis")
    program = "huggingvis" if ours else "A1111's web UI"
    prompt, files = _files(info, told)
    numbers = _sampling(told, program, ours)
    size = told.size("Size") or told.size("First pass size")
    request = Request(
        Prompt(prompt, info.negative_prompt),
        Canvas(*size) if size else Canvas(),
        refine=_refine(told, size),
        options=_options(told),
    )
    _start(told, again=request.refine is not None)
    told.ignore(*_SAYS_NOTHING)
    if not info.settings:
        told.notes.append("It has a prompt and no settings: all numbers are the model's own.")
    return Reading.of(told, program, request, numbers, files)


def _is_json(text: str) -> bool:
    """Whether another program (SwarmUI, Fooocus) uses the same name for something else."""
    try:
        return text.lstrip().startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


# ---- files -----------------------------------------------------------------------------------------------------------


def _files(info: Infotext, told: Told) -> tuple[str, tuple[Wanted, ...]]:
    """The prompt without its tags, and the files that were used."""
    files = []
    if name := told.text("Model"):
        files.append(Wanted("checkpoint", name, hash=told.text("Model hash") or ""))
    elif digits := told.text("Model hash"):
        files.append(Wanted("checkpoint", "", hash=digits))
    if (vae := told.text("VAE")) and vae != "None":
        files.append(Wanted("vae", vae, hash=told.text("VAE hash") or ""))
    known = {**_pairs(told.text("Lora hashes")), **_pairs(told.text("TI hashes"))}
    prompt, negative = info.prompt, info.negative_prompt
    for kind, name, weights in _TAG.findall(prompt):
        files.append(Wanted("hypernetwork" if kind.lower() == "hypernet" else "lora", name.strip(),
                            _weight(weights, told), known.get(name.strip(), "")))  # fmt: skip
    used = {file.name for file in files}
    embeddings = _pairs(told.text("TI hashes"))
    files += [Wanted("embedding", name, hash=digits) for name, digits in embeddings.items() if name not in used]
    if _TAG.search(negative):
        told.notes.append("LoRAs in the negative prompt do nothing in the web UI either, and stay as words.")
    return _TAG.sub("", prompt).strip(), tuple(files)


def _weight(words: str, told: Told) -> float:
    """Of `:0.8`, `:0.8:0.5` (U-Net, text) or `:te=0.5:unet=0.8`."""
    parts = [part for part in words.split(":") if part]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    plain = [part for part in parts if "=" not in part]
    try:
        numbers = [float(part) for part in plain]
        unet = float(named.get("unet", numbers[1] if len(numbers) > 1 else numbers[0] if numbers else 1.0))
        text = float(named.get("te", numbers[0] if numbers else unet))
    except ValueError:
        told.note("A LoRA's weight", words)
        return 1.0
    if unet != text:
        told.notes.append(
            f"A LoRA has the weight {text:g} on the text and {unet:g} on the net; here it has one, {unet:g}."
        )
    return unet if -100.0 <= unet <= 100.0 else 1.0


def _pairs(text: str | None) -> dict[str, str]:
    """`name: digits, name: digits`."""
    found = {}
    for pair in (text or "").split(","):
        name, colon, digits = pair.rpartition(":")
        if colon and name.strip():
            found[name.strip()] = digits.strip()
    return found


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _sampling(told: Told, program: str, ours: bool) -> dict[str, Any]:
    numbers = sampling_of(
        told,
        {"steps": "Steps", "guidance_scale": "CFG scale", "seed": "Seed", "eta": "Eta DDIM",
         "variation_seed": "Variation seed", "variation_strength": "Variation seed strength",
         "eta_noise_seed_delta": "ENSD"},
    )  # fmt: skip
    if resized := told.size("Seed resize from"):
        numbers["seed_resize"] = resized
    if told.values:
        numbers["rng"] = _rng(told, ours)
    numbers |= _solver(told, program, ours)
    if told.truth("Discard penultimate sigma"):
        numbers["discard_penultimate"] = True
    eta = told.number("Eta", 0.0, 1.0)
    if eta is not None and eta != 1.0:
        told.notes.append(f"Its steps drew {eta:g} of the usual fresh noise (Eta), here they draw all of it.")
    for key in ("Schedule max sigma", "Schedule min sigma", "Schedule rho"):
        if (number := told.number(key, -1e9, 1e9)) is not None and number != 0.0:
            told.notes.append(
                f"It moved the ends or the power of its schedule ({key} {number:g}); here they are usual."
            )
    return numbers


def _rng(told: Told, ours: bool) -> str:
    source = told.text("RNG") or "GPU"
    exact = told.text(NOISE)
    if ours:
        return exact if exact in RNGS else {"NV": "philox"}.get(source, OWN)
    if source not in _RNG:
        told.note("RNG", source)
    return _RNG.get(source, "philox")


def _solver(told: Told, program: str, ours: bool) -> dict[str, Any]:
    label, chosen = told.text("Sampler"), told.text("Schedule type")
    if label is None:
        return {"schedule": _schedule(told, chosen, {})} if chosen and chosen != "Automatic" else {}
    old = _OLD_LABEL.fullmatch(label)
    if old and chosen is None and old[1] in solvers.WEBUI:
        label, chosen = old[1], old[2]
    if ours:  # labels are written only where they say the same
        sampler = _named(solvers.LABELS, label)
        return {"sampler": sampler, "schedule": solvers.WEBUI_SCHEDULES.get(chosen or "", chosen or OWN)}
    row = solvers.WEBUI.get(label) or solvers.WEBUI.get(_same(label))
    found = solver_of(told, program, label, row)
    if row is None:
        return found
    if row.fixed or chosen == "Automatic":
        return found
    return {**found, "schedule": _schedule(told, chosen, found)}


def _same(label: str) -> str:
    plain = {name.lower().replace(" ", ""): name for name in solvers.WEBUI}
    return plain.get(label.lower().replace(" ", "").removeprefix("k_"), "")


def _schedule(told: Told, label: str | None, otherwise: Mapping[str, Any]) -> str:
    """Our name of a schedule that was chosen; none was: the levels of the table, evenly in time."""
    if label is None:
        return "normal"
    plain = {name.lower().replace(" ", "").replace("_", ""): ours for name, ours in solvers.WEBUI_SCHEDULES.items()}
    found = plain.get(label.lower().replace(" ", "").replace("_", ""))
    if found is None:
        told.notes.append(f"The schedule {label!r} has no counterpart here: the sampler's usual one is used.")
    return str(found or otherwise.get("schedule", OWN))


def _options(told: Told) -> dict[str, str]:
    skip = told.whole("Clip skip", 1, 100)
    return {"clip_skip": str(skip)} if skip is not None and skip > 1 else {}


# ---- second pass and pictures ----------------------------------------------------------------------------------------


def _refine(told: Told, size: tuple[int, int] | None) -> Refine | None:
    scale, resized = told.number("Hires upscale", 1.0, 16.0), told.size("Hires resize", free=True)
    if resized == (0, 0):
        resized = None
    if scale is None and resized is None:
        return None
    sampler, schedule, upscaler = (told.text(f"Hires {name}") for name in ("sampler", "schedule type", "upscaler"))
    values: dict[str, Any] = {
        "scale": scale,
        "strength": told.number("Denoising strength", 0.0, 1.0),
        "steps": told.whole("Hires steps", 1, 10_000) or told.whole("Steps", 1, 10_000),
        "prompt": told.text("Hires prompt"),
        "negative": told.text("Hires negative prompt"),
        "guidance_scale": told.number("Hires CFG Scale", 0.0, 1e3),
    }
    if resized is not None:
        values |= {"width": resized[0] or None, "height": resized[1] or None}
    if sampler not in (None, "Use same sampler"):
        values["sampler"] = _named(solvers.LABELS, sampler)
    if schedule not in (None, "Use same scheduler"):
        values["schedule"] = solvers.WEBUI_SCHEDULES.get(schedule, schedule)
    if upscaler is not None:
        try:
            values["upscaler"] = upscaler_of(upscaler).name
        except UsageError:
            told.notes.append(f"Its second pass enlarged by {upscaler!r}, which is not here: pixels are enlarged.")
    return Refine(**{name: value for name, value in values.items() if value is not None})


def _named(labels: Mapping[str, str], label: str) -> str:
    """Our name of what a label says."""
    return next((name for name, theirs in labels.items() if theirs == label), label)


def _start(told: Told, *, again: bool) -> None:
    """The numbers of a picture that it began with. No text names that picture, its mask, or how they were resized.

    `again`: the strength is a second pass's. What a mask has as ever is not written.
    """
    strength = told.number("Denoising strength", 0.0, 1.0)
    masked = {
        "region": told.choice("Inpaint area", _AREAS),
        "padding": told.whole("Masked area padding", 0, LONGEST_MARGIN),
        "blur": told.number("Mask blur", 0.0, WIDEST_BLUR),  # a Gaussian's deviation there too
        "fill": told.choice("Masked content", _CONTENTS),
        "invert": told.choice("Mask mode", _MODES),
    }
    weight = told.number("Conditional mask weight", 0.0, 1.0)
    if weight is not None and weight != 1.0:
        told.notes.append(f"Its net was shown the masked picture by {weight:g} (Conditional mask weight), here wholly.")
    if strength is not None and not again:
        told.start({name: value for name, value in {"strength": strength, **masked}.items() if value is not None})
