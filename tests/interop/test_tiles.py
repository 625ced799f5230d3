"""An autoencoder in tiles, beside diffusers' own tiling with the same weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from huggingvis.checkpoints import diffusers_autoencoder
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.tiles import MOST_BYTES, Span, Tiling, spread, usual_side
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8, sample_size=32,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, layers_per_block=1,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def whole(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> AutoencoderKL:
    folder = tmp_path_factory.mktemp("vae")
    theirs.save_pretrained(folder)
    return diffusers_autoencoder.from_diffusers(folder)


def rests(length: int, tile: int, overlap: float) -> list[Span]:
    """Where diffusers' tiles lie: from the start in strides, with thin rests at the end."""
    return [(i, min(i + tile, length)) for i in range(0, length, int(tile * (1 - overlap)))]


def pictures(height: int, width: int, channels: int) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("height", "width"), [(40, 28), (24, 36), (16, 44)])
@torch.inference_mode()
def test_tiles_are_sewn_as_diffusers_does(theirs: Any, whole: AutoencoderKL, height: int, width: int) -> None:
    z = pictures(height, width, 4)
    theirs.enable_tiling()
    ours = KLLatents(whole, tiling=Tiling(32, places=rests)).decode(z)
    assert float((ours - theirs.decode(z).sample.clamp(-1, 1)).abs().max()) < 1e-5
    x = pictures(2 * height, 2 * width, 3)
    q, p = Tiling(32, places=rests).posterior(whole, x), theirs.encode(x).latent_dist
    assert float((q.mean - p.mean).abs().max()) < 1e-5
    assert float((q.logvar - p.logvar).abs().max()) < 1e-5
    theirs.disable_tiling()


@torch.inference_mode()
def test_one_tile_is_the_whole(whole: AutoencoderKL) -> None:
    plain, tiled = KLLatents(whole), KLLatents(whole, tiling=Tiling(64))
    z, x = pictures(32, 24, 4), pictures(64, 48, 3)
    assert torch.equal(plain.decode(z), tiled.decode(z))
    assert torch.equal(plain.encode(x), tiled.encode(x))


@torch.inference_mode()
def test_seams_are_small(whole: AutoencoderKL) -> None:
    """What tiles change has no step where they begin and end, and even tiles change less than ones with rests."""
    z = pictures(72, 72, 4)
    plain = whole.decode(z)
    apart = {
        name: Tiling(64, overlap=overlap, places=places).decode(whole, z) - plain
        for name, overlap, places in (("even", 0.25, spread), ("rests", 0.25, rests), ("cut", 0.0, rests))
    }
    rms = {name: float(d.square().mean().sqrt() / plain.std()) for name, d in apart.items()}
    assert rms["even"] < 0.12 and rms["even"] < 0.8 * rms["rests"], rms

    def step(d: Tensor, rows: list[int]) -> float:
        jumps = (d[:, :, 1:] - d[:, :, :-1]).square().mean((0, 1, 3)).sqrt()  # [H - 1]
        return float(jumps[torch.tensor(rows) - 1].mean() / jumps.mean())

    assert step(apart["cut"], [64, 128]) > 2.0
    assert step(apart["even"], [40, 64, 80, 104]) < 1.2


@torch.inference_mode()
def test_a_ring_decodes_without_an_edge(whole: AutoencoderKL) -> None:
    """Rolled latents give the rolled picture: also across the edge."""
    z = pictures(16, 16, 4)
    ring = Tiling(None, (True, True))
    there = ring.decode(whole, z.roll((4, 6), (2, 3))).roll((-8, -12), (2, 3))
    plain = whole.decode(z.roll((4, 6), (2, 3))).roll((-8, -12), (2, 3))
    here = ring.decode(whole, z)
    edges = [float((x - y).abs().max()) for x, y in ((there, here), (plain, whole.decode(z)))]
    assert here.shape == (2, 3, 32, 32)
    assert edges[0] < 0.2 * edges[1], edges  # what is left comes from group norms, whose statistics see the ring


def test_where_tiles_lie() -> None:
    assert spread(64, 64, 0.25) == [(0, 64)] and spread(40, 64, 0.25) == [(0, 40)]
    assert spread(128, 64, 0.25) == [(0, 64), (32, 96), (64, 128)]
    for length in range(65, 400, 7):
        spans = spread(length, 64, 0.25)
        assert all(b - a == 64 for a, b in spans) and spans[0][0] == 0 and spans[-1][1] == length
        assert all(16 <= b - c <= 63 for (_, b), (c, _) in pairwise(spans))


def test_large_pictures_are_cut_by_themselves() -> None:
    with torch.device("meta"):
        large = AutoencoderKL(AutoencoderConfig())
    sides = {side: usual_side(large, side, side, torch.float32) for side in (512, 1024, 1152, 2048)}
    assert sides == {512: None, 1024: None, 1152: 512, 2048: 512}
    assert usual_side(large, 1536, 1536, torch.bfloat16) is None
    assert MOST_BYTES == 4 * 2**30
