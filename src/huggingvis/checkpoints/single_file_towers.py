"""The text towers in a single-file checkpoint, as nets.

    net = tower_net(parts.layout.towers["text"], parts.towers["text"])

What their shapes do not tell is the same for all of the family: heads of width 64, the quick GELU in OpenAI's towers
and the exact one in OpenCLIP's, the last token of the vocabulary as the end of a text.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from huggingvis.checkpoints import text_towers_clip, text_towers_ldm_bert
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.single_file_layout import TowerLayout
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.encoder_layer import gelu, quick_gelu
from huggingvis.nets.ldm_bert import LDMBert, LDMBertConfig

HEAD_DIM = 64


def tower_net(where: TowerLayout, tensors: Mapping[str, Tensor]) -> CLIPText | LDMBert:
    """The tower that `tensors` are of, in evaluation mode; it has them, not copies, but for what a layout fuses.

    Raises `FileProblem` where they are not of such a net.
    """
    return _ldm(where, tensors) if where.spelling == "ldm" else _clip(where, tensors)


def _clip(where: TowerLayout, tensors: Mapping[str, Tensor]) -> CLIPText:
    config = CLIPTextConfig(
        vocabulary=where.vocabulary,
        length=where.length,
        dim=where.dim,
        depth=where.depth,
        heads=max(1, where.dim // HEAD_DIM),
        hidden=where.hidden,
        activation=quick_gelu if where.openai else gelu,
        end=where.vocabulary - 1,
        projection=where.projection,
    )
    if where.spelling == "transformers":
        keymap = text_towers_clip.keymap(config, where.root, where.inner)
    else:
        keymap = text_towers_clip.open_clip_keymap(config, where.root)
    return filled(lambda: CLIPText(config), keymap.to_ours(tensors))


def _ldm(where: TowerLayout, tensors: Mapping[str, Tensor]) -> LDMBert:
    query = tensors.get(f"{where.root}attn_layers.layers.0.1.to_q.weight")
    feed = tensors.get(f"{where.root}attn_layers.layers.1.1.net.0.0.weight")
    config = LDMBertConfig(
        vocabulary=where.vocabulary,
        length=where.length,
        dim=where.dim,
        depth=where.depth // 2,  # theirs counts attention and feed-forward
        heads=8 if query is None else max(1, query.shape[0] // HEAD_DIM),
        head_dim=HEAD_DIM,
        hidden=4 * where.dim if feed is None else feed.shape[0],
        activation=gelu,
    )
    keymap = text_towers_ldm_bert.original_keymap(config, where.root)
    return filled(lambda: LDMBert(config), keymap.to_ours(tensors))
