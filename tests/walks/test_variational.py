"""Autoencoders of chapter 1 on tiny pictures: they learn, load again, draw, reconstruct, complete and resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train
from torch import Tensor

import huggingvis as hv
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.objectives.autoencoder import Autoencoder
from huggingvis.objectives.cvae import CVAE
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.sources import View, open_source
from huggingvis.recipes.variational.cvae_quadrants import negative_cll, networks_of

SMALL = {"widths": [32], "latent_dim": 4, "batch": 16, "lr": 1e-2, "sample_every": 20}


def trained_on(data: str) -> Tensor:
    """The training pictures; those held out stand at places that these do not show."""
    training = open_source(data, View()).training
    return training.batch(0, len(training))["image"]


@pytest.mark.parametrize("loss", ["squared", "linear", "entropy"])
def test_autoencoder_learns_loads_and_draws(tmp_path: Path, loss: str) -> None:
    data = digits(tmp_path / "data")
    run = train("autoencoder", tmp_path / "run", {**SMALL, "data": data, "steps": 120, "loss": loss})
    assert len(course(run, "validation._squared_error")) == 6
    system = bind_run(run.path)
    model = system.parts["autoencoder"]
    assert isinstance(model, Autoencoder) and int(model.code_count) == 15  # steps 0, 8, ... 112
    x = trained_on(data)
    error, knowing_nothing = ((x - y).square().sum() for y in (model.decode(model.encode(x)), x.mean(0)))
    assert float(error) < 0.6 * float(knowing_nothing)
    first = drawn(system)
    assert first.shape == (2, 12, 12, 1) and np.array_equal(first, drawn(system))
    assert not np.array_equal(first[0], first[1])


def test_autoencoder_on_colour_pictures_with_convolutions(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "size": 9, "net": "conv", "widths": [8, 8], "flip": True}
    run = train("autoencoder", tmp_path / "run", {**numbers, "steps": 40})
    assert course(run, "validation.reconstruction")[-1] < course(run, "validation.reconstruction")[0]
    assert drawn(bind_run(run.path)).shape == (2, 9, 9, 3)


def test_autoencoder_resumes_to_the_same_bits(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "lr": 1e-3, "steps": 12}
    straight = train("autoencoder", tmp_path / "straight", numbers)
    run = train("autoencoder", tmp_path / "broken", numbers)
    assert_same_weights(straight, run)
    more = train("autoencoder", tmp_path / "straight", {**numbers, "steps": 20}, resume=True)
    assert_same_weights(more, train("autoencoder", tmp_path / "broken", {**numbers, "steps": 20}, resume=True))


def test_vae_by_the_importance_weighted_bound(tmp_path: Path) -> None:
    data = digits(tmp_path / "data")
    run = train("vae", tmp_path / "run", {**SMALL, "data": data, "steps": 60, "draws": 5})
    bound = course(run, "validation.bound")
    assert bound[2] < bound[0] < 12 * 12 * 0.6931
    assert all(1 / 5 <= share <= 1 for share in course(run, "validation._effective"))
    assert drawn(bind_run(run.path)).shape == (2, 12, 12, 1)
    with pytest.raises(UsageError, match="no KL term to weigh"):
        train("vae", tmp_path / "other", {**SMALL, "data": data, "draws": 5, "beta": 2.0})


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_cvae_draws_the_class_it_is_asked_for(tmp_path: Path, net: str) -> None:
    """Upright bars light whole columns and lying ones whole rows: where the spread is tells which was drawn."""
    numbers = {**SMALL, "data": folder(tmp_path / "data", count=48, colour=False), "size": 8, "channels": 1, "net": net}
    run = train("cvae", tmp_path / "run", {**numbers, "likelihood": "grey", "steps": 150, "widths": [48]})
    bound = [a + b for a, b in zip(course(run, "validation.reconstruction"), course(run, "validation.kl"), strict=True)]
    assert bound[-1] < bound[0]
    system = bind_run(run.path)
    assert system.spec.card["classes"] == ["lying", "upright"]
    tiles = hv.explore("classes", system, numbers={"columns": 2, "seed": 4})[1].tiles
    assert (tiles.row_labels, tiles.column_labels) == (("lying", "upright"), ("seed 4", "seed 5"))
    second = drawn(system, "upright", count=1, seed=5)[0].astype(int)
    assert np.abs(tiles.pictures[3].pixels - second).max() <= 1  # a batch of two may differ in the last bit

    def uprightness(prompt: str) -> float:
        pictures = drawn(system, prompt, count=16)[..., 0].astype(float)
        return float((pictures.mean(1).std(-1) - pictures.mean(2).std(-1)).mean())

    assert uprightness("upright") > 10 and uprightness("lying") < -10
    assert np.array_equal(drawn(system, "upright"), drawn(system, "1"))
    assert drawn(system).shape == (2, 8, 8, 1)
    with pytest.raises(UsageError, match="no class called 'uprigth'.*'upright'"):
        drawn(system, "uprigth")


def test_cvae_needs_classes(tmp_path: Path) -> None:
    folder(tmp_path / "data")
    with pytest.raises(UsageError, match="needs classes"):
        train("cvae", tmp_path / "run", {**SMALL, "data": f"folder:{tmp_path / 'data' / 'lying'}"})


def test_quadrants_are_completed(tmp_path: Path) -> None:
    data = digits(tmp_path / "data")
    run = train("cvae_quadrants", tmp_path / "run", {**SMALL, "data": data, "steps": 120, "seen": 2, "lr": 3e-3})
    assert {len(course(run, key)) for key in ("validation.baseline", "validation._negative_cll")} == {6}
    cvae, baseline = networks_of(run, torch.device("cpu"))
    assert isinstance(cvae, CVAE)
    x = trained_on(data)[:8]
    whole = cvae.sample(8, {"concat": x}, noise=SeedNoise(range(8)))
    assert torch.equal(whole[..., :6], x[..., :6]) and not torch.equal(whole[..., 6:], x[..., 6:])
    many = torch.cat([x] * 4)  # each binarised anew
    scores = {name: float(nats.mean()) for name, nats in negative_cll(cvae, baseline, many, draws=30).items()}
    fair_coins = 72 * 0.6931  # half of 144 pixels are told
    assert scores["baseline"] < 0.7 * fair_coins and scores["importance"] < 0.85 * fair_coins
    assert scores["importance"] < scores["monte_carlo"] + 1.0
    again = negative_cll(cvae, baseline, many, draws=30)
    assert scores == {name: float(nats.mean()) for name, nats in again.items()}


@pytest.mark.parametrize("recipe", ["vae", "nice"])
def test_schedule_averages_and_muon_are_asked_for(tmp_path: Path, recipe: str) -> None:
    """The last rate is small, averages are kept and lag behind, matrices have Muon's memory, the rest Adam's."""
    sizes = {"widths": [32, 32], "schedule": "cosine"} if recipe == "vae" else {"net": {"width": 32, "depth": 2}}
    numbers = {"data": digits(tmp_path / "data"), "steps": 4, "batch": 4, "lr": 1e-2, "ema": 0.9, "muon": True}
    net = "vae" if recipe == "vae" else "flow"
    run = train(recipe, tmp_path / "run", {**numbers, **sizes})
    assert 0 < course(run, f"lr.{net}")[-1] < 2e-3
    last = run.checkpoints()[-1]
    live, averaged = last.tensors(net), last.tensors(f"{net}.ema")
    assert any(not torch.equal(live[key], averaged[key]) for key in live)
    state = last.tensors(f"{net}.optim")
    assert any("momentum" in key for key in state) and any("exp_avg" in key for key in state)
