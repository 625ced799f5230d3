"""The networks of Stable Diffusion in their published sizes equal the references', which share the one copy of weights.

Settings are those of the published `config.json`; weights are random, small enough that all activations are finite.
The largest, SDXL's U-Net in float32, holds 9.6 GiB.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers_nets import Settings, draw, relative
from torch import Tensor, nn
from tower_twins import kind

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_controlnet, diffusers_unet, text_towers_clip
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.nets.autoencoder_kl import AutoencoderKL
from huggingvis.nets.clip_text import CLIPText
from huggingvis.nets.controlnet import ControlNet
from huggingvis.nets.unet import UNet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

ATTENDING = ["CrossAttnDownBlock2D"] * 3
SD1: Settings = {
    "in_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
    "down_block_types": [*ATTENDING, "DownBlock2D"], "attention_head_dim": 8, "cross_attention_dim": 768,
}  # fmt: skip
SD1_UNET = SD1 | {"sample_size": 64, "out_channels": 4, "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]}
SDXL_UNET: Settings = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", *ATTENDING[:2]], "layers_per_block": 2, "attention_head_dim": [5, 10, 20],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"], "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE: Settings = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
CLIP_L: Settings = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768,
    "bos_token_id": 49406, "eos_token_id": 49407,
}  # fmt: skip
BIG_G: Settings = CLIP_L | {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip
NUMBERS = {
    "unet": 859_520_964, "xl": 2_567_463_684, "vae": 83_653_863, "control": 361_279_120, "clip": 123_060_480,
    "big": 694_659_840,
}  # fmt: skip
CLOCK = torch.tensor([981.0, 3.0])


@pytest.fixture(autouse=True)
def one_at_a_time() -> Iterator[None]:
    yield
    gc.collect()


def needs(gib: float) -> None:
    """Skip where the machine could not hold the weights."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if there < gib:
        pytest.skip(f"this machine has {there:.0f} GiB of memory, and this test needs {gib:.0f}")


def twin(make: Callable[[], nn.Module]) -> Any:
    """The reference with random weights, made without another copy of them; norms scale by about one."""
    with torch.device("meta"):
        net = make().eval().requires_grad_(False)
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        vector = parameter.ndim == 1
        width = 0.1 if vector else (3 / parameter[0].numel()) ** 0.5
        parameter.uniform_(-width, width, generator=generator)
        if vector and name.endswith("weight"):
            parameter.add_(1)
    for name, buffer in net.named_buffers():
        assert name.endswith("position_ids")
        buffer.copy_(torch.arange(buffer.shape[-1])[None])
    return net


def shared(ours: nn.Module, theirs: nn.Module, keymap: KeyMap, numbers: int) -> None:
    """Give `ours`, built without memory, the tensors of `theirs`: all but the smallest of them are the same storage."""
    state = theirs.state_dict()
    assert sum(x.numel() for x in state.values()) == numbers
    assign(ours, keymap.to_ours(state))
    ours.eval().requires_grad_(False)
    places = {x.data_ptr() for x in state.values()}
    copies = [x.numel() for x in ours.state_dict().values() if x.data_ptr() not in places]
    assert sum(copies) <= numbers // 1000


def unet(settings: Settings, name: str) -> tuple[UNet, Any]:
    import diffusers

    theirs = twin(lambda: diffusers.UNet2DConditionModel(**settings))
    with torch.device("meta"):
        ours = UNet(diffusers_unet.config_from_diffusers(settings))
    shared(ours, theirs, diffusers_unet.keymap(settings), NUMBERS[name])
    return ours, theirs


def near(ours: Tensor, theirs: Tensor, least: float = 0.01) -> None:
    """Equal to float32's rounding, and not because both are zero, constant or infinite."""
    assert ours.shape == theirs.shape and torch.isfinite(theirs).all() and float(theirs.std()) > least
    apart = relative(ours, theirs)
    print(f"{apart:.1e}", end=" ")  # shown by `-s`
    assert apart < 1e-5


@torch.inference_mode()
def test_the_unet_of_stable_diffusion_1() -> None:
    ours, theirs = unet(SD1_UNET, "unet")
    x, tokens = draw(2, 4, 8, 16), draw(2, 77, 768)
    near(ours(x, CLOCK, {"tokens": tokens}), theirs(x, CLOCK, encoder_hidden_states=tokens).sample)


@torch.inference_mode()
def test_the_unet_of_stable_diffusion_xl() -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    needs(14)
    ours, theirs = unet(SDXL_UNET, "xl")
    x, tokens, pooled = draw(2, 4, 8, 16), draw(2, 77, 2048), draw(2, 1280)
    sizes = torch.tensor([[1024.0, 768, 0, 3, 1024, 1024], [512, 512, 9, 0, 768, 1344]])
    vector = torch.cat([pooled, get_timestep_embedding(sizes.flatten(), 256, True, 0).reshape(2, -1)], dim=1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    near(
        ours(x, CLOCK, {"tokens": tokens, "vector": vector}),
        theirs(x, CLOCK, encoder_hidden_states=tokens, added_cond_kwargs=added).sample,
    )


@torch.inference_mode()
def test_the_controlnet_of_stable_diffusion_1() -> None:
    import diffusers

    theirs = twin(lambda: diffusers.ControlNetModel(**SD1))
    with torch.device("meta"):
        ours = ControlNet(*diffusers_controlnet.config_from_diffusers(SD1))
    shared(ours, theirs, diffusers_controlnet.keymap(SD1), NUMBERS["control"])
    x, tokens, picture = draw(2, 4, 8, 16), draw(2, 77, 768), draw(2, 3, 64, 128)
    down, middle = theirs(x, CLOCK, tokens, picture, return_dict=False)
    found = ours(x, CLOCK, {"tokens": tokens, "hint": ours.hint(picture)})
    assert len(found) == len(down) + 1 == 13
    for one, other in zip(found, (*down, middle), strict=True):
        near(one, other)


@torch.inference_mode()
def test_the_autoencoder_of_stable_diffusion() -> None:
    import diffusers

    theirs = twin(lambda: diffusers.AutoencoderKL(**VAE))
    config = diffusers_autoencoder.config_from_diffusers(VAE)
    with torch.device("meta"):
        ours = AutoencoderKL(config)
    shared(ours, theirs, diffusers_autoencoder.keymap(config), NUMBERS["vae"])
    x, z = draw(1, 3, 96, 64), draw(1, 4, 12, 8)
    posterior, want = ours.posterior(x), theirs.encode(x).latent_dist
    near(posterior.mean, want.mean)
    near(posterior.logvar, want.logvar)
    near(ours.decode(z), theirs.decode(z).sample)


@pytest.mark.parametrize(
    ("name", "settings", "number"),
    [("CLIPTextModel", CLIP_L, "clip"), ("CLIPTextModelWithProjection", BIG_G, "big")],
    ids=["clip-l", "open-clip-big-g"],
)
@torch.inference_mode()
def test_the_text_towers(name: str, settings: Settings, number: str) -> None:
    theirs = twin(lambda: kind(name)(kind(name).config_class(**settings)))
    config = text_towers_clip.config_from_transformers(settings | {"architectures": [name]})
    with torch.device("meta"):
        ours = CLIPText(config)
    shared(ours, theirs, text_towers_clip.CLIP_TEXT.keymap(config, theirs.state_dict()), NUMBERS[number])
    ids = torch.randint(2, 49406, (2, 77), generator=torch.Generator().manual_seed(0))
    for row, end in ((0, 76), (1, 9)):
        ids[row, 0], ids[row, end:] = 49406, 49407
    want = theirs(ids, output_hidden_states=True)
    tokens, pooled = ours(ids)
    near(tokens, want.last_hidden_state)
    near(pooled, want.text_embeds if ours.projection else want.pooler_output)
    near(ours.hidden(ids, config.depth - 1), want.hidden_states[-2])
