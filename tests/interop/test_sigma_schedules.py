"""Grids beside diffusers' own: beta, exponential, Lu's lambdas, flow sigmas, Align Your Steps, zero-SNR tables.

`test_schedulers` and `test_multistep_schedulers` compare samplers on other grids, by the same harness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import BETAS, F64, Net, assert_same, begin, double, draws, ours, sigma_scaled, theirs
from torch import Tensor

from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.core.sampler import Sampler
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.vp import CosineVP
from huggingvis.samplers._multistep import Form
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_on_grid import DPMSolverOnGrid
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import (
    AlignYourSteps,
    Beta,
    Karras,
    Leading,
    Linspace,
    LogSNR,
    Schedule,
    Shifted,
    Trailing,
)
from huggingvis.samplers.grids.published import SDXL
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.midpoint import Midpoint
from huggingvis.samplers.plms import PNDM, AsTheyCome
from huggingvis.samplers.unipc import UniPC

pytestmark = pytest.mark.filterwarnings("ignore:`algorithm_type:FutureWarning")

SIGMAS: dict[str, Callable[[int], Schedule]] = {"karras": Karras, "exponential": LogSNR, "beta": Beta}
STEPS = 12
TABLES = [("linear", "epsilon"), ("scaled", "v_prediction"), ("scaled", "sample")]


def told_as_there(schedule: Schedule, scheduler: Any) -> Schedule:
    """The levels of `schedule`, its own clocks: some cut a fraction off them, and float32 decides where."""
    return lambda process: Grid(schedule(process).times, scheduler.timesteps[: len(schedule(process))].to(F64))


IN_SIGMA: dict[str, Sampler] = {
    "EulerDiscreteScheduler": Euler(),
    "HeunDiscreteScheduler": Heun(),
    "LMSDiscreteScheduler": LMS(3),
    "KDPM2DiscreteScheduler": Midpoint(),
}


@pytest.mark.parametrize(
    ("name", "kind", "betas", "prediction"),
    [
        (name, kind, betas, prediction)
        for name in IN_SIGMA
        for kind in SIGMAS
        for betas, prediction in [*TABLES, ("cosine", "epsilon")]
        # of the four only Euler's takes a network of the datum as other schedulers do, and KDPM2's rounds the clocks of
        # Karras' levels, on the cosine table to whatever float32 decides
        if (prediction != "sample" or name.startswith("Euler"))
        and (name, kind, betas) != ("KDPM2DiscreteScheduler", "karras", "cosine")
    ],
)
def test_samplers_in_sigma(name: str, kind: str, betas: str, prediction: str) -> None:
    sampler = IN_SIGMA[name]
    scheduler = getattr(diffusers, name)(**BETAS[betas], **{f"use_{kind}_sigmas": True}, prediction_type=prediction)
    scheduler.set_timesteps(STEPS)
    more = {"order": 3} if isinstance(sampler, LMS) else {}
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()), **more)
    process = TableProcess(scheduler.alphas_cumprod)
    rounded = kind == "karras" and isinstance(sampler, Midpoint)
    schedule = Karras(STEPS, rounded=True) if rounded else SIGMAS[kind](STEPS)
    tolerance = 3e-5 if betas == "cosine" else 1e-5  # their sigmas, up to 20,000, are kept in float32
    assert_same(ours(process, prediction, sampler, schedule, begin(), []), reference, tolerance)


@pytest.mark.parametrize(("betas", "prediction"), TABLES)
@pytest.mark.parametrize("kind", SIGMAS)
@pytest.mark.parametrize(
    ("name", "sampler"),
    [("DPMSolverMultistepScheduler", DPMSolver()), ("UniPCMultistepScheduler", UniPC(2)),
     ("DPMSolverSinglestepScheduler", DPMSolverOnGrid())],
)  # fmt: skip
def test_samplers_with_a_history(name: str, sampler: Sampler, kind: str, betas: str, prediction: str) -> None:
    """To clean data: at the end `sigma_min` they have the least of these levels twice, and a step between them."""
    more = {f"use_{kind}_sigmas": True, "final_sigmas_type": "zero", "prediction_type": prediction}
    scheduler = getattr(diffusers, name)(**BETAS[betas], **more, solver_order=2)
    scheduler.set_timesteps(STEPS)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = told_as_there(SIGMAS[kind](STEPS), scheduler)
    assert_same(ours(process, prediction, sampler, schedule, begin(), []), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_step_between_equal_levels_is_nothing_there_either(prediction: str) -> None:
    """Of a multistep solver; their UniPC corrects, and their singlestep ends a block, in that step of no length."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS["scaled"], use_karras_sigmas=True, final_sigmas_type="sigma_min", prediction_type=prediction,
        lower_order_final=False,
    )  # fmt: skip
    scheduler.set_timesteps(STEPS)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Karras(STEPS, rounded=True, clean_end=False)
    assert_same(ours(process, prediction, DPMSolver(), schedule, begin(), []), reference)


@pytest.mark.parametrize("betas", ["linear", "scaled"])
def test_lu_lambdas(betas: str) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS[betas], use_lu_lambdas=True)
    scheduler.set_timesteps(STEPS)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, "epsilon", DPMSolver(), LogSNR(STEPS, rounded=True), begin(), []), reference)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_flow_sigmas(name: str, shift: float) -> None:
    scheduler = getattr(diffusers, name)(use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    scheduler.set_timesteps(STEPS)
    reference = theirs(scheduler, begin())
    sampler = DPMSolver() if name.startswith("DPMSolverMulti") else DPMSolverOnGrid()
    schedule = told_as_there(Shifted(STEPS, shift, first=0.999), scheduler)
    assert_same(ours(RectifiedFlow(1000.0), "flow", sampler, schedule, begin(), []), reference)


@pytest.mark.parametrize("xl", [False, True])
def test_align_your_steps(xl: bool) -> None:
    from diffusers.schedulers import AysSchedules

    listed = AysSchedules["StableDiffusionXLSigmas" if xl else "StableDiffusionSigmas"]
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS["scaled"])
    scheduler.set_timesteps(sigmas=listed)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = AlignYourSteps(10, SDXL) if xl else AlignYourSteps(10)
    net, x = ours(process, "epsilon", Euler(), schedule, begin(), [])
    # their first level, 14.615, is past the table's end at 14.6146
    assert_same((net, x), reference, 1e-4)


# ---- tables that end in pure noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("betas", ["linear", "scaled"])
def test_zero_terminal_snr(betas: str) -> None:
    scheduler = diffusers.DDIMScheduler(**BETAS[betas], rescale_betas_zero_snr=True)
    made = TableProcess(diffusers.DDIMScheduler(**BETAS[betas]).alphas_cumprod).zero_terminal_snr().alphas_cumprod
    assert float(made[-1]) == 0.0
    assert float((made - scheduler.alphas_cumprod.double()).abs().max()) < 2e-6


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled"])
@pytest.mark.parametrize(("spacing", "eta"), [("trailing", 0.0), ("trailing", 0.7), ("leading", 0.0)])
def test_ddim_on_zero_terminal_snr(eta: float, spacing: str, betas: str, prediction: str) -> None:
    scheduler = diffusers.DDIMScheduler(**BETAS[betas], rescale_betas_zero_snr=True, timestep_spacing=spacing,
                                        prediction_type=prediction, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=F64)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), eta=eta, generator=torch.Generator().manual_seed(3))
    schedule = Trailing(20) if spacing == "trailing" else Leading(20)
    assert_same(ours(process, prediction, DDIM(eta), schedule, begin(), draws(20)), reference, 1e-9)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled"])
def test_ddpm_on_zero_terminal_snr(betas: str, prediction: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS[betas], rescale_betas_zero_snr=True, timestep_spacing="trailing",
                                        prediction_type=prediction, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    assert_same(ours(process, prediction, Ancestral(), Trailing(20), begin(), draws(20)), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("name", "sampler"),
    [("EulerDiscreteScheduler", Euler()), ("DPMSolverMultistepScheduler", DPMSolver()),
     ("UniPCMultistepScheduler", UniPC(2))],
)  # fmt: skip
def test_other_samplers_end_in_2_to_the_minus_24(name: str, sampler: Sampler, prediction: str) -> None:
    """diffusers keeps a little signal for those that divide by it; the table that it makes so is the one compared.

    Not of linear betas: there 2^-24 is more than the value before it, and no table.
    """
    more = {} if name.startswith("DPM") else {"timestep_spacing": "trailing"}
    more = {**more, "final_sigmas_type": "zero"} if name.startswith("Uni") else more
    scheduler = getattr(diffusers, name)(
        **BETAS["scaled"], **more, rescale_betas_zero_snr=True, prediction_type=prediction
    )
    bar = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(STEPS)
    working = isinstance(sampler, Euler)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()) if working else begin())
    schedule = Linspace(STEPS, open_end=True) if name.startswith("DPM") else Trailing(STEPS)
    # sigma is 4,096 at their start, in float32
    assert_same(ours(TableProcess(bar), prediction, sampler, schedule, begin(), []), reference, 3e-4)


# ---- samplers that are here for their twins -------------------------------------------------------------------------

FORMS: dict[str, Form] = {"dpmsolver": OfNoise(), "dpmsolver++": OfData(), "sde-dpmsolver++": OfData(1.0)}


@pytest.mark.parametrize(
    ("algorithm", "order", "solver"),
    [
        (algorithm, order, solver)
        for algorithm in FORMS
        for order in (2, 3)
        for solver in ("midpoint", "heun")
        # in this one they take the integral of u^2 with the constant of the other sign
        if (algorithm, order, solver) != ("sde-dpmsolver++", 3, "heun")
    ],
)
@pytest.mark.parametrize(("steps", "lower"), [(12, False), (12, True), (14, True)])
def test_dpm_solver_singlestep(steps: int, lower: bool, algorithm: str, order: int, solver: str) -> None:
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **BETAS["scaled"], algorithm_type=algorithm, solver_order=order, solver_type=solver,
        final_sigmas_type="sigma_min", lower_order_final=lower,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    scheduler.order_list = scheduler.get_order_list(steps)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    own_block = scheduler.order_list[-1] == 1
    sampler = DPMSolverOnGrid(order, FORMS[algorithm], solver == "midpoint", 1e-3 if own_block else 0.0)
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(steps, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", sampler, schedule, begin(), draws(steps)), reference)


@pytest.mark.parametrize(("betas", "prediction"), TABLES)
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_singlestep_to_clean_data(order: int, betas: str, prediction: str) -> None:
    scheduler = diffusers.DPMSolverSinglestepScheduler(**BETAS[betas], solver_order=order, prediction_type=prediction)
    scheduler.set_timesteps(STEPS)
    scheduler.order_list = scheduler.get_order_list(STEPS)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(STEPS, open_end=True)
    assert_same(ours(process, prediction, DPMSolverOnGrid(order), schedule, begin(), []), reference)


def test_ipndm() -> None:
    """On its own process, alpha = cos(t pi/2), from its second time on: its first says nothing of the datum."""
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(20)
    scheduler.set_begin_index(1)
    net, x = Net(), begin()
    with torch.no_grad():
        for t in scheduler.timesteps[1:]:
            x = scheduler.step(net(x, t), t, x).prev_sample.to(F64)

    def schedule(process: Process) -> Grid:
        sigma = torch.sin(torch.arange(19, -1, -1, dtype=F64) / 20 * torch.pi / 2) ** 2
        times: Tensor = torch.asin(sigma) * (2 / torch.pi)
        return Grid(times)

    assert_same(ours(CosineVP(s=0.0), "v_prediction", PNDM(AsTheyCome()), schedule, begin(), []), (net, x))
