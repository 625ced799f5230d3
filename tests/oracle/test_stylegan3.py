"""Alias-free generators: filters that pass and stop what they should, pictures that move and turn as a whole."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.nets.filtered_lrelu import filtered_lrelu
from huggingvis.nets.layer_noise import NoNoise
from huggingvis.nets.lowpass import Lowpass, beta
from huggingvis.nets.resampling import upfirdn2d
from huggingvis.nets.stylegan3_sizes import Filtering, Schedule, StyleGAN3Sizes, config_r, config_t
from huggingvis.nets.stylegan3_synthesis import FourierInput, StyleGAN3Synthesis

SIGNAL = Schedule(64, first_cutoff=4, first_stopband=6).signals()[0]
SMALL = Schedule(32, 2, 96, 8, layers=4, critical=1, first_cutoff=2, first_stopband=4, margin=10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def painter(filtering: Filtering) -> StyleGAN3Synthesis:
    torch.manual_seed(0)
    return StyleGAN3Synthesis(StyleGAN3Sizes(SMALL, filtering, w_dim=6)).double().requires_grad_(False)


def paint(net: StyleGAN3Synthesis, transform: Tensor) -> Tensor:
    """Pictures of two styles under the inverse `transform` [2, 3] of the plane."""
    net.input.transform[:2] = transform
    return net(normal(2, net.layers, 6, seed=3), NoNoise())


def decibels(x: Tensor, y: Tensor) -> float:
    """How far above their difference the pictures' own spread is."""
    return 10 * math.log10(float(x.var() / (x - y).square().mean()))


@pytest.mark.parametrize("radial", [False, True])
def test_a_filter_passes_below_its_cutoff_and_stops_above_its_band(radial: bool) -> None:
    design = Lowpass(48, cutoff=12.0, width=4.0, rate=64.0)
    h = (design.radial() if radial else torch.outer(design.separable(), design.separable())).double()
    assert torch.allclose(h, h.flip(0, 1), atol=1e-9) and torch.allclose(h, h.T, atol=1e-9)

    def gain(f: float, angle: float) -> float:
        x = (torch.arange(48, dtype=torch.float64) - 23.5) / 64
        wave = torch.cos(2 * math.pi * f * (math.cos(angle) * x[:, None] + math.sin(angle) * x))
        return float((h * wave).sum())

    assert gain(0, 0) == pytest.approx(1, abs=1e-6) and gain(12, 0) == pytest.approx(0.5, abs=0.05)
    assert gain(8, 0) == pytest.approx(1, abs=0.01) and abs(gain(15, 0)) < 0.01
    corner = gain(13.5, math.pi / 4)  # above the cutoff in its direction, below it along each axis
    assert (corner < 0.1) if radial else (corner > 0.9)


def test_the_window_is_kaisers() -> None:
    assert beta(20.0) == 0.0 and beta(21.0) == 0.0
    assert beta(50.0) == pytest.approx(0.5842 * 29**0.4 + 0.07886 * 29) and beta(60.0) == pytest.approx(0.1102 * 51.3)
    odd = Lowpass(9, 2.0, 4.0, 16.0).radial()
    assert odd.isfinite().all() and odd.argmax() == 40  # the jinc at 0


def wave(cycles: float, size: int) -> Tensor:
    """Maps [1, 1, size, size] of a wave along the rows, so many cycles in `size` samples."""
    row = torch.sin(2 * math.pi * cycles * (torch.arange(size, dtype=torch.float64) + 0.5) / size)
    return row.expand(1, 1, size, size)


def padding(size: int, factor: int, taps: int) -> tuple[int, int]:
    """Zeros that keep `size` through a filter of `taps` on the way up and on the way down."""
    total = (size - 1) * factor + 1 - size * factor + 2 * (taps - 1)
    return (total + factor) // 2, total - (total + factor) // 2


def test_filtering_keeps_a_bent_wave_from_coming_back_as_another() -> None:
    """The second harmonic of 26 cycles is 52, which 64 samples show as 12: without a higher rate the wave aliases."""
    x, bias, h = wave(26, 64), torch.zeros(1, dtype=torch.float64), Lowpass(48, 28.0, 16.0, 256.0).separable()
    bent = filtered_lrelu(x, bias, h, h, up=4, down=4, padding=padding(64, 4, 48), clamp=None)
    plain = filtered_lrelu(x, bias, None, None, up=1, down=1, padding=(0, 0), clamp=None)

    def alias(y: Tensor) -> float:
        return float(torch.fft.rfft(y[0, 0, 32, 16:48]).abs()[6])

    assert bent.shape == x.shape and alias(bent) < 0.02 * alias(plain)


def test_resampling_leaves_a_slow_wave_where_it_is() -> None:
    """Up and down again: the delays of the filters and the padding cancel."""
    x, h = wave(3, 48), Lowpass(48, 18.0, 12.0, 192.0).separable()
    up = upfirdn2d(x, h, up=4, padding=padding(48, 4, 48), gain=16.0)
    y = upfirdn2d(up, h, down=4)
    assert y.shape == x.shape and torch.allclose(y[..., 14:-14, 14:-14], x[..., 14:-14, 14:-14], atol=0.01)


def test_waves_are_even_over_the_disc_and_sampled_where_they_say() -> None:
    torch.manual_seed(0)
    net = FourierInput(Schedule(64, width=40_000, most=4000).signals()[0], 5).double().requires_grad_(False)
    radius = net.freqs.norm(dim=1) / net.signal.cutoff
    assert radius.max() <= 1 and float((radius < 0.5**0.5).double().mean()) == pytest.approx(0.5, abs=0.03)
    net = FourierInput(SIGNAL, 5).double().requires_grad_(False)
    net.weight.copy_(math.sqrt(len(net.weight)) * torch.eye(len(net.weight)))
    x = net(normal(1, 5))  # a fresh input does not look at the style
    row, column = 3, 20
    place = (torch.tensor([column, row], dtype=torch.float64) + 0.5 - SIGNAL.size / 2) / SIGNAL.rate
    want = torch.sin(2 * math.pi * (net.freqs @ place + net.phases))
    assert torch.allclose(x[0, :, row, column], want, atol=1e-12)
    net.transform[:2, :2] *= 100.0
    assert torch.equal(net(normal(1, 5)), torch.zeros_like(x))  # all of it beyond what the rate holds


def test_pictures_move_as_a_whole() -> None:
    """Equivariance to translation: by one sample of the coarsest rate, and by one pixel, which is a part of it."""
    net = painter(Filtering())
    for by, least in ((1 / min(s.rate for s in SMALL.signals()), 120), (1 / SMALL.size, 40)):
        pixels = round(by * SMALL.size)
        still, moved = (paint(net, torch.tensor([[1.0, 0, x], [0, 1, 0]])) for x in (0.0, by))
        assert decibels(still[..., pixels:], moved[..., :-pixels]) > least and decibels(still, moved) < 20


@pytest.mark.parametrize("radial", [False, True])
def test_pictures_turn_as_a_whole_with_radial_filters(radial: bool) -> None:
    net = painter(Filtering(kernel=1, radial=True) if radial else Filtering())
    still = paint(net, torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    turned = paint(net, torch.tensor([[0.0, 1, 0], [-1, 0, 0]]))
    found = max(decibels(torch.rot90(still, k, (2, 3)), turned) for k in (1, 3))
    assert (found > 200) if radial else (found < 20)


def test_layers_rise_in_bandwidth_as_the_paper_draws_them() -> None:
    """Its Fig. 4c for 256 pixels: rates double where the stopband outgrows them; the last two are critical."""
    schedule = config_t(256).schedule
    signals = schedule.signals()
    assert len(signals) == 15 and (signals[0].cutoff, signals[-1].cutoff) == (2.0, 128.0)
    assert [s.rate for s in signals] == sorted(s.rate for s in signals) and not any(
        s.rate & (s.rate - 1) for s in signals
    )
    assert all(s.cutoff + s.half_width <= s.rate / 2 + 1e-9 for s in signals[:12])
    assert [s.rate == 2 * s.cutoff for s in signals] == [False] * 12 + [True] * 3
    assert [s.channels for s in config_r(256).schedule.signals()][:2] == [1024, 1024]
    for wrong in ({"size": 48}, {"critical": 0}, {"layers": 2}, {"first_cutoff": 200.0}, {"first_stopband": 1.5}):
        with pytest.raises(UsageError):
            Schedule(**({"size": 64} | wrong))


def test_tracked_magnitudes_level_the_layers() -> None:
    """What a layer gets has mean square 1 once the running mean has seen it, however large the weights before it."""
    net = painter(Filtering())
    cast(Tensor, net.input.weight).mul_(50)
    ws = normal(8, net.layers, 6, seed=4)
    seen: list[Tensor] = []
    for _ in range(2):
        net.track(ws, decay=0.0)
    hooks = [layer.register_forward_hook(lambda m, x, y: seen.append(m.levelled(x[0]))) for layer in net.convs]
    net(ws, NoNoise())
    for hook in hooks:
        hook.remove()
    assert [float(x.square().mean()) for x in seen] == pytest.approx([1.0] * len(seen), rel=1e-9)


def test_magnitudes_are_tracked_in_half_precision_too() -> None:
    """Activations are cut at 256, whose square is more than float16 holds."""
    layer = painter(Filtering()).torgb
    layer.track(torch.full((1, 8, 4, 4), 256.0, dtype=torch.float16), decay=0.0)
    assert float(layer.magnitude_ema) == 256.0**2
