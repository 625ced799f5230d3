"""The solvers of diffusers' scheduler classes: for each, our sampler and grid, from its settings.

A table of them by class name is at the end; the tests compare every one with the class itself. Three kinds of grids:
of solvers that step by whole table entries (DDIM and kin), of those that tell the network fractions (Euler and kin),
and of those with a history. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from huggingvis.checkpoints.diffusers_common import Json, unsupported
from huggingvis.checkpoints.diffusers_scheduler_settings import PREDICTIONS_OF
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.sample import Sampler
from huggingvis.processes.table import TableProcess
from huggingvis.samplers._multistep import Form
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ancestral_form import AncestralForm
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deis import DEIS
from huggingvis.samplers.dpm_on_grid import DPMSolverOnGrid
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import (
    Beta,
    Distilled,
    Karras,
    Leading,
    Linspace,
    LogSNR,
    Schedule,
    Trailing,
)
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.midpoint import Midpoint
from huggingvis.samplers.plms import PNDM, PseudoRungeKutta
from huggingvis.samplers.unipc import UniPC
from huggingvis.samplers.variances import BETA, BETA_TILDE

FORMS: dict[str, Form] = {
    "dpmsolver": OfNoise(), "dpmsolver++": OfData(), "sde-dpmsolver": OfNoise(1.0), "sde-dpmsolver++": OfData(1.0),
}  # fmt: skip

Solver = tuple[Sampler, Schedule]
HALF_STEPS = 15
"""Below so many steps, solvers with a history end with lower orders."""


def table_of(full: Json) -> TableProcess:
    """The noise table that completed settings describe."""
    start, end, steps = full["beta_start"], full["beta_end"], full["num_train_timesteps"]
    if full["trained_betas"] is not None:
        table = TableProcess.from_betas(torch.tensor(full["trained_betas"], dtype=torch.float64))
    elif full["beta_schedule"] == "squaredcos_cap_v2":
        table = TableProcess.cosine(steps=steps)
    elif full["beta_schedule"] == "linear":
        table = TableProcess.linear(start, end, steps)
    else:
        table = TableProcess.scaled_linear(start, end, steps)
    return table.zero_terminal_snr() if full["rescale_betas_zero_snr"] else table


# ---- grids -----------------------------------------------------------------------------------------------------------


def _levels(full: Json, steps: int, *, rounded: bool = False) -> Schedule | None:
    """The grid in noise levels that is asked for, if one is."""
    end = full.get("final_sigmas_type", "zero") == "zero"
    if full.get("use_karras_sigmas"):
        return Karras(steps, rounded=rounded, clean_end=end)
    if full.get("use_exponential_sigmas"):
        return LogSNR(steps)
    if full.get("use_beta_sigmas"):
        return Beta(steps)
    return LogSNR(steps, rounded=True) if full.get("use_lu_lambdas") else None


def _fractions(full: Json, steps: int) -> Schedule:
    """Of Euler, Heun and their kin: the network may be told fractions."""
    spacing, offset = full["timestep_spacing"], full["steps_offset"]
    found, end = _levels(full, steps), full.get("final_sigmas_type", "zero") == "zero"
    if found is not None:
        return found
    if spacing == "linspace":
        chord = full.get("interpolation_type", "linear") == "linear"
        return Linspace(steps, rounded=False, chord=chord, clean_end=end)
    return Leading(steps, offset, clean_end=end) if spacing == "leading" else Trailing(steps, clean_end=end)


def _wholes(full: Json, steps: int) -> Schedule:
    """Of the solvers with a history: whole numbers only, and the smallest left out."""
    found = _levels(full, steps, rounded=True)
    if found is not None:
        return found
    spacing, end = full["timestep_spacing"], full.get("final_sigmas_type", "sigma_min") == "zero"
    if spacing == "linspace":
        return Linspace(steps, open_end=True, clean_end=end)
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], open_end=True, clean_end=end)
    return Trailing(steps, clean_end=end)


def _plain(full: Json, steps: int, clean_end: bool) -> Schedule:
    """Of DDIM and PNDM, which step by T // N whatever the next call is told."""
    spacing = full["timestep_spacing"]
    if spacing == "linspace":
        raise unsupported("timestep_spacing", spacing, "leading and trailing for this scheduler")
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], clean_end=clean_end)
    return Trailing(steps, clean_end=clean_end)


def _ends(full: Json, steps: int) -> tuple[float, float]:
    """The times at and below which a solver with a history uses one value, at most two, if it ends so."""
    grid = _wholes(full, steps)(table_of(full))
    knot = 1.0 / full["num_train_timesteps"]
    return (knot if float(grid.times[-1]) > 0.0 else 0.0), float(grid.times[-2])


# ---- a solver for each class -----------------------------------------------------------------------------------------


def _ddim(full: Json, steps: int, eta: float) -> Solver:
    return DDIM(eta), _plain(full, steps, full["set_alpha_to_one"])


def _ddpm(full: Json, steps: int, eta: float) -> Solver:
    variances = {"fixed_small": BETA_TILDE, "fixed_small_log": BETA_TILDE, "fixed_large": BETA,
                 "fixed_large_log": BETA}  # fmt: skip
    kind = full["variance_type"]
    if kind not in variances:
        raise unsupported("variance_type", kind, ", ".join(variances))
    spacing = full["timestep_spacing"]
    grid: Schedule = Linspace(steps) if spacing == "linspace" else _plain(full, steps, clean_end=True)
    return Ancestral(variances[kind]), grid


def _pndm(full: Json, steps: int, eta: float) -> Solver:
    grid = _plain(full, steps, full["set_alpha_to_one"])
    of = PREDICTIONS[PREDICTIONS_OF[full["prediction_type"]]]()
    return (PNDM(of=of) if full["skip_prk_steps"] else PNDM(PseudoRungeKutta(), of)), grid


def _lcm(full: Json, steps: int, eta: float) -> Solver:
    return Consistency(), Distilled(steps, full["original_inference_steps"])


def _multistep(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    middle = full["solver_type"] == "midpoint"
    return DPMSolver(full["solver_order"], _form(full), middle, first, second), _wholes(full, steps)


def _singlestep(full: Json, steps: int, eta: float) -> Solver:
    middle = full["solver_type"] == "midpoint"
    first = 1.0 / full["num_train_timesteps"] if full["lower_order_final"] else 0.0
    return DPMSolverOnGrid(full["solver_order"], _form(full), middle, first), _wholes(full, steps)


def _form(full: Json) -> Form:
    if full["algorithm_type"] not in FORMS:
        raise unsupported("algorithm_type", full["algorithm_type"], ", ".join(FORMS))
    return FORMS[full["algorithm_type"]]


def _unipc(full: Json, steps: int, eta: float) -> Solver:
    first, second = _ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    form = OfData() if full["predict_x0"] else OfNoise()
    return UniPC(full["solver_order"], form, full["solver_type"] == "bh1", first, second), _wholes(full, steps)


def _deis(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    return DEIS(full["solver_order"], first, second), _wholes(full, steps)


def _in_fractions(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    return lambda full, steps, eta: (sampler, _fractions(full, steps))


def _in_midpoints(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    """Karras levels are told as whole numbers to these two."""
    return lambda full, steps, eta: (sampler, _levels(full, steps, rounded=True) or _fractions(full, steps))


SOLVERS: Mapping[str, Callable[[Json, int, float], Solver]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "PNDMScheduler": _pndm,
    "LCMScheduler": _lcm,
    "EulerDiscreteScheduler": _in_fractions(Euler()),
    "EulerAncestralDiscreteScheduler": _in_fractions(DDIM(1.0)),
    "HeunDiscreteScheduler": _in_fractions(Heun()),
    "LMSDiscreteScheduler": _in_fractions(LMS()),
    "KDPM2DiscreteScheduler": _in_midpoints(Midpoint()),
    "KDPM2AncestralDiscreteScheduler": _in_midpoints(AncestralForm(Midpoint())),
    "DPMSolverMultistepScheduler": _multistep,
    "DPMSolverSinglestepScheduler": _singlestep,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
}
