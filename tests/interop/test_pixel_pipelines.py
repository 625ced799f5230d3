"""Folders of diffusers that draw pixels without words: the same pictures there and here, from theirs and from ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pipeline_walks import assert_close, bound, latents
from small_runs import digits, train
from torch import Tensor

from huggingvis import api
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import OWN, Canvas, Prompt, Request, Sampling
from huggingvis.edits.generate import generate
from huggingvis.recipes.loading import bind_run
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 12
UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 1], "middle": 1, "heads": 2}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 0, "warmup": 0, "batch": 8, "net": UNET, "size": 8,
         "steps": 2, "ema": 0.5}  # fmt: skip


def unet(**more: Any) -> diffusers.UNet2DModel:
    torch.manual_seed(0)
    sizes = {
        "sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
    }  # fmt: skip
    return diffusers.UNet2DModel(**{**sizes, **more}).eval()


def noise(seed: int, n: int, shape: tuple[int, ...]) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g) for _ in range(n)]


def asked(**more: Any) -> Request:
    return Request(sampling=Sampling(OWN, OWN, STEPS, 1.0), **more)


def theirs(made: Any, shape: tuple[int, ...], **more: Any) -> Tensor:
    """What the pipeline draws from the seed 3, in [-1, 1]."""
    made.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(3)
    pictures = made(
        batch_size=1, generator=g, num_inference_steps=STEPS, output_type="np", **more
    ).images  # [1, H, W, C]
    found = 2 * torch.from_numpy(np.asarray(pictures)).reshape(1, *shape[2:], shape[1]).permute(0, 3, 1, 2) - 1
    return found.clamp(-1, 1)


@pytest.mark.parametrize(
    "how",
    [{}, {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}, {"timestep_spacing": "trailing"}],
    ids=str,
)
def test_ddpm_folders_draw_the_same(how: dict[str, Any], tmp_path: Path) -> None:
    """With the datum kept in [-1, 1], as is their habit."""
    made = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(**how))
    system = bound(made, tmp_path)
    shape = (1, 3, 16, 16)
    ours = latents(system, asked(), noise(3, STEPS + 1, shape))
    assert_close(ours.clamp(-1, 1), theirs(made, shape))
    assert system.spec.size == (16, 16) and system.defaults.sampler == "ddim"


@pytest.mark.parametrize(
    "how",
    [{"clip_sample": False}, {}, {"thresholding": True, "sample_max_value": 1.5}, {"timestep_spacing": "linspace"}],
    ids=str,
)
def test_ddim_folders_draw_the_same(how: dict[str, Any], tmp_path: Path) -> None:
    made = diffusers.DDIMPipeline(unet(), diffusers.DDIMScheduler(**how))
    system = bound(made, tmp_path)
    shape = (1, 3, 16, 16)
    ours = latents(system, asked(), noise(3, 1, shape)).clamp(-1, 1)
    # in float64 to 1e-9: `test_ddim_as_a_folder_says`; in float32 theirs is itself 3e-4 from theirs in float64
    assert float((ours - theirs(made, shape, eta=0.0)).abs().max()) < 1e-3
    assert system.defaults.sampler == OWN


def test_the_first_folders_have_their_parts_beside_the_index(tmp_path: Path) -> None:
    """As google/ddpm-cifar10-32 has: `config.json`, the weights and `scheduler_config.json` beside each other."""
    made = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler())
    made.save_pretrained(tmp_path)
    for part in ("unet", "scheduler"):
        for file in (tmp_path / part).iterdir():
            file.rename(tmp_path / file.name)
        (tmp_path / part).rmdir()
    shape = (1, 3, 16, 16)
    ours = latents(bind_folder(tmp_path, How()), asked(), noise(3, STEPS + 1, shape))
    assert_close(ours.clamp(-1, 1), theirs(made, shape))
    (tmp_path / "scheduler_config.json").unlink()
    with pytest.raises(FileProblem, match="'scheduler'"):
        bind_folder(tmp_path, How())


def test_pictures_of_other_sides(tmp_path: Path) -> None:
    made = diffusers.DDPMPipeline(unet(in_channels=1, out_channels=1, sample_size=[8, 24]), diffusers.DDPMScheduler())
    system = bound(made, tmp_path)
    assert system.spec.size == (24, 8) and system.limits.multiple == 2
    assert generate(system, Request(sampling=Sampling("dpm++2m", "karras", 3)))[0].pixels.shape == (8, 24, 1)
    wide = Request(canvas=Canvas(16, 32), sampling=Sampling("ddim", "trailing", 2))
    assert generate(system, wide)[0].pixels.shape == (32, 16, 1)


@pytest.mark.parametrize("size", [None, 0, -8, True, 10**9, "16", [8], [8, 8, 8], [8, 10**6]], ids=str)
def test_sides_that_no_picture_has_are_refused_before_any_is_made(size: Any, tmp_path: Path) -> None:
    diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    file = tmp_path / "unet/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sample_size": size}))
    with pytest.raises(FileProblem, match="unet: config.json should have for sample_size"):
        bind_folder(tmp_path, How())


@pytest.mark.parametrize(
    ("recipe", "prediction", "process"),
    [("ddpm", "eps", "linear"), ("ddpm", "x0", "cosine"), ("improved_ddpm", "eps", "cosine"),
     ("improved_ddpm", "v", "linear")],
)  # fmt: skip
def test_our_runs_are_theirs(recipe: str, prediction: str, process: str, tmp_path: Path) -> None:
    """The folder that is saved draws there and, loaded again, here what the run draws."""
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "prediction": prediction, "process": process}
    run = train(recipe, tmp_path / "run", {**numbers, "conditional": False})
    place = api.save(str(run.path), tmp_path / "saved")
    made = diffusers.DDPMPipeline.from_pretrained(place)
    shape, system = (1, 1, 8, 8), bind_run(run.path)
    told = json.loads((place / "scheduler/scheduler_config.json").read_text())
    assert "trained_betas" not in told
    made.scheduler.set_timesteps(1000)
    assert made.scheduler.timesteps.tolist() == list(range(999, -1, -1))  # the whole of the chain that was trained
    draws = noise(3, STEPS + 1, shape)
    again = bind_folder(place, How())
    assert_close(latents(again, asked(), list(draws)).clamp(-1, 1), theirs(made, shape))
    walk = Request(sampling=Sampling("ddim", "trailing", STEPS, 1.0))
    assert_close(latents(again, walk, draws[:1]), latents(system, walk, draws[:1]))
    saved_again = api.save(again, tmp_path / "again")
    files = [f"unet/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")]
    assert all((saved_again / file).read_bytes() == (place / file).read_bytes() for file in files)


def test_what_they_have_no_class_for_is_refused(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "process": "flow", "prediction": "velocity"}
    run = train("ddpm", tmp_path / "run", numbers)
    with pytest.raises(UsageError, match="runs in continuous time"):
        api.save(str(run.path), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with pytest.raises(UsageError, match="as a folder"):
        api.save(str(run.path), tmp_path / "saved.safetensors")
    made = diffusers.DDPMPipeline(unet(sample_size=None), diffusers.DDPMScheduler())
    with pytest.raises(FileProblem, match="sample_size"):
        bound(made, tmp_path / "size")
    made = diffusers.DDPMPipeline(unet(out_channels=6), diffusers.DDPMScheduler())
    with pytest.raises(FileProblem, match="learned_range"):
        bound(made, tmp_path / "untold")
    made = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(variance_type="learned_range"))
    with pytest.raises(FileProblem, match="learned_range"):
        bound(made, tmp_path / "untelling")


@pytest.mark.parametrize("recipe", ["ddpm", "improved_ddpm"])
def test_classes_go_out_and_come_back(recipe: str, tmp_path: Path) -> None:
    """Their net says of every class, and of none, what ours says; the folder draws here what the run draws."""
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "conditional": True}
    run = train(recipe, tmp_path / "run", numbers)
    system = bind_run(run.path)
    names = system.spec.card["classes"]
    place = api.save(str(run.path), tmp_path / "saved")
    made = diffusers.DDPMPipeline.from_pretrained(place)
    net, x, t = system.parts["net"], noise(3, 1, (1, 1, 8, 8))[0], torch.tensor([417.0])
    for label in range(len(names) + 1):
        vector = torch.eye(len(names) + 1, len(names))[label][None]
        with torch.no_grad():
            assert_close(net(x, t, {"vector": vector}), made.unet(x, t, class_labels=torch.tensor([label])).sample)
    with pytest.raises(ValueError, match="class_labels should be provided"):
        made(num_inference_steps=2)  # their pipeline tells none

    again, draws = bind_folder(place, How()), noise(3, STEPS + 1, (1, 1, 8, 8))
    assert again.spec.card["classes"] == names
    assert again.defaults.guidance_scale == system.defaults.guidance_scale == 2.0
    for sampling in (Sampling("ddpm", "leading", STEPS, 1.0), Sampling("ddim", "trailing", STEPS, 3.0)):
        for prompt in (Prompt(), Prompt(names[1]), Prompt(names[1], names[0])):
            walk = Request(prompt, sampling=sampling)
            assert_close(latents(again, walk, list(draws)), latents(system, walk, list(draws)))
    saved_again = api.save(again, tmp_path / "again")
    files = ["model_index.json", *(f"unet/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors"))]
    assert all((saved_again / file).read_bytes() == (place / file).read_bytes() for file in files)


def test_classes_of_their_own(tmp_path: Path) -> None:
    """A folder that names no class: each by its number, one by lot where none is asked for, none to be guided from."""
    made = diffusers.DDPMPipeline(unet(num_class_embeds=3), diffusers.DDPMScheduler())
    system, shape = bound(made, tmp_path), (1, 3, 16, 16)
    assert system.spec.card["classes"] == ["0", "1", "2"] and system.defaults.guidance_scale == 1.0
    made.scheduler.set_timesteps(STEPS)
    g = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=g)
    with torch.no_grad():
        for t in made.scheduler.timesteps:
            x = made.scheduler.step(made.unet(x, t, torch.tensor([2])).sample, t, x, generator=g).prev_sample
    lot = torch.zeros(1, 1)
    first, *rest = noise(3, STEPS + 1, shape)
    ours = latents(system, asked(prompt=Prompt("2")), [first, lot, *rest])
    assert_close(ours.clamp(-1, 1), x.clamp(-1, 1))
    assert generate(system, Request(sampling=Sampling("ddim", "trailing", 2, 1.0)))[0].pixels.shape == (16, 16, 3)
    with pytest.raises(UsageError, match="taught none such"):
        generate(system, Request(sampling=Sampling("ddim", "trailing", 2, 3.0)))
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": {"0": "cat", "7": "dog"}}))
    with pytest.raises(FileProblem, match="id2label"):
        bind_folder(tmp_path, How())
