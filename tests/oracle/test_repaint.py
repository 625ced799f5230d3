"""RePaint where the truth is a formula: its list of jumps, and its bias on a correlated Gaussian (SYSTEMS.md, 0.4).

x = (x1, x2) normal, variances 1, correlation 0.9, x1 = 1.2 known: x2 has mean 1.08 and variance 0.19. The denoiser is
exact and all is float64, so what is off is the method; `benchmarks/repaint_bias.py` measures the whole table.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.edits.repaint import Replaced, jumping
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ancestral import Ancestral

F64 = torch.float64
DRAWS = 4000


def grid(steps: int) -> Grid:
    return Grid(torch.linspace(1, 0, steps + 1, dtype=F64))


def steps_left(found: Grid, steps: int) -> list[int]:
    return [round(t * steps) for t in found.times.tolist()]


def test_jumps_are_the_official_list() -> None:
    """The authors' list for 6 steps, jumps of 2, each twice: 5 4 3 2 3 4 3 2 1 0 1 2 1 0 -1, one less than ours."""
    assert steps_left(jumping(grid(6), 2, 2), 6) == [6, 5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]
    paper = steps_left(jumping(grid(250), 10, 10), 250)
    falls = [a - b for a, b in pairwise(paper)]
    assert falls.count(1) == 250 + 24 * 9 * 10 and falls.count(-10) == 24 * 9 and len(falls) == 2626
    assert sorted({at for at, fall in zip(paper, falls, strict=False) if fall < 0}) == list(range(1, 241, 10))


def test_clocks_go_with_their_times() -> None:
    clocked = Grid(grid(6).times, torch.arange(6.0))
    found = jumping(clocked, 2, 2)
    told = dict(zip(clocked.times.tolist(), clocked.clocks.tolist(), strict=False))
    assert found.clocks is not None
    assert [told[t] for t in found.times[:-1].tolist()] == found.clocks.tolist()


def test_without_resamples_the_way_is_the_same_and_without_room_it_is_refused() -> None:
    plain = grid(5)
    assert jumping(plain, 10, 1) is plain
    with pytest.raises(UsageError, match="A jump of 5 steps has no room in 5 steps.*at least 6 steps"):
        jumping(plain, 5, 2)
    assert len(jumping(plain, 4, 2)) == 5 + 4 + 1


class Exact:
    def __init__(self, process: Process):
        self.process, self.cov = process, torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        a, s = self.process.alpha(t), self.process.sigma(t)
        return Gaussian(x @ torch.linalg.solve(a**2 * self.cov + s**2 * torch.eye(2, dtype=F64), a * self.cov))


def x2(found: Grid) -> Tensor:
    process, noise = LinearVP(), BatchNoise(0)
    hole = torch.tensor([[0.0, 1.0]], dtype=F64).expand(DRAWS, 2)
    known = torch.tensor([[1.2, 0.0]], dtype=F64).expand(DRAWS, 2)
    walker, start = Replaced(Ancestral(), hole, known), noise.draw(torch.empty(DRAWS, 2, dtype=F64))
    out = sample(Exact(process), process, walker, start, found, {}, noise=noise)
    assert torch.equal(out[:, 0], known[:, 0])
    return out[:, 1]


def test_the_bias_falls_with_resampling() -> None:
    """Within four standard errors of what 100,000 draws gave: 0.745 for replacement, and nearer to 1.08 with jumps."""
    found = {r: x2(jumping(grid(100), 10, r)) for r in (1, 2, 5)}
    error = {r: 4 * float(x.std()) / DRAWS**0.5 for r, x in found.items()}
    mean = {r: float(x.mean()) for r, x in found.items()}
    assert abs(mean[1] - 0.743) < error[1]  # the table of SYSTEMS.md
    assert mean[1] + error[1] < mean[2] < mean[2] + error[2] < mean[5] < 1.08
    variance = {r: float(x.var()) for r, x in found.items()}
    assert variance[1] > 0.25 and abs(variance[5] - 0.19) < 0.03
