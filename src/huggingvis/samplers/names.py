"""The names that the community gives samplers and schedules, and what they are here.

One row per algorithm: our name, the labels of A1111's web UI, the ids of ComfyUI, the classes of diffusers. Case,
spaces, `-` and `_` do not matter. A label such as "DPM++ 2M Karras" names a sampler and a schedule; `split_label`
parts them. Book: chapter 4, "Samplers by name".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.process import Degradation, Process
from huggingvis.core.request_sampling import Sampling
from huggingvis.core.sampler import Sampler
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.ancestral_form import AncestralForm
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deis import DEIS
from huggingvis.samplers.dpm_on_grid import DPMSolverOnGrid
from huggingvis.samplers.dpm_sde import DPMSolverSDE
from huggingvis.samplers.dpm_singlestep import DPMSolverSinglestep
from huggingvis.samplers.dpm_solver import DPMSolver, OfData, OfNoise
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import (
    AlignYourSteps,
    Beta,
    BetaIndex,
    DDIMUniform,
    Distilled,
    Karras,
    KLOptimal,
    Leading,
    Linspace,
    LogSNR,
    Polyexponential,
    Schedule,
    Shifted,
    Simple,
    Trailing,
    Uniform,
    WithoutPenultimate,
)  # fmt: skip
from huggingvis.samplers.grids.published import SDXL, SVD
from huggingvis.samplers.grids.restart import usual as restarting
from huggingvis.samplers.heun import Heun
from huggingvis.samplers.langevin import AnnealedLangevin, PredictorCorrector
from huggingvis.samplers.lms import LMS
from huggingvis.samplers.midpoint import Midpoint
from huggingvis.samplers.momentum import Momentum, Naive
from huggingvis.samplers.plms import PNDM, AsTheyCome, PseudoRungeKutta
from huggingvis.samplers.reverse_diffusion import EulerMaruyama, ReverseDiffusion
from huggingvis.samplers.sa_solver import SASolver
from huggingvis.samplers.unipc import UniPC

__all__ = ["sampler_of", "schedule_asked", "schedule_of"]

_ONE = "tests/interop/test_schedulers.py::test_"
_MANY = "tests/interop/test_multistep_schedulers.py::test_"
_GRID = "tests/interop/test_sigma_schedules.py::test_"
_FORMULAE = "tests/oracle/test_grids.py::test_"
_GRIDS = "tests/oracle/test_solvers.py::test_"
_ORDER = _GRIDS + "order_of_convergence"
_LAW = _GRIDS + "stochastic_samplers_draw_the_mixture"
_SCORE = "tests/oracle/test_score.py::test_"
_COLD = "tests/oracle/test_cold.py::test_"
_SOFT = "tests/oracle/test_soft.py::test_"
_WEBUI = "tests/interop/test_webui_schedules.py::test_"
_EVERY = _ONE + "every_number_of_steps_asks_for_the_same_indices"


@dataclass(frozen=True)
class SamplerRow:
    """One algorithm: `make(eta)` builds it. `proof`: the test that says so."""

    name: str
    make: Callable[[float], Sampler]
    a1111: tuple[str, ...] = ()
    comfy: tuple[str, ...] = ()
    diffusers: tuple[str, ...] = ()
    proof: str = ""

    def names(self) -> tuple[str, ...]:
        return (self.name, *self.a1111, *self.comfy, *self.diffusers)


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule: `make(steps)` builds it. `diffusers`: the setting that asks a scheduler for it; no name of ours."""

    name: str
    make: Callable[[int], Schedule]
    a1111: tuple[str, ...] = ()
    comfy: tuple[str, ...] = ()
    diffusers: tuple[str, ...] = ()
    proof: str = ""

    def names(self) -> tuple[str, ...]:
        return (self.name, *self.a1111, *self.comfy)


def _eta(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"eta is the share of fresh noise, from 0 (none) to 1 (all of it); found {value}.")
    return value


SAMPLERS = (
    SamplerRow("ddpm", lambda eta: Ancestral(), (), ("ddpm",), ("DDPMScheduler",), _ONE + "ddpm"),
    SamplerRow("ddim", lambda eta: DDIM(eta), ("DDIM",), ("ddim",), ("DDIMScheduler",), _ONE + "ddim"),
    SamplerRow("euler", lambda eta: Euler(), ("Euler", "k_euler"), ("euler",),
               ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"), _ONE + "euler"),
    # k-diffusion's ancestral Euler is DDIM with all of its noise, written in sigma/alpha
    SamplerRow("euler-a", lambda eta: DDIM(1.0), ("Euler a", "k_euler_a", "k_euler_ancestral"), ("euler_ancestral",),
               ("EulerAncestralDiscreteScheduler",), _ONE + "euler_a_is_ddim_with_all_noise"),
    SamplerRow("heun", lambda eta: Heun(), ("Heun", "k_heun"), ("heun",), ("HeunDiscreteScheduler",), _ONE + "heun"),
    SamplerRow("heun-flow", lambda eta: Heun(1.0), (), (), ("FlowMatchHeunDiscreteScheduler",),
               _ONE + "flow_match_heun"),
    SamplerRow("dpm2", lambda eta: Midpoint(), ("DPM2", "k_dpm_2"), ("dpm_2",), ("KDPM2DiscreteScheduler",),
               _MANY + "dpm2"),
    SamplerRow("dpm2-a", lambda eta: AncestralForm(Midpoint()), ("DPM2 a", "k_dpm_2_a", "k_dpm_2_ancestral"),
               ("dpm_2_ancestral",), ("KDPM2AncestralDiscreteScheduler",), _MANY + "dpm2"),
    SamplerRow("lms", lambda eta: LMS(), ("LMS", "k_lms"), ("lms",), ("LMSDiscreteScheduler",), _MANY + "lms"),
    SamplerRow("plms", lambda eta: PNDM(), ("PLMS",), (), ("PNDMScheduler",), _MANY + "plms"),
    SamplerRow("pndm", lambda eta: PNDM(PseudoRungeKutta()), proof=_MANY + "pndm_with_its_runge_kutta_start"),
    SamplerRow("ipndm", lambda eta: PNDM(AsTheyCome()), (), ("ipndm",), ("IPNDMScheduler",), _GRID + "ipndm"),
    SamplerRow("deis", lambda eta: DEIS(), (), ("deis",), ("DEISMultistepScheduler",), _MANY + "deis"),
    # ComfyUI's "uni_pc" is bh1; read as a name, it is everyone's UniPC, which is bh2
    SamplerRow("unipc", lambda eta: UniPC(), ("UniPC",), ("uni_pc_bh2",), ("UniPCMultistepScheduler",),
               _MANY + "unipc"),
    SamplerRow("unipc-bh1", lambda eta: UniPC(linear=True), proof=_MANY + "unipc"),
    SamplerRow("lcm", lambda eta: Consistency(), ("LCM",), ("lcm",), ("LCMScheduler",), _ONE + "lcm"),
    SamplerRow("sa-solver", lambda eta: SASolver(), (), ("sa_solver",), ("SASolverScheduler",), _MANY + "sa_solver"),
    SamplerRow("dpm-solver-2", lambda eta: DPMSolverSinglestep(2), proof=_ORDER),
    SamplerRow("dpm-solver-3", lambda eta: DPMSolverSinglestep(3), proof=_ORDER),
    SamplerRow("dpm-solver-2m", lambda eta: DPMSolver(2, OfNoise()), proof=_MANY + "dpm_solver_multistep"),
    SamplerRow("dpm++2m", lambda eta: DPMSolver(), ("DPM++ 2M", "k_dpmpp_2m"), ("dpmpp_2m",),
               ("DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"), _ONE + "dpm_solver_pp_2m"),
    SamplerRow("dpm++3m", lambda eta: DPMSolver(3), proof=_MANY + "dpm_solver_multistep"),
    SamplerRow("dpm++2s", lambda eta: DPMSolverSinglestep(2, OfData()), proof=_ORDER),
    SamplerRow("dpm++2s-grid", lambda eta: DPMSolverOnGrid(), (), (), ("DPMSolverSinglestepScheduler",),
               _GRID + "dpm_solver_singlestep"),
    SamplerRow("dpm++3s-grid", lambda eta: DPMSolverOnGrid(3), proof=_GRID + "dpm_solver_singlestep"),
    SamplerRow("dpm++2s-a", lambda eta: AncestralForm(DPMSolverSinglestep(2, OfData())),
               ("DPM++ 2S a", "k_dpmpp_2s_a"), ("dpmpp_2s_ancestral",), proof=_LAW),
    SamplerRow("dpm++sde", lambda eta: DPMSolverSDE(), ("DPM++ SDE", "k_dpmpp_sde"), ("dpmpp_sde", "dpmpp_sde_gpu"),
               ("DPMSolverSDEScheduler",), _MANY + "dpm_solver_sde"),
    SamplerRow("dpm++2m-sde", lambda eta: DPMSolver(2, OfData(1.0)), ("DPM++ 2M SDE", "k_dpmpp_2m_sde"),
               ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu"), proof=_MANY + "dpm_solver_multistep"),
    SamplerRow("dpm++2m-sde-heun", lambda eta: DPMSolver(2, OfData(1.0), midpoint=False),
               ("DPM++ 2M SDE Heun", "k_dpmpp_2m_sde_heun"), ("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"),
               proof=_MANY + "dpm_solver_multistep"),
    SamplerRow("dpm++3m-sde", lambda eta: DPMSolver(3, OfData(1.0), midpoint=False),
               ("DPM++ 3M SDE", "k_dpmpp_3m_sde"), ("dpmpp_3m_sde", "dpmpp_3m_sde_gpu"), proof=_LAW),
    SamplerRow("euler-maruyama", lambda eta: EulerMaruyama(), (), (), ("ScoreSdeVpScheduler",),
               _SCORE + "euler_maruyama_is_that_of_diffusers"),
    SamplerRow("reverse-diffusion", lambda eta: ReverseDiffusion(), proof=_SCORE + "samplers_draw_the_mixture"),
    SamplerRow("pc", lambda eta: PredictorCorrector(ReverseDiffusion()), (), (), ("ScoreSdeVeScheduler",),
               _SCORE + "predictor_and_corrector_are_those_of_diffusers"),
    SamplerRow("annealed-langevin", lambda eta: AnnealedLangevin(), proof=_SCORE + "ncsn_algorithm_1_written_out"),
    SamplerRow("momentum", lambda eta: Momentum(), proof=_SOFT + "momentum_on_ve_is_the_reverse_diffusion_predictor"),
    SamplerRow("momentum-ode", lambda eta: Momentum(fresh=False), proof=_SOFT + "the_ode_of_momentum_is_ddim"),
    SamplerRow("naive", lambda eta: Naive(), proof=_COLD + "algorithms_1_and_2_written_out"),
)  # fmt: skip

SCHEDULES = (
    ScheduleRow("uniform", Uniform, ("Automatic", "Uniform"), proof=_GRIDS + "grids_fall_to_clean"),
    ScheduleRow("karras", Karras, ("Karras",), ("karras",), ("use_karras_sigmas",), _GRID + "samplers_in_sigma"),
    ScheduleRow("logsnr", LogSNR, ("Exponential",), ("exponential",), ("use_exponential_sigmas",),
                _GRID + "samplers_in_sigma"),
    ScheduleRow("polyexponential", lambda steps: Polyexponential(steps, 2.0), ("Polyexponential",),
                proof=_FORMULAE + "polyexponential"),
    ScheduleRow("beta", Beta, ("Beta",), (), ("use_beta_sigmas",), _GRID + "samplers_in_sigma"),
    ScheduleRow("beta-index", BetaIndex, (), ("beta",), proof=_FORMULAE + "beta_index"),
    ScheduleRow("kl-optimal", KLOptimal, ("KL Optimal",), ("kl_optimal",), proof=_FORMULAE + "kl_optimal"),
    ScheduleRow("kl-optimal-open", lambda steps: KLOptimal(steps, open_end=True),
                proof=_WEBUI + "kl_optimal_ends_with_the_least_level"),
    ScheduleRow("align-your-steps", AlignYourSteps, ("Align Your Steps",), ("AlignYourStepsScheduler SD1",),
                ("sigmas=",), _GRID + "align_your_steps"),
    ScheduleRow("align-your-steps-xl", lambda steps: AlignYourSteps(steps, SDXL), (),
                ("AlignYourStepsScheduler SDXL",), ("sigmas=",), _GRID + "align_your_steps"),
    ScheduleRow("align-your-steps-video", lambda steps: AlignYourSteps(steps, SVD), (),
                ("AlignYourStepsScheduler SVD",), proof=_FORMULAE + "align_your_steps"),
    # A1111's: as many levels as steps are called, and clean data after them
    ScheduleRow("align-your-steps-all", lambda steps: AlignYourSteps(steps, all_called=True), proof=_WEBUI + "levels"),
    ScheduleRow("align-your-steps-xl-all", lambda steps: AlignYourSteps(steps, SDXL, all_called=True),
                proof=_WEBUI + "levels"),
    ScheduleRow("lu", lambda steps: LogSNR(steps, rounded=True), (), (), ("use_lu_lambdas",), _GRID + "lu_lambdas"),
    ScheduleRow("trailing", Trailing, (), (), ("timestep_spacing=trailing",), _EVERY),
    ScheduleRow("leading", lambda steps: Leading(steps, offset=1), (), (), ("timestep_spacing=leading",), _EVERY),
    ScheduleRow("linspace", Linspace, (), (), ("timestep_spacing=linspace",), _EVERY),
    ScheduleRow("normal", lambda steps: Linspace(steps, rounded=False), ("Normal",), ("normal",),
                proof=_GRIDS + "grids_fall_to_clean"),
    ScheduleRow("sgm-uniform", lambda steps: Linspace(steps, rounded=False, open_end=True), ("SGM Uniform",),
                ("sgm_uniform",), proof=_FORMULAE + "sgm_uniform"),
    ScheduleRow("simple", Simple, ("Simple",), ("simple",), proof=_FORMULAE + "simple"),
    ScheduleRow("ddim-uniform", DDIMUniform, ("DDIM",), ("ddim_uniform",), proof=_FORMULAE + "ddim_uniform"),
    ScheduleRow("ddim-uniform-knot", lambda steps: DDIMUniform(steps, clean_end=False),
                proof=_WEBUI + "ddim_and_plms_walk_every_so_many_indices"),
    ScheduleRow("distilled", Distilled, (), (), ("original_inference_steps",), _ONE + "lcm"),
    ScheduleRow("shifted", Shifted, (), (), ("shift", "use_flow_sigmas"), _GRID + "flow_sigmas"),
    ScheduleRow("restart", restarting, ("Restart",), proof=_FORMULAE + "restarts_draw_the_mixture"),
)  # fmt: skip


def _shown(rows: Sequence[SamplerRow | ScheduleRow]) -> list[str]:
    """The names that a mistaken one may have been meant for."""
    return [name for row in rows for name in (row.name, *row.a1111)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


OF_MODELS = ("learned",)
"""Samplers that a model may know by these names and nobody else does."""


def sampler_names(process: Process | None = None) -> tuple[str, ...]:
    """Our names of all samplers, or of those that run on `process`."""
    anything = not isinstance(process, Degradation)
    return tuple(row.name for row in SAMPLERS if anything or row.make(0.0).plain)


def schedule_names(process: Process | None = None) -> tuple[str, ...]:
    """Our names of all schedules; without those in noise levels for a `process` that has no one level at a time."""
    if not isinstance(process, Degradation):
        return tuple(row.name for row in SCHEDULES)
    return tuple(row.name for row in SCHEDULES if _walks(row.make(10), process))


def _walks(schedule: Schedule, process: Process) -> bool:
    try:
        schedule(process)
    except UsageError:
        return False
    return True


def split_label(label: str) -> tuple[str, str | None]:
    """A label as (our sampler's name, our schedule's name or None): "DPM++ 2M Karras" -> ("dpm++2m", "karras").

    Raises `UsageError`, with the nearest names, for a sampler that is not here.
    """
    samplers = {_plain(alias): row.name for row in SAMPLERS for alias in row.names()}
    plain = _plain(label)
    if plain in samplers:
        return samplers[plain], None
    for row in SCHEDULES:
        for alias in row.names():
            head = plain.removesuffix(_plain(alias))
            if head != plain and head in samplers:
                return samplers[head], row.name
    raise unknown("sampler", label, _shown(SAMPLERS), lister="hvis catalog samplers")


def schedule_name(label: str) -> str:
    """Our name of the schedule `label`. Raises `UsageError`, with the nearest names, for one that is not here."""
    plain = _plain(label)
    for row in SCHEDULES:
        if plain in {_plain(alias) for alias in row.names()}:
            return row.name
    raise unknown("schedule", label, _shown(SCHEDULES), lister="hvis catalog schedules")


def sampler_called(sampler: Sampler) -> str | None:
    """Our name of a sampler; None for one that no name stands for."""
    return next((row.name for row in SAMPLERS if sampler in (row.make(0.0), row.make(1.0))), None)


def schedule_called(schedule: Schedule, steps: int) -> str | None:
    """Our name of a builder of grids with `steps` calls: the same, or else the only one of its kind."""
    made = {row.name: row.make(steps) for row in SCHEDULES}
    same = [name for name, one in made.items() if one == schedule]
    alike = [name for name, one in made.items() if type(one) is type(schedule)]
    return same[0] if same else alike[0] if len(alike) == 1 else None


def sampler_of(name: str, eta: float = 0.0) -> Sampler:
    """The sampler that `name` stands for, in any community's spelling. `eta` is DDIM's; others have their own noise.

    Raises `UsageError` for unknown names and for `eta` outside [0, 1].
    """
    ours, _ = split_label(name)
    return next(row for row in SAMPLERS if row.name == ours).make(_eta(eta))


def schedule_asked(asked: Sampling) -> Schedule:
    """The builder of grids that a request's numbers ask for. Raises as `schedule_of`."""
    if asked.discard_penultimate:
        return WithoutPenultimate(schedule_of(asked.schedule, asked.steps + 1))
    return schedule_of(asked.schedule, asked.steps)


def schedule_of(name: str, steps: int) -> Schedule:
    """The builder of grids that `name` stands for, with `steps` calls. Raises `UsageError` for unknown names."""
    ours = schedule_name(name)
    return next(row for row in SCHEDULES if row.name == ours).make(steps)
