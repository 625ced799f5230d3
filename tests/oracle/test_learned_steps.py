"""Learned samplers: fresh ones are DDIM, gradients are those of the whole chain, and a kernel distance falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, ReplayNoise
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.request import Request, Sampling
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import standard_mixture
from huggingvis.metrics.kid import kernel_distance
from huggingvis.objectives.sample_quality import SampleQuality, recomputed
from huggingvis.processes.vp import LinearVP
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import LogSNR
from huggingvis.samplers.learned_steps import Coefficients, LearnedSteps

F64 = torch.float64
PROCESS, MIXTURE = LinearVP(), standard_mixture()


def start(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def run(sampler: Sampler, x: Tensor, grid: Grid, again: bool = False) -> Tensor:
    """The end of the chain; `again`: with beliefs that are computed again on the way back."""
    denoise = MIXTURE.denoiser(PROCESS)
    denoise = recomputed(denoise, PROCESS) if again else denoise
    return sample(denoise, PROCESS, sampler, x, grid, {}, noise=BatchNoise(1))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_fresh_numbers_are_ddims(eta: float) -> None:
    grid, x = LogSNR(8)(PROCESS), start(16)
    sampler = LearnedSteps(Coefficients(PROCESS, grid, eta))
    assert float((run(sampler, x, grid) - run(DDIM(eta), x, grid)).detach().abs().max()) < 1e-12


def test_gradients_of_the_chain() -> None:
    """With and without calling the model again they are the same, and they are the differences' quotients."""
    grid, x = LogSNR(4)(PROCESS), start(8)
    numbers = Coefficients(PROCESS, grid)
    parameters = [numbers.kept, numbers.beliefs]
    plain = torch.autograd.grad(run(LearnedSteps(numbers), x, grid).square().mean(), parameters)
    again = torch.autograd.grad(run(LearnedSteps(numbers), x, grid, True).square().mean(), parameters)
    for a, b in zip(plain, again, strict=True):
        assert float((a - b).abs().max()) < 1e-12
    for parameter, grad, place in ((numbers.kept, plain[0], (1,)), (numbers.beliefs, plain[1], (3, 1))):
        told = []
        for change in (1e-5, -2e-5):
            with torch.no_grad():
                parameter[place] += change
                told.append(float(run(LearnedSteps(numbers), x, grid).square().mean()))
        with torch.no_grad():
            parameter[place] += 1e-5
        assert float(grad[place]) == pytest.approx((told[0] - told[1]) / 2e-5, rel=1e-5)
    assert float(plain[1].triu(1).abs().max()) == 0.0  # no step reads a belief that is yet to come


@pytest.mark.parametrize("estimating", [False, True])
def test_gradients_of_a_net_that_is_told_clocks_and_its_own_estimate(estimating: bool) -> None:
    """Called again backwards, a net hears of the loop what it heard on the way: as on a table, and self-conditioned."""
    torch.manual_seed(0)
    sizes = UNetSizes((8,), 1, (0,), 0, 1, self_conditioned=estimating)
    model = Model.fresh(sizes, ("linear", "eps"), (1, 4, 4), classes=(), pixels=True)
    for parameter in model.net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    asked = Request(sampling=Sampling(sampler="ddim", schedule="trailing", steps=4))
    drawing = model.generator(asked, 4, 4)
    assert isinstance(drawing, Diffuses)
    few = drawing.diffusion
    numbers = Coefficients(few.process, few.grid(few.process))
    parameters = [numbers.kept, numbers.beliefs]

    def slopes(denoise: Denoiser) -> tuple[Tensor, ...]:
        learned = replace(few, denoise=denoise, sampler=LearnedSteps(numbers))
        return torch.autograd.grad(learned.sample(3, {}, noise=BatchNoise(1)).square().mean(), parameters)

    for a, b in zip(slopes(few.denoise), slopes(recomputed(few.denoise, few.process)), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7) and float(a.abs().max()) > 1e-4


@pytest.mark.parametrize(("recompute", "asked"), [(False, 4), (True, 7)])
def test_the_model_is_asked_again_backwards(recompute: bool, asked: int) -> None:
    """At all steps but the first, which no gradient reaches. Without fresh noise none is drawn."""
    grid, denoise, times = LogSNR(4)(PROCESS), MIXTURE.denoiser(PROCESS), list[float]()

    def counted(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        times.append(float(t))
        return denoise(x, t, cond)

    sampler = LearnedSteps(Coefficients(PROCESS, grid))
    model = recomputed(counted, PROCESS) if recompute else counted
    sample(model, PROCESS, sampler, start(2), grid, {}, noise=ReplayNoise([])).sum().backward()
    assert times[:4] == grid.times[:4].tolist() and len(times) == asked


def test_a_kernel_distance_falls() -> None:
    """Three steps of DDIM are far from the mixture; learned ones are nearer, also from noise they have not seen."""
    grid = LogSNR(3)(PROCESS)
    numbers = Coefficients(PROCESS, grid)
    sampler = LearnedSteps(numbers)
    wanted = MIXTURE.sample(2000, torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = float(kernel_distance(run(DDIM(), start(2000, 9), grid), wanted))
    model = Diffusion(MIXTURE.denoiser(PROCESS), PROCESS, (2,), DDIM(), LogSNR(3))
    objective = SampleQuality(model, numbers.float(), lambda batch: {}, kernel_distance)
    assert [turn.nets for turn in objective.turns(0)] == [("numbers",)] and objective.nets() == {"numbers": numbers}
    adam, rng = torch.optim.Adam(numbers.parameters(), lr=0.01), torch.Generator().manual_seed(1)
    for step in range(60):
        batch = {"image": wanted[torch.randint(1000, (256,), generator=rng)].float()}
        loss = objective.loss(batch, step, rng)["distance"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        after = float(kernel_distance(run(sampler, start(2000, 9), grid), wanted))
    assert after < 0.3 * before


def test_another_grid_is_refused() -> None:
    sampler = LearnedSteps(Coefficients(PROCESS, LogSNR(4)(PROCESS)))
    with pytest.raises(UsageError, match="a grid of 4 steps of its own"):
        run(sampler, start(2), LogSNR(5)(PROCESS))
