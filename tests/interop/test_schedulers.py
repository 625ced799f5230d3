"""One-call samplers and DPM-Solver++ beside diffusers' schedulers: the same network calls, step by step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import (
    BETAS,
    F64,
    SPACINGS,
    Net,
    assert_same,
    begin,
    double,
    double_sigmas,
    draws,
    ours,
    sigma_scaled,
    theirs,
)
from torch import Tensor

from huggingvis.checkpoints.diffusers_scheduler import own_solver
from huggingvis.core.diffusion import NetDenoiser, compose
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Eps
from huggingvis.core.sample import sample
from huggingvis.edits.from_picture import tail
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Distilled, Karras, Leading, Linspace, Shifted, Trailing
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.names import sampler_of
from huggingvis.samplers.variances import BETA, BETA_TILDE


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm(prediction: str, spacing: str, betas: str, variance: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction,
                                        variance_type=variance, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    sampler = Ancestral(BETA if variance == "fixed_large" else BETA_TILDE)
    schedule = SPACINGS[spacing][0]
    if spacing == "trailing" and variance == "fixed_large":
        # their last step, from index 49 to clean data, adds noise of variance beta; ours, as every last step, does not
        got = ours(process, prediction, sampler, schedule, begin(), draws(20))
        (net, _), (other, _) = got, reference
        assert_same((net, begin()), (other, begin()))
        return
    assert_same(ours(process, prediction, sampler, schedule, begin(), draws(20)), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize(("eta", "clean"), [(0.0, True), (0.0, False), (0.6, True)])
def test_ddim(prediction: str, spacing: str, betas: str, eta: float, clean: bool) -> None:
    """Not with linspace: `test_ddim_as_a_folder_says`."""
    scheduler = diffusers.DDIMScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction,
                                        set_alpha_to_one=clean, clip_sample=False)  # fmt: skip
    process = double(scheduler)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=F64) if clean else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin(), eta=eta, generator=torch.Generator().manual_seed(3))
    schedule = Leading(20, 0, clean_end=clean) if spacing == "leading" else Trailing(20, clean_end=clean)
    assert_same(ours(process, prediction, DDIM(eta), schedule, begin(), draws(20)), reference, 1e-9)


@pytest.mark.parametrize("how", [{"clip_sample": True}, {"thresholding": True, "clip_sample": False}], ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_of_beliefs_within_a_range(eta: float, how: dict[str, bool]) -> None:
    """Where the noise is that of the datum within the range, which diffusers is asked for when it steps."""
    scheduler = diffusers.DDIMScheduler(**BETAS["scaled"], timestep_spacing="trailing", **how)
    process = double(scheduler)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=F64)
    scheduler.set_timesteps(20)
    g = torch.Generator().manual_seed(3)
    reference = theirs(scheduler, begin(), eta=eta, use_clipped_model_output=True, generator=g)
    own = own_solver({"_class_name": "DDIMScheduler", **BETAS["scaled"], **how})
    net = Net()
    denoise = compose(NetDenoiser(net, process, Eps()), own.clip)
    with torch.no_grad():
        x = sample(denoise, process, DDIM(eta), begin(), Trailing(20)(process), {}, noise=ReplayNoise(draws(20)))
    assert_same((net, x), reference, 1e-9)


LIMITS: dict[str, dict[str, Any]] = {
    "free": {"clip_sample": False},
    "clipped": {"clip_sample": True, "clip_sample_range": 0.7},
    "thresholded": {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.6},
}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    ("steps", "eta", "clean"), [(20, 0.0, True), (20, 0.6, True), (12, 0.0, True), (7, 0.0, False)]
)
def test_ddim_as_a_folder_says(prediction: str, limit: str, spacing: str, steps: int, eta: float, clean: bool) -> None:
    """Theirs steps by T // N whatever the next listed time is, and clips the datum, not the noise."""
    told = {**BETAS["scaled"], **LIMITS[limit], "timestep_spacing": spacing, "prediction_type": prediction}
    scheduler = diffusers.DDIMScheduler(**told, set_alpha_to_one=clean)
    process = double(scheduler)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=F64) if clean else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin(), eta=eta, generator=torch.Generator().manual_seed(3))
    own = own_solver({**told, "_class_name": "DDIMScheduler", "set_alpha_to_one": clean})
    assert own.solver is not None
    sampler, schedule = own.solver(steps, eta)
    assert own.limits(sampler) == () and own.limits(Euler()) == own.clip
    got = ours(process, prediction, sampler, schedule, begin(), draws(steps))
    if len(got[0].asked) > len(reference[0].asked):  # a last call that changes nothing, which is not counted there
        got[0].asked.pop()
    assert_same(got, reference, 1e-9)


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_ddpm_as_a_folder_says(variance: str, limit: str, spacing: str) -> None:
    told = {**BETAS["linear"], **LIMITS[limit], "timestep_spacing": spacing, "variance_type": variance}
    scheduler = diffusers.DDPMScheduler(**told)
    process = double(scheduler)
    scheduler.set_timesteps(20)
    told_too = variance == "learned_range"
    net, x = Telling() if told_too else Net(), begin()
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x, generator=g).prev_sample
    own = own_solver({**told, "_class_name": "DDPMScheduler"})
    assert own.solver is not None and own.learned == told_too
    sampler, schedule = own.solver(20, 0.0)
    other = Telling() if told_too else Net()
    denoise = NetDenoiser(other, process, LearnedVariance(own.prediction) if told_too else own.prediction)
    with torch.no_grad():
        y = sample(compose(denoise, own.limits(sampler)), process, sampler, begin(), schedule(process), {},
                   noise=ReplayNoise(draws(20)))  # fmt: skip
    assert_same((other, y), (net, x), 1e-9)


class Telling(Net):
    """Tells as many channels again, of variances."""

    def forward(self, x: Tensor, clock: Tensor, cond: Any = None) -> Tensor:
        out = super().forward(x, clock, cond)
        return torch.cat([out, torch.tanh(3 * out + 0.1)], dim=1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("betas", BETAS)
def test_euler(prediction: str, spacing: str, betas: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS[betas], timestep_spacing=spacing, prediction_type=prediction)
    scheduler.set_timesteps(20)
    double_sigmas(scheduler, scheduler.timesteps)
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, Euler(), SPACINGS[spacing][2], begin(), []), reference)


@pytest.mark.parametrize("last", ["zero", "sigma_min"])
@pytest.mark.parametrize("betas", BETAS)
def test_euler_karras(betas: str, last: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS[betas], use_karras_sigmas=True, final_sigmas_type=last)
    scheduler.set_timesteps(20)
    net, y = theirs(scheduler, sigma_scaled(scheduler, begin()))
    process = TableProcess(scheduler.alphas_cumprod)
    y = y / (scheduler.sigmas[-1].to(F64) ** 2 + 1) ** 0.5
    assert_same(ours(process, "epsilon", Euler(), Karras(20, clean_end=last == "zero"), begin(), []), (net, y))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_euler_a_is_ddim_with_all_noise(spacing: str, betas: str, prediction: str) -> None:
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**BETAS[betas], timestep_spacing=spacing,
                                                          prediction_type=prediction)  # fmt: skip
    scheduler.set_timesteps(20)
    start = sigma_scaled(scheduler, begin())
    reference = theirs(scheduler, start, generator=torch.Generator().manual_seed(3))
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, DDIM(1.0), SPACINGS[spacing][2], begin(), draws(20)), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", [*SPACINGS, "karras"])
@pytest.mark.parametrize("betas", BETAS)
def test_heun(prediction: str, spacing: str, betas: str) -> None:
    kind = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    scheduler = diffusers.HeunDiscreteScheduler(**BETAS[betas], **kind, prediction_type=prediction)
    scheduler.set_timesteps(20)
    if spacing != "karras":
        double_sigmas(scheduler, torch.cat([scheduler.timesteps[:1], scheduler.timesteps[1::2]]))
    reference = theirs(scheduler, sigma_scaled(scheduler, begin()))
    schedule = Karras(20) if spacing == "karras" else SPACINGS[spacing][2]
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, Heun(), schedule, begin(), []), reference)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("spacing", "betas"), [*((s, b) for s in SPACINGS for b in BETAS), ("karras", "linear"), ("karras", "scaled")]
)
def test_dpm_solver_pp_2m(prediction: str, spacing: str, betas: str) -> None:
    """Not cosine with karras: there they cut fractional clocks to integers, and float32 decides which."""
    kind = {"use_karras_sigmas": True} if spacing == "karras" else {"timestep_spacing": spacing}
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS[betas], **kind, prediction_type=prediction)
    scheduler.set_timesteps(20)
    reference = theirs(scheduler, begin())
    schedule = Karras(20, rounded=True) if spacing == "karras" else SPACINGS[spacing][1]
    process = TableProcess(scheduler.alphas_cumprod)
    assert_same(ours(process, prediction, DPMSolver(), schedule, begin(), []), reference)


@pytest.mark.parametrize(("steps", "lower"), [(10, 1e-3), (20, 0.0)])
def test_dpm_solver_that_ends_at_the_first_knot(steps: int, lower: float) -> None:
    """diffusers lowers the order of that last step below 15 steps only."""
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS["scaled"], final_sigmas_type="sigma_min")
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin())
    process = TableProcess(scheduler.alphas_cumprod)
    schedule = Linspace(steps, open_end=True, clean_end=False)
    assert_same(ours(process, "epsilon", DPMSolver(first_below=lower), schedule, begin(), []), reference)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    net, x = Net(), begin()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x).prev_sample.to(F64)
    last = shift * 1e-3 / (1 + (shift - 1) * 1e-3)  # diffusers shifts the end of its range twice
    schedule = Shifted(20, shift, last)
    assert_same(ours(RectifiedFlow(1000.0), "flow", Euler(), schedule, begin(), []), (net, x))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_heun(shift: float) -> None:
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    net, x = Net(), begin()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x).prev_sample.to(F64)
    last = shift * 1e-3 / (1 + (shift - 1) * 1e-3)  # shifted twice, as above
    schedule = Shifted(20, shift, last)
    assert_same(ours(RectifiedFlow(1000.0), "flow", sampler_of("heun-flow"), schedule, begin(), []), (net, x))


@pytest.mark.parametrize("betas", BETAS)
def test_tables_are_theirs(betas: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS[betas])
    make = {"linear": TableProcess.linear, "scaled": TableProcess.scaled_linear, "cosine": TableProcess.cosine}
    bar = make[betas]().alphas_cumprod
    assert float((bar - scheduler.alphas_cumprod.double()).abs().max()) < 1e-5


def test_every_number_of_steps_asks_for_the_same_indices() -> None:
    process = TableProcess.linear()
    for n in [*range(1, 60), 100, 128, 250, 333, 500, 999, 1000]:
        for spacing, (ddpm, dpm, _) in SPACINGS.items():
            one = diffusers.DDPMScheduler(timestep_spacing=spacing)
            one.set_timesteps(n)
            assert type(ddpm)(n)(process).clocks.tolist() == one.timesteps.tolist()
            if n < 1000:
                many = diffusers.DPMSolverMultistepScheduler(timestep_spacing=spacing)
                many.set_timesteps(n)
                same = Trailing(n) if spacing == "trailing" else type(dpm)(n, open_end=True)
                assert same(process).clocks.tolist() == many.timesteps.tolist()
        assert all(a > b for a, b in pairwise(Linspace(n)(process).times.tolist()))


def test_lcm_from_a_picture_begins_where_the_reference_begins_and_takes_a_part_of_the_steps() -> None:
    scheduler = diffusers.LCMScheduler()
    scheduler.set_timesteps(4, strength=0.5)
    ours = tail(Distilled(4)(double(scheduler)), 0.5).clocks
    assert ours is not None and ours.tolist() == [499, 259]
    assert scheduler.timesteps.tolist() == [499, 379, 259, 139]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 4, 7, 50])
def test_lcm(prediction: str, steps: int) -> None:
    scheduler = diffusers.LCMScheduler(prediction_type=prediction)
    process = double(scheduler)
    scheduler.set_timesteps(steps)
    reference = theirs(scheduler, begin(), generator=torch.Generator().manual_seed(3))
    got = ours(process, prediction, Consistency(), Distilled(steps), begin(), draws(steps - 1))
    assert_same(got, reference)
