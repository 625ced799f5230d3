"""Trainings of chapter 4, in the order in which they are worth their time; `foundation_experiments.py` says what for.

Pictures are MNIST digits, since only they come with a judge and with enough held-out pictures for a distance to have a
floor: at their own 28 pixels where likelihoods stand beside those of flows, at 16 where pictures are judged, so that a
training takes minutes of one core. `minutes` are from `published.py budget` on a core without bfloat16 instructions,
which multiplies in float32 (a Xeon at 2.5 GHz, both threads busy); with them it is about half of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainings import ACCURACY, JUDGE, MNIST, Training

LEDGER = "--limit 300"
"""Of every likelihood at 28 pixels: the same digits, evenly spaced among those that no training sees."""
SMALL = "--limit 200"
"""Of bounds and densities at 16 pixels: a density asks the net some hundred times for each digit."""
RESTORED = "--limit 200"


def distance(steps: int, how: str = "") -> str:
    """Words for the Fréchet distance of 1,000 digits that are drawn in so many steps."""
    return f"--frechet 1000 --judge {JUDGE} --steps {steps}{how}"


ANCESTRAL, DDIM = " --sampler ddpm --schedule trailing", " --sampler ddim --schedule trailing"
EULER = " --sampler euler --schedule uniform"
_NET = {"channels": (32, 64, 64), "blocks": 1}
_SMALL = {"size": 16, "net": _NET, "batch": 64, "steps": 1000}
_FULL = {"net": {"channels": (16, 32, 64), "blocks": 1}, "batch": 64, "steps": 1500}
_USUAL = {"warmup": 100, "sample_every": 500}
_PLAIN = {"conditional": False}


def _run(
    system: str,
    recipe: str,
    pace: float,
    numbers: Mapping[str, Any],
    *,
    evaluate: tuple[str, ...] = (distance(50),),
    curve: str = "mse",
    data: str | None = MNIST,
) -> Training:
    """A training of `pace` pictures a second on one core."""
    minutes = numbers["steps"] * numbers["batch"] / pace / 60
    return Training(
        system=system,
        recipe=recipe,
        numbers={**_USUAL, **numbers},
        data=data,
        curve=curve,
        evaluate=evaluate,
        minutes=round(minutes, 1),
    )


def _improved(process: str, **more: Any) -> Training:
    numbers = {**_SMALL, **_PLAIN, "process": process, **more}
    return _run("Improved DDPM", "improved_ddpm", 122, numbers, evaluate=(SMALL, distance(50)), curve="_bits_per_dim")


def _simple(process: str) -> Training:
    numbers = {**_SMALL, **_PLAIN, "process": process}
    return _run("DDPM", "ddpm", 117, numbers, evaluate=(SMALL, distance(50, ANCESTRAL), distance(5, DDIM)))


def _bound(process: str) -> Training:
    numbers = {**_FULL, "steps": 1300, "process": process, "octaves": (2, 3, 4, 5, 6, 7)}
    return _run("Variational diffusion", "vdm", 49, numbers, evaluate=(LEDGER,), curve="_bits_per_dim")


def _cold(degradation: str) -> Training:
    numbers = {**_SMALL, "steps": 600, "degradation": degradation}
    return _run("Cold diffusion", "cold", 122, numbers, evaluate=(RESTORED,), curve="l1")


def _flow(recipe: str, *at: int, **more: Any) -> Training:
    return _run(
        "Rectified flow" if recipe == "rectified_flow" else "Flow matching",
        recipe,
        117,
        {**_SMALL, **_PLAIN, **more},
        evaluate=("--limit 100", *(distance(steps, EULER) for steps in at)),
    )


def _reflow(teacher: str, steps: int, euler: int, at: int) -> Training:
    numbers = {"teacher": f"runs/{teacher}", "pairs": 5000, "batch": 128, "steps": steps, "euler_steps": euler}
    words = ("--limit 100", distance(at, EULER))
    return _run("Rectified flow", "reflow", 98, numbers, evaluate=words, data=None)


def _scenes(system: str, recipe: str, pace: float, channels: tuple[int, ...], **more: Any) -> Training:
    """On pictures of the world, in minutes: what is asked for is smooth at every level, and steps are large."""
    smooth = {"process": "cosine", "prediction": "v", "lr": 1e-3}
    numbers = {"size": 32, "net": {"channels": channels, "blocks": 1}, "batch": 64, **smooth, **more}
    words = "--frechet 120 --steps 50"
    return _run(system, recipe, pace, numbers, evaluate=(words,), data="world:5000")


FOUNDATION_ROWS: dict[str, Training] = {
    "vdm": _bound("learned"),
    "ddpm_plain": _simple("linear"),
    "score_sde": _run("Score SDE", "score_sde", 63, {**_FULL, **_PLAIN}, evaluate=(LEDGER,)),
    "ddpm_28": _run("DDPM", "ddpm", 63, {**_FULL, **_PLAIN}, evaluate=(LEDGER,)),
    "vdm_linear": _bound("gamma-linear"),
    "vdm_cosine": _bound("gamma-cosine"),
    "improved_cosine": _improved("cosine"),
    "improved_bound_cosine": _improved("cosine", loss="bound", by_loss=True),
    "ddpm_cosine": _simple("cosine"),
    "edm": _run("EDM", "edm", 117, {**_SMALL, **_PLAIN}, evaluate=(distance(18), distance(5))),
    "noisy_classifier": _run(
        "Classifier guidance",
        "noisy_classifier",
        730,
        {"size": 16, "batch": 128, "steps": 3000, "denoiser": "runs/ddpm_plain"},
        evaluate=(ACCURACY,),
        curve="_accuracy",
    ),
    "analytic_dpm": Training(
        system="Analytic-DPM",
        recipe="analytic_dpm",
        numbers={"denoiser": "runs/ddpm_plain"},
        evaluate=(distance(10, " --schedule trailing"),),
        minutes=2,
    ),
    "ggdm": Training(
        system="GGDM",
        recipe="ggdm",
        numbers={
            "denoiser": "runs/ddpm_plain",
            "judge": "runs/noisy_classifier",
            "calls": 5,
            "steps": 120,
            "batch": 100,
            "sample_every": 60,
        },
        curve="distance",
        evaluate=(distance(5),),
        minutes=12,
    ),
    "cold_blur": _cold("blur"),
    "flow_matching": _flow("flow_matching", 10),
    "flow_optimal": _flow("flow_matching", 10, optimal_pairs=True),
    "rectified_flow": _flow("rectified_flow", 10, 1),
    "reflow": _reflow("rectified_flow", 500, 0, 10),
    "reflow_one_step": _reflow("reflow", 500, 1, 1),
    "ncsn": _run("NCSN", "ncsn", 117, {**_SMALL, **_PLAIN}),
    "bit": _run("Bit diffusion", "bit", 102, {**_SMALL, **_PLAIN, "net": {**_NET, "self_conditioned": True}}),
    "bit_plain": _run("Bit diffusion", "bit", 112, {**_SMALL, **_PLAIN, "net": {**_NET, "self_conditioned": False}}),
    "captions": _run(
        "Bit diffusion",
        "bit_captions",
        200,
        {"batch": 64, "steps": 4000, "ema": 0.995, "warmup": 100, "sample_every": 500},
        evaluate=(),
        data="world:20000",
    ),
    "soft": _run("Soft diffusion", "soft", 127, _SMALL, curve="soft", evaluate=(distance(100),)),
    "soft_noise": _run(
        "Soft diffusion", "soft", 127, {**_SMALL, "blur": 0.0, "noise": 20.0}, curve="soft", evaluate=(distance(100),)
    ),
    "haar": _run(
        "Non-uniform diffusion",
        "non_uniform",
        390,
        {**_SMALL, **_PLAIN, "steps": 3300, "net": {"channels": (32, 64), "blocks": 1, "attention": (0, 1)}},
    ),
    "one_speed": _run("DDPM", "ddpm", 117, {**_SMALL, **_PLAIN, "process": "vp", "prediction": "v"}),
    "improved_linear": _improved("linear"),
    "improved_bound_linear": _improved("linear", loss="bound", by_loss=True),
    "cold_mask": _cold("mask"),
    "cold_pixelate": _cold("pixelate"),
    "rdm": _scenes("Retrieval-augmented diffusion", "rdm", 49, (16, 32, 64), steps=900, entries=5000),
    "rdm_none": _scenes("DDPM", "ddpm", 29, (32, 64, 128), steps=550),
}
"""Each needs what its numbers name as `runs/...`, which stands before it."""
