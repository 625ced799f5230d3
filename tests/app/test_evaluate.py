"""`hvis evaluate` as users call it: held-out numbers on other pictures, Parzen windows, folders of pictures."""

from __future__ import annotations

import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import folder, picture, trained_on_digits

from huggingvis.data.standard import Split
from huggingvis.metrics.parzen import parzen
from huggingvis.objectives.vae import VAE
from huggingvis.recipes.drawing import drawn
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.pictures import View
from huggingvis.recipes.sources import open_source, open_split

SMALL = {"batch": 16, "steps": 6, "sample_every": 6}
NETS: dict[str, dict[str, Any]] = {
    "autoencoder": {"widths": [16], "latent_dim": 4},
    "vae": {"widths": [16], "latent_dim": 4},
    "cvae": {"widths": [16], "latent_dim": 4},
    "cvae_quadrants": {"widths": [16], "latent_dim": 4},
    "vq_vae": {
        "autoencoder": {"width": 16, "halvings": 1, "blocks": 1, "steps": 4, "batch": 16},
        "prior": {"dim": 16, "depth": 1, "heads": 2},
    },
    "nice": {"net": {"couplings": 2, "width": 16, "depth": 1}},
    "ddpm": {"net": {"channels": [8], "attention": [0], "blocks": 1}, "samples": 4, "sample_steps": 2},
    "gan": {"hidden": [16], "critic_hidden": [16]},
}


def official_files(place: Path, count: int = 20, side: int = 12) -> Path:
    """Official test files of 'MNIST', with `count` pictures, upright (0) and lying (1) bars."""
    place.mkdir(parents=True)
    images = np.stack([picture(i % 2, i // 2, side, colour=False)[..., 0] for i in range(count)])
    head = struct.pack(">4I", 0x0803, count, side, side)
    (place / "t10k-images-idx3-ubyte").write_bytes(head + images.tobytes())
    labels = (np.arange(count) % 2).astype(np.uint8)
    (place / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, count) + labels.tobytes())
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on_digits(tmp_path_factory.mktemp("runs"), {name: {**SMALL, **net} for name, net in NETS.items()})


@pytest.mark.parametrize(
    ("recipe", "draws", "names"),
    [
        ("autoencoder", 2, {"squared_error"}),
        ("cvae", 2, {"log_likelihood"}),
        ("cvae_quadrants", 2, {"baseline", "monte_carlo", "importance"}),
        ("vq_vae", 2, {"log_likelihood", "bits_per_dim"}),
        ("ddpm", 1, {"mse", "bits_per_dim", "prior", "steps", "data", "flow_bits_per_dim"}),  # a thousand calls each
    ],
)
def test_families_are_compared_by_their_own_numbers(
    hvis: Any, runs: Path, recipe: str, draws: int, names: set[str]
) -> None:
    said = hvis(["evaluate", runs / recipe, "--split", "validation", "--draws", draws, "--json"])
    assert said.code == 0, said.err
    found = said.document
    assert (found["recipe"], found["split"], found["n"], found["draws"]) == (recipe, "validation", 8, draws)
    assert found["measured"].keys() == names
    assert all(np.isfinite(numbers["mean"]) for numbers in found["measured"].values())
    again = hvis([*found["command"].split()[1:], "--json"]).document
    assert again["measured"] == found["measured"]


def test_the_test_files_of_a_folder_are_taken(hvis: Any, runs: Path, tmp_path: Path) -> None:
    """And the numbers are the model's own, on every one of their pictures."""
    root = official_files(tmp_path / "official")
    said = hvis(["evaluate", runs / "vae", "--data", "mnist", "--root", root, "--draws", 30, "--seed", 4, "--json"])
    assert said.code == 0, said.err
    found = said.document
    assert (found["data"], found["split"], found["n"], found["step"]) == ("mnist", "test", 20, 6)
    vae = bind_run(runs / "vae").parts["vae"]
    assert isinstance(vae, VAE)
    images = np.stack([picture(i % 2, i // 2, 12, colour=False)[..., 0] for i in range(20)])
    x = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]
    seen = vae.likelihood.observe(x, torch.Generator().manual_seed(4))
    nats = vae.log_prob(seen, draws=30, seed=4).double()
    told = found["measured"]["log_likelihood"]
    assert told["mean"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert told["standard_error"] == pytest.approx(float(nats.std(correction=0)) / 20**0.5, rel=1e-5)
    assert told["mean"] > found["measured"]["elbo"]["mean"]
    some = hvis(["evaluate", runs / "vae", "--data", f"mnist:{root}", "--limit", 7, "--json"]).document
    assert (some["n"], some["draws"]) == (7, 100)
    text = hvis(["evaluate", runs / "vae", "--data", f"mnist:{root}"])
    assert "on 20 pictures of mnist:" in text.out and "test split, 100 draws of each" in text.out and "±" in text.out


def test_bits_and_nats_of_a_flow_are_one_number(hvis: Any, runs: Path) -> None:
    found = hvis(["evaluate", runs / "nice", "--split", "validation", "--json"]).document["measured"]
    nats, bits = found["log_density"]["mean"], found["bits_per_dim"]["mean"]
    assert bits == pytest.approx(8 - nats / (144 * np.log(2)), rel=1e-9)
    logged = hvis(["evaluate", runs / "nice", "--json"]).document["held_out_losses"]["bits_per_dim"]
    assert bits == pytest.approx(logged, rel=0.02)  # other pictures weigh more in a validation, other dequantisation


def test_parzen_window_of_a_run(hvis: Any, runs: Path, tmp_path: Path) -> None:
    words = ["evaluate", runs / "gan", "--parzen", 30]
    root = official_files(tmp_path / "official")
    (root / "mnist-part.npz").write_bytes(next((runs / "data").glob("*.npz")).read_bytes())
    said = hvis([*words, "--data", f"mnist:{root}", "--json"])
    assert said.code == 0, said.err
    found = said.document
    assert (found["n"], found["samples"], found["width_chosen_on"]) == (20, 30, 4)
    assert found["parzen"]["sigma"] in [pytest.approx(10 ** (-1 + i / 9)) for i in range(10)]
    system = bind_run(runs / "gan")
    samples = torch.cat(list(drawn(system, [""] * 30, system.defaults)))
    held = open_source(f"mnist:{runs / 'data'}", View()).held_out
    official = torch.cat([batch["image"] for batch in open_split(f"mnist:{root}", Split.TEST, View()).once(20)])
    want = parzen(samples, torch.cat([batch["image"] for batch in held.some(4).once(4)]), official)
    assert found["parzen"] == {name: pytest.approx(value) for name, value in asdict(want).items()}
    found = hvis([*words, "--split", "validation", "--json"]).document
    assert (found["n"], found["width_chosen_on"]) == (4, 4)  # of eight, half choose and half are measured
    assert "nats per picture" in hvis([*words, "--split", "validation"]).out


def test_splits_of_a_folder(tmp_path: Path) -> None:
    data = folder(tmp_path, count=40)
    source = open_source(data, View(size=8))
    parts = {split: open_split(data, split, View(size=8)) for split in Split}
    assert {split.value: len(part) for split, part in parts.items()} == {"train": 38, "validation": 2, "test": 40}
    assert np.array_equal(parts[Split.VALIDATION].items, source.held_out.items)
    batches = list(parts[Split.TEST].once(16))
    assert [len(batch["image"]) for batch in batches] == [16, 16, 8]
    assert torch.equal(torch.cat([b["label"] for b in batches]), torch.tensor([0] * 20 + [1] * 20))
    assert parts[Split.TEST].some(4).items.tolist() == [0, 10, 20, 30]
    assert len(parts[Split.TEST].without(parts[Split.VALIDATION])) == 38


def test_mistakes_are_explained(hvis: Any, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "one").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "one" / "a.png")
    other = folder(tmp_path / "bars", side=12, colour=False)
    vae = runs / "vae"
    for words, code, message in (
        ([vae, "--data", f"mnist:{tmp_path / 'none'}"], 3, "t10k-images-idx3-ubyte.gz"),
        ([vae, "--split", "test"], 2, "there is no test set in it"),
        ([vae, "--split", "tset"], 2, "Did you mean 'test'"),
        ([vae, "--draws", 0], 2, "--draws must be a whole number of at least 1"),
        ([vae, "--prompts", 5, "--draws", 2], 2, "--prompts does not go together with --draws"),
        ([tmp_path / "none", "--split", "test"], 2, "Give a run folder"),
        ([runs / "gan", "--split", "validation"], 2, "tells no numbers on other pictures. Recipes whose runs do: auto"),
        ([runs / "cvae", "--data", other], 2, "not sorted into the same ones"),
        ([vae, "--inception", "a.pth"], 2, "Name two folders of pictures"),
        ([tmp_path / "one", "--against", tmp_path / "one", "--inception", "a.pth"], 2, "holds one picture"),
        ([tmp_path / "bars", "--against", tmp_path / "bars"], 2, "Give --inception FILE: pt_inception-2015-12-05"),
        ([tmp_path / "bars", "--against", tmp_path / "bars", "--inception", "a.pth"], 3, "a.pth"),
    ):
        said = hvis(["evaluate", *words])
        assert said.code == code and message in said.paragraph, (words, said.paragraph)
