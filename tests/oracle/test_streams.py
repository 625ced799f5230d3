"""Whose random numbers: every source written out by hand, ENSD, variations, noise of another size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.philox import CudaStream
from huggingvis.core.request import MAX_SEED, Canvas, Prompt, Request, Sampling, Unsaid, check
from huggingvis.core.streams import PictureNoise, aside, noise_of, slerp

LIKE = torch.empty(2, 4, 8, 8)
SIZE = (64, 64)


def draws(sampling: Sampling, count: int = 3, like: Tensor = LIKE) -> list[Tensor]:
    noise = noise_of(sampling, range(len(like)), SIZE)
    return [noise.draw(like) for _ in range(count)]


def cpu(seed: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 8, 8, generator=generator) for _ in range(count)]


def gpu(seed: int, count: int = 3) -> list[Tensor]:
    stream = CudaStream(seed)
    return [torch.from_numpy(stream.randn((4, 8, 8))) for _ in range(count)]


def test_the_usual_source_is_todays_to_the_bit() -> None:
    noise = noise_of(Sampling(seed=5), [0, 1], SIZE)
    assert isinstance(noise, SeedNoise)
    plain = SeedNoise([5, 6])
    assert all(torch.equal(noise.draw(LIKE), plain.draw(LIKE)) for _ in range(3))


@pytest.mark.parametrize("shape", [(4, 64, 64), (4, 8, 8), (16, 128, 96), (4, 3, 5)])
def test_one_picture_is_what_other_programs_draw_on_the_cpu(shape: tuple[int, ...]) -> None:
    """ComfyUI and InvokeAI draw [1, C, H, W] from `torch.manual_seed(seed)`, A1111 [C, H, W]: the same numbers."""
    whole = torch.randn(1, *shape, generator=torch.Generator().manual_seed(11))
    for rng in ("own", "cpu", "comfy", "invoke"):
        ours = noise_of(Sampling(seed=11, rng=rng), [0], (shape[2] * 8, shape[1] * 8)).draw(torch.empty(1, *shape))
        assert torch.equal(ours, whole)


def test_a_batch_of_comfyui_shares_one_draw_and_only_its_first_picture_is_ours() -> None:
    batch = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(11))
    ours = draws(Sampling(seed=11), 1)[0]
    assert torch.equal(batch[0], ours[0]) and not torch.equal(batch[1], ours[1])


def test_cpu() -> None:
    for i, row in enumerate(zip(*(draw.unbind() for draw in draws(Sampling(seed=5, rng="cpu"))), strict=True)):
        assert all(torch.equal(a, b) for a, b in zip(row, cpu(5 + i), strict=True))


def test_philox_draws_first_noise_and_steps_from_one_stream() -> None:
    for i, row in enumerate(zip(*(draw.unbind() for draw in draws(Sampling(seed=5, rng="philox"))), strict=True)):
        assert all(torch.equal(a, b) for a, b in zip(row, gpu(5 + i), strict=True))


@pytest.mark.parametrize(("rng", "steps"), [("comfy", lambda seed: seed), ("invoke", lambda seed: seed ^ 0xFFFFFFFF)])
def test_programs_that_draw_from_two_places(rng: str, steps: object) -> None:
    first, *later = draws(Sampling(seed=5, rng=rng), like=LIKE[:1])
    assert torch.equal(first[0], cpu(5)[0])
    assert callable(steps)
    assert all(torch.equal(a[0], b) for a, b in zip(later, gpu(steps(5)), strict=False))


@pytest.mark.parametrize(("rng", "stream"), [("own", cpu), ("cpu", cpu), ("philox", gpu)])
def test_ensd_gives_the_steps_another_seed(rng: str, stream: object) -> None:
    first, *later = draws(Sampling(seed=5, rng=rng, eta_noise_seed_delta=31337), like=LIKE[:1])
    assert callable(stream)
    assert torch.equal(first[0], stream(5)[0])
    assert all(torch.equal(a[0], b) for a, b in zip(later, stream(5 + 31337), strict=False))


def test_encoders_draw_from_elsewhere_where_a1111_does() -> None:
    for rng in ("cpu", "philox", "comfy", "invoke"):
        noise = noise_of(Sampling(seed=5, rng=rng), [0], SIZE)
        aside(noise).draw(LIKE[:1])
        assert torch.equal(noise.draw(LIKE[:1]), draws(Sampling(seed=5, rng=rng), 1, LIKE[:1])[0])
    own = noise_of(Sampling(seed=5), [0], SIZE)
    assert aside(own) is own
    varied = noise_of(Sampling(seed=5, eta_noise_seed_delta=1), [0], SIZE)
    assert torch.equal(aside(varied).draw(LIKE[:1])[0], cpu(5)[0])
    assert torch.equal(varied.draw(LIKE[:1])[0], cpu(5)[1])  # the order of rng "own" stays


# ---- variations ------------------------------------------------------------------------------------------------------


def test_strength_0_is_the_plain_noise() -> None:
    plain = Sampling(seed=5, rng="philox")
    for a, b in zip(draws(plain), draws(replace(plain, variation_seed=99)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rng", ["own", "cpu", "philox"])
def test_strength_1_is_the_other_seeds_noise(rng: str) -> None:
    varied = Sampling(seed=5, rng=rng, variation_seed=99, variation_strength=1.0)
    assert torch.equal(draws(varied, 1)[0], draws(Sampling(seed=99, rng=rng), 1)[0])


def test_a_batch_of_variations_is_of_one_seed() -> None:
    """A1111 counts up the variation seeds and keeps the seed; the steps draw from the seed's stream."""
    sampling = Sampling(seed=5, rng="cpu", variation_seed=99, variation_strength=0.3)
    first, second = draws(sampling, 2)
    for i in range(2):
        assert torch.equal(first[i], slerp(0.3, cpu(5)[0], cpu(99 + i)[0]))
        assert torch.equal(second[i], cpu(5)[1])
    assert sampling.seeds(3) == {"seed": 5, "variation_seed": 102}
    assert Sampling(seed=5, variation_seed=9).seeds(3) == {"seed": 8}


def test_slerp_written_out() -> None:
    a, b = cpu(1)[0], cpu(2)[0]
    theirs = torch.empty_like(a)
    for c in range(4):
        for w in range(8):
            u, v = a[c, :, w].double(), b[c, :, w].double()
            omega = math.acos(float(u @ v / (u.norm() * v.norm())))
            theirs[c, :, w] = (math.sin(0.7 * omega) * u + math.sin(0.3 * omega) * v) / math.sin(omega)
    torch.testing.assert_close(slerp(0.3, a, b), theirs, rtol=1e-5, atol=1e-6)


def test_slerp_at_the_ends_and_of_one_noise() -> None:
    a, b = cpu(1)[0], cpu(2)[0]
    assert torch.equal(slerp(0.0, a, b), a) and torch.equal(slerp(1.0, a, b), b)
    torch.testing.assert_close(slerp(0.4, a, a), a)
    column = torch.randn(4, 1, 8)  # columns of one number: the same direction, or the opposite one
    assert slerp(0.4, column, torch.randn(4, 1, 8)).isfinite().all()


# ---- noise of another size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("canvas", "first"), [((96, 96), (64, 48)), ((64, 64), (104, 96)), ((96, 64), (64, 104))])
@pytest.mark.parametrize("rng", ["cpu", "philox"])
def test_seed_resize(rng: str, canvas: tuple[int, int], first: tuple[int, int]) -> None:
    """A1111's rule: the small noise is the seed's first, what lies around it the picture's own, drawn as if first."""
    (width, height), (w, h) = ([side // 8 for side in size] for size in (canvas, first))
    stream = {"cpu": lambda shape: torch.randn(shape, generator=torch.Generator().manual_seed(5)),
              "philox": lambda shape: torch.from_numpy(CudaStream(5).randn(shape))}[rng]  # fmt: skip
    around, inner = stream((4, height, width)), stream((4, h, w))
    dx, dy = (width - w) // 2, (height - h) // 2
    wide, high = w if dx >= 0 else w + 2 * dx, h if dy >= 0 else h + 2 * dy
    x, y, fx, fy = max(dx, 0), max(dy, 0), max(-dx, 0), max(-dy, 0)
    around[:, y : y + high, x : x + wide] = inner[:, fy : fy + high, fx : fx + wide]
    noise = PictureNoise(Sampling(seed=5, rng=rng, seed_resize=first), [0], canvas)
    assert torch.equal(noise.draw(torch.empty(1, 4, height, width))[0], around)


def test_seed_resize_of_the_pictures_own_size_changes_nothing() -> None:
    assert torch.equal(draws(Sampling(seed=5, rng="cpu", seed_resize=(64, 64)), 1)[0], draws(Sampling(seed=5), 1)[0])


def test_seed_resize_needs_width_and_height() -> None:
    noise = noise_of(Sampling(seed_resize=(64, 64)), [0], SIZE)
    with pytest.raises(UsageError, match="has no width and height"):
        noise.draw(torch.empty(1, 32))


# ---- what may be asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(rng="philx"), "Did you mean 'philox'"),
        (Sampling(rng="comfy", eta_noise_seed_delta=31337), "rule of its own"),
        (Sampling(variation_strength=1.5), "variation_strength must be a number between 0 and 1"),
        (Sampling(variation_strength=float("nan")), "variation_strength"),
        (Sampling(variation_seed=-1), "variation_seed must be between 0"),
        (Sampling(seed_resize=(512, 0)), "seed_resize must be between 8"),
        (Sampling(gpu_threads=-1), "gpu_threads must be between 0"),
        (Sampling(eta_noise_seed_delta=2**40), "eta_noise_seed_delta must be between"),
        (Sampling(variation_seed=MAX_SEED), "seed plus count"),
    ],
)
def test_what_cannot_be(sampling: Sampling, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(Request(Prompt("a fox"), Canvas(count=2), sampling))


def test_records_of_before_still_read() -> None:
    old = {"version": 1, "prompt": {"text": "a fox"}, "sampling": {"sampler": "euler", "seed": 3}}
    read = Request.from_dict(old)
    assert read.sampling == Unsaid().saying(sampler="euler", seed=3) and read.sampling.rng == "own"
    new = Sampling(seed=1, rng="philox", variation_seed=2, variation_strength=0.25, seed_resize=(512, 768))
    assert Request.from_json(Request(sampling=new).to_json()).sampling == new


def test_noise_goes_where_the_batch_is() -> None:
    like = torch.empty(1, 4, 8, 8, dtype=torch.float64)
    made = noise_of(Sampling(rng="philox"), [0], SIZE).draw(like)
    assert made.dtype == torch.float64 and np.isfinite(made.numpy()).all()
    with pytest.raises(ValueError, match="made for 1 samples, the batch has 2"):
        noise_of(Sampling(rng="philox"), [0], SIZE).draw(LIKE)
