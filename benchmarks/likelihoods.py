"""Bits per number of digits by every family that tells them, on the same digits; of three schedules; of short chains.

    python benchmarks/likelihoods.py ledger --runs runs       flows, variational diffusion, the probability flow, DDPM
    python benchmarks/likelihoods.py schedules --runs runs    linear, cosine and learned, between the same ends
    python benchmarks/likelihoods.py chains --runs runs       chains of K steps with fixed and with fitted variances

Runs lie in folders named as the rows of `published_rows.py` and `foundation_rows.py`; a flow that has no run there is
told by its record in `trained/`, with the pictures that were measured then. Digits are those of the validation split,
evenly spaced: the last 10,000 of the training files, which no training sees. `curves/NAME.json` is written after each
number, and a second call goes on where the first was stopped; a run that has other weights by then is measured again.
Beside them all: 8 bits, and independent pixels counted in the training digits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from foundation_rows import FOUNDATION_ROWS, LEDGER
from measured_rows import CURVES, SEED, MeasuredRows, Record, of_file
from published_measures import evaluated
from published_rows import ROWS
from record_run import TRAINED, curve
from torch import Tensor
from trainings import MNIST

import huggingvis as hv
from huggingvis.core import config as records
from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.edits.generate import fingerprint
from huggingvis.export.grid import beside
from huggingvis.export.image import save
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.guidance.threshold import Clip
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.objectives.discretised import nearest
from huggingvis.objectives.ledger import in_bits
from huggingvis.recipes.diffusion.analytic_dpm import FILE
from huggingvis.recipes.pictures import Facts, View
from huggingvis.recipes.pixel_diffusion import diffusion_of
from huggingvis.recipes.sources import open_split
from huggingvis.samplers.analytic import Analytic
from huggingvis.train.run import Run

FAMILIES = {
    "nice": "bits_per_dim", "realnvp": "bits_per_dim", "glow": "bits_per_dim", "vdm": "bits_per_dim",
    "score_sde": "flow_bits_per_dim", "ddpm_28": "bits_per_dim",
}  # fmt: skip
"""The rows of the ledger, and the number by which each is compared."""
SCHEDULES = {"linear": "vdm_linear", "cosine": "vdm_cosine", "learned": "vdm"}
STEPS = (10, 25, 50, 100, 200, 1000)
DRAWS, CHUNK = 25, 100
WEIGHTS = "weights"
"""Begins what a row is of that was measured of a run."""


def measured(run: Path, words: Sequence[str]) -> Record:
    """What `hvis evaluate` tells of a run on the pictures of the ledger."""
    told = evaluated(Run.open(run), [*words, "--split", "validation"])
    found = {name: _told(n["mean"], n["standard_error"]) for name, n in told["measured"].items()}
    return {"pictures": told["n"], "step": told["step"], **found}


def loaded(run: Path) -> System:
    """The model of a run folder."""
    return hv.load(run, device="cpu")


def of_weights(system: System) -> str:
    """What a trained model is told from other trainings of it by."""
    return f"{WEIGHTS} {fingerprint(system)}"


def _told(mean: float, error: float | None) -> dict[str, float | None]:
    return {"mean": round(mean, 5), "error": error and round(error, 5)}


# ---- the ledger ------------------------------------------------------------------------------------------------------


def ledger(given: argparse.Namespace) -> str:
    """The table of all families."""
    words = ["--limit", str(given.pictures)]
    kept = MeasuredRows.open(__file__, "ledger", {"pictures": given.pictures, "split": "validation", "size": 28})
    kept.once("independent pixels", MNIST, partial(independent, given.pictures))
    for name in FAMILIES:
        run, record = given.runs / name, TRAINED / f"{name}.json"
        if run.exists():
            kept.once(name, of_weights(loaded(run)), partial(measured, run, words))
        elif record.exists() and not (kept.of(name) or "").startswith(WEIGHTS):
            kept.once(name, of_file(record), partial(recorded, record))
    return "\n".join(_lines(kept.rows))


def recorded(path: Path) -> Record:
    """A flow's figures as `published.py record` kept them."""
    told = json.loads(path.read_text(encoding="utf-8"))
    found = {name: _told(f["value"], f["error"]) for name, f in told["published"]["result"].items()}
    return {"pictures": told["published"]["pictures"], "step": told["steps"], **found}


def independent(count: int) -> Record:
    """Each pixel by its own counts of 256 values in the training digits, one more of each."""

    def values(split: Split) -> Tensor:
        x = open_split(os.path.expandvars(MNIST), split, View()).all_images()
        return ((x + 1) * 127.5).round().long().flatten(1)  # [N, D]

    seen, asked = values(Split.TRAIN), values(Split.VALIDATION)
    asked = asked[torch.arange(count) * len(asked) // count]
    places = seen + 256 * torch.arange(seen.shape[1])
    counts = 1 + torch.bincount(places.flatten(), minlength=256 * seen.shape[1]).reshape(-1, 256).double()  # [D, 256]
    bits = -(counts / counts.sum(1, keepdim=True)).log2().gather(1, asked.T).mean(0)  # [N]
    return {"pictures": count, "bits_per_dim": _told(float(bits.mean()), float(bits.std()) / math.sqrt(count))}


def _lines(rows: Mapping[str, Any]) -> list[str]:
    """The table, best first, as Markdown."""
    named = {"independent pixels": "bits_per_dim"} | FAMILIES
    systems = {name: (ROWS | FOUNDATION_ROWS)[name].system for name in FAMILIES}
    found = sorted((rows[name][figure]["mean"], name, figure) for name, figure in named.items() if name in rows)
    out = ["| model | bits/dim | of | digits | steps of training |", "|---|---|---|---|---|"]
    for mean, name, figure in found:
        row = rows[name]
        kind = "density" if name in ROWS or figure.startswith("flow") else "bound"
        kind = "probability" if name == "independent pixels" else kind
        out.append(f"| {systems.get(name, name)} | {mean:.3f} ± {row[figure]['error']:.2g} | {kind} | "
                   f"{row['pictures']:,} | {row.get('step', '')} |")  # fmt: skip
    return [*out, "| every value alike | 8 | probability | | |"]


# ---- schedules -------------------------------------------------------------------------------------------------------


def schedules(given: argparse.Namespace) -> str:
    """Bits of each schedule, with its shape and the course of its training."""
    kept = MeasuredRows.open(__file__, "schedules", {"pictures": given.pictures, "split": "validation", "size": 28})
    for name, row in SCHEDULES.items():
        run = given.runs / row
        if run.exists():
            system = loaded(run)
            kept.once(name, of_weights(system), partial(_schedule, run, system, given.pictures))
    if kept.rows:
        save(_shapes(kept.rows), CURVES / "schedules.png")
    bits = {name: row["bits_per_dim"] for name, row in kept.rows.items()}
    lines = [
        f"| {name} | {b['mean']:.3f} ± {b['error']:.2g} | {kept.rows[name]['spread']:.3g} |" for name, b in bits.items()
    ]
    return "\n".join(("| schedule | bits/dim | spread of the loss |", "|---|---|---|", *lines))


def _schedule(path: Path, system: System, pictures: int) -> Record:
    run, process = Run.open(path), model_of(system).process
    t = torch.linspace(0.001, 1, 50, dtype=torch.float64)
    lines = run.metrics()
    spreads = [line["validation._spread"] for line in lines if "validation._spread" in line]
    key = next(k for line in lines for k in line if k.endswith("_bits_per_dim") and not k.startswith("validation"))
    shape = [[round(float(a), 4), round(float(b), 4)] for a, b in zip(t, process.log_snr(t).detach(), strict=True)]
    return measured(path, ["--limit", str(pictures)]) | {
        "spread": spreads[-1], "log_snr": shape, "course": curve(lines, key)
    }  # fmt: skip


def model_of(system: System) -> Diffusion:
    """The diffusion model inside."""
    model = diffusion_of(system.generator(Request(sampling=system.defaults)))
    if model is None:
        raise UsageError(f"{system.spec.name!r} is no diffusion model of pictures.")
    return model


def _shapes(rows: Mapping[str, Any]) -> Picture:
    shapes = [Curve(name, row["log_snr"]) for name, row in rows.items()]
    courses = [Curve(name, row["course"][len(row["course"]) // 10 :]) for name, row in rows.items()]
    return beside([
        plot(courses, Axes("variational diffusion, digits", "steps of training", "bits/dim", log_y=True)),
        plot(shapes, Axes("schedules", "t", "log SNR")),
    ])  # fmt: skip


# ---- chains ----------------------------------------------------------------------------------------------------------


def chains(given: argparse.Namespace) -> str:
    """Bits of chains of `STEPS` steps with beta, beta-tilde and the fitted variances."""
    system = loaded(given.runs / "ddpm_plain")
    model, weights = model_of(system), of_weights(system)
    run = Run.open(given.runs / "analytic_dpm")
    facts, variance = Facts.of(run), records.load(Analytic, run.path / FILE)
    split = open_split(os.path.expandvars(facts.data), Split.VALIDATION, View(facts.size, facts.channels))
    x = nearest(split.some(given.pictures).all_images())
    plain = Clip()(model.denoise)
    believers: dict[str, tuple[Bound, float]] = {
        "beta": (_unconditional(plain), 1.0),
        "beta-tilde": (_unconditional(plain), 0.0),
        "analytic": (fitted(_unconditional(plain), model.process, variance), 1.0),
    }
    kept = MeasuredRows.open(
        __file__, "chains", {"pictures": given.pictures, "split": "validation", "size": facts.size}
    )
    for steps in STEPS:
        for name, (denoise, v) in believers.items():
            times = torch.arange(steps + 1, dtype=torch.float64) / steps
            bound = DiscreteBound(model.process, times, v=v)
            of = f"{weights}, {of_file(run.path / FILE)}" if name == "analytic" else weights
            kept.once(f"{name} {steps}", of, partial(_chain, bound, denoise, x))
    curves = [
        Curve(name, [(float(k), kept.rows[f"{name} {k}"]["bits_per_dim"]["mean"]) for k in STEPS], marked=True)
        for name in believers
    ]
    save(plot(curves, Axes("bits of a chain", "steps", "bits/dim", log_x=True, log_y=True)), CURVES / "chains.png")
    cells = {name: [kept.rows[f"{name} {k}"]["bits_per_dim"]["mean"] for k in STEPS] for name in believers}
    lines = [f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |" for name, values in cells.items()]
    return "\n".join(("| variance | " + " | ".join(map(str, STEPS)) + " |", "|---" * (len(STEPS) + 1) + "|", *lines))


def _unconditional(denoise: Callable[..., Belief]) -> Bound:
    return lambda x, t: denoise(x, t, {})


def fitted(denoise: Bound, process: Process, variance: Analytic) -> Bound:
    """Beliefs of `denoise` that tell how sure they are, as it was fitted: Var[x_0 | x_t] of `samplers.analytic`."""

    def told(x: Tensor, t: Tensor) -> Belief:
        belief = denoise(x, t)
        assert isinstance(belief, Gaussian)
        each = t.reshape(-1).double()
        noise = (process.sigma(each) / process.alpha(each)) ** 2
        gammas = torch.tensor([variance.gamma(float(one)) for one in each], dtype=torch.float64)
        spread = (noise * (1 - gammas)).clamp(1e-8, variance.limit**2).to(x)
        return Gaussian(belief.x0, spread.log().reshape(-1, *[1] * (x.ndim - 1)).expand_as(x))

    return told


@torch.no_grad()
def _chain(bound: DiscreteBound, denoise: Bound, x: Tensor) -> Record:
    rng = torch.Generator().manual_seed(SEED)
    parts = [in_bits(bound(denoise, part, rng, DRAWS), x[0].numel()) for part in x.split(CHUNK)]
    bits = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return {name: _told(float(b.mean()), float(b.std()) / math.sqrt(len(b))) for name, b in bits.items()}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("what", choices=("ledger", "schedules", "chains"))
    options.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    options.add_argument("--pictures", type=int, default=int(LEDGER.split()[-1]), help="(default: %(default)s)")
    given = options.parse_args()
    try:
        print({"ledger": ledger, "schedules": schedules, "chains": chains}[given.what](given))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
