"""CLIP's image tower in other programs' files: transformers' folders, and the layout of OpenAI's CLIP and OpenCLIP.

IP-Adapters come with the first as `image_encoder`; the safety checker of Stable Diffusion has it inside.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from typing import Any

from huggingvis.checkpoints.diffusers_common import rename, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.text_towers_clip import ACTIVATIONS, LAYER, open_clip_layers
from huggingvis.checkpoints.text_towers_common import (
    Json,
    Layout,
    Names,
    bare,
    encoder,
    encoder_settings,
    projected,
    sizes,
)
from huggingvis.checkpoints.transforms import Transpose
from huggingvis.nets.clip_vision import CLIPVision, CLIPVisionConfig

_CLASSES = ("CLIPVisionModel", "CLIPVisionModelWithProjection")
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "projection_dim": 512,
}  # fmt: skip


def config_from_transformers(theirs: Json) -> CLIPVisionConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = sizes(theirs, _CLASSES, _DEFAULTS, {}, "num_hidden_layers")
    if not 1 <= full["patch_size"] <= full["image_size"]:
        raise unsupported("patch_size", full["patch_size"], f"1 to image_size = {full['image_size']}")
    return CLIPVisionConfig(
        image=full["image_size"],
        patch=full["patch_size"],
        channels=full["num_channels"],
        **encoder(full, ACTIVATIONS),
        projection=full["projection_dim"] if full.get("architectures") == (_CLASSES[1],) else None,
    )


def config_to_transformers(config: CLIPVisionConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for an activation that transformers does not name."""
    c = config
    return {
        "architectures": [_CLASSES[c.projection is not None]], "model_type": "clip_vision_model",
        "image_size": c.image, "patch_size": c.patch, "num_channels": c.channels,
        **encoder_settings(c, ACTIVATIONS),
        "projection_dim": c.dim if c.projection is None else c.projection,
    }  # fmt: skip


def keymap(config: CLIPVisionConfig, root: str = "", tower: str = "vision_model.") -> KeyMap:
    """Names in transformers' layout: the tower's own begin with `root` + `tower`, the projection's with `root`."""
    there = root + tower
    rules = [
        Rule("patch.weight", f"{there}embeddings.patch_embedding.weight"),
        Rule("start", f"{there}embeddings.class_embedding"),
        Rule("position", f"{there}embeddings.position_embedding.weight"),
        Rule("norm_in.{leaf:word}", f"{there}pre_layrnorm.{{leaf:word}}"),  # their spelling
        *rename("layers.{i}", f"{there}encoder.layers.{{i}}", LAYER),
        Rule("norm.{leaf:word}", f"{there}post_layernorm.{{leaf:word}}"),
    ]
    return projected(rules, [f"{there}embeddings.position_ids"], config.projection, f"{root}visual_projection.weight")


def open_clip_keymap(config: CLIPVisionConfig, root: str = "visual.") -> KeyMap:
    """Names in the layout of OpenAI's CLIP and OpenCLIP, all beginning with `root`."""
    rules = [
        Rule("patch.weight", f"{root}conv1.weight"),
        Rule("start", f"{root}class_embedding"),
        Rule("position", f"{root}positional_embedding"),
        Rule("norm_in.{leaf:word}", f"{root}ln_pre.{{leaf:word}}"),
        *open_clip_layers(f"{root}transformer.resblocks.{{i}}"),
        Rule("norm.{leaf:word}", f"{root}ln_post.{{leaf:word}}"),
    ]
    return projected(rules, [], config.projection, f"{root}proj", Transpose())


def _keymap_for(config: CLIPVisionConfig, names: Names) -> KeyMap:
    return keymap(config, tower=bare(names, "vision_model."))


CLIP_VISION = Layout(_CLASSES, CLIPVision, config_from_transformers, config_to_transformers, _keymap_for)
