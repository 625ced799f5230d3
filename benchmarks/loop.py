"""What a sampler itself costs: our loop beside diffusers' schedulers with a network that costs nothing.

    python benchmarks/loop.py

50 steps of DDIM, Euler and DPM-Solver++ 2M on one 4x64x64 latent (a 512x512 picture of Stable Diffusion), with the same
table, the same calls and a network whose output lies ready; before anything is timed both must end at the same latent.
Times are per step, those of setting up the schedule apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import Report, clock, interleaved, parser, row
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor, nn

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Eps
from huggingvis.core.sample import Sampler, sample
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.euler import Euler
from huggingvis.samplers.grids import Leading, Linspace, Schedule

STEPS, SHAPE = 50, (1, 4, 64, 64)
TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NAME = "diffusers"


class Ready(nn.Module):
    """A network whose answer is always the same tensor."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer, requires_grad=False)

    def forward(self, x: Tensor, clock: Tensor, cond: object = None) -> Tensor:
        return self.answer


class Theirs:
    """A scheduler of diffusers and the loop that its pipelines have around it."""

    def __init__(self, scheduler: Any, net: nn.Module, x: Tensor, scaled: bool):
        self.scheduler, self.net = scheduler, net
        self.set_up()
        self.x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5 if scaled else x  # Euler's x is x/alpha

    def set_up(self) -> None:
        self.scheduler.set_timesteps(STEPS)

    def run(self) -> Tensor:
        x = self.x
        for t in self.scheduler.timesteps:
            out = self.net(self.scheduler.scale_model_input(x, t), t)
            x = self.scheduler.step(out, t, x).prev_sample
        return x

    def seconds(self) -> float:
        """Of one step; schedulers count their steps, so each walk needs a fresh set-up."""
        self.set_up()
        return clock(self.run) / STEPS


class Ours:
    """A sampler of ours on the same table."""

    def __init__(self, process: TableProcess, sampler: Sampler, schedule: Schedule, net: nn.Module, x: Tensor):
        self.process, self.sampler, self.schedule, self.x = process, sampler, schedule, x
        self.denoise = NetDenoiser(net, process, Eps())
        self.set_up()

    def set_up(self) -> None:
        self.grid = self.schedule(self.process)

    def run(self) -> Tensor:
        return sample(self.denoise, self.process, self.sampler, self.x, self.grid, {}, noise=BatchNoise(0))

    def seconds(self) -> float:
        return clock(self.run) / STEPS


def pairs(seed: int) -> dict[str, tuple[Ours, Theirs]]:
    """Each sampler with its counterpart."""
    rng = torch.Generator().manual_seed(seed)
    x, net = torch.randn(SHAPE, generator=rng), Ready(torch.randn(SHAPE, generator=rng))
    schedulers = {
        "DDIM": DDIMScheduler(**TABLE, clip_sample=False),
        "Euler": EulerDiscreteScheduler(**TABLE),
        "DPM-Solver++ 2M": DPMSolverMultistepScheduler(**TABLE),
    }
    samplers: dict[str, tuple[Sampler, Schedule]] = {
        "DDIM": (DDIM(), Leading(STEPS)),
        "Euler": (Euler(), Linspace(STEPS, rounded=False, chord=True)),
        "DPM-Solver++ 2M": (DPMSolver(), Linspace(STEPS, open_end=True)),
    }
    return {
        name: (
            Ours(TableProcess(scheduler.alphas_cumprod), *samplers[name], net, x),
            Theirs(scheduler, net, x, scaled=name == "Euler"),
        )
        for name, scheduler in schedulers.items()
    }


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, in units of the largest number."""
    return float((one - other).abs().max() / other.abs().max())


@torch.inference_mode()
def main() -> None:
    options = parser(__doc__, repeats=200, threads=1).parse_args()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, (NAME,))
    for name, (mine, other) in pairs(options.seed).items():
        distance = apart(mine.run(), other.run())
        if distance > 1e-3:
            raise SystemExit(f"{name}: the two loops end {distance:.2g} apart, so their times cannot be compared.")
        measure(report, f"{name}, step", mine.seconds, other.seconds, distance)
        measure(report, f"{name}, set-up", partial(clock, mine.set_up), partial(clock, other.set_up), distance)
    report.write()


def measure(report: Report, what: str, mine: Callable[[], float], other: Callable[[], float], distance: float) -> None:
    """Two rows in microseconds."""
    kinds = {"huggingvis": lambda: 1e6 * mine(), NAME: lambda: 1e6 * other()}
    found = interleaved(kinds, report.options.repeats, warm=3)
    facts = {"largest_difference": float(f"{distance:.1g}"), "steps": STEPS}
    report.add(
        row(what, "huggingvis", "µs", found["huggingvis"], beside={NAME: found[NAME]}, facts=facts),
        row(what, NAME, "µs", found[NAME]),
    )


if __name__ == "__main__":
    main()
