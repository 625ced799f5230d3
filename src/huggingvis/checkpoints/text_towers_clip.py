"""CLIP's text tower in other programs' files: transformers' folders, and the layout of OpenAI's CLIP and OpenCLIP.

The first is in Stable Diffusion 1 (also within single files) and in every diffusers folder, the second in the single
files of Stable Diffusion 2 and XL. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from typing import Any

from huggingvis.checkpoints.diffusers_common import rename
from huggingvis.checkpoints.keymap import KeyMap, Rule
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
from huggingvis.checkpoints.transforms import Split, Transpose
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig

ACTIVATIONS = ("quick_gelu", "gelu")
LAYER = (("norm1", "layer_norm1"), ("attn.to_q", "self_attn.q_proj"), ("attn.to_k", "self_attn.k_proj"),
         ("attn.to_v", "self_attn.v_proj"), ("attn.to_out", "self_attn.out_proj"), ("norm2", "layer_norm2"),
         ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2"))  # fmt: skip
OPEN_CLIP_LAYER = (("norm1", "ln_1"), ("attn.to_out", "attn.out_proj"), ("norm2", "ln_2"), ("fc1", "mlp.c_fc"),
                   ("fc2", "mlp.c_proj"))  # fmt: skip

_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "eos_token_id": 49407, "projection_dim": 512,
}  # fmt: skip
_END, _WRONG_END = 49407, 2


def config_from_transformers(theirs: Json) -> CLIPTextConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express.

    Most published files claim that texts end with token 2, which no tokenizer of theirs writes; CLIP's end is meant.
    """
    full = sizes(theirs, _CLASSES, _DEFAULTS, {}, "num_hidden_layers")
    wrong = full["eos_token_id"] == _WRONG_END
    return CLIPTextConfig(
        vocabulary=full["vocab_size"],
        length=full["max_position_embeddings"],
        **encoder(full, ACTIVATIONS),
        end=min(_END, full["vocab_size"] - 1) if wrong else full["eos_token_id"],
        projection=full["projection_dim"] if full.get("architectures") == (_CLASSES[1],) else None,
    )


def config_to_transformers(config: CLIPTextConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for an activation that transformers does not name."""
    c = config
    return {
        "architectures": [_CLASSES[c.projection is not None]], "model_type": "clip_text_model",
        "vocab_size": c.vocabulary, "max_position_embeddings": c.length, **encoder_settings(c, ACTIVATIONS),
        "projection_dim": c.dim if c.projection is None else c.projection,
        "bos_token_id": c.end - 1, "eos_token_id": c.end, "pad_token_id": 1,
    }  # fmt: skip


def keymap(config: CLIPTextConfig, root: str = "", tower: str = "text_model.") -> KeyMap:
    """Names in transformers' layout: the tower's own begin with `root` + `tower`, the projection's with `root`."""
    there = root + tower
    rules = [
        Rule("token.weight", f"{there}embeddings.token_embedding.weight"),
        Rule("position", f"{there}embeddings.position_embedding.weight"),
        *rename("layers.{i}", f"{there}encoder.layers.{{i}}", LAYER),
        Rule("norm.{leaf:word}", f"{there}final_layer_norm.{{leaf:word}}"),
    ]
    return projected(rules, [f"{there}embeddings.position_ids"], config.projection, f"{root}text_projection.weight")


def open_clip_keymap(config: CLIPTextConfig, root: str = "") -> KeyMap:
    """Names in the layout of OpenAI's CLIP and OpenCLIP, all beginning with `root`."""
    rules = [
        Rule("token.weight", f"{root}token_embedding.weight"),
        Rule("position", f"{root}positional_embedding"),
        *open_clip_layers(f"{root}transformer.resblocks.{{i}}"),
        Rule("norm.{leaf:word}", f"{root}ln_final.{{leaf:word}}"),
    ]
    ignored = [f"{root}logit_scale", f"{root}attn_mask"]
    return projected(rules, ignored, config.projection, f"{root}text_projection", Transpose())


def open_clip_layers(there: str) -> list[Rule]:
    """The rules for a transformer layer whose query, key and value are fused."""
    fused = [
        Rule(tuple(f"layers.{{i}}.attn.{part}.{leaf}" for part in ("to_q", "to_k", "to_v")),
             f"{there}.attn.in_proj_{leaf}", Split(3))
        for leaf in ("weight", "bias")
    ]  # fmt: skip
    return [*fused, *rename("layers.{i}", there, OPEN_CLIP_LAYER)]


def _keymap_for(config: CLIPTextConfig, names: Names) -> KeyMap:
    return keymap(config, tower=bare(names, "text_model."))


CLIP_TEXT = Layout(_CLASSES, CLIPText, config_from_transformers, config_to_transformers, _keymap_for)
