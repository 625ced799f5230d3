"""Our alias-free generator against what NVIDIA's own gave: filters, filtered leaky ReLU, input, a layer, the whole.

`stylegan3.npz` holds outputs of github.com/NVlabs/stylegan3 at c233a91 (`training/networks_stylegan3.py`, its operators
by their reference paths), run on the CPU by torch 2.13 and scipy 1.17 on the inputs and weights that the functions
below draw again. Only these numbers were taken.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.checkpoints.io import assign
from huggingvis.core.hollow import hollow
from huggingvis.nets.filtered_lrelu import filtered_lrelu
from huggingvis.nets.layer_noise import NoNoise
from huggingvis.nets.lowpass import Lowpass
from huggingvis.nets.stylegan import StyleGenerator, Truncation
from huggingvis.nets.stylegan3_sizes import Filtering, Schedule, StyleGAN3Sizes, config_r, config_t
from huggingvis.nets.stylegan3_synthesis import StyleGAN3Synthesis, fresh_alias_free
from huggingvis.systems.stylegan3 import generator_keymap

T = StyleGAN3Sizes(
    Schedule(32, 3, 48, 10, layers=5, critical=2, first_stopband=3.5, margin=3),
    Filtering(clamp=3.0),
    z_dim=6,
    w_dim=10,
    classes=3,
)
R = replace(T, schedule=replace(T.schedule, channels=1), filtering=Filtering(1, radial=True), classes=0)
SIZES = {"t": T, "r": R}
RESAMPLINGS = [  # up, down, padding, clamp
    (2, 2, (9, 8), 1.5),
    (4, 2, (-3, 6), None),
    (1, 2, (5, 4), 0.4),
    (2, 1, (4, 3), 256.0),
    (1, 1, (-1, -2), None),
]
DESIGNS = [(12, 2.0, 4.0, 32.0), (24, 2.0, 12.0, 64.0), (12, 4.0, 3.0, 64.0), (6, 1.0, 0.2, 16.0)]
both = pytest.mark.parametrize("config", SIZES)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(name: str, shape: torch.Size) -> Tensor:
    """Weights of a tensor by its official name: of the size that a trained network's have."""
    x = normal(*shape, seed=zlib.crc32(name.encode()))
    match name.rpartition(".")[2]:
        case "magnitude_ema":
            return 0.5 + x.abs()
        case "transform":
            return torch.eye(3) + 0.1 * x * torch.tensor([[1.0], [1.0], [0.0]])
        case "freqs":
            return 1.2 * x
    scale = 60.0 if ".fc" in name and name.endswith("weight") else 0.6
    return scale * x + (1 if name.endswith("affine.bias") else 0)


def filter_of(taps: int, flat: bool = True) -> Tensor:
    """A filter without symmetries, of sum 1."""
    x = normal(*([taps] if flat else [taps, taps]), seed=taps).abs()
    return x / x.sum()


def recorded(name: str) -> Tensor:
    with np.load(Path(__file__).with_name("stylegan3.npz")) as file:
        return torch.from_numpy(file[name])


def thin(x: Tensor) -> Tensor:
    """Some samples of maps [B, C, H, W]: rows and columns that lie differently in all of their periods."""
    return x[..., ::3, ::5]


def close(ours: Tensor, name: str) -> bool:
    want = recorded(name)
    return ours.shape == want.shape and float((ours - want).abs().max()) < 1e-5 * float(want.abs().max())


def generator(config: str) -> StyleGenerator:
    """Through the key map, both ways: the official names come from ours, their weights go back into ours."""
    sizes = SIZES[config]
    net, keys = fresh_alias_free(sizes).requires_grad_(False), generator_keymap(sizes)
    theirs = keys.to_theirs(net.state_dict())
    assign(net, keys.to_ours({k: v if k.endswith("filter") else filled(k, v.shape) for k, v in theirs.items()}))
    return net


def synthesis(net: StyleGenerator) -> StyleGAN3Synthesis:
    return cast(StyleGAN3Synthesis, net.synthesis)


@pytest.mark.parametrize("number", range(len(DESIGNS)))
def test_filters_are_designed_as_the_official_ones(number: int) -> None:
    design = Lowpass(*DESIGNS[number])
    assert close(design.separable(), f"separable_{number}") and close(design.radial(), f"radial_{number}")


@both
def test_every_filter_of_a_generator_is_the_official_one(config: str) -> None:
    found = generator_keymap(SIZES[config]).to_theirs(fresh_alias_free(SIZES[config]).state_dict())
    filters = [name for name in found if name.endswith("_filter")]
    radial = [name for name in filters if found[name].ndim == 2]
    assert len(filters) == 10 and len(radial) == {"t": 0, "r": 3}[config]
    assert all(close(found[name], f"{config}.{name}") for name in filters)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("number", range(len(RESAMPLINGS)))
def test_filtered_lrelu_is_the_official_one(number: int, flat: bool) -> None:
    up, down, padding, clamp = RESAMPLINGS[number]
    y = filtered_lrelu(
        normal(2, 3, 9, 9, seed=1),
        normal(3, seed=2),
        filter_of(3 * up) if up > 1 else None,
        filter_of(4 * down, flat) if down > 1 else None,
        up=up,
        down=down,
        padding=padding,
        clamp=clamp,
    )
    assert close(y, f"filtered_lrelu_{number}_{'flat' if flat else 'radial'}")


@both
@torch.no_grad()
def test_input_and_layers_are_the_official_ones(config: str) -> None:
    net = synthesis(generator(config))
    w = normal(2, 10, seed=3)
    assert close(thin(net.input(w)), f"{config}_input")
    for i, layer in enumerate([*net.convs, net.torgb]):
        c_in = cast(Tensor, layer.weight).shape[1]
        size = SIZES[config].schedule.steps()[i][0].size
        assert close(thin(layer(normal(2, c_in, size, size, seed=10 + i), w)), f"{config}_layer_{i}")


@both
@torch.no_grad()
def test_generators_are_the_official_ones(config: str) -> None:
    net = generator(config)
    z, label = normal(4, 6, seed=5), torch.eye(3)[[0, 1, 2, 1]] if config == "t" else None
    assert close(net(z, label, NoNoise()), f"{config}_generator")
    ws = Truncation(0.6, layers=3)(net.spread(net.mapping(z, label)), net.w_avg)
    assert close(thin(net.paint(ws, NoNoise())), f"{config}_truncated")


@both
@torch.no_grad()
def test_magnitudes_are_tracked_as_by_the_official_one(config: str) -> None:
    net = generator(config)
    z, label = normal(4, 6, seed=5), torch.eye(3)[[0, 1, 2, 1]] if config == "t" else None
    synthesis(net).track(net.spread(net.mapping(z, label)), decay=0.9)
    found = [cast(Tensor, module.magnitude_ema) for module in (*synthesis(net).convs, synthesis(net).torgb)]
    assert close(torch.stack(found), f"{config}_magnitudes")


@pytest.mark.parametrize(("config", "size"), [("t", 256), ("t", 1024), ("r", 256), ("r", 1024)])
def test_the_papers_configurations_have_the_official_sizes(config: str, size: int) -> None:
    sizes = {"t": config_t, "r": config_r}[config](size)
    with hollow():
        net: nn.Module = fresh_alias_free(sizes)
    assert sum(p.numel() for p in net.parameters()) == int(recorded(f"{config}_{size}_parameters"))
    assert [s.size for s in sizes.schedule.signals()] == recorded(f"{config}_{size}_sizes").tolist()
