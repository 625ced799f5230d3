"""One LoRA under the names of several layouts: the original U-Net's, transformers' towers', OpenCLIP's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import SD1, SDXL, draw, relative
from safetensors.torch import save_file
from torch import Tensor

from huggingvis.adapters.lora import LoraSet
from huggingvis.adapters.lora_factors import LowRank
from huggingvis.checkpoints import diffusers_unet, ldm_unet
from huggingvis.checkpoints import text_towers as folders
from huggingvis.checkpoints import text_towers_clip as towers
from huggingvis.checkpoints.lora_formats import read
from huggingvis.checkpoints.lora_formats_fit import Fitted, Host, fit
from huggingvis.checkpoints.lora_formats_names import address
from huggingvis.nets.unet import UNet

DATA = os.environ.get("HUGGINGVIS_TESTDATA", "")


def unet(settings: dict[str, Any]) -> Host:
    config = diffusers_unet.config_from_diffusers(settings)
    with torch.device("meta"):
        net = UNet(config)
    linear = bool(settings.get("use_linear_projection"))
    return Host(net, (diffusers_unet.keymap(settings), ldm_unet.keymap(config, linear=linear)))


def fitted(path: Path, tensors: dict[str, Tensor], **hosts: Host) -> Fitted:
    save_file({name: x.contiguous() for name, x in tensors.items()}, path)
    return fit(read(path), hosts)


def pair(stem: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    ones = (1,) * len(shape[2:])
    return {f"{stem}.lora_up.weight": draw(shape[0], 2, *ones), f"{stem}.lora_down.weight": draw(2, *shape[1:])}


@pytest.mark.parametrize("settings", [SD1, SDXL], ids=["1", "xl"])
def test_every_layer_is_found_under_the_names_of_both_layouts(settings: dict[str, Any], tmp_path: Path) -> None:
    host = unet(settings)
    state = host.net.state_dict()
    found = []
    for keymap in host.maps:
        theirs = {name.removeprefix("model.diffusion_model."): x for name, x in keymap.to_theirs(state).items()}
        weights = {name.removesuffix(".weight"): tuple(x.shape) for name, x in theirs.items() if x.ndim > 1}
        for spell in ("lora_unet_{_}", "unet.{.}", "model.diffusion_model.{.}", "lycoris_{_}"):
            tensors: dict[str, Tensor] = {}
            for layer, shape in weights.items():
                tensors |= pair(spell.replace("{_}", layer.replace(".", "_")).replace("{.}", layer), shape)
            got = fitted(tmp_path / "a.safetensors", tensors, unet=host)
            assert got.report == ""
            found.append(got.parts["unet"])
    wide = {name for name, x in state.items() if x.ndim > 1}
    for parts in found:
        assert parts.keys() == wide
        for name, change in parts.items():
            other = found[0][name]
            assert isinstance(change, LowRank) and isinstance(other, LowRank)
            assert torch.equal(change.up.flatten(), other.up.flatten())
            assert torch.equal(change.down.flatten(), other.down.flatten())


@pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: no real key maps")
@pytest.mark.parametrize("which", ["sd1", "sd2"])
def test_the_real_key_maps_name_the_same_layers(which: str, tmp_path: Path) -> None:
    """Each layer of the real checkpoints is one layer of ours, by its name in either."""
    settings = json.loads((Path(DATA) / "configs/sd15/unet/config.json").read_text())
    if which == "sd2":
        settings |= {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
    table = json.loads((Path(DATA) / f"configs/keymaps/stable_diffusion_{which}.json").read_text())
    host = unet(settings)
    prefix, both = "model.diffusion_model.", {}
    for ldm, theirs in table["ldm_diffusers_keymap"].items():
        if ldm.startswith(prefix) and ldm.endswith(".weight"):
            both[ldm.removeprefix(prefix).removesuffix(".weight")] = theirs.removeprefix("unet_").removesuffix(
                ".weight"
            )
    assert len(both) > 350
    reached = set()
    for ldm, theirs in both.items():
        found = [host.find(address(f"lora_unet_{name.replace('.', '_')}"), "weight") for name in (ldm, theirs)]
        assert found[0] is not None and found[1] is not None and found[0].ours == found[1].ours
        reached.add(found[0].ours)
    assert len(reached) == len(both)


TEXT = {
    "vocab_size": 60, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 12, "hidden_act": "quick_gelu", "eos_token_id": 59, "bos_token_id": 58,
}  # fmt: skip


def tower(net: Any, config: Any) -> Host:
    return Host(net, (towers.keymap(config), towers.open_clip_keymap(config)))


def test_a_text_tower_with_a_lora_equals_that_of_diffusers(tmp_path: Path) -> None:
    import transformers
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    torch.manual_seed(0)
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)).eval()
    theirs.save_pretrained(tmp_path / "tower")
    ours = folders.from_transformers(tmp_path / "tower").requires_grad_(False)
    tensors: dict[str, Tensor] = {}
    for number in (0, 1):
        for layer, shape in {"self_attn_q_proj": (8, 8), "self_attn_out_proj": (8, 8), "mlp_fc1": (16, 8)}.items():
            tensors |= pair(f"lora_te_text_model_encoder_layers_{number}_{layer}", shape)
    tensors = {name: 0.3 * x for name, x in tensors.items()}
    got = fitted(tmp_path / "te.safetensors", tensors, text_encoder=tower(ours, ours.config))
    assert got.report == "" and len(got.parts["text_encoder"]) == 6
    ids = torch.randint(0, 58, (2, 12), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 59
    with torch.no_grad():
        plain = theirs(ids).last_hidden_state
        state, alphas = Loader.lora_state_dict(str(tmp_path / "te.safetensors"))
        Loader.load_lora_into_text_encoder(state, network_alphas=alphas, text_encoder=theirs, prefix="text_encoder")
        want = theirs(ids).last_hidden_state
        assert relative(plain, want) > 1e-2
        for merged in (True, False):
            handle = LoraSet((got.parts["text_encoder"], 1.0)).attach(ours, merged=merged)
            assert relative(ours(ids)[0], want) < 1e-5
            handle.remove()
