"""Cold diffusion: its two algorithms, its degradations against explicit ones, the mixture it begins from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import PREDICTIONS, X0, Degradation, Prediction, Process, Residual
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.sample import sample
from huggingvis.core.sampler import Sampler
from huggingvis.objectives.denoise import Asked
from huggingvis.objectives.restoration import Restored
from huggingvis.processes.blur import Blur, BlurNoise, Path, cosines
from huggingvis.processes.degradations import Decolour, Fade, Mask, Pixelate
from huggingvis.processes.ends import MixtureEnd
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.momentum import Momentum, Naive
from huggingvis.samplers.names import SAMPLERS, sampler_names, schedule_names, schedule_of

F64 = torch.float64
PATH = Path((0.0, 0.1, 0.3, 0.5), (0.0, 0.05, 0.1, 0.1))
EVERY: tuple[Degradation, ...] = (Blur(), BlurNoise(PATH), Mask(), Pixelate(), Fade(), Fade(0.4), Decolour())


def number(t: float) -> Tensor:
    return torch.tensor(t, dtype=F64)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def believing(restorer: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        return Gaussian(restorer(x, t))

    return denoise


def nonsense(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(3 * x.flip(-1) + 5 * t) - 0.4


def run(
    process: Process, sampler: Sampler, x: Tensor, steps: int, restorer: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    return sample(believing(restorer), process, sampler, x, Uniform(steps)(process), {}, noise=BatchNoise(0))


@final
@dataclass(frozen=True)
class Shift(Degradation):
    """D(x, t) = x + t e with a constant e: the case in which the paper proves Algorithm 2 exact."""

    e: Tensor

    def signal(self, x0: Tensor, t: Tensor) -> Tensor:
        return x0 + t * self.e


def test_algorithm_2_is_exact_for_any_restorer_and_algorithm_1_is_not() -> None:
    x0, process = pictures(3, 1, 5, 4), Shift(pictures(1, 5, 4, seed=1))
    end = process.signal(x0, number(1.0))
    for steps in (1, 2, 7, 50):
        assert float((run(process, Momentum(), end, steps, nonsense) - x0).abs().max()) < 1e-12
        assert float((run(process, Naive(), end, steps, nonsense) - x0).abs().mean()) > 0.5
        assert float((run(process, Naive(), end, steps, lambda x, t: x - t * process.e) - x0).abs().max()) < 1e-12


@pytest.mark.parametrize("process", [Blur(), Mask(), Pixelate(), Fade(0.3), Decolour()], ids=repr)
def test_algorithms_1_and_2_written_out(process: Degradation) -> None:
    x0, steps = pictures(2, 3, 9, 11), 6
    one = two = process.signal(x0, number(1.0))
    for s in range(steps, 0, -1):
        now, after = number(s / steps), number((s - 1) / steps)
        one = process.signal(nonsense(one, now), after)
        belief = nonsense(two, now)
        two = two - process.signal(belief, now) + process.signal(belief, after)
    end = process.signal(x0, number(1.0))
    assert float((run(process, Naive(), end, steps, nonsense) - one).abs().max()) < 1e-12
    for sampler in (Momentum(), Momentum(fresh=False)):
        assert float((run(process, sampler, end, steps, nonsense) - two).abs().max()) < 1e-12
    assert torch.equal(run(process, Naive(), end, 1, nonsense), process.signal(nonsense(end, number(1.0)), number(0.0)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("process", EVERY, ids=repr)
def test_nothing_is_lost_at_0_and_ever_more_later(process: Degradation, channels: int) -> None:
    x = pictures(4, channels, 13, 10)
    times = torch.linspace(0, 1, 41, dtype=F64)
    assert float((process.signal(x, number(0.0)) - x).abs().max()) < 1e-12
    lost = torch.stack([(process.signal(x, t) - x).flatten(1).norm(dim=1) for t in times])  # [T, B]
    assert bool((lost.diff(dim=0) > -1e-10).all())
    assert bool((lost[-1] > 1).all()) == (not isinstance(process, Decolour) or channels == 3)
    each = torch.tensor([0.0, 0.33, 0.8, 1.0], dtype=F64)
    alone = torch.cat([process.signal(x[i : i + 1], t) for i, t in enumerate(each)])
    assert float((process.signal(x, each) - alone).abs().max()) < 1e-12


@pytest.mark.parametrize("process", [p for p in EVERY if not isinstance(p, Fade)], ids=repr)
def test_degradations_are_linear(process: Degradation) -> None:
    x, y, t = pictures(2, 3, 13, 10), pictures(2, 3, 13, 10, seed=1), torch.tensor([0.3, 0.9], dtype=F64)
    got = process.signal(2 * x - 3 * y, t)
    assert float((got - 2 * process.signal(x, t) + 3 * process.signal(y, t)).abs().max()) < 1e-11


def test_blur_is_the_explicit_convolution() -> None:
    """A sampled Gaussian kernel aliases by exp(-2 (pi w)^2) or less at the frequencies kept: nothing from w = 3 on."""
    x = pictures(2, 1, 24, 17)
    for share in (3 / 17, 5 / 17):
        got = Blur(share).signal(x, number(1.0))
        want = scipy.ndimage.gaussian_filter(x.numpy(), (0, 0, share * 17, share * 17), mode="reflect", truncate=12)
        assert float((got - torch.from_numpy(want)).abs().max()) < 1e-12
    v, u = cosines(24), cosines(17)
    assert float((v @ v.T - torch.eye(24)).abs().max()) < 1e-13
    assert (
        float((v @ x @ u.T - torch.from_numpy(scipy.fft.dctn(x.numpy(), axes=(2, 3), norm="ortho"))).abs().max())
        < 1e-12
    )


def test_two_blurs_are_one() -> None:
    """Equal kernels one after another, as in the paper: variance grows evenly, and the mean is never changed."""
    x, process = pictures(2, 3, 9, 12), Blur(0.4)
    half = process.signal(process.signal(x, number(0.5)), number(0.25))
    assert float((half - process.signal(x, number(0.75))).abs().max()) < 1e-13
    flat = Blur(5.0).signal(x, number(1.0))
    assert float((flat - x.mean((2, 3), keepdim=True)).abs().max()) < 1e-12


def test_pixels_and_masks_by_hand() -> None:
    x = pictures(1, 2, 8, 8)
    squares = x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    got = Pixelate(2).signal(x, number(0.5))  # 8 -> 4 -> 2 squares a side, half of the way
    assert float((got[..., ::2, ::2] - squares).abs().max()) < 1e-14
    assert torch.equal(got[..., 1::2, 1::2], got[..., ::2, ::2])
    ragged = Pixelate(4).signal(pictures(1, 1, 7, 7), number(1.0))
    assert float(ragged[0, 0, 6, 6] - pictures(1, 1, 7, 7)[0, 0, 6, 6]) == 0.0
    mask = Mask(0.4, 0.2, steps=2).signal(torch.ones(1, 1, 5, 7, dtype=F64), number(1.0))[0, 0]
    for (i, j), r2 in (((2, 4), 1.0), ((3, 4), 2.0), ((0, 6), 13.0)):
        assert float(mask[i, j]) == pytest.approx(math.prod(1 - math.exp(-r2 / (2 * b**2)) for b in (2.0, 3.0)))
    assert float(mask[2, 3]) < 1e-30
    halfway = Mask(0.4, 0.2, steps=2).signal(torch.ones(1, 1, 5, 7, dtype=F64), number(0.75))[0, 0]
    assert float(halfway[2, 4]) == pytest.approx((1 - math.exp(-1 / 8)) * (1 - math.exp(-1 / 18)) ** 0.5)


def test_colours_and_brightness_by_hand() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 6, 5, 3), np.uint8))  # [1, H, W, C]
    grey = torch.from_numpy(np.array(Image.fromarray(x[0].numpy()).convert("L"))).double()  # of Pillow, rounded
    pixels = x.permute(0, 3, 1, 2).double()
    assert float((Decolour().signal(pixels, number(1.0))[0] - grey).abs().max()) < 0.51
    assert torch.allclose(Decolour().signal(pixels, number(0.25))[0], 0.75 * pixels[0] + 0.25 * grey, atol=0.13)
    assert torch.allclose(Fade(0.3).signal(pixels, number(1.0)), torch.full_like(pixels, 0.3))
    assert torch.allclose(Fade(0.3).signal(pixels, number(0.25)), 0.75 * pixels + 0.075)


def test_where_no_noise_is_added_nobody_is_told_of_it() -> None:
    """eps and score of x = D(x_0) + sigma eps divide by sigma: with noise they are exact, without it there are none."""
    x0, eps, t = pictures(2, 3, 8, 8), pictures(2, 3, 8, 8, seed=1), number(0.6)
    noisy, sigma = BlurNoise(PATH), BlurNoise(PATH).sigma(t)
    x = noisy.add_noise(x0, eps, t)
    assert torch.allclose(noisy.eps(x, x0, t), eps, atol=1e-12)
    assert torch.allclose(noisy.score(x, x0, t), -eps / sigma, atol=1e-10)
    for process, time in ((Blur(), t), (Mask(), torch.full((2,), 0.6, dtype=F64)), (noisy, number(0.0))):
        for ask in (process.eps, process.score):
            with pytest.raises(UsageError, match=f"{type(process).__name__} adds no noise"):
                ask(x, x0, time)


def test_who_needs_one_signal_level_is_refused_in_words() -> None:
    process, x = Blur(), pictures(2, 1, 6, 6)
    plain = sampler_names(process)
    assert plain == ("momentum", "momentum-ode", "naive")
    for row in SAMPLERS:
        sampler = row.make(0.0)
        if row.name in plain:
            assert bool(torch.isfinite(run(process, sampler, x, 3, nonsense)).all())
        else:
            with pytest.raises(UsageError, match="Blur takes different things"):
                run(process, sampler, x, 3, nonsense)
    t = torch.tensor([0.2, 0.7], dtype=F64)
    others: list[Prediction] = [PREDICTIONS[name]() for name in ("eps", "v", "velocity")]
    for prediction in [*others, Preconditioned()]:
        with pytest.raises(UsageError, match="one signal level"):
            prediction.x0(process, x, x, t)
    assert torch.equal(X0().x0(process, x, 2 * x, t), x)
    with pytest.raises(UsageError, match="one signal level"):
        schedule_of("karras", 5)(process)
    assert set(schedule_names(process)) == {"uniform", "shifted"}


@pytest.mark.parametrize("process", EVERY, ids=repr)
def test_the_residual_is_what_was_taken(process: Degradation) -> None:
    x0, eps, t = pictures(2, 3, 6, 6), pictures(2, 3, 6, 6, seed=1), torch.tensor([0.2, 0.9], dtype=F64)
    x = process.add_noise(x0, eps, t)
    told = Residual().target(process, x0, eps, t)
    assert float((Residual().x0(process, told, x, t) - x0).abs().max()) < 1e-14
    off = Restored()(Asked(x0, eps, t, x, told + 0.25), process, Residual())
    assert off.tolist() == pytest.approx([0.25, 0.25])


def test_the_end_of_pictures_is_found_again() -> None:
    """Two kinds of even pictures: their shares, colours and covariance come back, and no pixel is like another."""
    n, rng = 4000, torch.Generator().manual_seed(0)
    kind = torch.rand(n, generator=rng) < 0.3
    spread = torch.tensor([[0.1, 0.0, 0.0], [0.05, 0.02, 0.0], [0.0, 0.0, 0.03]])
    colour = torch.randn(n, 3, generator=rng) @ spread.T + torch.where(kind[:, None], 0.6, -0.5)
    y = colour[:, :, None, None].expand(-1, -1, 6, 5)
    end = MixtureEnd.fit(y, components=2)
    assert len(end.directions) == 3 and sorted(end.weights.tolist()) == pytest.approx([0.3, 0.7], abs=0.02)
    assert torch.equal(MixtureEnd.of(end.tensors()).mean, end.mean)
    got = end(torch.empty(n, 3, 6, 5), BatchNoise(1))
    assert float((got - got.mean((2, 3), keepdim=True)).std()) == pytest.approx(0.002, rel=0.05)
    drawn = got.mean((2, 3))
    assert float((drawn.sum(1) > 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    for one, other in ((drawn[drawn.sum(1) > 0], colour[kind]), (drawn[drawn.sum(1) < 0], colour[~kind])):
        deviations = other.std(0)
        assert bool(
            ((one.mean(0) - other.mean(0)).abs() < 4 * deviations * (1 / len(one) + 1 / len(other)) ** 0.5).all()
        )
        bound = 4 * deviations[:, None] * deviations * math.sqrt(2 / len(one) + 2 / len(other))
        assert bool(((torch.cov(one.T) - torch.cov(other.T)).abs() < bound).all())
    with pytest.raises(UsageError, match=r"\[3, 6, 5\]"):
        end(torch.empty(2, 3, 8, 8), BatchNoise(0))
    with pytest.raises(UsageError, match="at least 6 pictures"):
        MixtureEnd.fit(y[:5], components=3)
