"""Our plain PyTorch against what NVIDIA's own gave: filters, modulated convolutions, whole networks.

`stylegan.npz` holds outputs of github.com/NVlabs/stylegan3 at c233a91 (`upfirdn2d` and `modulated_conv2d` by their
reference paths, `training/networks_stylegan2.py`), run on the CPU by torch 2.13 on the inputs and weights that the
functions below draw again. Only these numbers were taken.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from huggingvis.checkpoints.io import assign
from huggingvis.nets.layer_noise import NoNoise, StoredNoise
from huggingvis.nets.modulated_conv import modulated_conv2d, modulated_upconv2d
from huggingvis.nets.resampling import taps, upfirdn2d
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, Truncation, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems.stylegan2 import discriminator_keymap, generator_keymap

RESAMPLINGS = [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 2, (3, 2)), (3, 2, (-1, 4)), (2, 1, (-2, -1))]
WIDTHS = (12, 12, 8)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(name: str, shape: torch.Size) -> Tensor:
    """Weights of a tensor by its official name: of the size that a trained network's have."""
    scale = 60.0 if ".fc" in name and name.startswith("mapping") and name.endswith("weight") else 0.6
    x = scale * normal(*shape, seed=zlib.crc32(name.encode()))
    return x + 1 if name.endswith("affine.bias") else x


def close(ours: Tensor, name: str) -> bool:
    with np.load(Path(__file__).with_name("stylegan.npz")) as file:
        want = torch.from_numpy(file[name])
    return ours.shape == want.shape and float((ours - want).abs().max()) < 1e-5 * float(want.abs().max())


@pytest.mark.parametrize("number", range(len(RESAMPLINGS)))
def test_upfirdn_is_the_official_one(number: int) -> None:
    up, down, padding = RESAMPLINGS[number]
    x = normal(2, 3, 7, 7, seed=1)
    assert close(upfirdn2d(x, taps(), up=up, down=down, padding=padding, gain=1.7), f"upfirdn2d_{number}")


def test_modulated_convolutions_are_the_official_ones() -> None:
    x, weight, styles = normal(2, 5, 6, 6, seed=2), normal(4, 5, 3, 3, seed=3), normal(2, 5, seed=4)
    assert close(modulated_conv2d(x, weight, styles), "modulated")
    assert close(modulated_conv2d(x, weight, styles, demodulate=False), "modulated_plain")
    assert close(modulated_upconv2d(x, weight, styles, taps()), "modulated_up")


@torch.no_grad()
def test_networks_are_the_official_ones() -> None:
    """Through the key maps, both ways: the official names come from ours, their weights go back into ours."""
    sizes = StyleGANSizes(WIDTHS, 3, 6, 10, 2, 0.01, 3, 256.0)
    generator = fresh_generator(sizes, StyleGAN2Synthesis(sizes))
    critic = StyleDiscriminator(sizes)
    for net, keys in ((generator, generator_keymap()), (critic, discriminator_keymap(sizes))):
        theirs = {name: filled(name, value.shape) for name, value in keys.to_theirs(net.state_dict()).items()}
        assign(net, keys.to_ours(theirs))
    z, label = normal(4, 6, seed=5), torch.eye(3)[[0, 1, 2, 1]]
    assert close(generator(z, label, StoredNoise()), "generator")
    ws = Truncation(0.6, layers=3)(generator.spread(generator.mapping(z, label)), generator.w_avg)
    assert close(generator.paint(ws, NoNoise()), "generator_truncated")
    assert close(critic(normal(4, 3, 16, 16, seed=6), label), "discriminator")
