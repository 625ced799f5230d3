"""Colourising where the truth is a formula: a Gaussian mixture of pixels, whose law given the grey is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, Noise, ReplayNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Step
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.data.mixture import GaussianMixture
from huggingvis.edits.colourise import grey_first, keeping, paler
from huggingvis.edits.repaint import Replaced, jumping, turned
from huggingvis.processes.ve import GeometricVE
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.langevin import PredictorCorrector
from huggingvis.samplers.reverse_diffusion import ReverseDiffusion

F64 = torch.float64
PIXELS, DRAWS = 2, 1000


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def grid(steps: int) -> Grid:
    return Grid(torch.linspace(1, 0, steps + 1, dtype=F64))


def coloured() -> GaussianMixture:
    """Two kinds of pictures [3, PIXELS], every number correlated with every other."""
    size = 3 * PIXELS
    roots = 0.4 * seeded(2, size, size, seed=1)
    covs = roots @ roots.transpose(1, 2) + 0.02 * torch.eye(size, dtype=F64)
    return GaussianMixture(torch.tensor([0.6, 0.4]), 0.5 * seeded(2, size, seed=2), covs)


def test_the_matrix_is_orthonormal_and_begins_with_the_grey() -> None:
    basis, x = grey_first(), seeded(4, 3, 5, 5)
    assert torch.allclose(basis @ basis.T, torch.eye(3, dtype=F64), rtol=0, atol=1e-15)
    assert torch.allclose(turned(x, basis)[:, 0], x.mean(1) * 3**0.5, rtol=0, atol=1e-14)
    assert torch.allclose(turned(turned(x, basis), basis.T), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("process", "sampler"),
    [(LinearVP(), Ancestral()), (GeometricVE(), PredictorCorrector(ReverseDiffusion()))],
    ids=["ancestral", "predictor-corrector"],
)
def test_it_is_inpainting_of_the_turned_mixture(process: Process, sampler: Sampler) -> None:
    """After every step, jumps too, it is the walk in y = M x with y_1 known, turned back; on the same noise, turned."""
    basis, mixture, n = grey_first(), coloured(), 8
    whole = torch.kron(basis, torch.eye(PIXELS, dtype=F64))  # M on each pixel of [3 * PIXELS]
    other = GaussianMixture(mixture.weights, mixture.means @ whole.T, whole @ mixture.covs @ whole.T)
    grey, x = 0.3 * seeded(n, 1, PIXELS, seed=3), process.sigma(torch.tensor(1.0, dtype=F64)) * seeded(n, 3, PIXELS)
    draws = list(seeded(200, n, 3, PIXELS, seed=4))
    held = keeping(grey, sampler)
    known = turned(grey.expand(n, 3, PIXELS), basis)
    plain = Replaced(sampler, torch.tensor([0.0, 1.0, 1.0], dtype=F64)[:, None], known)
    walks: list[list[Tensor]] = [[], []]
    for walker, law, start, noise, steps in (
        (held, mixture, x, ReplayNoise(draws), walks[0]),
        (plain, other, turned(x, basis), ReplayNoise([turned(d, basis) for d in draws]), walks[1]),
    ):

        def keep(step: Step, steps: list[Tensor] = steps) -> None:
            steps.append(step.x)

        sample(law.denoiser(process), process, walker, start, jumping(grid(12), 3, 2), {}, noise=noise, on_step=keep)
    ours, theirs = (torch.stack(steps) for steps in walks)  # [steps, n, 3, PIXELS]
    assert len(ours) == 12 + 3 * 4
    assert float((turned(ours.flatten(0, 1), basis) - theirs.flatten(0, 1)).abs().max()) < 1e-9 * float(
        ours.abs().max()
    )
    assert float((ours[-1].mean(1, keepdim=True) - grey).abs().max()) < 1e-14


def in_grey_first(*means: list[float]) -> GaussianMixture:
    """Pixels y = M x of equally many kinds: y_2 has variance 1 and correlation 0.9 with y_1, y_3 none."""
    cov = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]], dtype=F64)
    basis, n = grey_first(), len(means)
    return GaussianMixture(
        torch.ones(n), torch.tensor(means, dtype=F64) @ basis, (basis.T @ cov @ basis).expand(n, 3, 3)
    )


def coloured_by(mixture: GaussianMixture, steps: int, resamples: int, noise: Noise, draws: int) -> Tensor:
    """y = M x [draws, 3] of pixels that were coloured with y_1 = 1.2 known."""
    process, grey = LinearVP(), torch.full((draws, 1), 1.2 / 3**0.5, dtype=F64)
    start, way = noise.draw(torch.empty(draws, 3, dtype=F64)), jumping(grid(steps), 10, resamples)
    walker = keeping(grey, Ancestral())
    return turned(sample(mixture.denoiser(process), process, walker, start, way, {}, noise=noise), grey_first())


class Still:
    """No noise: of data with a normal law every step is linear, so that the one walk is the mean of all."""

    def draw(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


def test_colours_come_to_their_exact_mean() -> None:
    """Given y_1 = 1.2 the mean of y_2 is 1.08. One walk ends where inpainting by replacement does (SYSTEMS.md, 0.4)."""
    law = in_grey_first([0.0, 0.0, 0.0])
    found = {r: coloured_by(law, 100, r, Still(), 1)[0] for r in (1, 2, 5)}
    assert all(
        torch.allclose(y[[0, 2]], torch.tensor([1.2, 0.0], dtype=F64), rtol=0, atol=1e-12) for y in found.values()
    )
    miss = {r: 1.08 - float(y[1]) for r, y in found.items()}
    assert miss[1] == pytest.approx(1.08 - 0.74, abs=0.01)
    assert miss[2] < 0.6 * miss[1] and 0 < miss[5] < 0.5 * miss[2]


def test_colours_come_to_the_law_given_the_grey() -> None:
    """Of two kinds of pixels, with other greys and colours: the mean of both given the grey, from what is drawn."""
    law = in_grey_first([0.4, 0.0, 0.5], [-0.4, 0.0, -0.5])
    given = law.posterior(torch.full((1, 3), 1 / 3, dtype=F64), torch.tensor([1.2 / 3**0.5], dtype=F64), 1e-6)
    exact = grey_first() @ given.mean
    assert float(exact[0]) == pytest.approx(1.2, abs=1e-9)
    assert 0.2 < float(given.weights.min()) < 0.3
    miss = {r: coloured_by(law, 100, r, BatchNoise(0), DRAWS).mean(0) - exact for r in (1, 5)}
    assert float(miss[5].norm()) < float(miss[1].norm()) / 3
    assert float(miss[5].norm()) < 3 * (2 / DRAWS) ** 0.5  # three standard errors of two numbers of variance below 1


def test_colours_that_do_not_fit_are_paler() -> None:
    """Grey and hue stay, what fits stays to rounding, and no more is taken than must be."""
    x = 0.9 * seeded(500, 3, 2, 2)
    grey = x.mean(1, keepdim=True).clamp(-1, 1)
    colour = x - x.mean(1, keepdim=True)
    out = paler(grey + colour, grey)
    assert float(out.abs().max()) <= 1 + 1e-15
    assert torch.allclose(out.mean(1, keepdim=True), grey, rtol=0, atol=1e-15)
    fits = ((grey + colour).abs() <= 1).all(1, keepdim=True)  # [500, 1, 2, 2]
    assert 0.2 < float(fits.double().mean()) < 0.8
    kept = ((out - grey) * colour).sum(1, keepdim=True) / (colour**2).sum(1, keepdim=True)
    assert torch.allclose(out - grey, kept * colour, rtol=0, atol=1e-14)
    assert torch.allclose(kept[fits], torch.ones(()).to(kept), rtol=0, atol=1e-14)
    assert torch.allclose(out.abs().amax(1, keepdim=True)[~fits], torch.ones(()).to(out), rtol=0, atol=1e-14)
    white = torch.ones(1, 1, 1, 1)
    assert torch.equal(paler(torch.tensor([1.5, 1.0, 0.5]).reshape(1, 3, 1, 1), white), white.expand(1, 3, 1, 1))
