"""`scheduler_config.json` as sampler, grid and table: each class of diffusers beside ours, network call by call."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import OURS, Net, assert_same, begin, draws, ours, theirs

from huggingvis.checkpoints import diffusers_scheduler_edm as edm
from huggingvis.checkpoints.diffusers_scheduler import (
    IN_SIGMA,
    Own,
    own_solver,
    read_scheduler,
    scheduler_config,
    write_scheduler,
)
from huggingvis.checkpoints.diffusers_scheduler_grids import CutDown
from huggingvis.checkpoints.diffusers_scheduler_settings import DEFAULTS, OWN
from huggingvis.core.errors import FileProblem
from huggingvis.core.grid import Grid
from huggingvis.core.process import Eps, V
from huggingvis.guidance.threshold import Clip, DynamicThreshold
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.grids import Schedule
from huggingvis.samplers.plms import PNDM

pytestmark = [
    pytest.mark.filterwarnings("ignore:`algorithm_type:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`final_sigmas_type"),
]

DATA = os.environ.get("HUGGINGVIS_TESTDATA")
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PLAIN = {**SCALED, "clip_sample": False}
SD1 = {**SCALED, "skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
DRAWING = ("DDPMScheduler", "LCMScheduler", "SASolverScheduler")
CASES: list[tuple[str, dict[str, Any]]] = [
    ("PNDMScheduler", SD1),
    ("PNDMScheduler", {**SD1, "prediction_type": "v_prediction"}),
    ("PNDMScheduler", {**SD1, "timestep_spacing": "trailing", "steps_offset": 0}),
    ("DDIMScheduler", {**PLAIN, "steps_offset": 1, "set_alpha_to_one": False}),
    ("DDIMScheduler", {**PLAIN, "steps_offset": 1, "set_alpha_to_one": False, "prediction_type": "v_prediction"}),
    ("DDIMScheduler", {**PLAIN, "timestep_spacing": "trailing"}),
    ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_large"}),
    ("DDPMScheduler", {**PLAIN, "timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {**SCALED, "timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerDiscreteScheduler", {**SCALED, "timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("EulerDiscreteScheduler", SCALED),
    ("EulerAncestralDiscreteScheduler", {**SCALED, "timestep_spacing": "trailing"}),
    ("EulerAncestralDiscreteScheduler", {**SCALED, "timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerAncestralDiscreteScheduler", SCALED),
    ("HeunDiscreteScheduler", SCALED),
    ("HeunDiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("LMSDiscreteScheduler", SCALED),
    ("LMSDiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("KDPM2DiscreteScheduler", SCALED),
    ("KDPM2DiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("KDPM2AncestralDiscreteScheduler", SCALED),
    ("DPMSolverMultistepScheduler", SCALED),
    ("DPMSolverMultistepScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {**SCALED, "timestep_spacing": "leading", "steps_offset": 1}),
    ("DPMSolverMultistepScheduler", {**SCALED, "algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverMultistepScheduler", {**SCALED, "solver_order": 3, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {**SCALED, "use_lu_lambdas": True, "final_sigmas_type": "zero"}),
    ("DPMSolverSinglestepScheduler", {**SCALED, "final_sigmas_type": "sigma_min", "lower_order_final": True,
                                      "algorithm_type": "dpmsolver++"}),
    ("UniPCMultistepScheduler", SCALED),
    ("UniPCMultistepScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", {**SCALED, "final_sigmas_type": "sigma_min"}),
    ("DEISMultistepScheduler", {**SCALED, "solver_order": 3}),
    # noise levels lie between those of the first and the last call that the spacing would have made
    ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerDiscreteScheduler", {**SCALED, "use_beta_sigmas": True, "timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0}),
    ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True, "timestep_spacing": "trailing", "sigma_min": 0.05,
                                "sigma_max": 10.0}),
    ("EulerDiscreteScheduler", {**SCALED, "use_exponential_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ("EulerDiscreteScheduler", {**SCALED, "use_beta_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ("HeunDiscreteScheduler", {**SCALED, "use_exponential_sigmas": True, "timestep_spacing": "trailing"}),
    ("LMSDiscreteScheduler", {**SCALED, "use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1}),
    ("KDPM2DiscreteScheduler", {**SCALED, "use_karras_sigmas": True, "timestep_spacing": "leading"}),
    # whole numbers: what is before the point
    ("DPMSolverMultistepScheduler", {**SCALED, "use_exponential_sigmas": True}),
    ("DPMSolverMultistepScheduler", {**SCALED, "use_beta_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverSinglestepScheduler", {**SCALED, "use_exponential_sigmas": True}),
    ("DPMSolverSinglestepScheduler", {**SCALED, "use_karras_sigmas": True, "solver_order": 3,
                                      "lower_order_final": True}),
    ("UniPCMultistepScheduler", {**SCALED, "use_beta_sigmas": True}),
    # where levels end with the least of them there is a step of no length, counted as the last
    ("DPMSolverMultistepScheduler", {**SCALED, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {**SCALED, "use_lu_lambdas": True, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {**SCALED, "euler_at_final": True, "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {**SCALED, "solver_type": "bh2", "lambda_min_clipped": -5.1}),
    ("UniPCMultistepScheduler", {**SCALED, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0}),
    ("UniPCMultistepScheduler", {**SCALED, "solver_type": "midpoint", "disable_corrector": []}),
    ("UniPCMultistepScheduler", {**SCALED, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
    ("DEISMultistepScheduler", {**SCALED, "use_karras_sigmas": True}),
    ("DEISMultistepScheduler", {**SCALED, "use_exponential_sigmas": True, "solver_order": 3}),
    ("DEISMultistepScheduler", {**SCALED, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("SASolverScheduler", SCALED),
    ("SASolverScheduler", {**SCALED, "predictor_order": 3, "corrector_order": 4, "algorithm_type": "noise_prediction"}),
    ("LCMScheduler", {}),
    ("LCMScheduler", {"original_inference_steps": 100, "prediction_type": "v_prediction"}),
]  # fmt: skip


TOLD = [name for name in OWN if name != "DPMSolverSDEScheduler"]  # which tells its settings beside torchsde alone


def _id(case: tuple[str, dict[str, Any]]) -> str:
    name, more = case
    own = [f"{k}={v}" for k, v in more.items() if k not in PLAIN]
    return "-".join([name.removesuffix("Scheduler"), *own])


def table(own: Own) -> torch.Tensor:
    """alpha_bar at every step, [T]."""
    assert isinstance(own.process, TableProcess)
    return own.process.alphas_cumprod


def run(own: Own, steps: int, scheduler: Any, noise: list[torch.Tensor]) -> tuple[Net, torch.Tensor]:
    assert own.solver is not None
    sampler, schedule = own.solver(steps, 0.0)
    kind = next(k for k, v in OURS.items() if v == ("eps" if own.prediction == Eps() else "v"))
    process = TableProcess(scheduler.alphas_cumprod)
    if isinstance(schedule, CutDown):
        schedule = cut_as_there(schedule(process), scheduler.timesteps.double())
    return ours(process, kind, sampler, schedule, begin(), noise)


def cut_as_there(grid: Grid, clocks: torch.Tensor) -> Schedule:
    """Clocks that stand at a whole number, the first, are one less there if float32 makes them a little smaller."""
    assert grid.clocks is not None and grid.clocks[0] == 999
    off = grid.clocks - clocks[: len(grid)]
    assert off[0] in (0, 1) and not off[1:].any()
    return lambda process: Grid(grid.times, clocks[: len(grid)])


@pytest.mark.parametrize(
    ("case", "steps"),
    [(c, 20) for c in CASES]
    + [(c, 10) for c in CASES if c[0].startswith(("DPM", "UniPC", "DEIS", "SA"))]
    # the last number of steps that ends with lower orders, and the first that does not
    + [(("DPMSolverMultistepScheduler", {**SCALED, "solver_order": 3}), steps) for steps in (14, 15)],
    ids=lambda x: _id(x) if isinstance(x, tuple) else str(x),
)
def test_the_solver_of_every_class(case: tuple[str, dict[str, Any]], steps: int) -> None:
    name, more = case
    scheduler = getattr(diffusers, name)(**more)
    own = own_solver(dict(scheduler.config) | {"_class_name": name})
    scheduler.set_timesteps(steps)
    if name == "DPMSolverSinglestepScheduler":
        scheduler.order_list = scheduler.get_order_list(steps)
    scaled = name.startswith(IN_SIGMA)
    x = begin() * (float(scheduler.sigmas[0]) ** 2 + 1) ** 0.5 if scaled else begin()
    stochastic = "Ancestral" in name or name in DRAWING or "sde" in str(more.get("algorithm_type"))
    generator = {"generator": torch.Generator().manual_seed(3)} if stochastic else {}
    net, y = theirs(scheduler, x, **generator)
    y = y / (float(scheduler.sigmas[-1]) ** 2 + 1) ** 0.5 if scaled else y
    noise = draws(steps, torch.float32 if "sde" in str(more.get("algorithm_type")) else torch.float64)
    if name == "SASolverScheduler":  # theirs is drawn for every step, ours where tau is not 0
        noise = [z for z, t in zip(noise, scheduler.timesteps.tolist(), strict=True) if 200 <= t <= 800]
    # float32 sigmas of theirs, and rho_up for the ancestral one, are what is left
    assert_same(run(own, steps, scheduler, noise), (net, y), 1e-4)
    assert float((table(own) - scheduler.alphas_cumprod).abs().max()) < 1e-6


@pytest.mark.parametrize("case", [c for c in CASES if c[0].startswith(IN_SIGMA)], ids=_id)
def test_noise_begins_where_theirs_does(case: tuple[str, dict[str, Any]]) -> None:
    name, more = case
    scheduler = getattr(diffusers, name)(**more)
    scheduler.set_timesteps(20)
    own = own_solver(dict(scheduler.config) | {"_class_name": name})
    assert own.solver is not None
    first = own.solver(20, 0.0)[1](own.process).times[0]
    begins = 1.0 if own.unit else float(own.process.sigma(first))
    theirs_in_our_scale = float(scheduler.init_noise_sigma) * float(own.process.alpha(first))
    assert begins == pytest.approx(theirs_in_our_scale, rel=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}),
        ("UniPCMultistepScheduler", {}),
        ("UniPCMultistepScheduler", {"solver_order": 3}),
        ("DEISMultistepScheduler", {}),
        ("DEISMultistepScheduler", {"solver_order": 3}),
    ],
)
def test_flows(name: str, more: dict[str, Any], steps: int, shift: float) -> None:
    """The levels are times of a flow, at whose very end, in UniPC, and at 1 - 1/T the walk begins."""
    told = {**more, "use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "flow_prediction"}
    scheduler = getattr(diffusers, name)(**told)
    scheduler.set_timesteps(steps)
    own = own_solver({**told, "_class_name": name})
    assert own.solver is not None and own.process == RectifiedFlow(1000.0) and own.unit
    sampler, schedule = own.solver(steps, 0.0)
    grid = schedule(own.process)
    assert grid.clocks is not None and grid.clocks.tolist() == scheduler.timesteps[: len(grid)].tolist()
    generator = {"generator": torch.Generator().manual_seed(3)} if "algorithm_type" in more else {}
    reference = theirs(scheduler, begin(), **generator)
    tol = 2e-4 if name.startswith("DEIS") else 2e-5  # differences of float32 logarithms
    assert_same(ours(own.process, "flow", sampler, schedule, begin(), draws(steps, torch.float32)), reference, tol)


def test_what_is_made_of_single_settings() -> None:
    pndm = own_solver({"_class_name": "PNDMScheduler", **SD1, "prediction_type": "v_prediction"})
    assert pndm.prediction == V() and pndm.solver is not None
    sampler, _ = pndm.solver(20, 0.0)
    assert isinstance(sampler, PNDM) and sampler.of == V()
    assert own_solver({"_class_name": "DDIMScheduler"}).clip == (Clip(1.0),)
    assert own_solver({"_class_name": "DDIMScheduler", "thresholding": True}).clip == (DynamicThreshold(0.995, 1.0),)
    zero = own_solver({"_class_name": "DDIMScheduler", **PLAIN, "rescale_betas_zero_snr": True})
    assert float(table(zero)[-1]) == 0.0
    trained = own_solver({"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2, 0.4], "clip_sample": False})
    assert table(trained).tolist() == pytest.approx([0.9, 0.72, 0.432])


@pytest.mark.parametrize("name", [*TOLD, edm.EULER, edm.MULTISTEP])
def test_a_silent_file_means_what_its_class_would_take(name: str) -> None:
    """Old files leave out what was usual when they were written; each class has usual values of its own."""
    usual = inspect.signature(getattr(diffusers, name).__init__).parameters
    known = edm.complete({}) if name.startswith("EDM") else DEFAULTS | OWN[name]
    silent = {key: told.default for key, told in usual.items() if key in known and key != "disable_corrector"}
    assert {key: known[key] for key in silent} == silent and len(silent) > 6


def test_a_class_that_is_not_known_still_tells_its_table() -> None:
    own = own_solver({"_class_name": "MadeUpScheduler", **SCALED, "prediction_type": "v_prediction"})
    assert own.solver is None and own.prediction == V()
    assert torch.equal(table(own), TableProcess.scaled_linear().alphas_cumprod)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "flow_prediction"}, "prediction_type"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "prediction_type"),
        ({**FLOW, "_class_name": "DPMSolverMultistepScheduler", "final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
        ({**FLOW, "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}, "algorithm_type"),
        ({**FLOW, "_class_name": "UniPCMultistepScheduler", "predict_x0": False}, "predict_x0"),
        ({**FLOW, "_class_name": "UniPCMultistepScheduler", "flow_shift": 0.0}, "flow_shift"),
        ({**FLOW, "_class_name": "SASolverScheduler"}, "final_sigmas_type"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}, "beta_schedule"),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned"}, "variance_type"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "magic"}, "algorithm_type"),
        ({"_class_name": "DDIMScheduler", "beta_start": "small"}, "beta_start"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_type": "magic"}, "solver_type"),
        (
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "beta_schedule": "squaredcos_cap_v2",
                "lambda_min_clipped": -5.1,
            },
            "lambda_min_clipped",
        ),
        ({"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"}, "interpolation_type"),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, "sigma_max": "large"}, "sigma_max"),
        ({"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0]}, "disable_corrector"),
        (
            {"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
            "final_sigmas_type",
        ),
        (
            {
                "_class_name": "DPMSolverSinglestepScheduler",
                "use_karras_sigmas": True,
                "final_sigmas_type": "sigma_min",
            },
            "final_sigmas_type",
        ),
        ({"_class_name": "SASolverScheduler", "algorithm_type": "magic"}, "algorithm_type"),
        ({"_class_name": "DDIMScheduler", "trained_betas": "small"}, "trained_betas"),
        ({"_class_name": "DDIMScheduler", "trained_betas": [[0.1], [0.2]]}, "trained_betas"),
        ({"_class_name": "DDIMScheduler", "num_train_timesteps": 0}, "num_train_timesteps"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": [2]}, "solver_order"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(more: dict[str, Any], word: str) -> None:
    with pytest.raises(FileProblem, match=word):
        own_solver(more)


def test_a_refusal_names_the_file_of_the_scheduler(tmp_path: Path) -> None:
    """Also of a table that cannot be, which its own class refuses."""
    wrong: tuple[dict[str, Any], ...] = (
        {"beta_start": "small"}, {"beta_start": 0.0, "beta_end": 0.0}, {"trained_betas": []},
    )  # fmt: skip
    for more in wrong:
        write_scheduler(tmp_path, {"_class_name": "DDIMScheduler", **more})
        with pytest.raises(FileProblem, match="scheduler_config.json: "):
            read_scheduler(tmp_path)


@pytest.mark.parametrize("prediction", [Eps(), V()])
@pytest.mark.parametrize(
    "process",
    [TableProcess.scaled_linear(), TableProcess.linear(), TableProcess.cosine(), TableProcess.linear(2e-4, 0.015)],
    ids=["scaled", "linear", "cosine", "without a name"],
)
def test_written_settings_are_read_by_us_and_by_diffusers(tmp_path: Path, prediction: Any, process: Any) -> None:
    folder = write_scheduler(tmp_path / "scheduler", scheduler_config(process, prediction))
    own = read_scheduler(folder)
    assert own.prediction == prediction
    torch.testing.assert_close(table(own), process.alphas_cumprod, rtol=1e-9, atol=0)
    read = diffusers.DDIMScheduler.from_pretrained(folder)
    torch.testing.assert_close(read.alphas_cumprod.double(), process.alphas_cumprod, rtol=1e-4, atol=1e-9)


@pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: the real configuration is not at hand")
def test_the_real_file_of_stable_diffusion_1() -> None:
    own = read_scheduler(Path(str(DATA)) / "configs/sd15/scheduler")
    assert own.name == "PNDMScheduler" and own.unit and own.prediction == Eps() and own.clip == ()
    assert torch.equal(table(own), TableProcess.scaled_linear().alphas_cumprod)
    assert own.solver is not None
    clocks = own.solver(50, 0.0)[1](own.process).clocks
    assert clocks is not None and clocks.tolist()[:2] == [981.0, 961.0]
