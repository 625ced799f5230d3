"""Adapters that act for a part of the steps, where only the end of a grid is walked: parts are of what is walked."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_walks import assert_close, bound
from tiny_pipelines import NEGATIVE, PROMPT, SD1_SOLVER, drawn, pipeline
from torch import Tensor

from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import OWN, AdapterUse, FromPicture, Prompt, Refine, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits import generate as walks

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 10


def solver() -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


@pytest.fixture(scope="module")
def control() -> diffusers.ControlNetModel:
    torch.manual_seed(7)
    net = diffusers.ControlNetModel.from_unet(pipeline().unet, conditioning_embedding_out_channels=(4, 6))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net.eval()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@torch.inference_mode()
def latents(system: System, request: Request, noise: list[Tensor]) -> Tensor:
    one = walks._Pass(system, request, walks.starting.sample, walks.starting.walked(request.source))
    return one.latents(1, lambda canvas: ReplayNoise(noise), walks.refine.Once(), None)[0]


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.5), (0.5, 1.0), (0.25, 0.75)])
def test_from_a_picture(
    begin: float, end: float, control: diffusers.ControlNetModel, tmp_path: Path, picture: Path
) -> None:
    """4 of 10 steps are walked; of all ten, the first half would be none of them."""
    control.save_pretrained(tmp_path / "control")
    made = pipeline("StableDiffusionControlNetImg2ImgPipeline", scheduler=solver(), controlnet=control)
    theirs = made(
        prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=7.5, strength=0.4,
        image=Image.open(picture), control_image=Image.open(picture), controlnet_conditioning_scale=0.8,
        control_guidance_start=begin, control_guidance_end=end, output_type="latent",
        generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    system = bound(pipeline(scheduler=solver()), tmp_path / "model")
    use = AdapterUse(str(tmp_path / "control"), 0.8, str(picture), begin, end)
    asked = Request(
        Prompt(PROMPT, NEGATIVE), sampling=Sampling(OWN, OWN, STEPS, 7.5), source=FromPicture(str(picture), 0.4),
        adapters=(use,),
    )  # fmt: skip
    ours = latents(system, asked, drawn(3, STEPS))
    assert_close(ours, theirs)
    without = latents(system, walks.replace(asked, adapters=()), drawn(3, STEPS))
    assert float((ours - without).abs().max()) > 1e-3


def test_in_a_second_pass(control: diffusers.ControlNetModel, tmp_path: Path, picture: Path) -> None:
    """What acts in the first half of each pass acts in the second pass too, which walks the end of its grid."""
    control.save_pretrained(tmp_path / "control")
    system = bound(pipeline(scheduler=solver()), tmp_path / "model")
    use = AdapterUse(str(tmp_path / "control"), 0.8, str(picture), 0.0, 0.5)
    how = Refine(1.5, 4, 0.4, upscaler="latent")
    asked = Request(Prompt(PROMPT, NEGATIVE), sampling=Sampling(OWN, OWN, 4, 7.5), refine=how, adapters=(use,))
    plain = walks.replace(asked, adapters=())
    z = drawn(5, 1)[0]

    @torch.inference_mode()
    def second(request: Request) -> Tensor:
        again = walks._Pass(
            system, walks.refine.second(system, request), walks.refine.Again(z, how), walks.refine.walked_of(how)
        )
        noise = drawn(3, 1, (1, 4, 12, 12))
        return again.latents(1, lambda canvas: ReplayNoise(noise), walks.refine.Once(), None)[0]

    assert float((second(asked) - second(plain)).abs().max()) > 1e-3
