"""The solvers of diffusers' scheduler classes: for each, our sampler and grid, from its settings.

A table of them by class name is at the end; the tests compare every one with the class itself.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from huggingvis.checkpoints.diffusers_common import Json, unsupported
from huggingvis.checkpoints.diffusers_scheduler_grids import (
    ends,
    ends_clean,
    even,
    fractions,
    kind_of,
    knots,
    no_idle_end,
    wholes,
)
from huggingvis.checkpoints.diffusers_scheduler_settings import PREDICTIONS_OF
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.sampler import Sampler
from huggingvis.guidance.threshold import Clip, DynamicThreshold
from huggingvis.samplers._multistep import Form
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
    Distilled,
    Schedule,
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
    grid = knots(full, steps, full["set_alpha_to_one"] or limit is not None)
    if limit is None:
        return DDIM(eta, stride=even(full, steps)), grid
    return DDIM(eta, limit.kept, even(full, steps, more=True)), grid


def _ddpm(full: Json, steps: int, eta: float) -> Solver:
    variances = {"fixed_small": BETA_TILDE, "fixed_small_log": BETA_TILDE, "fixed_large": BETA,
                 "fixed_large_log": BETA, LEARNED: Told()}  # fmt: skip
    kind = full["variance_type"]
    if kind not in variances:
        raise unsupported("variance_type", kind, ", ".join(variances))
    return Ancestral(variances[kind]), knots(full, steps, clean_end=True)


def _pndm(full: Json, steps: int, eta: float) -> Solver:
    grid = knots(full, steps, full["set_alpha_to_one"])
    of = PREDICTIONS[PREDICTIONS_OF[full["prediction_type"]]]()
    if full["skip_prk_steps"]:
        return PNDM(Repeated(), of, even(full, steps)), grid
    return PNDM(PseudoRungeKutta(), of, even(full, steps, more=True)), grid


def _lcm(full: Json, steps: int, eta: float) -> Solver:
    return Consistency(), Distilled(steps, full["original_inference_steps"])


def _multistep(full: Json, steps: int, eta: float) -> Solver:
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = ends(full, steps) if lowers else (0.0, 0.0)
    if full["euler_at_final"] and kind_of(full) is None and not ends_clean(full):
        first = 1.0 / full["num_train_timesteps"]
    return DPMSolver(full["solver_order"], _form(full), _middle(full), first, second), wholes(full, steps)


def _singlestep(full: Json, steps: int, eta: float) -> Solver:
    no_idle_end(full)
    own_block = full["lower_order_final"] and not ends_clean(full)  # the step to clean data has one anyway
    first = 1.0 / full["num_train_timesteps"] if own_block else 0.0
    return DPMSolverOnGrid(full["solver_order"], _form(full), _middle(full), first), wholes(full, steps)


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
    no_idle_end(full)
    first, second = ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    form = OfData() if full["predict_x0"] else OfNoise()
    return UniPC(full["solver_order"], form, full["solver_type"] == "bh1", first, second), wholes(full, steps)


def _deis(full: Json, steps: int, eta: float) -> Solver:
    full = {**full, "final_sigmas_type": "sigma_min"}  # it knows no other end
    lowers = full["lower_order_final"] and steps < HALF_STEPS
    first, second = ends(full, steps) if lowers else (0.0, 0.0)
    return DEIS(full["solver_order"], first, second), wholes(full, steps)


def _sa(full: Json, steps: int, eta: float) -> Solver:
    """With its own tau, 1 between the clocks 200 and 800: another is code, which no file tells."""
    full = {**full, "final_sigmas_type": "sigma_min"}
    no_idle_end(full)
    forms: dict[str, Callable[[float], Form]] = {"data_prediction": OfData, "noise_prediction": OfNoise}
    kind, count = full["algorithm_type"], full["num_train_timesteps"]
    if kind not in forms:
        raise unsupported("algorithm_type", kind, ", ".join(forms))
    first, second = ends(full, steps) if full["lower_order_final"] else (0.0, 0.0)
    tau = Tau(1.0, 200.5 / count, 801.5 / count)  # times are (clock + 1)/T
    orders = full["predictor_order"], full["corrector_order"]
    return SASolver(*orders, tau, forms[kind], kind == "data_prediction", first, second), wholes(full, steps)


def _in_fractions(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    return lambda full, steps, eta: (sampler, fractions(full, steps))


def _in_midpoints(sampler: Sampler) -> Callable[[Json, int, float], Solver]:
    """Karras levels are told as whole numbers to these two."""
    return lambda full, steps, eta: (sampler, fractions(full, steps, rounded=True))


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
