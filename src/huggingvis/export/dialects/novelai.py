"""NovelAI: `Software: NovelAI`, the prompt as `Description`, the model as `Source`, the numbers as JSON in `Comment`.

The same texts may hide in the pixels (`export.texts`). Its models are its own, so such a picture cannot be made again;
what was asked for can. Its {braces} weigh words by 1.05, which our prompts do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from huggingvis.core.request import Prompt, Request
from huggingvis.export.dialects import solvers
from huggingvis.export.dialects.reading import Reading, Told, Wanted, sampling_of, solver_of

PROGRAM = "NovelAI"
_SAYS_NOTHING = (
    "signed_hash", "version", "request_type", "n_samples", "stream", "legacy_v3_extend", "legacy", "uc_preset",
    "quality_toggle", "prefer_brownian", "cfg_sched_eligibility", "controlnet_strength", "uncond_per_vibe",
    "wonky_vibe_correlation", "explike_fine_detail", "minimize_sigma_inf", "dynamic_thresholding_percentile",
    "dynamic_thresholding_mimic_scale", "deliberate_euler_ancestral_bug", "lora_unet_weights", "lora_clip_weights",
    "extra_passthrough_testing", "hide_debug_overlay", "uncond_scale", "v4_prompt", "v4_negative_prompt",
)  # fmt: skip


def read(texts: Mapping[str, str]) -> Reading | None:
    """The reading of `Comment`; None for pictures of others."""
    if not texts.get("Software", "").startswith("NovelAI"):
        return None
    told = Told(_comment(texts.get("Comment")))
    prompt = Prompt(told.text("prompt") or texts.get("Description", ""), told.text("uc") or "")
    for name in ("v4_prompt", "v4_negative_prompt"):
        _characters(told, name)
    numbers: dict[str, Any] = sampling_of(
        told, {"steps": "steps", "guidance_scale": "scale", "guidance_rescale": "cfg_rescale", "seed": "seed"}
    )
    label, chosen = told.text("sampler"), told.text("noise_schedule")
    if label is not None:
        numbers |= solver_of(told, PROGRAM, label, solvers.NOVELAI.get(label))
    row = solvers.NOVELAI.get(label or "")
    if (schedule := solvers.NOVELAI_SCHEDULES.get(chosen or "")) and not (row and row.fixed):
        numbers["schedule"] = schedule
    canvas = told.canvas("width", "height")
    if any(mark in prompt.text + prompt.negative for mark in "{}"):
        told.notes.append("Its {braces} weigh words by 1.05 there, and are no weights here: write (word:1.05).")
    if (strength := told.number("strength", 0.0, 1.0)) is not None and "noise" in told.values:
        told.number("noise", 0.0, 1.0)
        told.start({"strength": strength})
    told.ignore(*_SAYS_NOTHING)
    told.notes.append("NovelAI's models are not published: with another one it is another picture.")
    source = texts.get("Source", "")
    files = [Wanted("checkpoint", source)] if source else []
    return Reading.of(told, PROGRAM, Request(prompt, canvas), numbers, files)


def _comment(text: str | None) -> Mapping[str, Any]:
    try:
        told = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _characters(told: Told, name: str) -> None:
    """Version 4 has words for each character beside the whole."""
    words = told.values.get(name)
    caption = words.get("caption") if isinstance(words, dict) else None
    if isinstance(caption, dict) and caption.get("char_captions"):
        told.notes.append(f"Its words for single characters ({name}) are left out.")
