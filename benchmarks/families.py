"""VAE and VQ-VAE beside pythae, Real NVP and Glow beside normflows: speed, result at equal time, lines to write.

    python benchmarks/families.py                                   all four, about ten minutes on two cores
    python benchmarks/families.py --only vae --minutes 5            one of them, trained longer
    python benchmarks/families.py --batch 8 --steps 100 --repeats 1 --minutes 0.05       a look whether it runs

Both sides see the same digits in batches of one size, with one learning rate and architectures of one size. Pictures a
second are those of whole fresh trainings in turn, after their first 50 steps. Then each side trains anew for as many
steps as its own median says fill `--minutes`, and is scored on held-out digits by one function. Each trains as it comes
(our flows with averaged weights and a falling learning rate), but for the learning rate, which is ours on both sides.
Lines are those of `family_snippets.py`, which are run.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import family_snippets as snippets
import torch
from common import Report, interleaved, parser, row
from family_task import START, Contender, Task, Trained, keep_digits, quiet
from torch import Tensor

HELD_OUT = 1000


@dataclass(frozen=True)
class Family:
    """Contenders, what their score is, and two snippets: ours and the peer's."""

    contenders: Mapping[str, Contender]
    unit: str
    scored: str
    ours: str
    peer: str
    binary: bool = False
    lr: float = 1e-3


def families(only: str | None) -> dict[str, Family]:
    """By name. What only some need is imported only for them."""
    out: dict[str, Family] = {}
    if only in (None, "vae", "vq_vae"):
        from family_autoencoders import VAES, VQ_VAES

        ours = snippets.OURS.format(recipe="vae")
        out["vae"] = Family(VAES, "nats", "-log p, 64-draw bound", ours, snippets.PYTHAE_VAE, binary=True)
        ours = snippets.VQ_OURS.format(recipe="vq_vae")
        out["vq_vae"] = Family(VQ_VAES, "squared error", "reconstruction", ours, snippets.PYTHAE_VQ_VAE)
    if only in (None, "realnvp", "glow"):
        from family_flows import GLOWS, REALNVPS

        ours = snippets.OURS.format(recipe="realnvp")
        out["realnvp"] = Family(REALNVPS, "bits/dim", "density", ours, snippets.NORMFLOWS_REALNVP)
        ours = snippets.OURS.format(recipe="glow")
        out["glow"] = Family(GLOWS, "bits/dim", "density", ours, snippets.NORMFLOWS_GLOW, lr=5e-4)
    return {name: family for name, family in out.items() if only in (None, name)}


def fresh_task(options: argparse.Namespace, folder: Path, family: Family) -> tuple[Task, str]:
    """The pictures of a family, and where they are from."""
    told = keep_digits(folder, options.seed, family.binary)
    return Task(folder, options.batch, family.lr, options.seed), told


def trained(contender: Contender, task: Task, steps: int) -> Trained:
    """A fresh training in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "mnist-part.npz").symlink_to(task.folder / "mnist-part.npz")
        out = contender(replace(task, folder=place), steps)
    gc.collect()
    return out


def measure(name: str, family: Family, options: argparse.Namespace, report: Report) -> None:
    """All rows of a family."""
    with tempfile.TemporaryDirectory() as folder:
        task, told = fresh_task(options, Path(folder), family)
        note = f"{name}: {told}; batches of {task.batch}, learning rate {task.lr:g}, {options.steps} steps a turn."
        report.notes.append(note)
        turns = {who: partial(trained, act, task, options.steps) for who, act in family.contenders.items()}
        found = interleaved(turns, options.repeats, warm=0)
        rates = {who: [each.rate for each in all_] for who, all_ in found.items()}
        sizes = {who: {"parameters": all_[0].parameters} for who, all_ in found.items()}
        peers = {who: values for who, values in rates.items() if not _mine(who)}
        for who, values in rates.items():
            beside = peers if _mine(who) else None
            report.add(row(f"{name}: training", who, "pictures/s", values, beside=beside, facts=sizes[who]))
        _equal_time(name, family, options, report, task, rates)
        _lines(name, family, task, report)


def _equal_time(
    name: str,
    family: Family,
    options: argparse.Namespace,
    report: Report,
    task: Task,
    rates: Mapping[str, list[float]],
) -> None:
    """What each way a user has reaches in `--minutes`; plain loops of a library that has a trainer are left out."""
    held_out = task.source().held_out.batch(0, HELD_OUT)["image"]
    peer = next(who for who in family.contenders if not _mine(who))
    ways = {who: act for who, act in family.contenders.items() if who.endswith("its recipe") or who == peer}
    scores, facts = {}, {}
    for who, act in ways.items():
        steps = max(START + 10, round(60 * options.minutes * statistics.median(rates[who]) / task.batch))
        each = _score(trained(act, task, steps), held_out)
        scores[who] = float(each.mean())
        error = float(each.std()) / len(each) ** 0.5
        facts[who] = {"steps": steps, "minutes": options.minutes, "standard_error": float(f"{error:.2g}")}
    for who, score in scores.items():
        beside = {peer: [scores[peer]]} if _mine(who) else None
        report.add(row(f"{name}: {family.scored}", who, family.unit, [score], beside=beside, facts=facts[who]))


@torch.no_grad()
def _score(found: Trained, held_out: Tensor) -> Tensor:
    """Of each held-out picture, [B]."""
    return torch.cat([found.score(x) for x in held_out.split(250)]).double()


def _lines(name: str, family: Family, task: Task, report: Report) -> None:
    """Runs both snippets on a few pictures, and counts them."""
    peer = next(who for who in family.contenders if not _mine(who)).partition(",")[0]
    for text in (family.ours, family.peer):
        _run(text, task)
    theirs = [float(snippets.lines(family.peer))]
    ours = [float(snippets.lines(family.ours))]
    report.add(row(f"{name}: to write", "huggingvis", "lines", ours, beside={peer: theirs}))
    report.add(row(f"{name}: to write", peer, "lines", theirs))


def _run(text: str, task: Task) -> None:
    """Executes a snippet in an empty folder; it must leave 16 pictures."""
    given: dict[str, Any] = {"DATA": task.data, "STEPS": 2, "EPOCHS": 1, "pictures": task.unit()[:128]}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with quiet():
                exec(compile(text, "snippet", "exec"), given)
            left = len(list(Path("out").rglob("*.png")))
        finally:
            os.chdir(before)
    if left != 16:
        raise RuntimeError(f"a snippet left {left} pictures, not 16:\n{text}")


def _mine(who: str) -> bool:
    return who.startswith("huggingvis")


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, ("pythae", "normflows"))
    for name, family in families(options.only).items():
        measure(name, family, options, report)
    report.write()


def _options() -> argparse.Namespace:
    known = parser(__doc__, repeats=3, threads=0)
    known.add_argument("--only", choices=("vae", "vq_vae", "realnvp", "glow"), help="one family (default: all)")
    known.add_argument("--minutes", type=float, default=0.5, help="of training before scores (default: %(default)s)")
    known.add_argument("--steps", type=int, default=150, help="of a timed training (default: %(default)s)")
    known.add_argument("--batch", type=int, default=64, help="pictures a step (default: %(default)s)")
    options = known.parse_args()
    if options.steps < 2 * START:
        known.error(f"--steps must be {2 * START} or more: the first {START} are not timed")
    return options


if __name__ == "__main__":
    main()
