"""BERT in folders of transformers, with the names of today and those of TensorFlow's days. Book: chapter 5."""

from __future__ import annotations

from typing import Any

from huggingvis.checkpoints.diffusers_common import rename
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.text_towers_common import Json, Layout, Names, encoder, encoder_settings, sizes
from huggingvis.nets.bert import BERT, BERTConfig

ACTIVATIONS = ("gelu", "gelu_new")
_CLASSES = ("BertModel", "BertForPreTraining", "BertForMaskedLM")
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip
_ONLY = {"is_decoder": (False,), "add_cross_attention": (False,), "position_embedding_type": ("absolute",)}
_LINEAR = (("attn.to_q", "attention.self.query"), ("attn.to_k", "attention.self.key"),
           ("attn.to_v", "attention.self.value"), ("attn.to_out", "attention.output.dense"),
           ("fc1", "intermediate.dense"), ("fc2", "output.dense"))  # fmt: skip


def config_from_transformers(theirs: Json) -> BERTConfig:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = sizes(theirs, _CLASSES, _DEFAULTS, _ONLY, "num_hidden_layers")
    return BERTConfig(
        vocabulary=full["vocab_size"],
        length=full["max_position_embeddings"],
        kinds=full["type_vocab_size"],
        **encoder(full, ACTIVATIONS),
    )


def config_to_transformers(config: BERTConfig) -> dict[str, Any]:
    """A `config.json` for our sizes. Raises `UsageError` for an activation that transformers does not name."""
    c = config
    return {
        "architectures": [_CLASSES[0]], "model_type": "bert", "vocab_size": c.vocabulary,
        "max_position_embeddings": c.length, "type_vocab_size": c.kinds,
        **encoder_settings(c, ACTIVATIONS), "pad_token_id": 0,
    }  # fmt: skip


def keymap(config: BERTConfig, root: str = "", names: Names = ()) -> KeyMap:
    """Names in transformers' layout, all beginning with `root`; `names` decide what the parts of a norm are called."""
    old = any(name.endswith("LayerNorm.gamma") for name in names)
    embeddings, layer = f"{root}embeddings", f"{root}encoder.layer.{{i}}"
    rules = [
        Rule("token.weight", f"{embeddings}.word_embeddings.weight"),
        Rule("position", f"{embeddings}.position_embeddings.weight"),
        Rule("kind.weight", f"{embeddings}.token_type_embeddings.weight"),
        *rename("layers.{i}", layer, _LINEAR),
        Rule("pool.{leaf:word}", f"{root}pooler.dense.{{leaf:word}}"),
    ]
    norms = (("norm", embeddings), ("layers.{i}.norm1", f"{layer}.attention.output"), ("layers.{i}.norm2",
             f"{layer}.output"))  # fmt: skip
    for ours, theirs in norms:
        for leaf, older in (("weight", "gamma"), ("bias", "beta")):
            rules.append(Rule(f"{ours}.{leaf}", f"{theirs}.LayerNorm.{older if old else leaf}"))
    return KeyMap(rules, [f"{embeddings}.position_ids", f"{embeddings}.token_type_ids"])


def _keymap_for(config: BERTConfig, names: Names) -> KeyMap:
    root = "bert." if any(name.startswith("bert.") for name in names) else ""
    return keymap(config, root, names)


BERT_TEXT = Layout(
    _CLASSES, BERT, config_from_transformers, config_to_transformers, _keymap_for, unused=("cls.{rest:path}",)
)
