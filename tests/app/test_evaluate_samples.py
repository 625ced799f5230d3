"""`hvis evaluate` of what models draw and know: patches, path lengths, classes, linear probes; and their refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, folder, train, trained_on_digits

from huggingvis.checkpoints.io import save
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Classifies, Decodes
from huggingvis.metrics.features import gather
from huggingvis.metrics.frechet import frechet
from huggingvis.metrics.linear_probe import linear_probe
from huggingvis.metrics.path_length import Steps, great_circle, path_length
from huggingvis.metrics.sliced_wasserstein import Patches, mean_patch_distance, patch_distances
from huggingvis.nets.lenet import LeNet5
from huggingvis.objectives.gan import GAN
from huggingvis.objectives.vae import VAE
from huggingvis.recipes.drawing import drawn
from huggingvis.recipes.judging import open_features, open_judge
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.pictures import Pictures, View
from huggingvis.recipes.sources import open_source
from huggingvis.systems.judges import digits as digit_judge

SMALL = {"batch": 16, "steps": 6, "sample_every": 0}
STYLES = {"size": 8, "latent_dim": 8, "mapping_layers": 2, "width": 8, "most": 8}
DIFFUSION = {"net": {"channels": [8, 8], "attention": [0, 0], "blocks": 1}, "samples": 4, "sample_steps": 2}
NETS: dict[str, dict[str, Any]] = {
    "vae": {"widths": [16], "latent_dim": 4, "steps": 60, "lr": 1e-2},
    "nice": {"net": {"couplings": 2, "width": 16, "depth": 1}},
    "gan": {"hidden": [16], "critic_hidden": [16]},
    "dcgan": {"width": 8},
    "cgan": {},
    "stylegan": STYLES,
    "ddpm": {**DIFFUSION, "conditional": False},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on_digits(tmp_path_factory.mktemp("runs"), {name: {**SMALL, **net} for name, net in NETS.items()})


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the digits judge's kind that takes everything for a 1."""
    net, keymap = LeNet5(), digit_judge.keymap()
    torch.nn.init.constant_(net.fc2.weight, 0.0)
    torch.nn.init.constant_(net.fc2.bias, 0.0)
    with torch.no_grad():
        net.fc2.bias[1] = 1.0
    return save(tmp_path_factory.mktemp("judge") / "lenet.safetensors", keymap.to_theirs(net.state_dict()))


def pictures(runs: Path, held: bool = True) -> torch.Tensor:
    source = open_source(f"mnist:{runs / 'data'}", View())
    return (source.held_out if held else source.training).all_images()


def labels_of(pictures: Pictures) -> torch.Tensor:
    found = pictures.all_labels()
    assert found is not None
    return found


def test_patches_of_samples_and_of_other_pictures(hvis: Any, runs: Path) -> None:
    words = ["evaluate", runs / "gan", "--split", "validation", "--seed", 3]
    said = hvis([*words, "--swd", 4, "--json"])
    assert said.code == 0, said.err
    found, held = said.document, pictures(runs)
    system = bind_run(runs / "gan")
    numbers = {**vars(system.defaults), "seed": 3}
    samples = torch.cat(list(drawn(system, [""] * 4, type(system.defaults)(**numbers))))
    patches = Patches(seed=3)
    want = patch_distances(samples, held[::2], patches)
    assert (found["n"], found["samples"], found["swd"].keys()) == (4, 4, {"12", "mean"})
    assert found["swd"]["12"] == pytest.approx(want[12]) and found["swd"]["mean"] == pytest.approx(
        mean_patch_distance(want)
    )
    assert found["swd_of_real"]["12"] == pytest.approx(patch_distances(held[1::2], held[::2], patches)[12])
    alone = hvis([*words, "--swd", 100, "--json"]).document
    assert (alone["n"], alone["swd_of_real"]) == (8, None) and "too few pictures" in " ".join(alone["notes"])
    text = hvis([*words, "--swd", 4])
    assert "12 px" in text.out and "other real pictures" in text.out


def test_ways_between_draws_have_a_length(hvis: Any, runs: Path, lenet: Path) -> None:
    said = hvis(["evaluate", runs / "gan", "--path-length", 40, "--seed", 5, "--json"])
    assert said.code == 0, said.err
    told = said.document["path_length"]["z"]
    model = bind_run(runs / "gan").generator.__closure__  # the model itself stands in a closure
    gan = next(cell.cell_contents for cell in model if isinstance(cell.cell_contents, GAN))
    a, b = (gan.latents(40, {}, noise=SeedNoise(range(5 + end, 85 + end, 2))) for end in (0, 1))
    want = path_length(gan.decode, [(a, b)], lambda x: x.flatten(1), way=great_circle, steps=Steps(seed=5))
    assert told == {"mean": pytest.approx(want.mean, rel=1e-3), "error": pytest.approx(want.error, rel=1e-3), "n": 40}
    judged = hvis(["evaluate", runs / "gan", "--path-length", 8, "--judge", lenet, "--json"]).document
    assert judged["features"] == lenet.name and judged["path_length"]["z"]["mean"] != told["mean"]


def test_a_style_based_generator_has_two_lengths_and_a_flow_one(hvis: Any, runs: Path) -> None:
    styles = hvis(["evaluate", runs / "stylegan", "--path-length", 6, "--json"]).document["path_length"]
    assert styles.keys() == {"w", "z"} and all(found["mean"] > 0 for found in styles.values())
    flow = hvis(["evaluate", runs / "nice", "--path-length", 6, "--json"]).document["path_length"]
    assert flow.keys() == {"z"}


def test_classes_are_told_by_a_judge(hvis: Any, runs: Path, lenet: Path) -> None:
    """A judge that sees ones everywhere finds a tenth of what a model of ten classes draws, and those bars that lie."""
    words = ["evaluate", runs / "cgan", "--accuracy", 20, "--judge", lenet, "--split", "train"]
    said = hvis([*words, "--json"])
    assert said.code == 0, said.err
    found = said.document
    assert found["accuracy"]["mean"] == pytest.approx(0.1) and found["accuracy"]["each"]["1"] == 1.0
    assert found["accuracy"]["standard_error"] == pytest.approx((0.1 * 0.9 / 20) ** 0.5)
    assert found["of_real_pictures"]["mean"] == 16 / 40 and found["chance"] == pytest.approx(0.1)
    assert (found["samples"], found["n"], found["judge"]) == (20, 40, lenet.name)
    assert "drawn as asked    10.00%" in hvis(words).out


def test_a_classifier_trained_here_is_a_judge(hvis: Any, runs: Path, tmp_path: Path) -> None:
    numbers = {"denoiser": str(runs / "ddpm"), "data": f"mnist:{runs / 'data'}", "steps": 60, "lr": 1e-2, "warmup": 0,
               "batch": 16, "sample_every": 0, "net": DIFFUSION["net"]}  # fmt: skip
    run = train("noisy_classifier", tmp_path / "judge", numbers)
    words = ["evaluate", runs / "cgan", "--accuracy", 10, "--judge", tmp_path / "judge", "--split", "train", "--json"]
    found = hvis(words).document
    reader = open_judge(run.path, Classifies, "tell classes", torch.device("cpu"))
    seen = open_source(f"mnist:{runs / 'data'}", View()).training.some(40)
    right = (reader.log_probs(seen.all_images()).argmax(1) == labels_of(seen)).double()
    assert found["of_real_pictures"]["mean"] == float(right.mean()) > 0.55
    assert len(found["accuracy"]["each"]) == 10
    ways = ["evaluate", runs / "gan", "--path-length", 4, "--json"]
    by_judge, by_pixels = (hvis([*ways, *more]).document for more in (["--judge", tmp_path / "judge"], []))
    assert (by_judge["features"], by_pixels["features"]) == ("judge", "pixels")
    assert by_judge["path_length"] != by_pixels["path_length"]
    data = digits(tmp_path / "more", count=160)
    distance = ["evaluate", runs / "gan", "--frechet", 50, "--judge", run.path, "--data", data, "--split", "train"]
    said = hvis([*distance, "--json"])
    assert said.code == 0, said.err
    held = open_source(data, View()).training.some(100).all_images()
    features = open_features(run.path, torch.device("cpu"))
    one, other = (gather(features, [held[half::2]]) for half in (0, 1))
    assert said.document["judge"] == "judge"
    assert said.document["frechet"]["floor"] == pytest.approx(frechet(other, one), rel=1e-3)
    with pytest.raises(UsageError, match="cannot fill holes. Give another one"):
        open_judge(run.path, Decodes, "fill holes", torch.device("cpu"))


def test_the_distance_of_samples_to_real_pictures(hvis: Any, tmp_path: Path) -> None:
    """That of the pictures that these numbers draw, above its floor, which is that of other real pictures."""
    torch.manual_seed(0)
    judge = save(tmp_path / "lenet.safetensors", digit_judge.keymap().to_theirs(LeNet5().state_dict()))
    data = digits(tmp_path / "data", count=160)
    run = train("ddpm", tmp_path / "run", {**SMALL, **NETS["ddpm"], "data": data})
    how = ["--sampler", "heun", "--steps", 3, "--schedule", "trailing", "--seed", 3]
    words = ["evaluate", run.path, "--frechet", 50, "--judge", judge, "--split", "train", *how]
    said = hvis([*words, "--json"])
    assert said.code == 0, said.err
    found = said.document
    held = open_source(data, View()).training.some(100).all_images()
    look = digit_judge.bind(judge).features
    real, others = (gather(look, [held[half::2]]) for half in (0, 1))
    system = bind_run(run.path)
    numbers = replace(system.defaults, sampler="heun", steps=3, schedule="trailing", seed=3)
    samples = gather(look, [torch.cat(list(drawn(system, [""] * 50, numbers)))])
    assert found["frechet"] == {
        "value": pytest.approx(frechet(samples, real), rel=1e-3),
        "floor": pytest.approx(frechet(others, real), rel=1e-3),
    }
    assert found["frechet"]["value"] > 3 * found["frechet"]["floor"]  # six steps of training are not enough
    assert found["drawn"] == {"sampler": "heun", "schedule": "trailing", "steps": 3, "guidance_scale": 1.0}
    assert "by heun in 3 steps" in hvis(words).out
    for extra, message in ((["--sampler", "hoin"], "heun"), (["--guidance-scale", "much"], "must be a number")):
        assert message in hvis([*words, *extra]).paragraph
    early = hvis([*words, "--sampler", "hoin", "--judge", tmp_path / "no-such-judge"])
    assert "heun" in early.paragraph  # the name is refused before the judge looks at real pictures
    assert "--frechet 1000" in hvis(["evaluate", run.path, "--steps", 3]).paragraph


def test_what_has_no_sampler_is_not_told_to_be_drawn_by_one(hvis: Any, lenet: Path, tmp_path: Path) -> None:
    data = digits(tmp_path / "data", count=160)
    run = train("gan", tmp_path / "gan", {**SMALL, **NETS["gan"], "data": data})
    words = ["evaluate", run.path, "--frechet", 50, "--judge", lenet, "--split", "train"]
    said = hvis([*words, "--json"])
    assert said.code == 0, said.err
    assert "drawn" not in said.document and "50 pictures against as many" in hvis(words).out
    refused = hvis([*words, "--sampler", "heun", "--guidance-scale", 2])
    assert refused.code == 2 and "no diffusion model" in refused.paragraph
    assert "--sampler, --guidance-scale" in refused.paragraph


@pytest.mark.parametrize("recipe", ["vae", "dcgan"])
def test_a_linear_probe_of_what_a_model_knows(hvis: Any, runs: Path, recipe: str) -> None:
    said = hvis(["evaluate", runs / recipe, "--probe", 30, "--split", "train", "--json"])
    assert said.code == 0, said.err
    found = said.document
    source = open_source(f"mnist:{runs / 'data'}", View())
    fitted, held = source.training.some(30), source.training.some(40)
    x, other = (pictures.all_images().flatten(1) for pictures in (fitted, held))
    want = linear_probe((x, labels_of(fitted)), (other, labels_of(held)))
    assert found["probe_of_pixels"]["accuracy"] == want.accuracy and found["fitted_to"] == 30
    if recipe == "vae":
        vae = bind_run(runs / "vae").parts["vae"]
        assert isinstance(vae, VAE)
        seen = (gather(vae.encode, [p.all_images()]) for p in (fitted, held))
        want = linear_probe((next(seen), labels_of(fitted)), (next(seen), labels_of(held)))
        assert found["probe"]["accuracy"] == want.accuracy > 0.6
    assert found["probe"]["n"] == 40 and np.isfinite(found["probe"]["error"])


def test_what_cannot_be_measured_is_refused(hvis: Any, runs: Path, lenet: Path, tmp_path: Path) -> None:
    tensors = save(tmp_path / "other.safetensors", {"x": torch.zeros(2)})
    bars = folder(tmp_path / "bars", side=12, colour=False)
    gan, cgan = runs / "gan", runs / "cgan"
    for words, code, message in (
        ([gan, "--accuracy", 5], 2, "Give --judge FILE"),
        ([gan, "--accuracy", 5, "--judge", lenet], 2, "knows no classes"),
        ([cgan, "--accuracy", 5, "--judge", tmp_path / "none.pth"], 3, "none.pth"),
        ([cgan, "--accuracy", 5, "--judge", tensors], 3, "holds no judge that is known here; there are digits judge"),
        ([cgan, "--accuracy", 5, "--judge", gan], 2, "trains no judge of pictures. Recipes that do: noisy_classifier"),
        ([cgan, "--accuracy", 5, "--judge", lenet, "--data", bars], 2, "not sorted into the classes"),
        ([gan, "--judge", lenet], 2, "Say what the judge shall tell"),
        ([gan, "--swd", 8, "--judge", lenet], 2, "--judge does not go together with --swd"),
        ([gan, "--path-length", 8, "--split", "test"], 2, "--split does not go together with --path-length"),
        ([gan, "--swd", 0], 2, "--swd must be a whole number of at least 1"),
        ([gan, "--probe", 8], 2, "has no encoder"),
        ([runs / "ddpm", "--path-length", 8], 2, "has no latents with a law of their own"),
    ):
        said = hvis(["evaluate", *words])
        assert said.code == code and message in said.paragraph, (words, said.paragraph)


def test_the_record_repeats_itself(hvis: Any, runs: Path, tmp_path: Path) -> None:
    target = tmp_path / "swd.json"
    words = ["evaluate", runs / "vae", "--swd", 8, "--split", "train", "--limit", 8, "-o", target]
    assert hvis(words).code == 0
    record = json.loads(target.read_text())
    again = hvis([*record["command"].split()[1:], "--json"]).document
    assert again["swd"] == record["swd"] and record["split"] == "train"
