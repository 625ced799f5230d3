"""Every two settings of every class of diffusers' schedulers: the same network calls as its own, or a refusal in words.

What diffusers itself refuses, or answers with NaN, is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import BETAS, Net, assert_same, begin, draws, theirs

from huggingvis.checkpoints.diffusers_scheduler import IN_SIGMA, Own, own_solver
from huggingvis.checkpoints.diffusers_scheduler_grids import CutDown
from huggingvis.core.diffusion import NetDenoiser, compose
from huggingvis.core.errors import HvisError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.sample import sample
from huggingvis.processes.table import TableProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`algorithm_type:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`final_sigmas_type"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Passing `steps_offset`"),
]
STEPS = 10
Settings = dict[str, Any]
LEVELS = [None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]
PLAIN: dict[str, list[Any]] = {"betas": ["scaled", "linear", "cosine"],
                               "prediction_type": ["epsilon", "v_prediction", "sample"]}  # fmt: skip
SPACED: dict[str, list[Any]] = {
    **PLAIN,
    "timestep_spacing": ["linspace", "leading", "trailing"],
    "steps_offset": [1, 0],
}
LEVELLED: dict[str, list[Any]] = {**SPACED, "levels": LEVELS}
ZERO: dict[str, list[Any]] = {"rescale_betas_zero_snr": [False, True]}
ENDS: dict[str, list[Any]] = {"final_sigmas_type": ["zero", "sigma_min"]}
RANGE: dict[str, list[Any]] = {"sigma_min": [None, 0.05], "sigma_max": [None, 10.0]}
LEADING: dict[str, list[Any]] = {
    **PLAIN,
    "timestep_spacing": ["leading", "trailing", "linspace"],
    "steps_offset": [0, 1],
}
CLIPPED: dict[str, list[Any]] = {"clip_sample": [False, True], "thresholding": [False, True]}
SOLVING: dict[str, list[Any]] = {
    "solver_order": [2, 1, 3],
    "solver_type": ["midpoint", "heun", "bh2"],
    "lower_order_final": [True, False],
    "thresholding": [False, True],
    "lambda_min_clipped": [-float("inf"), -5.1],
}
CLASSES: dict[str, dict[str, list[Any]]] = {
    "DDIMScheduler": {**LEADING, **ZERO, **CLIPPED, "set_alpha_to_one": [True, False]},
    "DDPMScheduler": {**LEADING, **ZERO, **CLIPPED, "variance_type": ["fixed_small", "fixed_small_log"]},
    "PNDMScheduler": {**LEADING, "set_alpha_to_one": [False, True], "skip_prk_steps": [True, False]},
    "EulerDiscreteScheduler": {**LEVELLED, **ZERO, **ENDS, **RANGE, "interpolation_type": ["linear", "log_linear"],
                               "timestep_type": ["discrete", "continuous"]},
    "EulerAncestralDiscreteScheduler": {**SPACED, **ZERO},
    "HeunDiscreteScheduler": LEVELLED,
    "LMSDiscreteScheduler": LEVELLED,
    "KDPM2DiscreteScheduler": LEVELLED,
    # sigma_down from sigma = 20,000 is a difference that float32 does not hold; and its middle is the next level, where
    # ours tells the whole number that the grid has for it and theirs the fraction
    "KDPM2AncestralDiscreteScheduler": {**LEVELLED, "betas": ["scaled", "linear"],
                                        "levels": [None, "use_exponential_sigmas", "use_beta_sigmas"]},
    "DPMSolverMultistepScheduler": {
        **SPACED, **ZERO, **SOLVING, "levels": [*LEVELS, "use_lu_lambdas", "use_flow_sigmas"], **ENDS,
        "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"],
        "euler_at_final": [False, True],
    },
    "DPMSolverSinglestepScheduler": {**PLAIN, **SOLVING, "levels": LEVELS, **ENDS,
                                     "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++"]},
    "UniPCMultistepScheduler": {**LEVELLED, **ZERO, **ENDS, **RANGE, "solver_order": [2, 1, 3],
                                "solver_type": ["bh2", "bh1", "midpoint"], "predict_x0": [True, False],
                                "disable_corrector": [[], [0]], "thresholding": [False, True]},
    "DEISMultistepScheduler": {**LEVELLED, "solver_order": [2, 1, 3], "lower_order_final": [True, False],
                               "algorithm_type": ["deis", "dpmsolver++"], "solver_type": ["logrho", "midpoint"]},
    "LCMScheduler": {"prediction_type": PLAIN["prediction_type"], "clip_sample": [False, True],
                     "original_inference_steps": [50, 25], "timestep_scaling": [10.0, 5.0]},
}  # fmt: skip
THEIRS_ALONE: tuple[Settings, ...] = (
    {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"},  # their integral of u^2 begins at -1, not 0
    {"betas": "cosine", "levels": "use_karras_sigmas"},  # whole clocks there are as float32 decides
    {"betas": "cosine", "levels": "use_lu_lambdas"},
    {"betas": "cosine", "prediction_type": "sample"},  # of 20,000 times the datum, in float32
)


def pairs(options: dict[str, list[Any]]) -> Iterator[Settings]:
    """The first value of all settings but two, which take all of theirs."""
    usual, seen = {key: values[0] for key, values in options.items()}, set()
    for one, other in itertools.combinations(options, 2):
        for a, b in itertools.product(options[one], options[other]):
            found = {**usual, one: a, other: b}
            if str(found) not in seen and not any(part.items() <= found.items() for part in THEIRS_ALONE):
                seen.add(str(found))
                yield found


def walked_there(name: str, more: Settings) -> tuple[Any, Net, torch.Tensor] | None:
    """Scheduler, calls and end in our scale; None where diffusers says no."""
    drawing = "Ancestral" in name or name in ("DDPMScheduler", "LCMScheduler") or "sde" in str(more)
    generator = {"generator": torch.Generator().manual_seed(3)} if drawing else {}
    try:
        scheduler = getattr(diffusers, name)(**more)
        scheduler.set_timesteps(STEPS)
        if name == "DPMSolverSinglestepScheduler":
            scheduler.order_list = scheduler.get_order_list(STEPS)
        ends = (scheduler.sigmas[[0, -1]].double() ** 2 + 1) ** 0.5 if name.startswith(IN_SIGMA) else torch.ones(2)
        net, x = theirs(scheduler, begin() * ends[0], **generator)
    except (ValueError, NotImplementedError, IndexError, AssertionError):
        return None
    return (scheduler, net, x / ends[1]) if bool(torch.isfinite(x).all()) else None


def walked_here(name: str, own: Own, scheduler: Any, more: Settings) -> tuple[Net, torch.Tensor]:
    assert own.solver is not None
    process, net = TableProcess(scheduler.alphas_cumprod.double()), Net()
    sampler, schedule = own.solver(STEPS, 0.0)
    grid = schedule(process)
    if isinstance(schedule, CutDown):  # one less where float32 makes a whole number a little smaller
        told = scheduler.timesteps[: len(grid)].double()
        assert grid.clocks is not None and float((grid.clocks - told).abs().sum()) <= 1
        grid = Grid(grid.times, told)
    noise = draws(STEPS, torch.float32 if "sde" in str(more) and "Multistep" in name else torch.float64)
    denoise = compose(NetDenoiser(net, process, own.prediction), own.limits(sampler))
    with torch.no_grad():
        return net, sample(denoise, process, sampler, begin(), grid, {}, noise=ReplayNoise(noise))


@pytest.mark.parametrize("name", CLASSES)
def test_every_two_settings(name: str) -> None:
    same = 0
    for asked in pairs(CLASSES[name]):
        more = {**asked, **BETAS[asked.get("betas", "scaled")]}
        more.pop("betas", None)
        levels = more.pop("levels", None)
        more |= {} if levels is None else {levels: True}
        there = walked_there(name, more)
        if there is None:
            continue
        try:
            own = own_solver({**more, "_class_name": name})
            if own.solver is None:  # said where pictures are asked for
                continue
            here = walked_here(name, own, there[0], more)
        except HvisError:
            continue
        wide = asked.get("betas") == "cosine" or asked.get("rescale_betas_zero_snr")  # sigmas to 20,000 in float32
        try:
            assert_same(
                here, there[1:], 2e-2 if wide else 2e-4
            )  # steps of beta levels are short, and their sigmas float32
        except AssertionError as error:
            raise AssertionError(f"{name} with {more}") from error
        same += 1
    assert same >= 8
