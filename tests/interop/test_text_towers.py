"""Text and image towers equal transformers' on the same weights; their files in and out; what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import relative, same_tensors
from torch import nn
from tower_twins import CLIP, OPEN_CLIP, Recorded, Settings, kind, texts, twin, written

from huggingvis.checkpoints import text_towers_clip
from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.text_towers import from_transformers, to_transformers
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.taps import attach
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.encoder_layer import gelu

CLIP_TEXTS = [("CLIPTextModel", CLIP), ("CLIPTextModelWithProjection", OPEN_CLIP)]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def both(name: str, settings: Settings, folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """(theirs, ours) with the same weights."""
    theirs = twin(name, settings).to(dtype)
    return theirs, from_transformers(written(theirs, folder))


@pytest.mark.parametrize(("dtype", "near"), PRECISIONS, ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "settings"), CLIP_TEXTS, ids=["clip", "open clip"])
def test_clip_text(name: str, settings: Settings, dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    theirs, ours = both(name, settings, tmp_path, dtype)
    ids = texts()
    with torch.no_grad():
        want = theirs(ids, output_hidden_states=True)
        tokens, pooled = ours(ids)
        assert relative(tokens, want.last_hidden_state) < near
        assert relative(pooled, want.text_embeds if ours.projection else want.pooler_output) < near
        for layers, state in enumerate(want.hidden_states[: ours.config.depth + 1]):
            assert relative(ours.hidden(ids, layers), state) < near
        penultimate = ours.hidden(ids, 2)
        assert relative(ours.norm(penultimate), theirs_norm(theirs)(want.hidden_states[-2])) < near
        assert torch.equal(ours.hidden(ids, 2, ours.embed(ids)), penultimate)
        swapped = ours.embed(ids).flip(0)
        assert torch.equal(ours.hidden(ids, embedded=swapped), ours.hidden(ids.flip(0)))


def theirs_norm(net: Any) -> nn.Module:
    return next(module for name, module in net.named_modules() if name.endswith("final_layer_norm"))


def test_pooled_is_the_first_end_whatever_follows(tmp_path: Path) -> None:
    """Later tokens, an added vocabulary and more ends change nothing, also where the file says that 2 is the end."""
    theirs, ours = both("CLIPTextModelWithProjection", CLIP | {"eos_token_id": 2}, tmp_path)
    assert ours.config.end == 119
    ids = texts()
    assert relative(ours(ids)[1], theirs(ids).text_embeds) < 1e-5
    other = ids.clone()
    for row in range(4):
        end = int((ids[row] == 119).nonzero()[0])
        other[row, end + 1 :] = 119 if ids[row, -1] == 0 else 5
    assert not torch.equal(ids, other) and torch.equal(ours(other)[1], ours(ids)[1])


def test_taps_see_the_attention_of_the_tower(tmp_path: Path) -> None:
    theirs, ours = both("CLIPTextModel", CLIP, tmp_path)
    ours.requires_grad_(False)
    plain, tap = ours(texts())[0], Recorded()
    handle = attach(ours, tap, "layers.*.attn")
    assert relative(ours(texts())[0], plain) < 1e-5
    theirs.set_attn_implementation("eager")
    want = theirs(texts(), output_attentions=True).attentions
    for number in range(3):
        assert relative(tap.maps[f"layers.{number}.attn"], want[number]) < 1e-5
    handle.remove()
    assert torch.equal(ours(texts())[0], plain)


@pytest.mark.parametrize(("name", "settings"), CLIP_TEXTS, ids=["clip", "open clip"])
def test_files_round_trip(name: str, settings: Settings, tmp_path: Path) -> None:
    theirs, ours = both(name, settings, tmp_path / "in")
    to_transformers(ours, tmp_path / "out")
    again = from_transformers(tmp_path / "out")
    assert again.config == ours.config and same_tensors(again.state_dict(), ours.state_dict())
    reread = type(theirs).from_pretrained(tmp_path / "out")
    assert same_tensors(reread.state_dict(), theirs.state_dict())
    config = json.loads((tmp_path / "in/config.json").read_text())
    to_transformers(ours, tmp_path / "kept", config)
    assert json.loads((tmp_path / "kept/config.json").read_text()) == config
    half = from_transformers(tmp_path / "in", torch.bfloat16)
    assert {x.dtype for x in half.state_dict().values()} == {torch.bfloat16}


def test_every_form_of_a_folder_is_read(tmp_path: Path) -> None:
    """With and without `text_model.`, with position indices, a projection that nobody asked for, .bin and shards."""
    theirs, ours = both("CLIPTextModel", CLIP, tmp_path)
    bare = {name.removeprefix("text_model."): x for name, x in load(tmp_path / "model.safetensors").items()}
    full = {f"text_model.{name}": x for name, x in bare.items()}
    full["text_model.embeddings.position_ids"] = torch.arange(11)[None]
    full["text_projection.weight"] = torch.zeros(24, 24)
    for tensors in (bare, full):
        save(tmp_path / "model.safetensors", tensors)
        assert same_tensors(from_transformers(tmp_path).state_dict(), ours.state_dict())
    (tmp_path / "model.safetensors").unlink()
    torch.save(full, tmp_path / "pytorch_model.bin")
    assert same_tensors(from_transformers(tmp_path).state_dict(), ours.state_dict())
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    assert same_tensors(from_transformers(tmp_path / "shards").state_dict(), ours.state_dict())


def test_open_clip_layout_round_trips_and_is_the_same_net(tmp_path: Path) -> None:
    theirs, ours = both("CLIPTextModelWithProjection", OPEN_CLIP, tmp_path)
    there = text_towers_clip.open_clip_keymap(ours.config, "model.").to_theirs(ours.state_dict())
    name = "text_model.encoder.layers.1.self_attn"
    state = theirs.state_dict()
    fused = torch.cat([state[f"{name}.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(there["model.transformer.resblocks.1.attn.in_proj_weight"], fused)
    assert torch.equal(there["model.text_projection"], state["text_projection.weight"].T)
    extra = {"model.logit_scale": torch.tensor(1.0), "model.attn_mask": torch.zeros(11, 11)}
    back = text_towers_clip.open_clip_keymap(ours.config, "model.").to_ours(there | extra)
    assert same_tensors(back, ours.state_dict())


# The real names and sizes.


def real(*parts: str) -> Any:
    root = os.environ.get("HUGGINGVIS_TESTDATA")
    if not root:
        pytest.skip("HUGGINGVIS_TESTDATA is not set: the real configurations and key lists are not here")
    return json.loads(Path(root, "configs", *parts).read_text())


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


CLIP_L = CLIPTextConfig()
OPEN_CLIP_H = CLIPTextConfig(dim=1024, depth=24, heads=16, hidden=4096, activation=gelu, projection=1024)
OPEN_CLIP_G = CLIPTextConfig(dim=1280, depth=32, heads=20, hidden=5120, activation=gelu, projection=1280)


def test_full_sizes_have_the_published_counts() -> None:
    for config, published in ((CLIP_L, 123_060_480), (OPEN_CLIP_H, 354_032_640), (OPEN_CLIP_G, 694_659_840)):
        settings = text_towers_clip.config_to_transformers(config)
        with torch.device("meta"):
            theirs = kind(settings["architectures"][0])
            assert count(CLIPText(config)) == count(theirs(theirs.config_class(**settings))) == published


def test_the_real_configuration_is_read() -> None:
    config = real("sd15", "text_encoder", "config.json")
    assert text_towers_clip.config_from_transformers(config) == CLIP_L
    back = text_towers_clip.config_to_transformers(CLIP_L)
    kept = {key: value for key, value in back.items() if config.get(key) == value}
    assert set(back) - set(kept) == {"bos_token_id", "eos_token_id"}


@pytest.mark.parametrize("version", ["sd1", "sd2"])
def test_every_key_of_the_real_lists_is_covered(version: str) -> None:
    """And nothing else is needed: a net is complete with them, but for the last layer that Stable Diffusion 2 skips."""
    lists = real("keymaps", f"stable_diffusion_{version}.json")
    names = {n for part in ("ldm_diffusers_keymap", "ldm_diffusers_operator_map") for n in lists[part]}
    names = {name for name in names if name.startswith("cond_stage_model.")}
    assert len(names) == {"sd1": 196, "sd2": 280}[version]
    if version == "sd1":
        config, there = CLIP_L, text_towers_clip.keymap(CLIP_L, "cond_stage_model.transformer.")
    else:
        config = CLIPTextConfig(dim=1024, depth=23, heads=16, hidden=4096, activation=gelu)
        there = text_towers_clip.open_clip_keymap(config, "cond_stage_model.model.")
    with torch.device("meta"):
        net = CLIPText(config)
    assert set(there.to_theirs(net.state_dict())) == names


# What is refused.

WRONG: list[tuple[Settings, str]] = [
    ({"hidden_act": "relu"}, "hidden_act"),
    ({"architectures": ["CLIPModel"]}, "architectures"),
    ({"architectures": None}, "architectures"),
    ({"num_attention_heads": 5}, "num_attention_heads"),
    ({"num_attention_heads": 0}, "num_attention_heads"),
    ({"num_hidden_layers": 100_000}, "num_hidden_layers"),
    ({"hidden_size": [24, 24]}, "hidden_size"),
    ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ({"num_hidden_layers": 4}, "missing"),
    ({"num_hidden_layers": 2}, "no place|unexpected"),
    ({"hidden_size": 48}, "another shape"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda x: "-".join(x) if isinstance(x, dict) else "")
def test_other_settings_are_refused_by_name(change: Settings, words: str, tmp_path: Path) -> None:
    written(twin("CLIPTextModel", CLIP), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileProblem, match=words) as caught:
        from_transformers(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_wrong_and_truncated_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"config\.json"):
        from_transformers(tmp_path)
    _, ours = both("CLIPTextModel", CLIP, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(FileProblem, match="model.safetensors"):
        from_transformers(tmp_path)
    weights.unlink()
    with pytest.raises(FileProblem, match="holds no weights"):
        from_transformers(tmp_path)
    with pytest.raises(UsageError, match="another CLIPText"):
        to_transformers(ours, tmp_path / "out", OPEN_CLIP)
    with pytest.raises(UsageError, match="Linear"):
        to_transformers(nn.Linear(2, 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_texts_and_layers_beyond_the_tower_are_refused() -> None:
    net = CLIPText(CLIPTextConfig(vocabulary=9, length=4, dim=8, depth=2, heads=2, hidden=8, end=8))
    with pytest.raises(UsageError, match="4 tokens"):
        net(torch.zeros(1, 5, dtype=torch.int64))
    for layers in (3, -1):
        with pytest.raises(UsageError, match="2 layers"):
            net.hidden(torch.zeros(1, 4, dtype=torch.int64), layers)
