"""Windows over a canvas: exact where they must change nothing, sums written out where they do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Categorical, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.windows import Windows, starts
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.names import sampler_of, schedule_of

T = torch.tensor(0.5, dtype=torch.float64)


def pixelwise(x: Tensor, t: Tensor, cond: Cond) -> Belief:
    """Looks at one pixel, and at what the condition says of that pixel."""
    told = cond["concat"] * cond["vector"][:, :1, None, None]
    return Gaussian(torch.tanh(1.7 * x) + told, logvar=x.sin(), v=x.cos())


def context(x: Tensor, t: Tensor, cond: Cond) -> Belief:
    """Looks at everything that it is shown."""
    return Gaussian(x - x.mean((2, 3), keepdim=True))


def canvas(height: int, width: int, batch: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, height, width, generator=g)
    return x, {
        "concat": torch.randn(batch, 3, height, width, generator=g),
        "vector": torch.randn(batch, 2, generator=g),
    }


@pytest.mark.parametrize("wrap", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("size", "window", "overlap"),
    [((16, 24), (8, 8), 0.5), ((17, 23), (8, 5), 0.6), ((9, 40), (16, 7), 0.0), ((16, 16), (8, 8), 0.9)],
)
def test_a_pixelwise_denoiser_is_not_changed(
    size: tuple[int, int], window: tuple[int, int], overlap: float, wrap: tuple[bool, bool]
) -> None:
    x, cond = canvas(*size)
    whole = pixelwise(x, T, cond)
    parts = Windows(*window, overlap, wrap, at_once=3)(pixelwise)(x, T, cond)
    assert isinstance(whole, Gaussian) and isinstance(parts, Gaussian)
    assert torch.equal(whole.x0, parts.x0)
    assert whole.logvar is not None and parts.logvar is not None and torch.equal(whole.logvar, parts.logvar)
    assert whole.v is not None and parts.v is not None and torch.equal(whole.v, parts.v)


@pytest.mark.parametrize("name", ["ddim", "euler-a", "dpm++2m", "unipc"])
def test_every_sampler_draws_the_same_of_a_pixelwise_denoiser(name: str) -> None:
    process = LinearVP()
    x, cond = canvas(12, 20)
    grid = schedule_of("uniform", 6)(process)
    guided = ClassifierFree(3.0)(pixelwise)
    cond |= {"negative.vector": cond["vector"] * 0.5}
    drawn = [
        sample(denoise, process, sampler_of(name, 1.0), x, grid, cond, noise=SeedNoise([1, 2]))
        for denoise in (guided, Windows(8, 8)(guided))
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("size", [(8, 8), (6, 8), (3, 5)])
def test_a_window_as_large_as_the_canvas_changes_no_bit(size: tuple[int, int]) -> None:
    x, _ = canvas(*size)
    assert torch.equal(Windows(8, 8)(context)(x, T, {}).x0, context(x, T, {}).x0)


def test_overlaps_are_means() -> None:
    """Two windows of 8 over 12 columns: columns 4 to 7 are the mean of both, the others one window's own."""
    x, _ = canvas(8, 12)
    found = Windows(8, 8)(context)(x, T, {}).x0
    left, right = (context(part, T, {}).x0 for part in (x[..., :8], x[..., 4:]))
    want = torch.cat([left[..., :4], (left[..., 4:] + right[..., :4]) / 2, right[..., 4:]], -1)
    assert float((found - want).abs().max()) < 1e-6


def test_a_ring_has_no_edge() -> None:
    """Rolled by a stride, the canvas gives the rolled belief."""
    x, _ = canvas(8, 16)
    around = Windows(8, 8, 0.5, (False, True))(context)
    assert starts(16, 8, 0.5, wrap=True) == [0, 4, 8, 12]
    rolled = around(x.roll(4, -1), T, {}).x0
    assert float((rolled - around(x, T, {}).x0.roll(4, -1)).abs().max()) < 1e-6
    assert starts(8, 8, 0.5, wrap=True) == [0, 4]  # at its own size too, the edges are seen as a middle


@pytest.mark.parametrize(
    ("length", "window", "overlap", "want"),
    [
        (128, 64, 0.5, [0, 32, 64]),
        (64, 64, 0.5, [0]),
        (72, 64, 0.5, [0, 8]),
        (160, 64, 0.5, [0, 32, 64, 96]),
        (16, 8, 0.5, [0, 4, 8]),
        (20, 8, 0.0, [0, 8, 12]),
        (40, 64, 0.25, [0]),
    ],
)
def test_where_windows_begin(length: int, window: int, overlap: float, want: list[int]) -> None:
    assert starts(length, window, overlap) == want


def test_smaller_maps_of_a_condition_are_cut_along() -> None:
    x, _ = canvas(16, 32)
    seen = []

    def looks(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        seen.append((cond["adapter0.0"], cond["adapter0.hint"]))
        return Gaussian(x)

    half, hint = torch.arange(128.0).reshape(1, 1, 8, 16).expand(2, -1, -1, -1), x.repeat_interleave(2, -1)
    cond = {"adapter0.0": half, "adapter0.hint": hint.repeat_interleave(2, -2)}
    Windows(16, 16, 0.5, at_once=1)(looks)(x, T, cond)
    assert [float(part[0, 0, 0, 0]) for part, _ in seen] == [0.0, 4.0, 8.0]
    assert all(part.shape[-2:] == (8, 8) and big.shape[-2:] == (32, 32) for part, big in seen)
    with pytest.raises(UsageError, match="multiples of 64 pixels"):
        Windows(5, 5)(looks)(x, T, cond)


def test_what_is_no_picture_is_refused() -> None:
    x, cond = canvas(8, 16)
    with pytest.raises(UsageError, match="2 dimensions"):
        Windows(8, 8)(context)(x[:, 0, 0], T, cond)
    with pytest.raises(TypeError, match="Categorical"):
        Windows(8, 8)(lambda x, t, cond: Categorical(x))(x, T, {})
