"""What a sampler itself costs: our loop beside diffusers' schedulers with a model that costs nothing.

    python benchmarks/loop.py

50 steps of DDIM, Euler and DPM-Solver++ 2M on a 4x64x64 and a 4x128x128 latent (pictures of 512 and 1024 pixels), with
the same table and the same calls. The model returns what it is given: as a denoiser, that is as a belief about the
datum, and as a network that predicts noise, where both sides have that to convert as well, and ours to call a module.
Before anything is timed both must end at the same latent. Times are of the process (waiting for a busy core is not in
them) and per step; those of setting up the schedule, which knows no latent, are apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from common import Report, interleaved, parser, row
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor, nn

from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Eps
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Leading, Linspace, Schedule

STEPS, SIDES = 50, (64, 128)
TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NAME = "diffusers"
KINDS = {"denoiser": "sample", "network": "epsilon"}
"""What the model is, and what that is called there."""


def spent(act: Callable[[], object]) -> float:
    """Seconds of the processor that `act()` took."""
    began = time.process_time()
    act()
    return time.process_time() - began


class Same(nn.Module):
    """A network that returns what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)  # a network has a dtype

    def forward(self, x: Tensor, clock: Tensor, cond: object = None) -> Tensor:
        return x


def believe(x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
    """A denoiser that believes what it is given."""
    return Gaussian(x)


class Theirs:
    """A scheduler of diffusers and the loop that its pipelines have around it."""

    def __init__(self, scheduler: Any, x: Tensor, scaled: bool):
        self.scheduler = scheduler
        self.set_up()
        self.x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5 if scaled else x  # Euler's x is x/alpha

    def set_up(self) -> None:
        self.scheduler.set_timesteps(STEPS)

    def run(self) -> Tensor:
        x = self.x
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.scheduler.scale_model_input(x, t), t, x).prev_sample
        return x

    def seconds(self) -> float:
        """Of one step; schedulers count their steps, so each walk needs a fresh set-up."""
        self.set_up()
        return spent(self.run) / STEPS


class Ours:
    """A sampler of ours on the same table."""

    def __init__(self, process: TableProcess, sampler: Sampler, schedule: Schedule, kind: str, x: Tensor):
        self.process, self.sampler, self.schedule, self.x = process, sampler, schedule, x
        self.denoise: Denoiser = believe if kind == "denoiser" else NetDenoiser(Same(), process, Eps())
        self.set_up()

    def set_up(self) -> None:
        self.grid = self.schedule(self.process)

    def run(self) -> Tensor:
        return sample(self.denoise, self.process, self.sampler, self.x, self.grid, {}, noise=BatchNoise(0))

    def seconds(self) -> float:
        return spent(self.run) / STEPS


def pairs(seed: int, side: int, kind: str) -> dict[str, tuple[Ours, Theirs]]:
    """Each sampler with its counterpart."""
    x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))
    told = {**TABLE, "prediction_type": KINDS[kind]}
    schedulers = {
        "DDIM": DDIMScheduler(**told, clip_sample=False),
        "Euler": EulerDiscreteScheduler(**told),
        "DPM-Solver++ 2M": DPMSolverMultistepScheduler(**told),
    }
    samplers: dict[str, tuple[Sampler, Schedule]] = {
        "DDIM": (DDIM(), Leading(STEPS)),
        "Euler": (Euler(), Linspace(STEPS, rounded=False, chord=True)),
        "DPM-Solver++ 2M": (DPMSolver(), Linspace(STEPS, open_end=True)),
    }
    return {
        name: (
            Ours(TableProcess(scheduler.alphas_cumprod), *samplers[name], kind, x),
            Theirs(scheduler, x, scaled=name == "Euler"),
        )
        for name, scheduler in schedulers.items()
    }


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, in units of the largest number."""
    return float((one - other).abs().max() / other.abs().max())


@torch.inference_mode()
def main() -> None:
    options = parser(__doc__, repeats=100, threads=1).parse_args()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, (NAME,))
    for side in SIDES:
        for kind in KINDS:
            for name, (mine, other) in pairs(options.seed, side, kind).items():
                distance = apart(mine.run(), other.run())
                if distance > 1e-3:
                    raise SystemExit(f"{name}: the loops end {distance:.2g} apart, so their times cannot be compared.")
                facts = {"largest_difference": float(f"{distance:.1g}"), "steps": STEPS}
                measure(report, f"{name}, 4x{side}x{side}, {kind}", mine.seconds, other.seconds, facts)
    for name, (mine, other) in pairs(options.seed, SIDES[0], "network").items():
        measure(report, f"{name}, set-up", partial(spent, mine.set_up), partial(spent, other.set_up), {"steps": STEPS})
    report.write()


def measure(
    report: Report, what: str, mine: Callable[[], float], other: Callable[[], float], facts: Mapping[str, float]
) -> None:
    """Two rows in microseconds; `facts` are told beside them."""
    kinds = {"huggingvis": lambda: 1e6 * mine(), NAME: lambda: 1e6 * other()}
    found = interleaved(kinds, report.options.repeats, warm=3)
    report.add(
        row(what, "huggingvis", "µs", found["huggingvis"], beside={NAME: found[NAME]}, facts=facts),
        row(what, NAME, "µs", found[NAME]),
    )


if __name__ == "__main__":
    main()
