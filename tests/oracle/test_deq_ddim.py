"""DDIM's chain solved jointly is DDIM's chain."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.errors import NumericalTrouble
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.data.mixture import standard_mixture
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.deq_ddim import JointDDIM
from huggingvis.samplers.grids import LogSNR, Schedule, Trailing, Uniform

MIXTURE = standard_mixture()


class Counted:
    """The perfect denoiser, which remembers the clocks that it was told."""

    def __init__(self, process: Process):
        self.exact, self.clocks = MIXTURE.denoiser(process), set[float]()

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        self.clocks |= set(cond["clock"].tolist()) if "clock" in cond else set()
        return self.exact(x, t, cond)


@pytest.mark.parametrize("memory", [1, 4])
@pytest.mark.parametrize(
    ("process", "schedule"),
    [(LinearVP(), LogSNR(40)), (RectifiedFlow(), Uniform(40)), (TableProcess.linear(), Trailing(50))],
    ids=["vp", "flow", "table"],
)
def test_it_is_sequential_ddim_in_fewer_calls(process: Process, schedule: Schedule, memory: int) -> None:
    x = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid, cond = schedule(process), {"class": torch.arange(12) % 4 - 1}
    one, many = Counted(process), Counted(process)
    want = sample(one, process, DDIM(), x, grid, cond, noise=BatchNoise(0))
    got, calls = JointDDIM(1e-11, memory)(many, process, x, grid, cond)
    assert float((got - want).abs().max()) < 1e-8
    assert calls < len(grid) and one.clocks == many.clocks
    rough, fewer = JointDDIM(1e-3, memory)(many, process, x, grid, cond)
    assert fewer < calls / 1.5 and float((rough - want).abs().max()) < 1e-2


def test_too_few_calls_are_told() -> None:
    process = LinearVP()
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NumericalTrouble, match="of 20 steps still moved"):
        JointDDIM(1e-9, most=3)(MIXTURE.denoiser(process), process, x, LogSNR(20)(process), {})
