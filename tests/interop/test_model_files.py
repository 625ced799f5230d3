"""Models of the Stable Diffusion family in and out, as folders of diffusers and single files: the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from tiny_pipelines import PROMPT, SD1_SOLVER, pipeline, pipeline_xl, start, tokenizer, unet

import huggingvis as hv
from huggingvis.checkpoints.formats import read_header
from huggingvis.checkpoints.single_file import Said
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Eps, V
from huggingvis.core.request import OWN, Canvas, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.saving import save_file, save_folder
from huggingvis.systems.single_file import bind_file

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]

MADE: dict[str, Any] = {
    "sd1": pipeline,
    "sd1-v": lambda: pipeline(scheduler=diffusers.DDIMScheduler(**SD1_SOLVER, prediction_type="v_prediction",
                                                                clip_sample=False)),
    "inpainting": lambda: pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9)),
    "xl": pipeline_xl,
}  # fmt: skip
PLAIN = [name for name in MADE if name != "inpainting"]


def bound(name: str, folder: Path) -> System:
    MADE[name]().save_pretrained(folder)
    return bind_folder(folder, How())


@torch.inference_mode()
def latents(system: System) -> torch.Tensor:
    asked = Request(Prompt(PROMPT, "blurry"), Canvas(16, 16), Sampling("ddim", "leading", 4, 5.0))
    model = system.generator(asked)
    return model.sample(1, system.conditioner([asked]), noise=ReplayNoise([start()]))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors; `text_model.`, which recent versions of transformers leave out, is left out."""
    files = {path.parent.name: load_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    return {f"{part}.{k.replace('text_model.', '')}": v for part, tensors in files.items() for k, v in tensors.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("name", MADE)
def test_a_folder_goes_in_and_out_unchanged(name: str, tmp_path: Path) -> None:
    system = bound(name, tmp_path / "theirs")
    same(weights(save_folder(system, tmp_path / "ours")), weights(tmp_path / "theirs"))
    again = bind_folder(tmp_path / "ours", How())
    same(weights(save_folder(again, tmp_path / "again")), weights(tmp_path / "ours"))


def test_a_model_is_saved_as_it_is(tmp_path: Path) -> None:
    pipeline().to(torch.float16).save_pretrained(tmp_path / "theirs")
    same(weights(hv.save(tmp_path / "theirs", tmp_path / "ours")), weights(tmp_path / "theirs"))
    single = hv.save(tmp_path / "theirs", tmp_path / "new/one.safetensors")
    assert set(read_header(single).tensors) and {f.dtype for f in read_header(single).tensors.values()} == {"F16"}
    for place in (tmp_path / "ours", single):
        with pytest.raises(FileProblem, match="is there already"):
            hv.save(tmp_path / "theirs", place)
    with pytest.raises(UsageError, match="written as .safetensors.*found 'one.ckpt'. Name 'one.safetensors'"):
        hv.save(tmp_path / "theirs", tmp_path / "one.ckpt")
    with pytest.raises(UsageError, match="of the family tiny, of which other programs have no files"):
        hv.save("tiny", tmp_path / "tiny")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "ours", "theirs"]


@pytest.mark.parametrize("name", PLAIN)
def test_diffusers_loads_our_folders(name: str, tmp_path: Path) -> None:
    system = bound(name, tmp_path / "theirs")
    folder = save_folder(system, tmp_path / "ours")
    pipes = [diffusers.DiffusionPipeline.from_pretrained(p) for p in (tmp_path / "theirs", folder)]
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    told = {"prompt": PROMPT, "num_inference_steps": 2, "latents": start(), "output_type": "latent"}
    one, other = (pipe(**told).images for pipe in pipes)
    assert torch.equal(one, other)
    assert type(pipes[0]) is type(pipes[1]) and type(pipes[0].scheduler) is type(pipes[1].scheduler)


@pytest.mark.parametrize("name", PLAIN)
def test_one_file_makes_the_pictures_of_the_folder(name: str, tmp_path: Path) -> None:
    system = bound(name, tmp_path / "theirs")
    path = save_file(system, tmp_path / "model.safetensors")
    told = Said(heads=4, groups=8, autoencoder_groups=8) if name != "xl" else Said(groups=8, autoencoder_groups=8)
    single = bind_file(path, How(), told)
    assert torch.equal(latents(single), latents(system))
    again = save_file(single, tmp_path / "again.safetensors")
    same(load_file(again), load_file(path))
    assert read_header(again).metadata == read_header(path).metadata


def test_a_file_becomes_a_folder_that_diffusers_loads(tmp_path: Path) -> None:
    system = bound("sd1-v", tmp_path / "theirs")
    path = save_file(system, tmp_path / "model.safetensors")
    single = bind_file(path, How(), Said(heads=4, groups=8, autoencoder_groups=8))
    folder = save_folder(single, tmp_path / "ours")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert torch.equal(latents(bind_folder(folder, How())), latents(system))


def test_a_file_without_a_net_says_what_it_lacks(tmp_path: Path) -> None:
    system = bound("sd1", tmp_path / "theirs")
    path = save_file(system, tmp_path / "model.safetensors")
    from safetensors.torch import save_file as write

    some = {k: v for k, v in load_file(path).items() if not k.startswith("first_stage_model.")}
    write(some, tmp_path / "pruned.safetensors")
    with pytest.raises(FileProblem, match="it has no autoencoder"):
        bind_file(tmp_path / "pruned.safetensors", How(), Said(heads=4, groups=8))
    how = How(vae=tmp_path / "theirs")
    other = bind_file(tmp_path / "pruned.safetensors", how, Said(heads=4, groups=8))
    assert torch.equal(latents(other), latents(system))
    z = start()
    assert torch.equal(other.codec.decode(z), system.codec.decode(z))


def test_folders_that_lack_parts_are_refused(tmp_path: Path) -> None:
    bound("sd1", tmp_path / "theirs")
    (tmp_path / "theirs/vae").rename(tmp_path / "elsewhere")
    with pytest.raises(FileProblem, match="says that there is a 'vae'"):
        bind_folder(tmp_path / "theirs", How())
    (tmp_path / "theirs/model_index.json").write_text('{"_class_name": "StableDiffusionPipelin"}')
    with pytest.raises(FileProblem, match="does not bind yet. It binds StableDiffusionPipeline"):
        bind_folder(tmp_path / "theirs", How())


def test_the_own_solver_is_the_default(tmp_path: Path) -> None:
    system = bound("sd1", tmp_path / "theirs")
    assert (system.defaults.sampler, system.defaults.schedule, system.defaults.steps) == (OWN, OWN, 20)
    path = save_file(system, tmp_path / "a.safetensors")
    single = bind_file(path, How(), Said(heads=4, groups=8, autoencoder_groups=8))
    assert (single.defaults.sampler, single.defaults.schedule) == ("dpm++2m", "karras")
    assert tokenizer().pad_token_id == single.conditioner.reader.tokens.pad  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("solver", "steps", "scale"),
    [
        (diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="trailing"), 4, 1.0),
        (diffusers.EulerAncestralDiscreteScheduler(**SD1_SOLVER, timestep_spacing="trailing"), 4, 1.0),
        (diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="leading", steps_offset=1), 20, 7.5),
        (diffusers.LCMScheduler(), 4, 7.5),
    ],
)
def test_distilled_models_take_few_steps_by_default(solver: Any, steps: int, scale: float, tmp_path: Path) -> None:
    pipeline(scheduler=solver).save_pretrained(tmp_path)
    usual = bind_folder(tmp_path, How()).defaults
    assert (usual.steps, usual.guidance_scale) == (steps, scale)


def test_what_no_file_tells_can_be_said(tmp_path: Path) -> None:
    system = bound("sd1", tmp_path / "theirs")
    path = save_file(system, tmp_path / "model.safetensors")
    told = Said(heads=4, groups=8, autoencoder_groups=8)
    one, other = bind_file(path, How(), told), bind_file(path, How(prediction="v"), told)
    assert float((latents(one) - latents(other)).abs().max()) > 1e-2
    assert one.generator(Request()).denoise.prediction == Eps()  # type: ignore[attr-defined]
    assert other.generator(Request()).denoise.prediction == V()  # type: ignore[attr-defined]
