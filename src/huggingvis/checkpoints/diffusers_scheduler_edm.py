"""Schedulers of diffusers for nets in EDM's terms, as Playground v2.5's: no table, noise levels themselves.

Karras, Aittala, Aila, Laine 2022 (arXiv 2206.00364); the terms are `core.preconditioning`. Their classes begin with
noise of deviation sqrt(sigma_max^2 + 1), ours with sigma_max. CosXL (Stability AI, 2024) predicts v in these terms, the
opposite of what EDM's net says, for data of deviation 1. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingvis.checkpoints.diffusers_common import Json, settings
from huggingvis.checkpoints.diffusers_scheduler_solvers import FORMS, HALF_STEPS, Solver
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.processes.ve import LinearVE
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Karras, LogSNR, Schedule

EULER, MULTISTEP = "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"
_DEFAULTS: dict[str, Any] = {
    "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0,
    "prediction_type": "epsilon", "final_sigmas_type": "zero", "solver_order": 2, "solver_type": "midpoint",
    "algorithm_type": "dpmsolver++", "lower_order_final": True, "euler_at_final": False, "thresholding": False,
}  # fmt: skip
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "sigma_schedule": ("karras", "exponential"), "prediction_type": ("epsilon", "v_prediction"),
    "final_sigmas_type": ("zero",), "solver_order": (2, 1, 3), "solver_type": ("midpoint", "heun"),
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"), "euler_at_final": (False,), "thresholding": (False,),
}  # fmt: skip


def complete(theirs: Json) -> dict[str, Any]:
    """The settings with defaults filled in. Raises `FileProblem` for one that we do not compute."""
    return settings(theirs, _DEFAULTS, _ONLY)


def process_of(full: Json) -> LinearVE:
    """Noise levels up to the largest."""
    return LinearVE(full["sigma_max"])


def prediction_of(full: Json) -> Preconditioned:
    """What the net is given and says."""
    return Preconditioned(full["sigma_data"], -1.0 if full["prediction_type"] == "v_prediction" else 1.0)


def solver_of(full: Json, steps: int) -> Solver:
    """Sampler and grid for so many steps."""
    low, high = full["sigma_min"], full["sigma_max"]
    grid: Schedule = Karras(steps, full["rho"], low, high)
    if full["sigma_schedule"] == "exponential":
        grid = LogSNR(steps, low, high)
    if full["_class_name"] == EULER:
        return Euler(), grid
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    second = float(grid(process_of(full)).times[-2]) if lowers else 0.0
    form, middle = FORMS[full["algorithm_type"]], full["solver_type"] == "midpoint"
    return DPMSolver(full["solver_order"], form, middle, 0.0, second), grid


def settings_of(prediction: str, extra: Mapping[str, float]) -> dict[str, Any]:
    """A `scheduler_config.json` for a single file: Playground's (`edm`), or CosXL's (`edm_v`), which says its range."""
    if prediction == "edm":
        return {"_class_name": MULTISTEP, "sigma_max": 80.0, "sigma_data": 0.5, "prediction_type": "epsilon"}
    return {
        "_class_name": MULTISTEP, "sigma_min": extra.get("edm_vpred.sigma_min", 0.002),
        "sigma_max": extra.get("edm_vpred.sigma_max", 120.0), "sigma_data": 1.0, "prediction_type": "v_prediction",
    }  # fmt: skip
