"""Whole walks beside diffusers' pipelines: the same folder, the same noise, latents after 20 steps within 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_walks import assert_close, bound, latents
from tiny_pipelines import NEGATIVE, PROMPT, SD1_SOLVER, drawn, pipeline, pipeline_xl, start, unet, unet_xl
from torch import Tensor

from huggingvis.core.request import OWN, Canvas, FromPicture, Inpaint, Prompt, Request, Sampling, check

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 20
SOLVERS: dict[str, Any] = {
    "ddim": lambda: diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "pndm": lambda: diffusers.PNDMScheduler(**SD1_SOLVER, skip_prk_steps=True, steps_offset=1),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="leading", steps_offset=1),
    "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**SD1_SOLVER, timestep_spacing="trailing"),
    "dpm++2m_karras": lambda: diffusers.DPMSolverMultistepScheduler(**SD1_SOLVER, use_karras_sigmas=True),
}


def request(**more: Any) -> Request:
    own = {"sampling": Sampling(OWN, OWN, STEPS, 7.5), "prompt": Prompt(PROMPT, NEGATIVE)}
    return Request(**{**own, **more})


def their_latents(made: Any, **more: Any) -> Tensor:
    told = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 7.5}
    found: Tensor = made(**{**told, **more}, output_type="latent").images
    return found


@pytest.mark.parametrize("name", SOLVERS)
def test_text_to_image(name: str, tmp_path: Path) -> None:
    made = pipeline(scheduler=SOLVERS[name]())
    system = bound(made, tmp_path)
    x = start()
    theirs = their_latents(made, latents=x, generator=torch.Generator().manual_seed(3))
    assert_close(latents(system, request(), [x, *drawn(3, STEPS)]), theirs)


@pytest.mark.parametrize("name", SOLVERS)
def test_xl(name: str, tmp_path: Path) -> None:
    made = pipeline_xl(scheduler=SOLVERS[name]())
    system = bound(made, tmp_path)
    x = start()
    theirs = their_latents(made, latents=x, generator=torch.Generator().manual_seed(3))
    assert_close(latents(system, request(), [x, *drawn(3, STEPS)]), theirs)


@pytest.mark.parametrize(("width", "height"), [(14, 10), (12, 18), (2, 6)])
def test_sides_that_two_does_not_divide(width: int, height: int, tmp_path: Path) -> None:
    made = pipeline()
    system = bound(made, tmp_path)
    made.check_inputs = lambda *args, **more: None  # theirs counts in multiples of 8 pixels, whatever the autoencoder
    x = drawn(5, 1, (1, 4, height // 2, width // 2))[0]
    theirs = their_latents(made, latents=x, width=width, height=height)
    asked = check(request(canvas=Canvas(width, height)), system.limits)
    assert_close(latents(system, asked, [x]), theirs)


def test_xl_without_a_negative_prompt_is_guided_away_from_zeros(tmp_path: Path) -> None:
    made = pipeline_xl()
    system = bound(made, tmp_path)
    theirs = their_latents(made, latents=start(), negative_prompt=None)
    assert_close(latents(system, request(prompt=Prompt(PROMPT)), [start()]), theirs)
    cond = system.conditioner([request(prompt=Prompt(PROMPT))])
    assert not cond["negative.tokens"].any() and cond["tokens"].any()


def test_xl_is_told_sizes_and_crops(tmp_path: Path) -> None:
    made = pipeline_xl()
    system = bound(made, tmp_path)
    theirs = their_latents(made, latents=start(), original_size=(48, 64), crops_coords_top_left=(3, 5))
    asked = request(options={"original_size": "64x48", "crop": "5x3"})
    assert_close(latents(system, asked, [start()]), theirs)
    plain = latents(system, request(), [start()])
    assert float((plain - theirs).abs().max()) > 1e-3  # what is told matters


def test_v_prediction_and_another_layer(tmp_path: Path) -> None:
    made = pipeline(scheduler=diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, prediction_type="v_prediction"))
    system = bound(made, tmp_path)
    theirs = their_latents(made, latents=start(), **_penultimate(made))
    assert_close(latents(system, request(options={"clip_skip": "2"}), [start()]), theirs)


@torch.no_grad()
def _penultimate(made: Any) -> dict[str, Any]:
    """What their `clip_skip=1` should read, which fails with recent versions of transformers."""
    norm = next(m for name, m in made.text_encoder.named_modules() if name.endswith("final_layer_norm"))
    read = {}
    for name, text in (("prompt_embeds", PROMPT), ("negative_prompt_embeds", NEGATIVE)):
        ids = made.tokenizer(text, padding="max_length", return_tensors="pt").input_ids
        read[name] = norm(made.text_encoder(ids, output_hidden_states=True).hidden_states[-2])
    return {**read, "prompt": None, "negative_prompt": None}


@pytest.mark.parametrize(
    ("scheduler", "steps", "scale"),
    [
        (lambda: diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="trailing"), 4, 1.0),
        (lambda: diffusers.EulerAncestralDiscreteScheduler(**SD1_SOLVER, timestep_spacing="trailing"), 1, 1.0),
        (lambda: diffusers.DDIMScheduler(
            **SD1_SOLVER, clip_sample=False, timestep_spacing="trailing", rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
        ), STEPS, 5.0),
    ],
    ids=["lightning", "turbo", "zero terminal SNR"],
)  # fmt: skip
def test_xl_in_few_steps_and_from_pure_noise(scheduler: Any, steps: int, scale: float, tmp_path: Path) -> None:
    """The settings that SDXL-Lightning, SDXL-Turbo and models with zero terminal SNR are published with."""
    made = pipeline_xl(scheduler=scheduler())
    system = bound(made, tmp_path)
    told = {"latents": start(), "num_inference_steps": steps, "guidance_scale": scale}
    theirs = their_latents(made, **told, generator=torch.Generator().manual_seed(3))
    asked = request(sampling=Sampling(OWN, OWN, steps, scale))
    assert_close(latents(system, asked, [start(), *drawn(3, steps)]), theirs)


def test_a_distilled_net_is_told_the_scale(tmp_path: Path) -> None:
    made = pipeline(
        "LatentConsistencyModelPipeline", unet=unet(time_cond_proj_dim=16), scheduler=diffusers.LCMScheduler()
    )
    system = bound(made, tmp_path)
    assert system.defaults.steps == 4
    told = {"prompt": PROMPT, "num_inference_steps": 4, "guidance_scale": 7.5, "latents": start()}
    theirs = made(**told, generator=torch.Generator().manual_seed(3), output_type="latent").images
    asked = request(sampling=Sampling(OWN, OWN, 4, 7.5))
    assert_close(latents(system, asked, [start(), *drawn(3, 3)]), theirs)


# ---- from pictures ---------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    values = np.zeros((16, 16), dtype=np.uint8)
    values[4:12, 2:10] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "pndm"])
def test_image_to_image(name: str, tmp_path: Path, picture: Path) -> None:
    """Not PNDM: theirs leaves out one interval there, as its list of times has the second twice and is cut by place."""
    made = pipeline("StableDiffusionImg2ImgPipeline", scheduler=SOLVERS[name]())
    system = bound(made, tmp_path / "model")
    theirs = their_latents(made, image=Image.open(picture), strength=0.6, generator=torch.Generator().manual_seed(3))
    asked = request(source=FromPicture(str(picture), 0.6))
    assert_close(latents(system, asked, drawn(3, STEPS)), theirs)


@pytest.mark.parametrize("name", ["euler", "dpm++2m_karras"])
def test_xl_image_to_image(name: str, tmp_path: Path, picture: Path) -> None:
    made = pipeline_xl("StableDiffusionXLImg2ImgPipeline", scheduler=SOLVERS[name]())
    system = bound(made, tmp_path / "model")
    theirs = their_latents(made, image=Image.open(picture), strength=0.6, generator=torch.Generator().manual_seed(3))
    asked = request(source=FromPicture(str(picture), 0.6))
    assert_close(latents(system, asked, drawn(3, STEPS)), theirs)


@pytest.mark.parametrize(("channels", "strength", "name"), [(9, 0.6, "euler"), (9, 1.0, "ddim"), (4, 0.6, "euler")])
def test_xl_inpainting(channels: int, strength: float, name: str, tmp_path: Path, picture: Path, mask: Path) -> None:
    """By a net that sees the mask, and by blending."""
    net = unet_xl(in_channels=channels)
    made = pipeline_xl("StableDiffusionXLInpaintPipeline", unet=net, scheduler=SOLVERS[name]())
    system = bound(made, tmp_path / "model")
    pictures = {"image": Image.open(picture), "mask_image": Image.open(mask), "height": 16, "width": 16}
    theirs = their_latents(made, **pictures, strength=strength, generator=torch.Generator().manual_seed(3))
    z, eps, masked = drawn(3, 3)
    noise = [z, eps, masked] if channels == 9 else [z, eps]
    if strength == 1.0:
        noise = [start(), z, eps]  # theirs draws the latents of the picture only where it is needed
    asked = request(source=Inpaint(str(picture), str(mask), strength))
    assert_close(latents(system, asked, noise), theirs)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_by_a_net_that_sees_the_mask(strength: float, tmp_path: Path, picture: Path, mask: Path) -> None:
    made = pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9))
    system = bound(made, tmp_path / "model")
    pictures = {"image": Image.open(picture), "mask_image": Image.open(mask), "height": 16, "width": 16}
    theirs = their_latents(made, **pictures, strength=strength, generator=torch.Generator().manual_seed(3))
    noise = drawn(3, 3)  # theirs draws the latents of the picture only where it is needed
    z, eps, masked = noise if strength < 1.0 else (start(), noise[0], noise[1])
    asked = request(source=Inpaint(str(picture), str(mask), strength))
    assert_close(latents(system, asked, [z, eps, masked]), theirs)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "pndm"])
def test_inpainting_by_blending(name: str, tmp_path: Path, picture: Path, mask: Path) -> None:
    """Not PNDM, as above. Theirs draws latents of the masked picture too, which such a net does not see."""
    made = pipeline("StableDiffusionInpaintPipeline", scheduler=SOLVERS[name]())
    system = bound(made, tmp_path / "model")
    pictures = {"image": Image.open(picture), "mask_image": Image.open(mask), "height": 16, "width": 16}
    theirs = their_latents(made, **pictures, strength=0.6, generator=torch.Generator().manual_seed(3))
    asked = request(source=Inpaint(str(picture), str(mask), 0.6))
    z, eps, _, *steps = drawn(3, STEPS)
    assert_close(latents(system, asked, [z, eps, *steps]), theirs)


@pytest.mark.parametrize("name", ["pndm", "euler_a", "dpm++2m_karras"])
def test_inpainting_by_another_solver(name: str, tmp_path: Path, picture: Path, mask: Path) -> None:
    made = pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9), scheduler=SOLVERS[name]())
    system = bound(made, tmp_path / "model")
    pictures = {"image": Image.open(picture), "mask_image": Image.open(mask), "height": 16, "width": 16}
    theirs = their_latents(made, **pictures, strength=1.0, generator=torch.Generator().manual_seed(3))
    asked = request(source=Inpaint(str(picture), str(mask), 1.0))
    assert_close(latents(system, asked, [start(), *drawn(3, STEPS + 2)]), theirs)


def test_instructions(tmp_path: Path, picture: Path) -> None:
    made = pipeline("StableDiffusionInstructPix2PixPipeline", unet=unet(in_channels=8))
    system = bound(made, tmp_path / "model")
    told = {"image": Image.open(picture), "image_guidance_scale": 1.3, "latents": start()}
    theirs = their_latents(made, **told)
    asked = request(source=FromPicture(str(picture)), options={"image_guidance_scale": "1.3"})
    assert_close(latents(system, asked, [start()]), theirs)
