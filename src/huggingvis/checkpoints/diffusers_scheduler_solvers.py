"""The solvers of diffusers' scheduler classes: for each, our sampler and grid, from its settings.

A table of them by class name is at the end; the tests compare every one with the class itself. Three kinds of grids:
of solvers that step by whole table entries (DDIM and kin), of those that tell the network fractions (Euler and kin),
and of those with a history. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from huggingvis.checkpoints.diffusers_common import Json, unsupported
from huggingvis.checkpoints.diffusers_scheduler_flow import ASKED, flow_levels, flow_of
from huggingvis.checkpoints.diffusers_scheduler_settings import PREDICTIONS_OF
from huggingvis.core.process import PREDICTIONS, Process
from huggingvis.core.sample import Grid, Sampler
from huggingvis.guidance.threshold import Clip, DynamicThreshold
from huggingvis.processes.table import TableProcess
from huggingvis.samplers._multistep import Form
from huggingvis.samplers._strides import Even
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ancestral_form import AncestralForm
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deis import DEIS
from huggingvis.samplers.dpm_on_grid import DPMSolverOnGrid
from huggingvis.samplers.dpm_sde import DPMSolverSDE
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
from huggingvis.samplers.plms import PNDM, PseudoRungeKutta, Repeated
from huggingvis.samplers.sa_solver import SASolver, Tau
from huggingvis.samplers.unipc import UniPC
from huggingvis.samplers.variances import BETA, BETA_TILDE, Told

FORMS: dict[str, Form] = {
    "dpmsolver": OfNoise(), "dpmsolver++": OfData(), "sde-dpmsolver": OfNoise(1.0), "sde-dpmsolver++": OfData(1.0),
}  # fmt: skip

Solver = tuple[Sampler, Schedule]
LEARNED = "learned_range"
"""The variance that a net tells, between the two extremes."""
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


def process_of(full: Json) -> Process:
    """The process that completed settings describe. Raises `FileProblem`."""
    return flow_of(full) if full.get(ASKED) else table_of(full)


# ---- grids -----------------------------------------------------------------------------------------------------------


Levels = Karras | LogSNR | Beta
LEVELS: dict[str, type[Levels]] = {
    "use_karras_sigmas": Karras, "use_exponential_sigmas": LogSNR, "use_beta_sigmas": Beta, "use_lu_lambdas": LogSNR,
}  # fmt: skip
"""Grids in noise levels, by the setting that asks for one."""


@final
@dataclass(frozen=True)
class CutDown:
    """The grid of `inner`, of whose clocks the network is told what stands before the point."""

    inner: Schedule

    def __call__(self, process: Process) -> Grid:
        grid = self.inner(process)
        return Grid(grid.times, (process.clock(grid.times[:-1]) + 1e-6).floor())  # a knot's own number is not cut


def _kind(full: Json) -> str | None:
    """The setting that asks for noise levels, if one does."""
    return next((key for key in (*LEVELS, ASKED) if full.get(key)), None)


def _clean_end(full: Json) -> bool:
    return bool(full.get("final_sigmas_type", "zero") == "zero")


def _bounds(full: Json) -> dict[str, Any]:
    """The ends of a grid in noise levels where they are told."""
    found = {key: full.get(key) for key in ("sigma_min", "sigma_max")}
    for key, value in found.items():
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise unsupported(key, value, "positive numbers and null")
    return found


def _fractions(full: Json, steps: int, *, rounded: bool = False) -> Schedule:
    """Of Euler, Heun and their kin: the network may be told fractions. `rounded`: not those of Karras' levels.

    Noise levels lie between those of the first and the last call that the spacing would have made.
    """
    spacing, offset, end, kind = full["timestep_spacing"], full["steps_offset"], _clean_end(full), _kind(full)
    if spacing == "linspace":
        plain: Schedule = Linspace(steps, rounded=False, chord=True, clean_end=end)
    else:
        plain = Leading(steps, offset, clean_end=end) if spacing == "leading" else Trailing(steps, clean_end=end)
    if kind is None or (steps == 1 and spacing != "linspace"):
        return plain
    bounds = _bounds(full)
    if spacing != "linspace":
        table = table_of(full)
        first, last = (torch.exp(-table.log_snr(t) / 2) for t in plain(table).times[[0, steps - 1]])
        bounds = {"sigma_min": bounds["sigma_min"] or float(last), "sigma_max": bounds["sigma_max"] or float(first)}
    more = {"rounded": True} if rounded and kind == "use_karras_sigmas" else {}
    return LEVELS[kind](steps, clean_end=end, **bounds, **more)


def _wholes(full: Json, steps: int) -> Schedule:
    """Of the solvers with a history: whole numbers only, and the smallest left out."""
    spacing, end, kind = full["timestep_spacing"], _clean_end(full), _kind(full)
    _unclipped(full)
    if kind == ASKED:
        return flow_levels(full, steps, end)
    if kind is not None:
        rounds = kind in ("use_karras_sigmas", "use_lu_lambdas")
        more: dict[str, Any] = {"rounded": True} if rounds else {}
        levels = LEVELS[kind](steps, clean_end=end, **_bounds(full), **more)
        return levels if rounds else CutDown(levels)
    if spacing == "linspace":
        return Linspace(steps, open_end=True, clean_end=end)
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], open_end=True, clean_end=end)
    return Trailing(steps, clean_end=end)


def _unclipped(full: Json) -> None:
    """Grids begin where tables end, not where log(alpha/sigma) comes to a `lambda_min_clipped` above that."""
    least = full.get("lambda_min_clipped")
    if isinstance(least, int | float) and least > float(table_of(full).log_snr(torch.tensor(1.0).double())) / 2:
        raise unsupported("lambda_min_clipped", least, "null, and numbers that cut nothing off")


def _no_idle_end(full: Json) -> None:
    """Noise levels that end with the least of them end with a step of no length. In a solver with a history alone it
    is nothing; one that corrects, or steps in blocks, does something in it."""
    if _kind(full) is not None and not _clean_end(full):
        raise unsupported("final_sigmas_type", "sigma_min", f'"zero" beside {_kind(full)}')


def _plain(full: Json, steps: int, clean_end: bool) -> Schedule:
    """Of DDPM, DDIM and PNDM: whole numbers, the smallest among them."""
    spacing = full["timestep_spacing"]
    if spacing == "linspace":
        return Linspace(steps, clean_end=clean_end)
    if spacing == "leading":
        return Leading(steps, full["steps_offset"], clean_end=clean_end)
    return Trailing(steps, clean_end=clean_end)


def _even(full: Json, steps: int) -> Even:
    """The steps of DDIM and PNDM: by T // N whatever the next call is told."""
    count = full["num_train_timesteps"]
    by = count // steps
    return Even(by / count, by // 2 / count, 0.0 if full["set_alpha_to_one"] else 1.0 / count)


def _ends(full: Json, steps: int) -> tuple[float, float]:
    """The times at and below which a solver with a history uses one value, at most two, if it ends so."""
    times = _wholes(full, steps)(process_of(full)).times
    if _clean_end(full):
        return 0.0, float(times[-2])
    idle = _kind(full) is not None  # a step of no length counts as the last
    return (0.0, float(times[-1])) if idle else (float(times[-1]), float(times[-2]))


# ---- a solver for each class -----------------------------------------------------------------------------------------


def kept(full: Json) -> Clip | DynamicThreshold | None:
    """What keeps the believed datum within a range, if the settings ask for it."""
    if full["thresholding"]:
        return DynamicThreshold(full["dynamic_thresholding_ratio"], full["sample_max_value"])
    return Clip(full["clip_sample_range"]) if full["clip_sample"] else None


def _ddim(full: Json, steps: int, eta: float) -> Solver:
    """Theirs clips the datum and goes on with the noise that was believed before. A last step from the first knot to
    the first knot still clips."""
    limit = kept(full)
    grid = _plain(full, steps, full["set_alpha_to_one"] or limit is not None)
    return DDIM(eta, None if limit is None else limit.kept, _even(full, steps)), grid


def _ddpm(full: Json, steps: int, eta: float) -> Solver:
    variances = {"fixed_small": BETA_TILDE, "fixed_small_log": BETA_TILDE, "fixed_large": BETA,
                 "fixed_large_log": BETA, LEARNED: Told()}  # fmt: skip
    kind = full["variance_type"]
    if kind not in variances:
        raise unsupported("variance_type", kind, ", ".join(variances))
    return Ancestral(variances[kind]), _plain(full, steps, clean_end=True)


def _pndm(full: Json, steps: int, eta: float) -> Solver:
    grid = _plain(full, steps, full["set_alpha_to_one"])
    of = PREDICTIONS[PREDICTIONS_OF[full["prediction_type"]]]()
    return PNDM(Repeated() if full["skip_prk_steps"] else PseudoRungeKutta(), of, _even(full, steps)), grid


def _lcm(full: Json, steps: int, eta: float) -> Solver:
    return Consistency(), Distilled(steps, full["original_inference_steps"])


def _multistep(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    if full["euler_at_final"] and _kind(full) is None and not _clean_end(full):
        first = 1.0 / full["num_train_timesteps"]
    return DPMSolver(full["solver_order"], _form(full), _middle(full), first, second), _wholes(full, steps)


def _singlestep(full: Json, steps: int, eta: float) -> Solver:
    _no_idle_end(full)
    own_block = full["lower_order_final"] and not _clean_end(full)  # the step to clean data has one anyway
    first = 1.0 / full["num_train_timesteps"] if own_block else 0.0
    return DPMSolverOnGrid(full["solver_order"], _form(full), _middle(full), first), _wholes(full, steps)


def _form(full: Json) -> Form:
    name = "dpmsolver++" if full["algorithm_type"] == "deis" else full["algorithm_type"]
    if name not in FORMS:
        raise unsupported("algorithm_type", name, ", ".join(FORMS))
    return FORMS[name]


def _middle(full: Json) -> bool:
    """How DPM-Solver weighs a slope; words of its kin mean the usual."""
    kinds = {"heun": False, **dict.fromkeys(("midpoint", "logrho", "bh1", "bh2"), True)}
    if full["solver_type"] not in kinds:
        raise unsupported("solver_type", full["solver_type"], ", ".join(kinds))
    return kinds[full["solver_type"]]


def _unipc(full: Json, steps: int, eta: float) -> Solver:
    _no_idle_end(full)
    first, second = _ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    form = OfData() if full["predict_x0"] else OfNoise()
    return UniPC(full["solver_order"], form, full["solver_type"] == "bh1", first, second), _wholes(full, steps)


def _deis(full: Json, steps: int, eta: float) -> Solver:
    full = {**full, "final_sigmas_type": "sigma_min"}  # it knows no other end
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    return DEIS(full["solver_order"], first, second), _wholes(full, steps)


def _sa(full: Json, steps: int, eta: float) -> Solver:
    """With its own tau, 1 between the clocks 200 and 800: another is code, which no file tells."""
    full = {**full, "final_sigmas_type": "sigma_min"}
    _no_idle_end(full)
    forms: dict[str, Callable[[float], Form]] = {"data_prediction": OfData, "noise_prediction": OfNoise}
    kind, count = full["algorithm_type"], full["num_train_timesteps"]
    if kind not in forms:
        raise unsupported("algorithm_type", kind, ", ".join(forms))
    first, second = _ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    tau = Tau(1.0, 200.5 / count, 801.5 / count)  # times are (clock + 1)/T
    orders = full["predictor_order"], full["corrector_order"]
    return SASolver(*orders, tau, forms[kind], kind == "data_prediction", first, second), _wholes(full, steps)


def _in_fractions(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    return lambda full, steps, eta: (sampler, _fractions(full, steps))


def _in_midpoints(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    """Karras levels are told as whole numbers to these two."""
    return lambda full, steps, eta: (sampler, _fractions(full, steps, rounded=True))


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
    "DPMSolverSDEScheduler": _in_fractions(DPMSolverSDE()),
    "DPMSolverMultistepScheduler": _multistep,
    "DPMSolverSinglestepScheduler": _singlestep,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
    "SASolverScheduler": _sa,
}
