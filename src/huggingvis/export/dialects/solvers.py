"""What samplers and schedules are called in other programs, and what these programs do by the name; without torch.

A name alone does not say what a program does. A1111 takes another schedule for each sampler where none is chosen, and
leaves the last level out for some; its "Polyexponential" has the power 1, its "Uniform" is everyone's "normal". These
tables are facts of their sources (`sd_samplers_kdiffusion.py`, `sd_samplers_timesteps.py`, `sd_schedulers.py` of A1111;
`comfy/samplers.py`; InvokeAI's `SCHEDULER_MAP`); the tests compare each row's noise levels with the formulas there.
`samplers.names` says what our own names stand for. Book: chapter 4, "Samplers by name".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from huggingvis.core.request_sampling import OWN

BROWNIAN = (
    "Its sampler draws the noise of its steps from a Brownian tree (torchsde), here they are drawn from the seed's own "
    "stream: the picture comes out alike in law, not the same."
)


@dataclass(frozen=True)
class Solver:
    """What stands behind a sampler's name elsewhere.

    Attributes:
        sampler: our name of it.
        schedule: our name of the schedule that it takes where none is chosen.
        discard: one level more is made, and the last above clean left out.
        fixed: it walks its own schedule, whatever is chosen.
        ensd: its steps draw noise, which ENSD is about.
        note: how what we do differs.
    """

    sampler: str
    schedule: str = "normal"
    discard: bool = False
    fixed: bool = False
    ensd: bool = False
    note: str = ""


WEBUI: Mapping[str, Solver] = {
    "DPM++ 2M": Solver("dpm++2m", "karras"),
    "DPM++ SDE": Solver("dpm++sde", "karras", note=BROWNIAN),
    "DPM++ 2M SDE": Solver("dpm++2m-sde", "logsnr", note=BROWNIAN),
    "DPM++ 2M SDE Heun": Solver("dpm++2m-sde-heun", "logsnr", note=BROWNIAN),
    "DPM++ 2S a": Solver("dpm++2s-a", "karras", ensd=True),
    "DPM++ 3M SDE": Solver("dpm++3m-sde", "logsnr", discard=True, note=BROWNIAN),
    "Euler a": Solver("euler-a", ensd=True),
    "Euler": Solver("euler"),
    "LMS": Solver("lms"),
    "Heun": Solver("heun"),
    "DPM2": Solver("dpm2", "karras", discard=True),
    "DPM2 a": Solver("dpm2-a", "karras", discard=True, ensd=True),
    "Restart": Solver("heun", "restart", fixed=True),
    "DDIM": Solver("ddim", "ddim-uniform-knot", fixed=True),
    "PLMS": Solver("plms", "ddim-uniform-knot", fixed=True),
    "UniPC": Solver("unipc-bh1", "ddim-uniform-knot", fixed=True, note="A1111's UniPC chooses times of its own, here "
                    "they are DDIM's: the picture comes out a little different."),
    "LCM": Solver("lcm", "distilled", fixed=True, note="A1111's LCM spreads its times evenly over all that the model "
                  "was taught, here they are those of the model's makers."),
}  # fmt: skip
"""A1111's samplers by their labels. "DPM fast" and "DPM adaptive" have no counterpart here."""

WEBUI_SCHEDULES: Mapping[str, str] = {
    "Uniform": "normal", "Karras": "karras", "Exponential": "logsnr", "Polyexponential": "logsnr",
    "SGM Uniform": "sgm-uniform", "KL Optimal": "kl-optimal-open", "Align Your Steps": "align-your-steps-all",
    "Simple": "simple", "Normal": "normal", "DDIM": "ddim-uniform", "Beta": "beta", "Turbo": "trailing",
}  # fmt: skip
"""A1111's schedules by their labels ("Turbo" is Forge's); "Automatic" is the sampler's."""

WEBUI_XL: Mapping[str, str] = {"align-your-steps-all": "align-your-steps-xl-all"}
"""What they are for SDXL, where that is another."""

COMFY: Mapping[str, Solver] = {
    "euler": Solver("euler"), "euler_ancestral": Solver("euler-a", ensd=True), "heun": Solver("heun"),
    "dpm_2": Solver("dpm2", discard=True), "dpm_2_ancestral": Solver("dpm2-a", discard=True, ensd=True),
    "lms": Solver("lms"), "dpmpp_2s_ancestral": Solver("dpm++2s-a", ensd=True),
    "dpmpp_sde": Solver("dpm++sde", note=BROWNIAN), "dpmpp_sde_gpu": Solver("dpm++sde", note=BROWNIAN),
    "dpmpp_2m": Solver("dpm++2m"), "dpmpp_2m_sde": Solver("dpm++2m-sde", note=BROWNIAN),
    "dpmpp_2m_sde_gpu": Solver("dpm++2m-sde", note=BROWNIAN),
    "dpmpp_2m_sde_heun": Solver("dpm++2m-sde-heun", note=BROWNIAN),
    "dpmpp_2m_sde_heun_gpu": Solver("dpm++2m-sde-heun", note=BROWNIAN),
    "dpmpp_3m_sde": Solver("dpm++3m-sde", note=BROWNIAN), "dpmpp_3m_sde_gpu": Solver("dpm++3m-sde", note=BROWNIAN),
    "ddpm": Solver("ddpm", ensd=True), "lcm": Solver("lcm", ensd=True), "ipndm": Solver("ipndm"),
    "deis": Solver("deis"), "ddim": Solver("euler"),
    "uni_pc": Solver("unipc-bh1", discard=True), "uni_pc_bh2": Solver("unipc", discard=True),
}  # fmt: skip
"""ComfyUI's samplers; "ddim" is Euler there."""

COMFY_SCHEDULES: Mapping[str, str] = {
    "normal": "normal", "karras": "karras", "exponential": "logsnr", "sgm_uniform": "sgm-uniform", "simple": "simple",
    "ddim_uniform": "ddim-uniform", "beta": "beta-index", "kl_optimal": "kl-optimal",
}  # fmt: skip

_INVOKE = {
    "ddim": "ddim", "ddpm": "ddpm", "deis": "deis", "lms": "lms", "pndm": "plms", "heun": "heun", "euler": "euler",
    "euler_a": "euler-a", "kdpm_2": "dpm2", "kdpm_2_a": "dpm2-a", "dpmpp_2s": "dpm++2s-grid", "dpmpp_2m": "dpm++2m",
    "dpmpp_2m_sde": "dpm++2m-sde", "dpmpp_3m": "dpm++3m", "dpmpp_sde": "dpm++sde", "unipc": "unipc", "lcm": "lcm",
}  # fmt: skip
_OLD_INVOKE = {
    "k_lms": "lms", "k_euler": "euler", "k_euler_a": "euler-a", "k_heun": "heun", "k_dpm_2": "dpm2",
    "k_dpm_2_a": "dpm2-a", "plms": "plms",
}  # fmt: skip

INVOKE: Mapping[str, Solver] = {
    **{name: Solver(ours, OWN) for name, ours in (_INVOKE | _OLD_INVOKE).items()},
    **{f"{name}_k": Solver(ours, "karras") for name, ours in _INVOKE.items()},
    "lcm": Solver("lcm", "distilled"),
}  # fmt: skip
"""InvokeAI's schedulers are diffusers', with the spacing of the model's own settings; `_k`: on Karras' levels."""

NOVELAI: Mapping[str, Solver] = {
    "k_euler": Solver("euler"), "k_euler_ancestral": Solver("euler-a", ensd=True), "k_lms": Solver("lms"),
    "k_dpm_2": Solver("dpm2"), "k_dpm_2_ancestral": Solver("dpm2-a", ensd=True), "k_heun": Solver("heun"),
    "k_dpmpp_2m": Solver("dpm++2m"), "k_dpmpp_2s_ancestral": Solver("dpm++2s-a", ensd=True),
    "k_dpmpp_sde": Solver("dpm++sde", note=BROWNIAN), "k_dpmpp_2m_sde": Solver("dpm++2m-sde", note=BROWNIAN),
    "ddim": Solver("ddim", "leading", fixed=True), "ddim_v3": Solver("ddim", "leading", fixed=True),
    "plms": Solver("plms", "leading", fixed=True),
}  # fmt: skip
NOVELAI_SCHEDULES: Mapping[str, str] = {
    "native": "normal",
    "karras": "karras",
    "exponential": "logsnr",
    "polyexponential": "logsnr",
}


LABELS: Mapping[str, str] = {
    **{row.sampler: label for label, row in WEBUI.items() if label not in ("Restart", "UniPC")}, "unipc": "UniPC",
}  # fmt: skip
"""A1111's labels of our samplers: what we write. Its UniPC is bh1, ours of that name everyone's, bh2."""
SCHEDULE_LABELS: Mapping[str, str] = {
    **{ours: label for label, ours in reversed(list(WEBUI_SCHEDULES.items())) if label != "Turbo"}, "normal": "Normal",
}  # fmt: skip
"""A1111's labels of our schedules, where they are the same."""
