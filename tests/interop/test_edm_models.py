"""Playground v2.5 and CosXL: XL nets in EDM's terms, beside diffusers' pipeline with its EDM schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import NEGATIVE, PROMPT, drawn, pipeline_xl, start, vae
from torch import Tensor

from huggingvis.checkpoints.diffusers_scheduler import own_solver
from huggingvis.core.errors import FileProblem
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.request import OWN, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.task import Task
from huggingvis.processes.ve import LinearVE
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.saving import save_file
from huggingvis.systems.single_file import bind_file

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
SCHEDULERS: dict[str, Any] = {
    "Playground's": lambda: diffusers.EDMDPMSolverMultistepScheduler(),
    "Heun's correction": lambda: diffusers.EDMDPMSolverMultistepScheduler(solver_type="heun", solver_order=3),
    "stochastic": lambda: diffusers.EDMDPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
    "Euler": lambda: diffusers.EDMEulerScheduler(),
    "CosXL's": lambda: diffusers.EDMEulerScheduler(prediction_type="v_prediction", sigma_data=1.0, sigma_max=120.0),
    "exponential": lambda: diffusers.EDMEulerScheduler(sigma_schedule="exponential"),
}  # fmt: skip
MEAN, STD = [0.1, -0.2, 0.3, 0.5], [2.0, 3.0, 4.0, 5.0]


@torch.inference_mode()
def latents(system: System, steps: int, noise: list[Tensor]) -> Tensor:
    request = Request(Prompt(PROMPT, NEGATIVE), sampling=Sampling(OWN, OWN, steps, 3.0))
    cond = system.conditioner([request])
    return Task(system, request, system.generator(request), 1, cond, ReplayNoise(noise)).from_noise()


@pytest.fixture(scope="module", params=SCHEDULERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, System]:
    """Their pipeline and our system of its folder."""
    made, folder = pipeline_xl(scheduler=SCHEDULERS[request.param]()), tmp_path_factory.mktemp("xl")
    made.save_pretrained(folder)
    return made, bind_folder(folder, How())


@pytest.mark.parametrize("steps", [6, 20])
def test_latents_are_theirs(pair: tuple[Any, System], steps: int) -> None:
    made, system = pair
    high = made.scheduler.config.sigma_max
    begin = start() * ((high**2 + 1) ** 0.5 / high)  # theirs begins with a little more noise
    theirs = made(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, guidance_scale=3.0, latents=start(),
        output_type="latent", generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    ours = latents(system, steps, [begin, *drawn(3, steps)])
    assert float((ours - theirs).abs().max()) <= 1e-4 * max(1.0, float(theirs.abs().max()))


def test_latents_are_scaled_by_channel(tmp_path: Path) -> None:
    told = vae()
    told.register_to_config(latents_mean=MEAN, latents_std=STD, scaling_factor=0.5)
    made = pipeline_xl(scheduler=SCHEDULERS["Playground's"](), vae=told)
    made.save_pretrained(tmp_path)
    system = bind_folder(tmp_path, How())
    z = start()
    mean, std = (torch.tensor(x)[None, :, None, None] for x in (MEAN, STD))
    with torch.no_grad():
        want = told.decode(z * std / 0.5 + mean).sample.clamp(-1, 1)
        assert float((system.codec.decode(z) - want).abs().max()) < 1e-5
    assert (system.defaults.steps, system.defaults.guidance_scale) == (25, 3.0)


@pytest.mark.parametrize(
    ("prediction", "more", "high", "data", "sign"),
    [
        ("edm", {"edm_mean": torch.tensor(MEAN), "edm_std": torch.tensor(STD)}, 80.0, 0.5, 1.0),
        ("edm_v", {"edm_vpred.sigma_max": torch.tensor(100.0), "edm_vpred.sigma_min": torch.tensor(0.01)}, 100.0, 1.0,
         -1.0),
    ],
)  # fmt: skip
def test_single_files_in_edm_s_terms(
    prediction: str, more: dict[str, Tensor], high: float, data: float, sign: float, tmp_path: Path
) -> None:
    pipeline_xl().save_pretrained(tmp_path / "xl")
    path = save_file(bind_folder(tmp_path / "xl", How()), tmp_path / "xl.safetensors")
    with safe_open(path, "pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if "prediction" not in key}
    save_tensors({**load_file(path), **more}, tmp_path / "edm.safetensors", metadata)
    system = bind_file(tmp_path / "edm.safetensors", How(prediction=prediction))
    model: Any = system.generator(Request(sampling=Sampling(OWN, OWN, 8, 3.0)))
    assert model.denoise.process == LinearVE(high) and model.denoise.prediction == Preconditioned(data, sign)
    grid = model.grid(model.process)
    assert abs(float(grid.times[0]) - 1.0) < 1e-9 and float(grid.times[-1]) == 0.0
    if prediction == "edm":
        codec: Any = system.codec
        assert codec.mean.tolist() == pytest.approx(MEAN)
        assert codec.std.tolist() == pytest.approx([value / 0.18215 for value in STD])  # 0.5 in Playground's own sizes
    assert torch.isfinite(latents(system, 2, [start(), *drawn(3, 2)])).all()


def test_what_edm_schedulers_cannot_say_is_refused() -> None:
    for change in ({"prediction_type": "sample"}, {"sigma_schedule": "cosine"}, {"euler_at_final": True}):
        with pytest.raises(FileProblem, match=next(iter(change))):
            own_solver({"_class_name": "EDMDPMSolverMultistepScheduler", **change})
