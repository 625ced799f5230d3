"""The safety checker of Stable Diffusion in the folders of diffusers: `config.json` and weights, in and out.

Its image tower has the names that CLIP's has elsewhere, below a name of its own; older files say that name twice.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingvis.checkpoints import text_towers_clip_vision as vision
from huggingvis.checkpoints.diffusers_common import Json, settings, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.text_towers_common import Layout, Names
from huggingvis.core.errors import UsageError
from huggingvis.nets.safety_checker import SafetyChecker, SafetyConfig

CLASS = "StableDiffusionSafetyChecker"
PROJECTS = "CLIPVisionModelWithProjection"
USUAL_PROJECTION = 512
"""What transformers takes where a `config.json` does not say."""
TWICE, ONCE = "vision_model.vision_model.", "vision_model."
"""What the names of the image tower begin with, in the published file and in newer ones."""

_OWN = (("concepts", "concept_embeds"), ("thresholds", "concept_embeds_weights"),
        ("watched", "special_care_embeds"), ("watched_thresholds", "special_care_embeds_weights"))  # fmt: skip


def config_from_diffusers(theirs: Json) -> SafetyConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = settings(theirs, {"projection_dim": USUAL_PROJECTION}, {"architectures": ((CLASS,),)})
    tower = theirs.get("vision_config")
    if not isinstance(tower, Mapping):
        raise unsupported("vision_config", tower, "a table with the sizes of the image tower")
    told = {**tower, "architectures": [PROJECTS], "projection_dim": full["projection_dim"]}
    return SafetyConfig(vision.config_from_transformers(told))


def config_to_diffusers(config: SafetyConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for other numbers of concepts than theirs."""
    if (config.concepts, config.watched) != (SafetyConfig.concepts, SafetyConfig.watched):
        raise UsageError(
            f"This safety checker refuses {config.concepts} concepts and watches {config.watched}; diffusers' has "
            f"{SafetyConfig.concepts} and {SafetyConfig.watched}, and no setting for others."
        )
    tower = vision.config_to_transformers(config.tower)
    del tower["architectures"]
    return {
        "architectures": [CLASS], "model_type": "clip", "projection_dim": config.tower.projection,
        "vision_config": tower, "text_config": {},
    }  # fmt: skip


def keymap(config: SafetyConfig, tower: str = TWICE) -> KeyMap:
    """Names in diffusers' layout; those of the image tower begin with `tower`."""
    inner = vision.keymap(config.tower, tower=tower)
    rules = [Rule(f"tower.{rule.ours}", rule.theirs, rule.transform) for rule in inner.rules]
    return KeyMap([*rules, *(Rule(*pair) for pair in _OWN)], (pattern.text for pattern in inner.ignored))


def _keymap_for(config: SafetyConfig, names: Names) -> KeyMap:
    twice = not names or any(name.startswith(TWICE) for name in names)
    return keymap(config, TWICE if twice else ONCE)


SAFETY = Layout((CLASS,), SafetyChecker, config_from_diffusers, config_to_diffusers, _keymap_for)
