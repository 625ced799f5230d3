"""The text tower of latent diffusion in diffusers' folders and in the original single file. Book: chapter 5.

Both bring a head that was to predict words. Nothing uses it and it is not read: diffusers loads what we write and says
that it made a new one.
"""

from __future__ import annotations

from typing import Any

from huggingvis.checkpoints.diffusers_common import rename
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.text_towers_common import (
    Json,
    Layout,
    Names,
    activation,
    activation_name,
    check_heads,
    sizes,
)
from huggingvis.nets.ldm_bert import LDMBert, LDMBertConfig

ACTIVATIONS = ("gelu",)
_CLASSES = ("LDMBertModel",)
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522, "max_position_embeddings": 77, "encoder_layers": 32, "encoder_ffn_dim": 5120,
    "encoder_attention_heads": 8, "head_dim": 64, "activation_function": "gelu", "d_model": 1280,
}  # fmt: skip
_LAYER = (("norm1", "self_attn_layer_norm"), ("attn.to_q", "self_attn.q_proj"), ("attn.to_k", "self_attn.k_proj"),
          ("attn.to_v", "self_attn.v_proj"), ("attn.to_out", "self_attn.out_proj"), ("norm2", "final_layer_norm"),
          ("fc1", "fc1"), ("fc2", "fc2"))  # fmt: skip
_ORIGINAL_ATTENTION = (("norm1", "0"), ("attn.to_q", "1.to_q"), ("attn.to_k", "1.to_k"), ("attn.to_v", "1.to_v"),
                       ("attn.to_out", "1.to_out"))  # fmt: skip
_ORIGINAL_FORWARD = (("norm2", "0"), ("fc1", "1.net.0.0"), ("fc2", "1.net.2"))


def config_from_diffusers(theirs: Json) -> LDMBertConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = sizes(theirs, _CLASSES, _DEFAULTS, {"scale_embedding": (False,)}, "encoder_layers")
    inner = full["encoder_attention_heads"] * full["head_dim"]
    return LDMBertConfig(
        vocabulary=full["vocab_size"],
        length=full["max_position_embeddings"],
        dim=full["d_model"],
        depth=full["encoder_layers"],
        heads=check_heads("encoder_attention_heads", full["encoder_attention_heads"], inner),
        head_dim=full["head_dim"],
        hidden=full["encoder_ffn_dim"],
        activation=activation(full, "activation_function", ACTIVATIONS),
    )


def config_to_diffusers(config: LDMBertConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for an activation that diffusers does not name."""
    c = config
    return {
        "architectures": [_CLASSES[0]], "model_type": "ldmbert", "vocab_size": c.vocabulary,
        "max_position_embeddings": c.length, "d_model": c.dim, "encoder_layers": c.depth,
        "encoder_attention_heads": c.heads, "head_dim": c.head_dim, "encoder_ffn_dim": c.hidden,
        "activation_function": activation_name(c.activation, ACTIVATIONS), "pad_token_id": 0,
    }  # fmt: skip


def keymap(config: LDMBertConfig, root: str = "") -> KeyMap:
    """Names in diffusers' layout, all beginning with `root`."""
    rules = [
        Rule("token.weight", f"{root}model.embed_tokens.weight"),
        Rule("position", f"{root}model.embed_positions.weight"),
        *rename("layers.{i}", f"{root}model.layers.{{i}}", _LAYER),
        Rule("norm.{leaf:word}", f"{root}model.layer_norm.{{leaf:word}}"),
    ]
    return KeyMap(rules, [f"{root}to_logits.{{leaf:word}}"])


def original_keymap(config: LDMBertConfig, root: str = "transformer.") -> KeyMap:
    """Names in the first release's layout, where a layer of ours is two of theirs: attention, then feed-forward."""
    rules = [
        Rule("token.weight", f"{root}token_emb.weight"),
        Rule("position", f"{root}pos_emb.emb.weight"),
        Rule("norm.{leaf:word}", f"{root}norm.{{leaf:word}}"),
    ]
    for layer in range(config.depth):
        rules += rename(f"layers.{layer}", f"{root}attn_layers.layers.{2 * layer}", _ORIGINAL_ATTENTION)
        rules += rename(f"layers.{layer}", f"{root}attn_layers.layers.{2 * layer + 1}", _ORIGINAL_FORWARD)
    return KeyMap(rules, [f"{root}to_logits.{{leaf:word}}"])


def _keymap_for(config: LDMBertConfig, names: Names) -> KeyMap:
    return keymap(config)


LDM_BERT = Layout(
    _CLASSES, LDMBert, config_from_diffusers, config_to_diffusers, _keymap_for, unused=("to_logits.{leaf:word}",)
)
