"""What a walk remembers of alpha and sigma: found in one go, never stale, never without its gradient."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.grid import Grid
from huggingvis.core.noise import SeedNoise
from huggingvis.core.process import Eps, Process
from huggingvis.core.protocols import Cond, Denoiser, Step
from huggingvis.core.sample import sample
from huggingvis.processes.vp import CosineVP
from huggingvis.samplers.ddim import DDIM

TIMES = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)
START = torch.tensor([[0.3, -1.2], [1.5, 0.4]], dtype=torch.float64)


class Turning(Process):
    """alpha = cos(a t), sigma = sin(a t): one number to learn, and a count of how often its levels are found."""

    def __init__(self, angle: float, learns: bool = True):
        super().__init__()
        self.angle = nn.Parameter(torch.tensor(angle, dtype=torch.float64), requires_grad=learns)
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
    process = Turning(1.4, learns=False)
    with torch.no_grad():
        assert torch.allclose(walk(process), by_hand(1.4), rtol=1e-12, atol=1e-14)
        assert process.found == 1


def test_a_process_that_has_learnt_between_two_walks_walks_anew() -> None:
    process = Turning(1.4, learns=False)
    with torch.no_grad():
        walk(process)
        process.angle.fill_(1.1)
        assert torch.allclose(walk(process), by_hand(1.1), rtol=1e-12, atol=1e-14)


def test_a_walk_that_is_stopped_leaves_nothing_behind() -> None:
    process = Turning(1.4, learns=False)

    def stop(step: Step) -> None:
        if step.index == 3:
            raise KeyboardInterrupt

    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            walk(process, on_step=stop)
        process.angle.fill_(0.9)
        assert process.level_at(TIMES[3]) == (math.cos(0.9 * 0.625), math.sin(0.9 * 0.625))


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


class Guess(nn.Module):
    """Some network that predicts noise."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0), requires_grad=False)

    def forward(self, x: Tensor, clock: Tensor, cond: Cond) -> Tensor:
        return torch.tanh(self.gain * x) + clock[:, None]


def drawn(process: Process, denoise: Denoiser) -> Tensor:
    x = torch.tensor([[0.3, -1.2], [1.5, 0.4]])  # float32: where a number and a tensor round differently
    return sample(denoise, process, DDIM(), x, Grid(TIMES * 0.99), {}, noise=SeedNoise([0, 1]))


def test_a_walk_inside_a_walk_or_beside_it_changes_nothing() -> None:
    """To the last bit, with a network that predicts noise: its reading of the levels is where the bits would differ."""
    process = CosineVP()

    plain = NetDenoiser(Guess(), process, Eps())
    alone = drawn(process, plain)

    def nested(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        drawn(process, plain)
        return plain(x, t, cond)

    def beside(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        with ThreadPoolExecutor(1) as threads:
            assert torch.equal(threads.submit(drawn, process, plain).result(), alone)
        return plain(x, t, cond)

    assert torch.equal(drawn(process, nested), alone) and torch.equal(drawn(process, beside), alone)


def test_a_process_that_learns_keeps_its_gradient_inside_a_walk_without() -> None:
    """A preview while training: levels that can learn stay tensors, for whoever asks meanwhile."""
    process = Turning(1.2)
    kept: list[bool] = []

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        with torch.enable_grad():
            alpha, _ = process.coefficients(t, x)
        kept.append(isinstance(alpha, Tensor) and alpha.requires_grad)
        return Gaussian(torch.tanh(x))

    with torch.no_grad():
        drawn(process, denoise)
    assert kept == [True] * 8
