"""Explorations of latents: what is drawn is what the numbers say, by Python and by the command line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Hvis
from PIL import Image
from small_runs import digits, picture, train

import huggingvis as hv
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Encodes, Latent
from huggingvis.core.system import Spec, System
from huggingvis.edits.exploring import able, between, encoded, exploration, explorations
from huggingvis.objectives.likelihood import dequantise
from huggingvis.recipes.loading import bind_run
from huggingvis.systems.unconditional import Unconditional


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explored")
    numbers = {"widths": [32], "latent_dim": 4, "batch": 16, "lr": 1e-2, "steps": 60, "sample_every": 60}
    return train("vae", root / "vae", {**numbers, "data": digits(root / "data")}).path


@pytest.fixture(scope="module")
def vae(run: Path) -> System:
    return bind_run(run)


@pytest.fixture(scope="module")
def quadrants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("completed")
    numbers = {"widths": [32], "latent_dim": 4, "batch": 16, "lr": 3e-3, "steps": 40, "sample_every": 40, "seen": 2}
    return train("cvae_quadrants", root / "run", {**numbers, "data": digits(root / "data")}).path


@pytest.fixture(scope="module")
def bars() -> list[Picture]:
    return [Picture(picture(i % 2, i, 12, colour=False)) for i in range(3)]


def test_every_exploration_is_found_by_its_file() -> None:
    assert {"bits", "classes", "complete", "interpolate", "mix", "reconstruct", "traverse", "truncation"} <= set(
        explorations()
    )
    assert all(kind.__doc__ for kind in explorations().values())
    with pytest.raises(UsageError, match="interpolate"):
        exploration("interpolte")


def test_ways_between_latents() -> None:
    """A line's middle is the mean; round the sphere directions turn evenly and lengths change evenly."""
    a, b = torch.tensor([2.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 4.0], dtype=torch.float64)
    share = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(between(a, b, share, round_the_sphere=False)[1], (a + b) / 2)
    way = between(a, b, share, round_the_sphere=True)
    assert torch.allclose(way[[0, 2]], torch.stack([a, b]))
    assert torch.allclose(way[1], 3 * torch.full((2,), 0.5, dtype=torch.float64).sqrt())
    same = between(a, 2 * a, share, round_the_sphere=True)  # one direction: no circle, no division by zero
    assert torch.allclose(same[1], 1.5 * a)
    assert torch.allclose(between(0 * a, b, share, round_the_sphere=True)[1], b / 2)  # the middle has no direction


def test_reconstruct_tells_the_error_it_shows(vae: System, bars: list[Picture]) -> None:
    finding = exploration("reconstruct")()(vae, bars)
    shown = [tile.pixels.astype(float) for tile in finding.tiles.pictures]
    for before, after, told in zip(shown[:3], shown[3:], finding.record["psnr_db"], strict=True):
        assert told == pytest.approx(10 * np.log10(255**2 / np.square(before - after).mean()), abs=0.1)


def test_latent_diffusion_reconstructs_by_its_autoencoder(tiny_model: Path) -> None:
    system = hv.load(tiny_model, device="cpu")
    noise = Picture(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    finding = hv.explore("reconstruct", system, [noise])[1]
    codec = system.codec
    assert isinstance(codec, Encodes)
    y = codec.decode(codec.encode(system.signals([noise])))[0]
    assert np.array_equal(finding.tiles.pictures[1].pixels, Picture.from_signal(y.numpy()).pixels)


def test_interpolate_begins_and_ends_at_its_pictures(vae: System, bars: list[Picture]) -> None:
    tiles = hv.explore("interpolate", vae, bars[:2], numbers={"steps": 5, "path": "linear"})[1].tiles.pictures
    codes = able(vae, Encodes, "encoder").encode(vae.signals(bars[:2]))
    ends = able(vae, Latent, "latents").decode(codes)
    for tile, x in ((tiles[0], ends[0]), (tiles[-1], ends[1])):
        assert np.array_equal(tile.pixels, Picture.from_signal(x.numpy()).pixels)
    with pytest.raises(UsageError, match="from one picture to another"):
        hv.explore("interpolate", vae, bars[:1])


def test_traverse_changes_one_number(vae: System, bars: list[Picture]) -> None:
    """At the value the picture itself has, the row shows its reconstruction."""
    finding = hv.explore("traverse", vae, bars[:1], numbers={"numbers": [2], "steps": 3, "reach": 0.0})[1]
    z = able(vae, Encodes, "encoder").encode(vae.signals(bars[:1]))
    z[:, 2] = 0.0
    expected = Picture.from_signal(able(vae, Latent, "latents").decode(z)[0].numpy()).pixels
    assert all(np.array_equal(tile.pixels, expected) for tile in finding.tiles.pictures)
    assert len(hv.explore("traverse", vae, numbers={"rows": 3})[1].record["numbers"]) == 3
    with pytest.raises(UsageError, match="0 to 3"):
        hv.explore("traverse", vae, numbers={"numbers": [4]})


def test_truncation_goes_from_one_picture_to_the_draws(vae: System) -> None:
    finding = hv.explore("truncation", vae, numbers={"psi": [0.0, 1.0], "rows": 3, "seed": 4})[1]
    model = able(vae, Latent, "latents")
    draws = model.decode(model.latents(3, {}, noise=SeedNoise(range(4, 7))))
    tiles = finding.tiles.pictures
    assert finding.record["deviation"][0] == 0.0 < finding.record["deviation"][1]
    assert all(np.array_equal(tiles[2 * i + 1].pixels, Picture.from_signal(draws[i].numpy()).pixels) for i in range(3))


def test_bits_put_the_strangest_first(vae: System, bars: list[Picture]) -> None:
    strange = Picture(np.random.default_rng(0).integers(0, 255, (12, 12, 1), dtype=np.uint8))
    finding = hv.explore("bits", vae, [*bars, strange])[1]
    assert int(np.argmin(finding.record["log_prob"])) == 3
    first = finding.tiles.pictures[0].pixels.astype(int)
    assert np.abs(first - strange.pixels.astype(int)).max() <= 1


def test_a_density_tells_bits_per_number() -> None:
    """An even density on [-1, 1] needs 8 bits for one of 256 levels."""

    class Even:
        dims = 48

        def log_prob(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x),), -self.dims * math.log(2), dtype=torch.float64)

    even = Even()
    system = System(Spec("even", "none", (4, 4)), {}, Unconditional(), Pixels(), lambda request: even)  # type: ignore[arg-type, return-value]
    noise = Picture(np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8))
    record = exploration("bits")()(system, [noise]).record
    assert record["unit"] == "bits per number" and record["told"] == [pytest.approx(8.0)]


def test_a_density_reads_pictures_as_it_learnt_them(vae: System, tmp_path: Path) -> None:
    """Values spread over their bins: black at its bin's edge would lie far outside of what a flow draws."""
    numbers = {"steps": 2, "batch": 16, "sample_every": 0, "net": {"levels": 1, "depth": 2, "width": 8}}
    flow = bind_run(train("glow", tmp_path / "glow", {**numbers, "data": digits(tmp_path / "data")}).path)
    shape = (flow.spec.size[1], flow.spec.size[0])
    black = [Picture(np.zeros((*shape, 1), np.uint8))] * 2
    model = able(flow, Encodes, "encoder")
    z = encoded(flow, black, 3)
    x = dequantise(flow.signals(black), torch.Generator().manual_seed(3))
    assert torch.equal(z, model.encode(x)) and not torch.equal(z[0], z[1])
    assert torch.equal(encoded(vae, black, 3), able(vae, Encodes, "encoder").encode(vae.signals(black)))
    found = hv.explore("interpolate", flow, black, numbers={"steps": 2})[1]
    assert all(np.abs(tile.pixels.astype(int)).max() <= 1 for tile in found.tiles.pictures)


def test_complete_keeps_what_is_seen_and_varies_the_rest(
    quadrants: Path, bars: list[Picture], hvis: Hvis, tmp_path: Path
) -> None:
    finding = hv.explore("complete", quadrants, bars, numbers={"draws": 3, "seed": 5}, device="cpu")[1]
    rows = np.stack([tile.pixels for tile in finding.tiles.pictures]).reshape(3, 6, 12, 12)
    truth = rows[:, -1]
    assert np.array_equal(truth[0], bars[0].pixels[..., 0])
    assert (rows[:, :-1, :, :6] == truth[:, None, :, :6]).all()  # two quadrants are seen: the left half
    assert (np.abs(rows[:, 0, :, 6:].astype(int) - 127) <= 1).all()
    assert not np.array_equal(rows[:, 2, :, 6:], rows[:, 3, :, 6:])
    again = hv.explore("complete", quadrants, bars[:1], numbers={"draws": 3, "seed": 5}, device="cpu")[1]
    assert np.array_equal(again.tiles.pictures[2].pixels[..., 0], rows[0, 2])
    hidden = np.square(rows[0, 1, :, 6:].astype(float) - truth[0, :, 6:]).mean()
    assert finding.record["seen"] == 0.5
    assert finding.record["psnr_db"][0] == pytest.approx(10 * np.log10(255**2 / hidden), abs=0.1)
    file = hv.export(bars[:1], tmp_path)[0]
    said = hvis(["explore", "complete", file, "--model", quadrants, "--draws", 2, "-o", tmp_path / "sheet.png"])
    assert said.code == 0 and (tmp_path / "sheet.png").is_file()
    said = hvis(["generate", "--model", quadrants, "-o", tmp_path / "none.png"])
    assert said.code == 2 and "hvis explore complete PICTURE" in said.paragraph


def test_what_a_model_cannot_do_is_said(vae: System) -> None:
    with pytest.raises(UsageError, match="VAE and has no styles"):
        hv.explore("mix", vae)
    with pytest.raises(UsageError, match="VAE and has no way to complete pictures"):
        hv.explore("complete", vae)
    with pytest.raises(UsageError, match="without classes"):
        hv.explore("classes", vae)
    with pytest.raises(UsageError, match="at least one picture"):
        hv.explore("reconstruct", vae)
    for name, numbers in (("traverse", {"steps": 0}), ("truncation", {"rows": 0}), ("interpolate", {"steps": 1})):
        with pytest.raises(UsageError, match="at least|and one"):
            hv.explore(name, vae, numbers=numbers)


def test_by_command(run: Path, bars: list[Picture], hvis: Hvis, tmp_path: Path) -> None:
    file = hv.export(bars[:1], tmp_path)[0]
    said = hvis(["explore", "reconstruct", file, "--model", run, "-o", tmp_path / "new" / "sheet.png", "--json"])
    assert said.code == 0 and (tmp_path / "new" / "sheet.png").is_file() and len(said.document["psnr_db"]) == 1
    assert said.document["notes"] == []
    Image.fromarray(np.full((6, 24, 3), (240, 40, 40), np.uint8)).save(tmp_path / "red.png")
    said = hvis(["explore", "reconstruct", tmp_path / "red.png", "--model", run, "-o", tmp_path / "sheet.png"])
    assert " ".join(said.err.split()).endswith(
        "Picture 1 has 24x6 pixels and the model sees 12x12 pixels in grey: its colours were left out, 75% of it was "
        "cut off, it was enlarged."
    )
    said = hvis(["explore", "interpolate", "--model", run, "--rows", 2, "--steps", 3, "--path", "slerp"])
    assert said.code == 0 and Path(said.out.splitlines()[-1].strip()).is_file()
    assert "traverse" in hvis(["explore", "--help"]).out
    assert "--reach" in hvis(["explore", "traverse", "--help"]).out
    said = hvis(["explore", "reconstrukt", file, "--model", run])
    assert said.code != 0 and "reconstruct" in said.paragraph
