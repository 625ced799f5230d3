"""What a `scheduler_config.json` says: the noise table, what the network predicts, and the solver its makers meant.

Each class of diffusers is a function from its settings to our sampler and grid; the tests compare every one with the
class itself. A setting that we do not know is refused by name. A class that we do not know still tells its table and
its prediction; pictures are then made by DPM-Solver++. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints.diffusers_common import Json, read_json, settings, unsupported, write_json
from huggingvis.core.process import PREDICTIONS, Prediction
from huggingvis.core.protocols import Guidance
from huggingvis.core.sample import Sampler
from huggingvis.guidance.threshold import Clip, DynamicThreshold
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

FILE = "scheduler_config.json"
_OURS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}

_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "prediction_type": "epsilon", "steps_offset": 0, "rescale_betas_zero_snr": False,
    "clip_sample": False, "clip_sample_range": 1.0, "thresholding": False, "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0, "timestep_spacing": "leading",
}  # fmt: skip
_LINSPACE = {"timestep_spacing": "linspace"}
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_ENDS = {"final_sigmas_type": "zero"}
_MULTISTEP: dict[str, Any] = _LINSPACE | _SIGMAS | _ENDS | {
    "solver_order": 2, "solver_type": "midpoint", "lower_order_final": True, "algorithm_type": "dpmsolver++",
    "use_lu_lambdas": False, "use_flow_sigmas": False,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"set_alpha_to_one": True, "clip_sample": True},
    "DDPMScheduler": {"variance_type": "fixed_small", "clip_sample": True},
    "PNDMScheduler": {"set_alpha_to_one": False, "skip_prk_steps": False},
    "LCMScheduler": {"original_inference_steps": 50, "timestep_scaling": 10.0, "beta_schedule": "scaled_linear",
                     "beta_start": 0.00085, "beta_end": 0.012},
    "EulerDiscreteScheduler": _LINSPACE | _SIGMAS | _ENDS | {"interpolation_type": "linear",
                                                             "timestep_type": "discrete"},
    "EulerAncestralDiscreteScheduler": _LINSPACE,
    "HeunDiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "LMSDiscreteScheduler": _LINSPACE | _SIGMAS,
    "KDPM2DiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "KDPM2AncestralDiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "DPMSolverMultistepScheduler": _MULTISTEP | {"euler_at_final": False},
    "DPMSolverSinglestepScheduler": _MULTISTEP | {"lower_order_final": False},
    "UniPCMultistepScheduler": _MULTISTEP | {"solver_type": "bh2", "predict_x0": True, "disable_corrector": ()},
    "DEISMultistepScheduler": _LINSPACE | _SIGMAS | {"solver_order": 2, "lower_order_final": True,
                                                     "algorithm_type": "deis", "solver_type": "logrho"},
}  # fmt: skip
_ONLY: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear", "log_linear"), "timestep_type": ("discrete",), "use_flow_sigmas": (False,),
    "timestep_spacing": ("leading", "trailing", "linspace"), "use_lu_lambdas": (False, True),
    "final_sigmas_type": ("zero", "sigma_min"), "prediction_type": tuple(_OURS), "timestep_scaling": (10.0, 10),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"), "disable_corrector": ((),),
    "use_dynamic_shifting": (False, None), "euler_at_final": (False,),
}  # fmt: skip

_FORMS: dict[str, Form] = {
    "dpmsolver": OfNoise(), "dpmsolver++": OfData(), "sde-dpmsolver": OfNoise(1.0), "sde-dpmsolver++": OfData(1.0),
}  # fmt: skip

_CLIPS_HALF = ("DDIMScheduler",)
"""Classes that go on with the noise of before where they clip the datum, which no belief of ours can say."""

Solver = tuple[Sampler, Schedule]
_HALF_STEPS = 15
"""Below so many steps, solvers with a history end with lower orders."""


@dataclass(frozen=True)
class Own:
    """The solver that a model came with.

    Attributes:
        name: diffusers' class.
        process: its noise table.
        prediction: what the network predicts.
        solver: sampler and grid for so many steps, and the share of fresh noise eta; None for a class we do not know.
        unit: sampling begins with noise of deviation 1 where the table has sigma a little below it.
        clip: what keeps the believed datum within a range, if it is asked for.
    """

    name: str
    process: TableProcess
    prediction: Prediction
    solver: Callable[[int, float], Solver] | None
    unit: bool
    clip: tuple[Guidance, ...] = ()


def read_scheduler(folder: Path | str) -> Own:
    """The solver of a scheduler folder. Raises `FileProblem` for a damaged file and for what we do not compute."""
    return own_solver(read_json(Path(folder) / FILE))


def own_solver(theirs: Json) -> Own:
    """The solver that the settings describe. Raises `FileProblem` naming the first setting that we do not compute."""
    name = str(theirs.get("_class_name", ""))
    full = settings(theirs, _DEFAULTS | _OWN.get(name, {}), _ONLY)
    make = None if name in _CLIPS_HALF and _clip(full) else _SOLVERS.get(name)
    prediction = PREDICTIONS[_OURS[full["prediction_type"]]]()
    if make is not None:
        make(full, 10, 0.0)  # refuses here what it would refuse while pictures are made
    return Own(
        name=name,
        process=_table(full),
        prediction=prediction,
        solver=None if make is None else lambda steps, eta: make(full, steps, eta),
        unit=not name.startswith("Euler") or full["timestep_spacing"] == "leading",
        clip=_clip(full),
    )


def scheduler_config(process: TableProcess, prediction: Prediction) -> dict[str, Any]:
    """A `scheduler_config.json` for a model without one: DDIM as Stable Diffusion's makers set it up."""
    name = next(name for name, kind in PREDICTIONS.items() if isinstance(prediction, kind))
    known = TableProcess.scaled_linear()
    if not (process.steps == known.steps and torch.equal(process.alphas_cumprod, known.alphas_cumprod)):
        betas = 1 - process.alphas_cumprod / torch.cat([torch.ones(1).double(), process.alphas_cumprod[:-1]])
        table: dict[str, Any] = {"trained_betas": betas.tolist(), "num_train_timesteps": process.steps}
    else:
        table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                 "num_train_timesteps": 1000}  # fmt: skip
    return table | {
        "_class_name": "DDIMScheduler", "prediction_type": _THEIRS[name], "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
    }  # fmt: skip


def _table(full: Json) -> TableProcess:
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


def _clip(full: Json) -> tuple[Guidance, ...]:
    if full["thresholding"]:
        return (DynamicThreshold(full["dynamic_thresholding_ratio"], full["sample_max_value"]),)
    return (Clip(full["clip_sample_range"]),) if full["clip_sample"] else ()


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
    grid = _wholes(full, steps)(_table(full))
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
    of = PREDICTIONS[_OURS[full["prediction_type"]]]()
    return (PNDM(of=of) if full["skip_prk_steps"] else PNDM(PseudoRungeKutta(), of)), grid


def _lcm(full: Json, steps: int, eta: float) -> Solver:
    return Consistency(), Distilled(steps, full["original_inference_steps"])


def _multistep(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < _HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    middle = full["solver_type"] == "midpoint"
    return DPMSolver(full["solver_order"], _form(full), middle, first, second), _wholes(full, steps)


def _singlestep(full: Json, steps: int, eta: float) -> Solver:
    middle = full["solver_type"] == "midpoint"
    first = 1.0 / full["num_train_timesteps"] if full["lower_order_final"] else 0.0
    return DPMSolverOnGrid(full["solver_order"], _form(full), middle, first), _wholes(full, steps)


def _form(full: Json) -> Form:
    if full["algorithm_type"] not in _FORMS:
        raise unsupported("algorithm_type", full["algorithm_type"], ", ".join(_FORMS))
    return _FORMS[full["algorithm_type"]]


def _unipc(full: Json, steps: int, eta: float) -> Solver:
    first, second = _ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    form = OfData() if full["predict_x0"] else OfNoise()
    return UniPC(full["solver_order"], form, full["solver_type"] == "bh1", first, second), _wholes(full, steps)


def _deis(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < _HALF_STEPS
    first, second = _ends(full, steps) if lowers else (0.0, 0.0)
    return DEIS(full["solver_order"], first, second), _wholes(full, steps)


def _in_fractions(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    return lambda full, steps, eta: (sampler, _fractions(full, steps))


def _in_midpoints(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    """Karras levels are told as whole numbers to these two."""
    return lambda full, steps, eta: (sampler, _levels(full, steps, rounded=True) or _fractions(full, steps))


_SOLVERS: Mapping[str, Callable[[Json, int, float], Solver]] = {
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


def write_scheduler(folder: Path | str, theirs: Json) -> Path:
    """Writes the settings into a scheduler folder; returns it. Raises `FileProblem`."""
    return write_json(Path(folder) / FILE, theirs).parent
