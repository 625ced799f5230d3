"""Samplers with a history or inner calls beside diffusers' schedulers: the same network calls, step by step."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import BETAS, OURS, SPACINGS, assert_same, begin, double_sigmas, draws, ours, sigma_scaled, theirs

from huggingvis.checkpoints.diffusers_scheduler import own_solver
from huggingvis.core.process import PREDICTIONS
from huggingvis.processes.table import TableProcess
from huggingvis.samplers._multistep import Form
from huggingvis.samplers.ancestral_form import AncestralForm
from huggingvis.samplers.deis import DEIS
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.grids import Karras, Leading, Linspace
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.midpoint import Midpoint
from huggingvis.samplers.names import sampler_of
from huggingvis.samplers.plms import PNDM, PseudoRungeKutta
from huggingvis.samplers.sa_solver import SASolver, Tau
from huggingvis.samplers.unipc import UniPC

pytestmark = pytest.mark.filterwarnings("ignore:`algorithm_type:FutureWarning")

FORMS: dict[str, Form] = {
    "dpmsolver": OfNoise(),
    "dpmsolver++": OfData(),
    "sde-dpmsolver": OfNoise(1.0),
    "sde-dpmsolver++": OfData(1.0),
}


def knots(scheduler: Any, n: int) -> tuple[float, float]:
    """The ends of the last step and of the one before, where below 15 steps their order is lowered."""
    return 1 / 1000, float(scheduler.timesteps[-1] + 1) / 1000 if n < 15 else 0.0


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize(
    ("algorithm", "order", "steps"),
    [
        (algorithm, order, steps)
        for algorithm in FORMS
        for order, steps in ((1, 20), (2, 20), (2, 10), (3, 20), (3, 10))
        if order < 3 or not algorithm.startswith("sde")  # one they lack; in the other u^2 begins at -1, not 0
    ],
)
def test_dpm_solver_multistep(algorithm: str, order: int, steps: int, solver: str) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS["scaled"],
        algorithm_type=algorithm,
        solver_order=order,
        solver_type=solver,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    process = TableProcess(scheduler.alphas_cumprod)
    first, second = knots(scheduler, steps)
    sampler = DPMSolver(order, FORMS[algorithm], solver == "midpoint", first if steps < 15 else 0.0, second)
    schedule = Linspace(steps, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", sampler, schedule, begin(), draws(steps, torch.float32)), reference)


@pytest.mark.parametrize("spacing", [*SPACINGS, "karras"])
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("order", [2, 4])
def test_lms(order: int, betas: str, spacing: str) -> None:
    """Their integrals are by quadrature to 1e-4 of a coefficient."""
    kind = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    scheduler = diffusers.LMSDiscreteScheduler(**BETAS[betas], **kind)
    scheduler.set_timesteps(20)
    if spacing != "karras":
        double_sigmas(scheduler, scheduler.timesteps)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()), order=order)
    schedule = Karras(20) if spacing == "karras" else SPACINGS[spacing][2]
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, "epsilon", LMS(order), schedule, begin(), []), reference)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", BETAS)
def test_plms(betas: str, prediction: str, clean: bool) -> None:
    scheduler = diffusers.PNDMScheduler(
        **BETAS[betas], skip_prk_steps=True, steps_offset=1, set_alpha_to_one=clean, prediction_type=prediction
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = torch.tensor(1.0).double() if clean else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Leading(20, 1, clean_end=clean)
    sampler = PNDM(of=PREDICTIONS[OURS[prediction]]())
    assert_same(ours(process, prediction, sampler, schedule, begin(), []), reference)


@pytest.mark.parametrize("betas", BETAS)
def test_pndm_with_its_runge_kutta_start(betas: str) -> None:
    scheduler = diffusers.PNDMScheduler(**BETAS[betas])
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Leading(20, clean_end=False)
    assert_same(ours(process, "epsilon", PNDM(PseudoRungeKutta()), schedule, begin(), []), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("steps", "clean"), [(20, True), (7, True), (8, False)])
def test_pndm_as_a_folder_says(prediction: str, spacing: str, skip: bool, steps: int, clean: bool) -> None:
    """Theirs steps by T // N, and half of that in the Runge-Kutta start, whatever the next listed time is."""
    told = {**BETAS["scaled"], "timestep_spacing": spacing, "prediction_type": prediction, "skip_prk_steps": skip,
            "set_alpha_to_one": clean}  # fmt: skip
    scheduler = diffusers.PNDMScheduler(**told)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = torch.tensor(1.0).double() if clean else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin())
    own = own_solver({**told, "_class_name": "PNDMScheduler"})
    assert own.solver is not None
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, *own.solver(steps, 0.0), begin(), []), reference, 1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [10, 20])
def test_deis(order: int, steps: int) -> None:
    scheduler = diffusers.DEISMultistepScheduler(**BETAS["scaled"], solver_order=order)  # ends at the first knot
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin())
    first, second = knots(scheduler, steps)
    sampler = DEIS(order, first if steps < 15 else 0.0, second)
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(steps, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", sampler, schedule, begin(), []), reference)


@pytest.mark.parametrize("kind", ["bh1", "bh2"])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order: int, data: bool, kind: str) -> None:
    scheduler = diffusers.UniPCMultistepScheduler(
        **BETAS["scaled"], solver_order=order, predict_x0=data, solver_type=kind, final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin())
    _, second = knots(scheduler, 10)  # theirs lowers the order at the end however many steps there are
    sampler = UniPC(order, OfData() if data else OfNoise(), kind == "bh1", 1e-3, second)
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(20, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", sampler, schedule, begin(), []), reference)


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(("predictor", "corrector"), [(1, 1), (2, 2), (3, 3), (3, 4), (3, 2)])
def test_sa_solver(predictor: int, corrector: int, data: bool, tau: float) -> None:
    """On the same noise; theirs is drawn for every step, ours where tau is not 0."""
    scheduler = diffusers.SASolverScheduler(
        **BETAS["scaled"], predictor_order=predictor, corrector_order=corrector,
        algorithm_type="data_prediction" if data else "noise_prediction",
        tau_func=lambda t: tau if 200 <= t <= 800 else 0,
    )  # fmt: skip
    scheduler.set_timesteps(20)
    double_sigmas(scheduler, scheduler.timesteps)
    bar = scheduler.alphas_cumprod.double()
    scheduler.sigmas[-1] = ((1 - bar[0]) / bar[0]) ** 0.5
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    _, second = knots(scheduler, 10)  # theirs lowers the order at the end however many steps there are
    form: Callable[[float], Form] = OfData if data else OfNoise
    asked = Tau(tau, 0.2005, 0.8015)
    sampler = SASolver(predictor, corrector, asked, form, data, 1e-3, second)
    used = [z for z, t in zip(draws(20), scheduler.timesteps, strict=True) if asked((float(t) + 1) / 1000) > 0]
    schedule = Linspace(20, open_end=True, clean_end=False)
    assert_same(ours(TableProcess(bar), "epsilon", sampler, schedule, begin(), used), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled"])
@pytest.mark.parametrize("ancestral", [False, True])
def test_dpm2(ancestral: bool, betas: str, prediction: str) -> None:
    name = "KDPM2AncestralDiscreteScheduler" if ancestral else "KDPM2DiscreteScheduler"
    scheduler = getattr(diffusers, name)(**BETAS[betas], prediction_type=prediction)
    scheduler.set_timesteps(20)
    more: dict[str, Any] = {"generator": torch.Generator().manual_seed(3)} if ancestral else {}
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()), **more)
    sampler = AncestralForm(Midpoint()) if ancestral else Midpoint()
    process = TableProcess(scheduler.alphas_cumprod)
    tolerance = 2e-5 if ancestral else 1e-5  # they keep rho_up in float32
    assert_same(ours(process, prediction, sampler, SPACINGS["linspace"][2], begin(), draws(20)), reference, tolerance)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "kind",
    [{}, {"use_karras_sigmas": True}, {"timestep_spacing": "trailing"},
     {"timestep_spacing": "leading", "steps_offset": 1, "use_karras_sigmas": True}],
    ids=str,
)  # fmt: skip
def test_dpm_solver_sde(kind: dict[str, Any], prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same noise: theirs is drawn by `torchsde`, which is not needed for that."""
    monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
    module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
    scheduler = module.DPMSolverSDEScheduler(**BETAS["scaled"], **kind, prediction_type=prediction)
    scheduler.set_timesteps(20)
    left = draws(40)
    scheduler.noise_sampler = lambda sigma, sigma_next: left.pop(0)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    own = own_solver({"_class_name": "DPMSolverSDEScheduler", **BETAS["scaled"], **kind, "prediction_type": prediction})
    assert own.solver is not None
    sampler, schedule = own.solver(20, 0.0)
    assert sampler == sampler_of("DPMSolverSDEScheduler")
    got = ours(TableProcess(scheduler.alphas_cumprod), prediction, sampler, schedule, begin(), draws(40))
    assert_same(got, reference, 3e-5)  # their sigmas are in float32
    assert len(left) == 2  # two draws a step, but for the last
