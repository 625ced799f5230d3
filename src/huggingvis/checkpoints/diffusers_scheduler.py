"""What a `scheduler_config.json` says: the noise table, what the network predicts, and the solver its makers meant.

Each class of diffusers is a function from its settings to our sampler and grid; the tests compare every one with the
class itself. A setting that we do not know is refused by name. A class that we do not know still tells its table and
its prediction; pictures are then made by DPM-Solver++. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_scheduler_edm as edm
from huggingvis.checkpoints.diffusers_common import Json, settings, unsupported
from huggingvis.checkpoints.diffusers_scheduler_flow import ASKED, PREDICTED
from huggingvis.checkpoints.diffusers_scheduler_grids import process_of, table_of
from huggingvis.checkpoints.diffusers_scheduler_settings import DEFAULTS, ONLY, OWN, PREDICTIONS_OF
from huggingvis.checkpoints.diffusers_scheduler_solvers import LEARNED, SOLVERS, Solver, kept
from huggingvis.checkpoints.json_files import read_json, write_json
from huggingvis.core.errors import about
from huggingvis.core.process import PREDICTIONS, Prediction, Process
from huggingvis.core.protocols import Guidance
from huggingvis.core.sampler import Sampler
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ddim import DDIM

FILE = "scheduler_config.json"
KNOWN: tuple[dict[str, Any], ...] = (
    {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
)
"""Tables that have a name of theirs."""
_THEIRS = {ours: theirs for theirs, ours in PREDICTIONS_OF.items()}

IN_SIGMA = ("Euler", "Heun", "LMS", "KDPM2", "DPMSolverSDE")
"""Beginnings of classes that work on x/alpha, whose noise has the deviation of the table's end."""


@dataclass(frozen=True)
class Own:
    """The solver that a model came with.

    Attributes:
        name: diffusers' class.
        process: its noise table, or EDM's noise levels.
        prediction: what the network predicts.
        solver: sampler and grid for so many steps, and the share of fresh noise eta; None for a class we do not know.
        unit: sampling begins with noise of deviation 1 where the table has sigma a little below it.
        clip: what keeps the believed datum within a range, if it is asked for.
        learned: the network also tells, in as many channels again, where its variance lies.
    """

    name: str
    process: Process
    prediction: Prediction
    solver: Callable[[int, float], Solver] | None
    unit: bool
    clip: tuple[Guidance, ...] = ()
    learned: bool = False

    def limits(self, sampler: Sampler) -> tuple[Guidance, ...]:
        """What keeps beliefs within the range while `sampler` draws: nothing where it does so itself."""
        return () if isinstance(sampler, DDIM) and sampler.keep is not None else self.clip


def read_scheduler(folder: Path | str) -> Own:
    """The solver of a scheduler folder. Raises `FileProblem` for a damaged file and for what we do not compute."""
    path = Path(folder) / FILE
    with about(path):
        return own_solver(read_json(path))


def own_solver(theirs: Json) -> Own:
    """The solver that the settings describe. Raises `FileProblem` naming the first setting that we do not compute."""
    name = str(theirs.get("_class_name", ""))
    if name in (edm.EULER, edm.MULTISTEP):
        return _edm(name, edm.complete(theirs))
    full = settings(theirs, DEFAULTS | OWN.get(name, {}), ONLY)
    if full["prediction_type"] == PREDICTED and not full.get(ASKED):
        raise unsupported("prediction_type", PREDICTED, f"others, or {ASKED} beside it")
    make, limit = SOLVERS.get(name), kept(full)
    prediction = PREDICTIONS[PREDICTIONS_OF[full["prediction_type"]]]()
    if make is not None:
        make(full, 10, 0.0)  # refuses here what it would refuse while pictures are made
    return Own(
        name=name,
        process=process_of(full),
        prediction=prediction,
        solver=None if make is None else lambda steps, eta: make(full, steps, eta),
        unit=not name.startswith(IN_SIGMA) or full["timestep_spacing"] == "leading",
        clip=() if limit is None else (limit,),
        learned=full.get("variance_type") == LEARNED,
    )


def _edm(name: str, full: Json) -> Own:
    return Own(
        name=name,
        process=edm.process_of(full),
        prediction=edm.prediction_of(full),
        solver=lambda steps, eta: edm.solver_of(full, steps),
        unit=False,
    )


def scheduler_config(process: TableProcess, prediction: Prediction) -> dict[str, Any]:
    """A `scheduler_config.json` for a model without one: DDIM as Stable Diffusion's makers set it up."""
    name = next(name for name, kind in PREDICTIONS.items() if isinstance(prediction, kind))
    table: dict[str, Any] = {"num_train_timesteps": process.steps}
    for told in KNOWN:
        found = table_of({**DEFAULTS, **told, **table})
        if torch.equal(process.alphas_cumprod, found.alphas_cumprod):
            table |= told
            break
    else:
        betas = 1 - process.alphas_cumprod / torch.cat([torch.ones(1).double(), process.alphas_cumprod[:-1]])
        table["trained_betas"] = betas.tolist()
    return table | {
        "_class_name": "DDIMScheduler", "prediction_type": _THEIRS[name], "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
    }  # fmt: skip


def write_scheduler(folder: Path | str, theirs: Json) -> Path:
    """Writes the settings into a scheduler folder; returns it. Raises `FileProblem`."""
    return write_json(Path(folder) / FILE, theirs).parent
