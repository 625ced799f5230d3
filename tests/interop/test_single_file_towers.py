"""Text towers of single-file checkpoints become nets, in each spelling, and compute what transformers' compute."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers_nets import relative

from huggingvis.checkpoints import text_towers_clip, text_towers_ldm_bert
from huggingvis.checkpoints.single_file import Parts, parts_of, read_parts, write_single_file
from huggingvis.checkpoints.single_file_towers import tower_net
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.encoder_layer import gelu
from huggingvis.nets.ldm_bert import LDMBert, LDMBertConfig

IDS = torch.tensor([[5, 1, 9, 20, 20], [7, 20, 20, 20, 20]])


def read_with(towers: dict[str, dict[str, torch.Tensor]], folder: Path) -> Parts:
    autoencoder = AutoencoderKL(AutoencoderConfig(channels=(8,), groups=4, blocks=1))
    parts = parts_of(autoencoder=autoencoder, towers=towers)
    return read_parts(write_single_file(folder / "x.safetensors", parts))


def test_clip_as_transformers_spells_it(tmp_path: Path) -> None:
    from transformers import CLIPTextConfig as Config
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 21, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = Config(**sizes, num_attention_heads=1, max_position_embeddings=5, eos_token_id=20)
    theirs = CLIPTextModel(config).eval().requires_grad_(False)
    for inner in ("text_model.", ""):
        root = "cond_stage_model.transformer."
        named = {f"{root}{inner}{name.removeprefix('text_model.')}": x for name, x in theirs.state_dict().items()}
        named[f"{root}{inner}embeddings.position_ids"] = torch.arange(5)[None]
        parts = read_with({"text": named}, tmp_path)
        net = tower_net(parts.layout.towers["text"], parts.towers["text"])
        assert parts.towers["text"].keys() == named.keys() and not net.training
        assert relative(net(IDS)[0], theirs(IDS).last_hidden_state) < 1e-5


def test_open_clip_and_both_towers_of_xl(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = CLIPText(CLIPTextConfig(21, 5, 8, 2, 1, 12, end=20)).eval()
    second = CLIPText(CLIPTextConfig(21, 5, 16, 3, 1, 24, gelu, end=20, projection=16)).eval()
    towers = {
        "text": text_towers_clip.keymap(first.config, "conditioner.embedders.0.transformer.").to_theirs(
            first.state_dict()
        ),
        "text_2": text_towers_clip.open_clip_keymap(second.config, "conditioner.embedders.1.model.").to_theirs(
            second.state_dict()
        )
        | {"conditioner.embedders.1.model.logit_scale": torch.tensor(4.6)},
    }
    parts = read_with(towers, tmp_path)
    for name, net in (("text", first), ("text_2", second)):
        found = tower_net(parts.layout.towers[name], parts.towers[name])
        assert isinstance(found, CLIPText) and found.config == net.config
        for a, b in zip(found(IDS), net(IDS), strict=True):
            assert a.equal(b)


def test_the_bert_of_latent_diffusion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = LDMBert(LDMBertConfig(vocabulary=21, length=5, dim=16, depth=2, heads=1, head_dim=64, hidden=24)).eval()
    root = "cond_stage_model.transformer."
    named = text_towers_ldm_bert.original_keymap(net.config, root).to_theirs(net.state_dict())
    parts = read_with({"text": named}, tmp_path)
    found = tower_net(parts.layout.towers["text"], parts.towers["text"])
    assert isinstance(found, LDMBert) and found.config == net.config and found(IDS).equal(net(IDS))
