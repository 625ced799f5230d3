"""Second pass, second model and windows, beside diffusers' pipelines with the same weights and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_walks import assert_close, bound
from tiny_pipelines import NEGATIVE, PROMPT, SD1_SOLVER, drawn, pipeline, pipeline_xl, start, text, unet
from torch import Tensor

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import OWN, Canvas, FromPicture, Prompt, Refine, Refiner, Request, Sampling, Tiles
from huggingvis.core.system import System
from huggingvis.edits import generate as walks
from huggingvis.edits.generate import generate

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 10
SOLVERS: dict[str, Any] = {
    "ddim": lambda: diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="leading", steps_offset=1),
    "dpm++2m": lambda: diffusers.DPMSolverMultistepScheduler(**SD1_SOLVER),
}


def asked(**more: Any) -> Request:
    own = {"sampling": Sampling(OWN, OWN, STEPS, 7.5), "prompt": Prompt(PROMPT, NEGATIVE)}
    return Request(**{**own, **more})


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    return bound(pipeline(scheduler=SOLVERS["ddim"]()), tmp_path_factory.mktemp("sd") / "model")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> System:
    """Its refiner lies beside it, under the name `refiner`; its own folder is called `base`."""
    folder = tmp_path_factory.mktemp("xl")
    refiner(SOLVERS["ddim"]()).save_pretrained(folder / "refiner")
    return walks.replace(bound(pipeline_xl(scheduler=SOLVERS["ddim"]()), folder / "base"), example=str(folder))


@torch.inference_mode()
def latents(system: System, request: Request, noise: list[Tensor]) -> Tensor:
    """What the walk of `generate` decodes, from given noise."""
    one = walks._Pass(walks.cut(system, request), request, walks.starting.sample, lambda grid: grid)
    return one.latents(1, lambda canvas: ReplayNoise(noise), walks.refine.Once(), None)[0]


# ---- a second pass ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("upscaler", "source"), [("lanczos", False), ("Nearest", True)])
def test_a_second_pass_is_two_requests(upscaler: str, source: bool, system: System, tmp_path: Path) -> None:
    """4 steps at 0.4 are the last 4 of 10: by hand the same, through a PNG."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    begin = FromPicture(str(tmp_path / "in.png"), 0.5) if source else None
    one = asked(canvas=Canvas(16, 16, 2), source=begin)
    both = generate(system, walks.replace(one, refine=Refine(1.5, 4, 0.4, upscaler=upscaler, sampler="euler")))
    for i, first in enumerate(generate(system, one)):
        image = first.to_pil().resize((24, 24), Image.Resampling.LANCZOS if upscaler == "lanczos" else 0)
        image.save(tmp_path / "first.png")
        again = asked(
            canvas=Canvas(24, 24), source=FromPicture(str(tmp_path / "first.png"), 0.4),
            sampling=Sampling("euler", OWN, 10, 7.5, seed=i),
        )  # fmt: skip
        (second,) = generate(system, again)
        assert both[i].size == (24, 24)
        assert np.abs(both[i].pixels.astype(int) - second.pixels.astype(int)).max() <= 1


def test_a_second_pass_of_latents_is_theirs(tmp_path: Path) -> None:
    """Latents interpolated, then diffusers' image-to-image from latents."""
    made = pipeline(scheduler=SOLVERS["ddim"]())
    system = bound(made, tmp_path)
    told = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": 7.5, "output_type": "latent"}
    first = made(**told, latents=start(), num_inference_steps=STEPS).images
    larger = torch.nn.functional.interpolate(first, (12, 12), mode="bicubic", antialias=True)
    again = diffusers.StableDiffusionImg2ImgPipeline(**made.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(3)
    theirs = again(**told, image=larger, strength=0.4, num_inference_steps=20, generator=g).images
    how = Refine(1.5, 8, 0.4, upscaler="Latent (bicubic antialiased)")
    request = asked(refine=how)
    with torch.inference_mode():
        z = latents(system, walks.refine.first(request), [start()])
        second = walks.refine.second(system, request)
        assert (second.canvas.width, second.sampling.steps) == (24, 20)
        noise = ReplayNoise(drawn(3, 1, (1, 4, 12, 12)))
        again = walks._Pass(system, second, walks.refine.Again(z, how), walks.refine.walked_of(how))
        ours, _ = again.latents(1, lambda canvas: noise, walks.refine.Once(), None)
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("how", "want"),
    [
        (Refine(2.0), (32, 32)),
        (Refine(1.3), (20, 20)),
        (Refine(width=48), (48, 48)),
        (Refine(width=48, height=20), (48, 20)),
        (Refine(height=24), (24, 24)),
    ],
)
def test_sizes_of_a_second_pass(how: Refine, want: tuple[int, int], system: System) -> None:
    assert walks.refine.size_of(how, (16, 16), system.limits) == want
    if how.width == 48 and how.height == 20:  # another shape: it is covered, and what stands out is cut off
        for upscaler in ("latent", "lanczos"):
            one = asked(sampling=Sampling(OWN, OWN, 1), refine=walks.replace(how, steps=1, upscaler=upscaler))
            assert generate(system, one)[0].size == want


@pytest.mark.parametrize(("strength", "calls"), [(0.0, 0), (0.05, 3), (0.999, 3), (1.0, 3)])
def test_every_strength_makes_the_steps_asked_for(strength: float, calls: int, system: System) -> None:
    walked: list[tuple[int, int]] = []
    one = asked(sampling=Sampling(OWN, OWN, 2), refine=Refine(2.0, 3, strength, upscaler="latent"))
    (picture,) = generate(system, one, on_step=lambda step: walked.append((step.index, step.total)))
    assert picture.size == (32, 32)
    assert walked == [(0, 2), (1, 2), *((i, 3) for i in range(calls))]


def test_what_a_second_pass_cannot_be(system: System) -> None:
    for how, words in (
        (Refine(8.0), "128x128 pixels, but this model makes at most 64"),
        (Refine(upscaler="latend"), "'latent'"),
        (Refine(width=33), "refine.width must be a multiple of 2"),
        (Refine(steps=500, strength=0.01), "a walk of 50,000"),
        (Refine(sampler="eular"), "'euler'"),
        (Refine(strength=-0.1), "refine.strength"),
    ):
        with pytest.raises(UsageError, match=words):
            generate(system, asked(refine=how))
    with pytest.raises(UsageError, match="the end of a walk of 2000"):
        generate(system, asked(refine=Refine(steps=20, strength=0.01)))


# ---- a second model --------------------------------------------------------------------------------------------------


def refiner(scheduler: Any = None, **more: Any) -> Any:
    """A pipeline as SDXL's refiner: one tower, a score of beauty."""
    net = unet(
        cross_attention_dim=48, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=48 + 5 * 256,
        transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)  # other weights than the base's
    return pipeline_xl(
        "StableDiffusionXLImg2ImgPipeline", scheduler=scheduler, unet=net, text_encoder=None, tokenizer=None,
        text_encoder_2=text(48, projection=True, act="gelu"), requires_aesthetics_score=True, **more,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "at"), [("ddim", 0.8), ("euler", 0.55), ("dpm++2m", 0.7)])
def test_base_and_refiner_are_those_of_diffusers(
    name: str,
    at: float,
    tmp_path: Path,
) -> None:
    base, second = pipeline_xl(scheduler=SOLVERS[name]()), refiner(SOLVERS[name]())
    second.save_pretrained(tmp_path / "refiner")
    system = bound(base, tmp_path / "base")
    told = {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 7.5,
        "output_type": "latent",
    }  # fmt: skip
    half = base(**told, latents=start(), denoising_end=at).images
    theirs = second(**told, image=half, denoising_start=at).images
    request = asked(refiner=Refiner(str(tmp_path / "refiner"), at))
    assert_close(latents(system, request, [start()]), theirs)
    alone = latents(system, asked(), [start()])
    assert float((alone - theirs).abs().max()) > 1e-2  # the second model matters


def test_the_ends_of_a_handover(xl: System) -> None:
    """At 1 the first model is alone, at 0 the second; a refiner with the first one's weights changes nothing."""
    alone = latents(xl, asked(), [start()])
    at_end, itself = (
        asked(refiner=Refiner(f"{xl.example}/{name}", at)) for name, at in (("refiner", 1.0), ("base", 0.5))
    )
    assert torch.equal(latents(xl, at_end, [start()]), alone)
    assert_close(latents(xl, itself, [start()]), alone)
    told = []
    from_refiner = walks.replace(
        itself, options={"aesthetic_score": "7"}, refiner=Refiner(f"{xl.example}/refiner", 0.0)
    )
    generate(xl, from_refiner, on_step=lambda step: told.append((step.index, step.total)))
    assert told == [(i, STEPS) for i in range(STEPS)]


def test_a_refiner_of_other_latents_is_refused(xl: System, tmp_path: Path) -> None:
    made = refiner()
    made.vae.register_to_config(scaling_factor=0.13025)
    made.save_pretrained(tmp_path / "scaled")
    with pytest.raises(UsageError, match="scaled by 0.18215, .* scaled by 0.13025"):
        generate(xl, asked(refiner=Refiner(str(tmp_path / "scaled"))))
    other = diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    refiner(other).save_pretrained(tmp_path / "noise")
    with pytest.raises(UsageError, match="trained on different noise"):
        generate(xl, asked(refiner=Refiner(str(tmp_path / "noise"))))
    with pytest.raises(FileProblem, match="neither a single-file checkpoint nor a folder"):
        generate(xl, asked(refiner=Refiner(str(tmp_path / "nothing"))))


# ---- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "wrap", "width"), [("ddim", True, 16), ("dpm++2m", False, 20)])
def test_a_panorama_is_that_of_diffusers(
    name: str,
    wrap: bool,
    width: int,
    tmp_path: Path,
) -> None:
    """Windows of 8 latents at every 4th; their window is fixed at 64, so its corners are told in its place."""
    made = pipeline("StableDiffusionPanoramaPipeline", scheduler=SOLVERS[name]())
    system = bound(pipeline(scheduler=SOLVERS[name]()), tmp_path)
    lefts = range(0, width if wrap else width - 4, 4)
    made.get_views = lambda *sizes, **more: [(0, 8, left, left + 8) for left in lefts]
    made.check_inputs = lambda *sizes, **more: None
    x = drawn(5, 1, (1, 4, 8, width))[0]
    told = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 7.5}
    theirs = made(**told, latents=x, height=16, width=2 * width, circular_padding=wrap, output_type="latent").images
    request = asked(canvas=Canvas(2 * width, 16), tiles=Tiles(wrap_x=wrap))
    assert_close(latents(system, request, [x]), theirs)


def test_windows_as_large_as_the_canvas_are_the_picture(xl: System) -> None:
    few = Sampling(OWN, OWN, 4)
    plain, tiled = (generate(xl, asked(sampling=few, tiles=tiles))[0] for tiles in (None, Tiles()))
    assert np.array_equal(plain.pixels, tiled.pixels)


def test_xl_hears_of_a_window_as_of_a_picture(xl: System) -> None:
    """With a canvas of two windows that share nothing, each is the picture of its noise alone."""
    x = drawn(5, 1, (1, 4, 8, 16))[0]
    wide = latents(xl, asked(canvas=Canvas(32, 16), tiles=Tiles(overlap=0.0)), [x])
    halves = [latents(xl, asked(), [part]) for part in x.chunk(2, -1)]
    assert float((wide - torch.cat(halves, -1)).abs().max()) < 1e-4


def test_windows_work_with_a_picture_a_second_pass_and_a_second_model(xl: System, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "in.png")
    everything = asked(
        canvas=Canvas(32, 16, vae_tile=16), source=FromPicture(str(tmp_path / "in.png"), 0.5), tiles=Tiles(),
        refine=Refine(1.5, 3, 0.5), refiner=Refiner(f"{xl.example}/refiner", 0.8), sampling=Sampling(OWN, OWN, 4),
    )  # fmt: skip
    (picture,) = generate(xl, everything)
    assert picture.size == (48, 24) and "refiner" in picture.made
    assert picture.request is not None and Request.from_json(picture.request.to_json()) == everything
