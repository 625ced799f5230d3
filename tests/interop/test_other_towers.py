"""CLIP's image tower, T5, BERT and the BERT of latent diffusion equal their references; their files in and out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers_nets import draw, relative, same_tensors
from torch import Tensor, nn
from tower_twins import BERT, LDM_BERT, OPEN_VISION, T5, VISION, Recorded, Settings, kind, texts, twin, written

from huggingvis.checkpoints import text_towers_clip_vision, text_towers_ldm_bert
from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.text_towers import from_transformers, to_transformers
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.taps import attach
from huggingvis.nets.t5 import bucket

VISIONS = [("CLIPVisionModel", VISION), ("CLIPVisionModelWithProjection", OPEN_VISION)]
TOWERS: list[tuple[str, Settings]] = [
    *VISIONS, ("T5EncoderModel", T5), ("BertModel", BERT), ("LDMBertModel", LDM_BERT)
]  # fmt: skip
NAMES = ["vision", "projected vision", "t5", "bert", "ldm bert"]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
both_precisions = pytest.mark.parametrize(("dtype", "near"), PRECISIONS, ids=["float32", "float64"])


def both(name: str, settings: Settings, folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """(theirs, ours) with the same weights."""
    theirs = twin(name, settings).to(dtype)
    return theirs, from_transformers(written(theirs, folder)).requires_grad_(False)


def masks() -> Tensor:
    mask = torch.ones(4, 11, dtype=torch.bool)
    mask[1, 5:] = mask[2, 2:] = mask[3, :3] = False
    return mask


@both_precisions
@pytest.mark.parametrize(("name", "settings"), VISIONS, ids=NAMES[:2])
def test_clip_vision(name: str, settings: Settings, dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    theirs, ours = both(name, settings, tmp_path, dtype)
    images = draw(2, ours.config.channels, 12, 12).to(dtype)
    want = theirs(images, output_hidden_states=True)
    tokens, pooled = ours(images)
    assert tokens.shape == (2, 10, 24) and relative(tokens, want.last_hidden_state) < near
    assert relative(pooled, want.image_embeds if ours.projection else want.pooler_output) < near
    assert relative(ours.hidden(images, 2), want.hidden_states[-2]) < near
    assert relative(ours.hidden(images, 0), want.hidden_states[0]) < near
    with pytest.raises(UsageError, match="16"):
        ours(draw(2, ours.config.channels, 16, 16))


def in_float64(net: Any) -> None:
    """The reference takes its root mean squares in float32 whatever the net's precision: PyTorch's norm instead."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == "T5LayerNorm":
                norm = nn.RMSNorm(len(child.weight), child.variance_epsilon)
                norm.weight = child.weight
                setattr(parent, name, norm)


@both_precisions
def test_t5(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    theirs, ours = both("T5EncoderModel", T5, tmp_path, dtype)
    if dtype is torch.float64:
        in_float64(theirs)
    for mask in (None, masks()):
        want = theirs(texts(), attention_mask=mask).last_hidden_state
        assert relative(ours(texts(), mask), want) < near
    ids = torch.randint(0, 120, (1, 40), generator=torch.Generator().manual_seed(0))
    assert relative(ours(ids), theirs(ids).last_hidden_state) < near


def test_taps_see_the_attention_of_t5(tmp_path: Path) -> None:
    """With the bias in it and the mask kept, though the scores are not scaled."""
    theirs, ours = both("T5EncoderModel", T5, tmp_path)
    plain, tap = ours(texts(), masks()), Recorded()
    handle = attach(ours, tap)
    assert relative(ours(texts(), masks()), plain) < 1e-6
    theirs.set_attn_implementation("eager")
    want = theirs(texts(), attention_mask=masks(), output_attentions=True).attentions
    for number in range(3):
        assert relative(tap.maps[f"layers.{number}.attn"], want[number]) < 1e-5
    handle.remove()
    assert torch.equal(ours(texts(), masks()), plain)


def test_masked_tokens_change_nothing(tmp_path: Path) -> None:
    for name, settings in (("T5EncoderModel", T5), ("BertModel", BERT)):
        _, ours = both(name, settings, tmp_path / name)
        other = torch.where(masks(), texts(), 7)
        a, b = ours(texts(), masks()), ours(other, masks())
        a, b = (x if isinstance(x, Tensor) else x[0] for x in (a, b))
        assert torch.equal(a[masks()], b[masks()]) and not torch.equal(a, b)


@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 9), (16, 64), (64, 1000)])
def test_buckets_are_the_reference_s(buckets: int, farthest: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-2000, 2001)
    want = T5Attention._relative_position_bucket(distance, True, buckets, farthest)
    assert torch.equal(bucket(distance, buckets, farthest), want) and len(want.unique()) == buckets - 1


@both_precisions
def test_bert(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    theirs, ours = both("BertModel", BERT, tmp_path, dtype)
    kinds = (torch.arange(11) > 5).long().expand(4, -1)
    for mask in (None, masks()):
        for kind_ids in (None, kinds):
            want = theirs(texts(), attention_mask=mask, token_type_ids=kind_ids)
            tokens, pooled = ours(texts(), mask, kind_ids)
            assert relative(tokens, want.last_hidden_state) < near and relative(pooled, want.pooler_output) < near


@both_precisions
def test_ldm_bert(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    theirs, ours = both("LDMBertModel", LDM_BERT, tmp_path, dtype)
    assert relative(ours(texts()), theirs(texts(), return_dict=False)[0]) < near


@pytest.mark.parametrize(("name", "settings"), TOWERS, ids=NAMES)
def test_files_round_trip(name: str, settings: Settings, tmp_path: Path) -> None:
    theirs, ours = both(name, settings, tmp_path / "in")
    to_transformers(ours, tmp_path / "out")
    again = from_transformers(tmp_path / "out")
    assert again.config == ours.config and same_tensors(again.state_dict(), ours.state_dict())
    reread = type(theirs).from_pretrained(tmp_path / "out").state_dict()
    unused = {key for key in reread if key.startswith("to_logits.")}
    assert same_tensors(
        {key: x for key, x in reread.items() if key not in unused},
        {key: x for key, x in theirs.state_dict().items() if key not in unused},
    )
    config = json.loads((tmp_path / "in/config.json").read_text())
    to_transformers(ours, tmp_path / "kept", config)
    assert json.loads((tmp_path / "kept/config.json").read_text()) == config
    half = from_transformers(tmp_path / "in", torch.bfloat16)
    assert {x.dtype for x in half.state_dict().values()} == {torch.bfloat16}


def test_only_the_encoder_of_a_whole_t5_is_read(tmp_path: Path) -> None:
    theirs, ours = both("T5ForConditionalGeneration", T5, tmp_path)
    want = theirs.encoder(texts()).last_hidden_state
    assert relative(ours(texts()), want) < 1e-5
    tensors = load(tmp_path / "model.safetensors")
    assert any(name.startswith("decoder.") for name in tensors)
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save(tmp_path / "model.safetensors", tensors)
    assert same_tensors(from_transformers(tmp_path).state_dict(), ours.state_dict())
    tensors["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    save(tmp_path / "model.safetensors", tensors)
    assert same_tensors(from_transformers(tmp_path).state_dict(), ours.state_dict())


def test_bert_under_its_old_names(tmp_path: Path) -> None:
    _, ours = both("BertForPreTraining", BERT, tmp_path)
    old = {}
    for name, tensor in load(tmp_path / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[name] = tensor
    assert "bert.encoder.layer.2.output.LayerNorm.gamma" in old
    old["bert.embeddings.position_ids"] = torch.arange(16)[None]
    save(tmp_path / "model.safetensors", old)
    assert same_tensors(from_transformers(tmp_path).state_dict(), ours.state_dict())


def test_image_tower_in_other_layouts(tmp_path: Path) -> None:
    """As OpenCLIP has it, and inside the safety checker, whose versions nest it once or twice."""
    theirs, ours = both("CLIPVisionModelWithProjection", OPEN_VISION, tmp_path)
    state = theirs.state_dict()
    there = text_towers_clip_vision.open_clip_keymap(ours.config)
    tensors = there.to_theirs(ours.state_dict())
    assert torch.equal(tensors["visual.proj"], state["visual_projection.weight"].T)
    assert same_tensors(there.to_ours(tensors), ours.state_dict())
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=OPEN_VISION, projection_dim=16))
    names = {name for name in checker.state_dict() if name.startswith("vis")}
    towers = ("vision_model.", "vision_model.vision_model.")
    found = [
        set(text_towers_clip_vision.keymap(ours.config, tower=tower).to_theirs(ours.state_dict())) for tower in towers
    ]
    assert names in found


def tree(tensors: dict[str, Tensor]) -> Any:
    """Dotted names as attributes, numbers as lists, the leaves parameters."""
    if "" in tensors:
        return nn.Parameter(tensors[""])
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = tensor
    grown = {first: tree(inside) for first, inside in parts.items()}
    if not all(first.isdigit() for first in grown):
        return SimpleNamespace(**grown)
    return [grown.get(str(i)) for i in range(1 + max(map(int, grown)))]


def test_the_first_release_s_layout_is_what_diffusers_converts(tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_bert_checkpoint

    theirs, ours = both("LDMBertModel", LDM_BERT, tmp_path)
    there = text_towers_ldm_bert.original_keymap(ours.config)
    tensors = there.to_theirs(ours.state_dict())
    head = {f"transformer.to_logits.{leaf}": theirs.state_dict()[f"to_logits.{leaf}"] for leaf in ("weight", "bias")}
    converted = convert_ldm_bert_checkpoint(tree(tensors | head), theirs.config)
    assert same_tensors(converted.state_dict(), theirs.state_dict())
    assert same_tensors(there.to_ours(tensors | head), ours.state_dict())


WRONG: list[tuple[str, Settings, Settings, str]] = [
    ("CLIPVisionModel", VISION, {"hidden_act": "silu"}, "hidden_act"),
    ("CLIPVisionModel", VISION, {"patch_size": 0}, "patch_size"),
    ("CLIPVisionModel", VISION, {"image_size": 16}, "position"),
    ("T5EncoderModel", T5, {"feed_forward_proj": "relu"}, "feed_forward_proj"),
    ("T5EncoderModel", T5, {"is_decoder": True}, "is_decoder"),
    ("T5EncoderModel", T5, {"num_heads": 0}, "num_heads"),
    ("T5EncoderModel", T5, {"relative_attention_num_buckets": 6}, "relative_attention_num_buckets"),
    ("T5EncoderModel", T5, {"relative_attention_max_distance": 2}, "relative_attention_max_distance"),
    ("BertModel", BERT, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("BertModel", BERT, {"add_cross_attention": True}, "add_cross_attention"),
    ("BertModel", BERT, {"hidden_act": "relu"}, "hidden_act"),
    ("BertModel", BERT, {"architectures": ["BertForQuestionAnswering"]}, "architectures"),
    ("LDMBertModel", LDM_BERT, {"scale_embedding": True}, "scale_embedding"),
    ("LDMBertModel", LDM_BERT, {"encoder_layers": 4}, "missing"),
]


@pytest.mark.parametrize(("name", "settings", "change", "words"), WRONG, ids=[f"{n}-{w}" for n, _, _, w in WRONG])
def test_other_settings_are_refused_by_name(
    name: str, settings: Settings, change: Settings, words: str, tmp_path: Path
) -> None:
    written(twin(name, settings), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileProblem, match=words) as caught:
        from_transformers(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


SIZES: list[tuple[str, Settings, int]] = [  # the published towers
    ("CLIPVisionModelWithProjection",
     {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
      "patch_size": 14, "projection_dim": 768}, 303_966_208),
    ("CLIPVisionModelWithProjection",
     {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
      "patch_size": 14, "projection_dim": 1024, "hidden_act": "gelu"}, 632_076_800),
    ("T5EncoderModel",
     {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"},
     4_762_310_656),
    ("BertModel", {}, 109_482_240),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "published"), SIZES, ids=["vision L", "vision H", "t5 xxl", "bert"])
def test_full_sizes_have_the_published_counts(name: str, settings: Settings, published: int) -> None:
    from huggingvis.checkpoints.text_towers import _READ

    layout = _READ[name]
    with torch.device("meta"):
        theirs = kind(name)(kind(name).config_class(**settings))
        ours = layout.net(layout.from_json({"architectures": [name], **settings}))
    counts = [sum(x.numel() for x in net.parameters()) for net in (ours, theirs)]
    assert counts == [published, published]
