"""Whole walks with control adapters beside diffusers' pipelines: the same folders and noise, latents within 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import NEGATIVE, PROMPT, pipeline, start
from torch import Tensor

from huggingvis.adapters.control import Control
from huggingvis.adapters.ip_adapter import IPAdapter, word_places
from huggingvis.adapters.t2i_adapter import PictureFeatures
from huggingvis.adapters.window import window_of
from huggingvis.checkpoints import diffusers_controlnet, ip_adapter_files, t2i_adapter_files
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import OWN, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.nets.image_tokens import EmbeddingTokens
from huggingvis.nets.unet import UNet
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 8
PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
REQUEST = Request(prompt=Prompt(PROMPT, NEGATIVE), sampling=Sampling(OWN, OWN, STEPS, 7.5))
TOLD = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 7.5,
        "output_type": "latent", "height": 16, "width": 16}  # fmt: skip


def random(net: Any) -> Any:
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def bound(made: Any, folder: Path) -> tuple[System, UNet]:
    made.save_pretrained(folder)
    system = bind_folder(folder, How())
    net = system.parts["unet"]
    assert isinstance(net, UNet)
    return system, net


@torch.inference_mode()
def latents(system: System, told: dict[str, Tensor]) -> Tensor:
    cond = {**system.conditioner([REQUEST]), **told}
    return system.generator(REQUEST).sample(1, cond, noise=ReplayNoise([start()]))


def assert_close(ours: Tensor, theirs: Tensor, plain: Tensor) -> None:
    most = max(1.0, float(theirs.abs().max()))
    assert float((ours - theirs).abs().max()) <= 1e-4 * most
    assert float((plain - theirs).abs().max()) > 1e-2 * most  # the adapter matters


@pytest.mark.parametrize("guess", [False, True])
def test_a_controlnet_for_a_part_of_the_walk(guess: bool, tmp_path: Path) -> None:
    plain = pipeline()
    system, net = bound(plain, tmp_path / "model")
    theirs = diffusers.ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(4, 8))
    random(theirs).save_pretrained(tmp_path / "control")
    made = pipeline("StableDiffusionControlNetPipeline", controlnet=theirs)
    want = made(
        **TOLD, image=PICTURE, latents=start(), controlnet_conditioning_scale=0.8, control_guidance_start=0.2,
        control_guidance_end=0.8, guess_mode=guess,
    ).images  # fmt: skip

    diffusion = system.generator(REQUEST)
    grid = diffusion.grid(diffusion.process)  # type: ignore[attr-defined]
    window = window_of(grid.clocks, 0.2, 0.8)
    small = diffusers_controlnet.from_diffusers(tmp_path / "control", base=net.config)
    control = Control(small, 0.8, window=window, guess=guess)
    without = latents(system, {})
    handle = control.attach(net)
    assert_close(latents(system, control.condition(2 * PICTURE - 1)), want, without)
    handle.remove()
    assert torch.equal(latents(system, {}), without)


def test_a_t2i_adapter(tmp_path: Path) -> None:
    system, net = bound(pipeline(), tmp_path / "model")
    theirs = random(diffusers.T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=2))
    theirs.save_pretrained(tmp_path / "t2i")
    made = pipeline("StableDiffusionAdapterPipeline", adapter=theirs)
    want = made(**TOLD, image=PICTURE, latents=start(), adapter_conditioning_scale=0.8).images
    without = latents(system, {})
    adapter = PictureFeatures(t2i_adapter_files.from_diffusers(tmp_path / "t2i"), 0.8)
    adapter.attach(net)
    assert_close(latents(system, adapter.condition(2 * PICTURE - 1)), want, without)


def test_an_ip_adapter_that_diffusers_loads(tmp_path: Path) -> None:
    made = pipeline()
    system, net = bound(made, tmp_path / "model")
    widths = tuple(place.to_q.out_features for place in word_places(net).values())
    adapter = random(IPAdapter(EmbeddingTokens(5, 32), 32, widths))
    ip_adapter_files.save(adapter, tmp_path / "ip.safetensors")
    made.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip.safetensors", image_encoder_folder=None)
    made.set_ip_adapter_scale(0.8)
    seen = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(7))
    both = torch.cat([torch.zeros_like(seen), seen])
    want = made(**TOLD, latents=start(), ip_adapter_image_embeds=[both]).images
    without = latents(system, {})
    adapter.attach(net, 0.8)
    assert_close(latents(system, adapter.condition(seen)), want, without)
