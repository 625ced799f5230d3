"""What a walk remembers of alpha and sigma: found in one go, never stale, never without its gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.belief import Gaussian
from huggingvis.core.noise import SeedNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Step
from huggingvis.core.sample import Grid, sample
from huggingvis.processes.vp import CosineVP
from huggingvis.samplers.ddim import DDIM

TIMES = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)
START = torch.tensor([[0.3, -1.2], [1.5, 0.4]], dtype=torch.float64)


class Turning(Process):
    """alpha = cos(a t), sigma = sin(a t): one number to learn, and a count of how often its levels are found."""

    def __init__(self, angle: float):
        super().__init__()
        self.angle = nn.Parameter(torch.tensor(angle, dtype=torch.float64))
        self.found = 0

    def alpha(self, t: Tensor) -> Tensor:
        self.found += 1
        return torch.cos(self.angle * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(self.angle * t)

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam / 2)) / self.angle.detach()

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.angle * self.sigma(t), self.angle * self.alpha(t)


def walk(process: Process, **more: Any) -> Tensor:
    """DDIM with a denoiser that knows a little of x and nothing of the process."""

    def denoise(x: Tensor, t: Tensor, cond: Any) -> Gaussian:
        return Gaussian(torch.tanh(x))

    return sample(denoise, process, DDIM(), START, Grid(TIMES), {}, noise=SeedNoise([0, 1]), **more)


def by_hand(angle: float) -> Tensor:
    """The same walk in the paper's words (Song et al. 2020, eq. 12), each level where it is needed."""
    x = START
    for t, s in zip(TIMES[:-1].tolist(), TIMES[1:].tolist(), strict=True):
        x0 = torch.tanh(x)
        eps = (x - math.cos(angle * t) * x0) / math.sin(angle * t)
        x = math.cos(angle * s) * x0 + math.sin(angle * s) * eps
    return x


def test_levels_are_found_once_a_walk_and_are_those_of_the_process() -> None:
    process = Turning(1.4)
    with torch.no_grad():
        assert torch.allclose(walk(process), by_hand(1.4), rtol=1e-12, atol=1e-14)
        assert process.found == 1


def test_a_process_that_has_learnt_between_two_walks_walks_anew() -> None:
    process = Turning(1.4)
    with torch.no_grad():
        walk(process)
        process.angle.fill_(1.1)
        assert torch.allclose(walk(process), by_hand(1.1), rtol=1e-12, atol=1e-14)


def test_a_walk_that_is_stopped_leaves_nothing_behind() -> None:
    process = Turning(1.4)

    def stop(step: Step) -> None:
        if step.index == 3:
            raise KeyboardInterrupt

    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            walk(process, on_step=stop)
        process.angle.fill_(0.9)
        assert process.level(TIMES[3]) == (math.cos(0.9 * 0.625), math.sin(0.9 * 0.625))


def test_levels_that_learn_keep_their_gradient() -> None:
    """A denoiser that reads the levels, inside a walk: d alpha / d a = -t sin(a t)."""
    process, slopes = Turning(1.2), []

    def denoise(x: Tensor, t: Tensor, cond: Any) -> Gaussian:
        alpha, _ = process.coefficients(t, x)
        assert isinstance(alpha, Tensor)
        slopes.append(torch.autograd.grad(alpha.sum(), process.angle)[0].item())
        return Gaussian(torch.tanh(x))

    sample(denoise, process, DDIM(), START, Grid(TIMES), {}, noise=SeedNoise([0, 1]))
    assert slopes == pytest.approx([-t * math.sin(1.2 * t) for t in TIMES[:-1].tolist()], rel=1e-12)


def test_a_walk_inside_a_walk_changes_nothing() -> None:
    process = CosineVP()
    grid = Grid(TIMES * 0.99)

    def plain(x: Tensor, t: Tensor, cond: Any) -> Gaussian:
        return Gaussian(torch.tanh(x))

    def nested(x: Tensor, t: Tensor, cond: Any) -> Gaussian:
        sample(plain, process, DDIM(), x, grid, {}, noise=SeedNoise([0, 1]))
        return plain(x, t, cond)

    outcomes = [
        sample(denoise, process, DDIM(), START, grid, {}, noise=SeedNoise([0, 1])) for denoise in (plain, nested)
    ]
    assert torch.equal(*outcomes)
