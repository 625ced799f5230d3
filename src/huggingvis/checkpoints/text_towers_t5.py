"""T5's encoder in folders of transformers: PixArt's, Stable Diffusion 3's and FLUX's, and whole T5 v1.1 models.

Of a model with a decoder only the encoder is read. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from typing import Any

from huggingvis.checkpoints.diffusers_common import rename, unsupported
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.text_towers_common import Json, Layout, Names, check_heads, sizes
from huggingvis.nets.t5 import T5Config, T5Encoder

_CLASSES = ("T5EncoderModel", "T5ForConditionalGeneration", "T5Model")
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}  # fmt: skip
_ONLY = {"feed_forward_proj": ("gated-gelu", "gated-gelu_new"), "is_decoder": (False,)}
_ATTENTION = (("attn.to_q", "SelfAttention.q"), ("attn.to_k", "SelfAttention.k"), ("attn.to_v", "SelfAttention.v"),
              ("attn.to_out", "SelfAttention.o"), ("norm1", "layer_norm"))  # fmt: skip
_FORWARD = (("gate", "DenseReluDense.wi_0"), ("fc1", "DenseReluDense.wi_1"), ("fc2", "DenseReluDense.wo"),
            ("norm2", "layer_norm"))  # fmt: skip
_TOKENS = ("shared.weight", "encoder.embed_tokens.weight")


def config_from_transformers(theirs: Json) -> T5Config:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = sizes(theirs, _CLASSES, _DEFAULTS, _ONLY, "num_layers")
    buckets, farthest = full["relative_attention_num_buckets"], full["relative_attention_max_distance"]
    if buckets < 4 or buckets % 4:
        raise unsupported("relative_attention_num_buckets", buckets, "multiples of 4")
    if farthest <= buckets // 4:
        raise unsupported("relative_attention_max_distance", farthest, f"more than {buckets // 4}")
    inner = full["num_heads"] * full["d_kv"]
    return T5Config(
        vocabulary=full["vocab_size"],
        dim=full["d_model"],
        depth=full["num_layers"],
        heads=check_heads("num_heads", full["num_heads"], inner),
        head_dim=full["d_kv"],
        hidden=full["d_ff"],
        buckets=buckets,
        farthest=farthest,
        eps=full["layer_norm_epsilon"],
    )


def config_to_transformers(config: T5Config) -> dict[str, Any]:
    """A `config.json` for our sizes."""
    c = config
    return {
        "architectures": [_CLASSES[0]], "model_type": "t5", "vocab_size": c.vocabulary, "d_model": c.dim,
        "d_kv": c.head_dim, "d_ff": c.hidden, "num_layers": c.depth, "num_heads": c.heads,
        "relative_attention_num_buckets": c.buckets, "relative_attention_max_distance": c.farthest,
        "layer_norm_epsilon": c.eps, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
        "is_encoder_decoder": True, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
    }  # fmt: skip


def keymap(config: T5Config, root: str = "", names: Names = ()) -> KeyMap:
    """Names in transformers' layout, all beginning with `root`; `names` decide which of two holds the tokens."""
    tokens, same = (f"{root}{name}" for name in _TOKENS)
    if tokens not in names and same in names:
        tokens, same = same, tokens
    block = f"{root}encoder.block"
    return KeyMap(
        [
            Rule("token.weight", tokens),
            Rule("relative.weight", f"{block}.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            *rename("layers.{i}", f"{block}.{{i}}.layer.0", _ATTENTION),
            *rename("layers.{i}", f"{block}.{{i}}.layer.1", _FORWARD),
            Rule("norm.weight", f"{root}encoder.final_layer_norm.weight"),
        ],
        [same],
    )


T5 = Layout(
    _CLASSES,
    T5Encoder,
    config_from_transformers,
    config_to_transformers,
    lambda config, names: keymap(config, names=names),
    unused=("decoder.{rest:path}", "lm_head.weight"),
)
