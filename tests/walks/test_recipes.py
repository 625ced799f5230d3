"""Every recipe on tiny pictures: it learns, its run loads again, draws the same from the same seed, and resumes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import assert_same_weights, course, digits, drawn, folder, train

from huggingvis.core import config as records
from huggingvis.core.catalog import find_recipe
from huggingvis.core.classes import ANY, one_hot
from huggingvis.core.errors import FileProblem, MissingExtra, UsageError
from huggingvis.core.layout import Background, Box, Layout, Thing
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.data.world import World
from huggingvis.edits.generate import generate
from huggingvis.recipes.classes import with_any
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.sources import Facts, View, open_source
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.train.run import Run

UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 1], "heads": 2}
STAGE = {
    "channels": [8, 16],
    "patch": 1,
    "latent_channels": 2,
    "steps": 30,
    "batch": 8,
    "adversary_from": 25,
    "lr": 3e-3,
}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 0, "warmup": 0, "batch": 8}


# ---- data ------------------------------------------------------------------------------------------------------------


def test_the_world_has_classes_for_those_who_ask(tmp_path: Path) -> None:
    world = World(size=16)
    plain, known = (open_source("world:40", View(16, classes=asked)) for asked in (False, True))
    assert plain.facts == Facts("world:40", 40, 16, 3)
    assert known.facts == replace(plain.facts, classes=world.sprites.groups) and known.facts.view == View(
        16, 3, classes=True
    )
    ours, theirs = plain.training.batch(1, 8), known.training.batch(1, 8)
    assert set(ours) == {"image", "caption"} and set(theirs) == {"image", "caption", "label"}
    assert torch.equal(ours["image"], theirs["image"]) and ours["caption"] == theirs["caption"]
    labels, layouts = known.training.all_labels(), [world.layout(i) for i in range(40)]
    assert labels is not None and len(labels.unique()) > 4
    for layout, label in zip(layouts, labels, strict=True):
        area = {thing.sprite: thing.box.area for thing in layout.things}
        assert world.sprites[max(area, key=area.__getitem__)].group == known.facts.classes[label]
    alike = tuple(Thing(name, Box(x, 0.0, x + 0.4, 0.4)) for name, x in (("circle", 0.0), ("fox", 0.25)))
    for things in (alike, alike[::-1]):  # of two as large as each other, what is in front
        kind = world.kind(Layout(16, Background("plain", ((0, 0, 0),)), things))
        assert world.sprites.groups[kind] == world.sprites[things[-1].sprite].group


@pytest.mark.parametrize(("asked", "learnt"), [({}, 0), ({"conditional": True}, 8)])
def test_ddpm_learns_classes_of_the_world_only_if_asked(tmp_path: Path, asked: dict[str, bool], learnt: int) -> None:
    run = train("ddpm", tmp_path / "run", {**SMALL, **asked, "data": "world:16", "size": 16, "net": UNET, "steps": 1})
    assert len(Facts.of(run).classes) == learnt == len(bind_run(run.path).spec.card["classes"])


# ---- variational autoencoder -----------------------------------------------------------------------------------------

VAE = {"widths": [32], "latent_dim": 4, "batch": 16, "lr": 1e-2, "sample_every": 20}


def test_vae_learns_loads_and_draws(tmp_path: Path) -> None:
    run = train("vae", tmp_path / "run", {**VAE, "data": digits(tmp_path / "data"), "steps": 60})
    bound = [a + b for a, b in zip(course(run, "validation.reconstruction"), course(run, "validation.kl"), strict=True)]
    assert len(bound) == 3 and bound[2] < bound[0] < 12 * 12 * 0.6931  # a fair coin for every pixel
    assert sorted(p.name for p in run.samples.iterdir()) == [f"step-{n:08d}.png" for n in (20, 40, 60)]
    system = bind_run(tmp_path / "run")
    assert system.spec.size == (12, 12) and system.spec.family == "vae"
    first = drawn(system)
    assert first.shape == (2, 12, 12, 1) and np.array_equal(first, drawn(system))
    assert not np.array_equal(first[0], first[1])
    assert np.abs(drawn(system, count=1, seed=4)[0].astype(int) - first[1]).max() <= 1  # picture i has seed + i
    with pytest.raises(UsageError, match="without words or classes.*'a fox'"):
        drawn(system, "a fox")
    with pytest.raises(UsageError, match="12 x 12 pixels and no other"):
        generate(system, Request(canvas=Canvas(width=24, height=24)))


def test_unasked_grey_pictures_are_switched_on_and_off_and_colours_are_not(tmp_path: Path) -> None:
    sets = {"grey": (digits(tmp_path / "digits"), 2), "colour": (folder(tmp_path / "photos"), 99)}
    for recipe in ("vae", "cvae"):
        for name, (data, most) in sets.items():
            module, place = find_recipe(recipe), tmp_path / f"{recipe}-{name}"
            run = train(recipe, place, {"data": data, "size": 8, "steps": 1, "widths": [8], "batch": 4})
            config = records.from_dict(module.Config, run.config["config"])
            facts = Facts.of(run)
            shown = open_source(data, View(8)).training.batch(0, 8)["image"]
            modelled = module.network(config, facts).likelihood.observe(shown, torch.Generator().manual_seed(0))
            assert 2 <= len(modelled.unique()) <= most
            if name == "colour":
                assert torch.equal(modelled, shown)
                assert "a density of values" in module.measure(config, run, torch.device("cpu")).meaning


@pytest.mark.parametrize("likelihood", ["grey", "gaussian"])
def test_vae_on_colour_pictures_with_convolutions(tmp_path: Path, likelihood: str) -> None:
    numbers = {**VAE, "data": folder(tmp_path / "data"), "size": 9, "net": "conv", "widths": [8, 8], "flip": True}
    run = train("vae", tmp_path / "run", {**numbers, "likelihood": likelihood, "steps": 40, "lr": 1e-2})
    bound = [a + b for a, b in zip(course(run, "validation.reconstruction"), course(run, "validation.kl"), strict=True)]
    assert bound[-1] < bound[0]
    assert drawn(bind_run(run.path)).shape == (2, 9, 9, 3)


def test_vae_learns_large_colour_pictures_at_its_defaults(tmp_path: Path) -> None:
    """The first layer reads 12288 numbers. Fresh weights cost ten times what a grey picture does."""
    numbers = {
        "data": "world:100",
        "likelihood": "gaussian",
        "batch": 16,
        "steps": 30,
        "sample_every": 0,
        "widths": [64],
    }
    run = train("vae", tmp_path / "run", numbers)
    (mean,), (last,) = course(run, "loss"), course(run, "validation.reconstruction")
    grey = 12.5 * float((open_source("world:100", View()).held_out.batch(0, 5)["image"] ** 2).sum() / 5)
    constants = 12288 * (math.log(0.2) + 0.5 * math.log(2 * math.pi))
    assert last - constants < 5 * grey and mean < 15 * grey


def test_vae_resumes_to_the_same_bits(tmp_path: Path) -> None:
    numbers = {**VAE, "data": digits(tmp_path / "data"), "flip": True}
    straight = train("vae", tmp_path / "straight", {**numbers, "steps": 12})
    train("vae", tmp_path / "broken", {**numbers, "steps": 5})
    with pytest.raises(UsageError, match="holds a run already"):
        train("vae", tmp_path / "broken", {**numbers, "steps": 12})
    with pytest.raises(UsageError, match="config.latent_dim: 4 then, 5 now"):
        train("vae", tmp_path / "broken", {**numbers, "steps": 12, "latent_dim": 5}, resume=True)
    assert_same_weights(straight, train("vae", tmp_path / "broken", {**numbers, "steps": 12}, resume=True))
    digits(tmp_path / "data", count=60)
    with pytest.raises(UsageError, match="started on other data"):
        train("vae", tmp_path / "broken", {**numbers, "steps": 13}, resume=True)


# ---- diffusion -------------------------------------------------------------------------------------------------------


def test_ddpm_learns_loads_and_draws(tmp_path: Path) -> None:
    numbers = {**SMALL, "net": UNET, "lr": 3e-3, "data": folder(tmp_path / "data"), "size": 8, "ema": 0.9}
    run = train("ddpm", tmp_path / "run", {**numbers, "steps": 40, "sample_every": 10})
    losses = course(run, "validation.mse")
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0] and losses[-1] < 0.8
    system = bind_run(run.path)
    assert system.limits.multiple == 2 and system.spec.card["classes"] == ["lying", "upright"]
    pictures = {prompt: drawn(system, prompt) for prompt in ("", "upright", "lying")}
    assert pictures["upright"].shape == (2, 8, 8, 3)
    assert np.array_equal(pictures["upright"], drawn(system, "Upright "))
    assert np.array_equal(pictures["upright"], drawn(system, "1"))
    assert not np.array_equal(pictures["upright"], pictures["lying"])
    assert not np.array_equal(pictures["upright"], pictures[""])
    larger = generate(system, Request(Prompt("lying"), Canvas(12, 10, 1), Sampling(steps=2)))
    assert larger[0].size == (12, 10)
    with pytest.raises(UsageError, match="no class called 'upwright'.*'upright'"):
        drawn(system, "upwright")


@pytest.mark.parametrize(("process", "prediction"), [("cosine", "v"), ("flow", "velocity"), ("linear", "x0")])
def test_ddpm_without_classes_on_grey_pictures(tmp_path: Path, process: str, prediction: str) -> None:
    names = {"process": process, "prediction": prediction, "conditional": False}
    numbers = {**SMALL, **names, "net": UNET, "lr": 3e-3, "data": digits(tmp_path / "data"), "size": 8}
    run = train("ddpm", tmp_path / "run", {**numbers, "steps": 20, "sample_every": 5})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0]
    pictures = drawn(bind_run(run.path))
    assert pictures.shape == (2, 8, 8, 1) and pictures.std() > 0


def test_ddpm_resumes_to_the_same_bits_on_two_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = folder(tmp_path / "data", count=2, colour=False)
    numbers = {**SMALL, "net": UNET, "data": data, "size": 8, "channels": 1, "flip": True, "batch": 4}
    straight = train("ddpm", tmp_path / "straight", {**numbers, "steps": 6})
    assert "too few pictures to hold any out" in capfd.readouterr().err
    train("ddpm", tmp_path / "broken", {**numbers, "steps": 2})
    assert_same_weights(straight, train("ddpm", tmp_path / "broken", {**numbers, "steps": 6}, resume=True))
    assert drawn(bind_run(straight.path), "upright").shape == (2, 8, 8, 1)


def test_latent_diffusion_learns_loads_and_draws(tmp_path: Path) -> None:
    numbers = {**SMALL, "net": UNET, "autoencoder": STAGE, "data": folder(tmp_path / "data"), "size": 8, "flip": True}
    numbers |= {"lr": 3e-3, "ema": 0.9, "sample_every": 10}
    run = train("latent_diffusion", tmp_path / "run", {**numbers, "steps": 30})
    stage = Run.open(run.path / "autoencoder")
    first, last = course(stage, "validation.l2")[0], course(stage, "validation.l2")[-1]
    assert last < 0.8 * first
    losses = course(run, "validation.mse")
    assert len(losses) == 3 and losses[-1] < losses[0]
    system = bind_run(run.path)
    assert system.limits.multiple == 4
    pictures = drawn(system, "lying")
    assert pictures.shape == (2, 8, 8, 3) and np.array_equal(pictures, drawn(system, "lying"))
    assert not np.array_equal(pictures, drawn(system, "upright"))


def test_latent_diffusion_resumes_to_the_same_bits(tmp_path: Path) -> None:
    stage = {**STAGE, "steps": 4, "adversary_from": 2}
    numbers = {**SMALL, "net": UNET, "autoencoder": stage, "data": digits(tmp_path / "data"), "size": 8}
    straight = train("latent_diffusion", tmp_path / "straight", {**numbers, "steps": 5})
    train("latent_diffusion", tmp_path / "broken", {**numbers, "steps": 2})
    again = train("latent_diffusion", tmp_path / "broken", {**numbers, "steps": 5}, resume=True)
    assert_same_weights(straight, again)
    assert drawn(bind_run(again.path)).shape == (2, 8, 8, 1)


def test_numbers_that_do_not_go_together_say_so(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", count=2)
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("ddpm", {"process": "flow", "prediction": "eps"}, "ends in noise alone"),
        ("ddpm", {"size": 9}, "multiple of 2, found 9. Ask for --size 8 or 10"),
        ("latent_diffusion", {"size": 10, "autoencoder": STAGE}, "multiple of 4, found 10"),
        ("ddpm", {"net": {"channels": [16], "attention": [0, 0]}}, "for each level"),
        ("ddpm", {"net": {**UNET, "channels": [16, 12]}}, "multiples of 8"),
        ("ddpm", {"prediction": "noise"}, "no choice for 'prediction' called 'noise'"),
        ("ddpm", {"data": f"folder:{tmp_path / 'data' / 'lying'}", "conditional": True}, "no classes to condition on"),
    ]
    for recipe, numbers, message in wrong:
        with pytest.raises(UsageError, match=message):
            train(recipe, tmp_path / "run", {**SMALL, "net": UNET, "data": data, "size": 8, "steps": 1, **numbers})
        assert not (tmp_path / "run").exists()


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_each_epoch_is_an_order_of_its_own_and_any_batch_can_be_asked_for(tmp_path: Path) -> None:
    source = open_source(digits(tmp_path), View(flip=True), seed=5)
    pictures, n = source.training, source.facts.count
    assert n == 40 and len(source.held_out) == 8  # every sixth of a partial file is held out
    epochs = [np.concatenate([pictures.places(e * 5 + i, 8) for i in range(5)]) for e in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], np.arange(n))
    assert np.array_equal(pictures.places(1, 40), epochs[1])  # the order does not depend on the batch size
    assert 8 < sum(pictures.mirrored(i, 8).sum() for i in range(5)) < 32
    again = open_source(f"mnist:{tmp_path}", View(flip=True), seed=5).training.batch(7, 8)
    assert all(torch.equal(value, again[key]) for key, value in pictures.batch(7, 8).items())
    other = open_source(f"mnist:{tmp_path}", View(flip=True), seed=6).training.batch(7, 8)
    assert not torch.equal(pictures.batch(7, 8)["image"], other["image"])
    assert torch.equal(source.held_out.batch(1, 8)["image"], source.held_out.batch(0, 8)["image"])


def test_pictures_come_as_asked(tmp_path: Path) -> None:
    data = digits(tmp_path)
    x = open_source(data, View()).training.batch(0, 4)
    assert x["image"].shape == (4, 1, 12, 12) and x["label"].dtype == torch.int64
    assert float(x["image"].min()) == pytest.approx(20 / 127.5 - 1) and float(x["image"].max()) < 1
    shown = open_source(data, View(size=6, channels=3)).training.batch(0, 4)["image"]
    assert shown.shape == (4, 3, 6, 6) and torch.equal(shown[:, 0], shown[:, 2])
    assert torch.allclose(shown.mean((2, 3)), x["image"].mean((2, 3)).expand(-1, 3), atol=0.03)
    colour = open_source(folder(tmp_path / "colour"), View(size=8)).training.batch(0, 2)["image"]
    grey = open_source(f"folder:{tmp_path / 'colour'}", View(size=8, channels=1)).training.batch(0, 2)["image"]
    weighed = (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(grey, weighed, atol=2 / 127.5)


def test_a_folder_of_one_picture_and_its_caption(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (255, 0, 0, 128)).save(tmp_path / "one.png")
    (tmp_path / "one.txt").write_text("a red veil")
    source = open_source(str(tmp_path), View(size=16))
    batch = source.training.batch(0, 3)
    assert batch["image"].shape == (3, 3, 16, 16) and batch["caption"] == ["a red veil"] * 3
    assert source.facts.count == len(source.held_out) == 1 and any("only one image" in note for note in source.notes)


def test_a_share_of_a_larger_folder_is_held_out(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path, count=40), View(size=8))
    training, held = set(source.training.items.tolist()), set(source.held_out.items.tolist())
    assert len(training) == 38 and len(held) == 2 and not training & held


def test_the_world_is_a_source() -> None:

    try:
        source = open_source("world:6", View(size=32))
    except MissingExtra as error:
        pytest.skip(f"no colour emoji font here: {error}")
    batch = source.training.batch(0, 6)
    assert batch["image"].shape == (6, 3, 32, 32) and len(set(batch["caption"])) > 1 and len(source.held_out) == 1


def test_wrong_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for data, error, message in (
        ("minst", UsageError, "no training data called 'minst'.*'mnist'"),
        ("folder", UsageError, "needs a path"),
        (f"folder:{tmp_path / 'empty'}", FileProblem, "no images under"),
        (f"folder:{tmp_path / 'nowhere'}", FileProblem, "no folder"),
        (f"cifar10:{tmp_path}", FileProblem, "does not hold the official files of cifar10"),
        ("world:many", UsageError, "found 'many'"),
    ):
        with pytest.raises(error, match=message):
            open_source(data, View())
    with pytest.raises(UsageError, match="1 \\(grey\\) or 3"):
        View(channels=2)


# ---- classes and loading ---------------------------------------------------------------------------------------------


def test_classes_by_name_and_number() -> None:
    names = ClassConditioner(("T-shirt/top", "Ankle boot", "7"), torch.device("cpu"))
    assert [names.number(text) for text in ("ankle_boot", "t-shirt/top", "7", "2", "", " ")] == [1, 0, 2, 2, ANY, ANY]
    cond = names([Request(Prompt("7", "Ankle boot")), Request()])
    assert cond["vector"].tolist() == [[0, 0, 1], [0, 0, 0]] and cond["negative.vector"].tolist() == [
        [0, 1, 0],
        [0, 0, 0],
    ]


def test_a_share_of_the_labels_is_left_out() -> None:
    labels = torch.arange(1000) % 10
    left = with_any(labels, 0.2, index=3)
    assert torch.equal(left, with_any(labels, 0.2, index=3)) and not torch.equal(left, with_any(labels, 0.2, index=4))
    assert 150 < int((left == ANY).sum()) < 250 and torch.equal(left[left != ANY], labels[left != ANY])
    assert one_hot(left, 10).sum(1).tolist() == (left != ANY).float().tolist()


def test_folders_that_cannot_be_loaded_say_why(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="not a run folder"):
        bind_run(tmp_path)
    for name, record, error, message in (
        ("bare", {}, FileProblem, "does not say which recipe"),
        ("other", {"recipe": "dppm", "config": {}}, FileProblem, "config.toml.*no recipe called 'dppm'.*'ddpm'"),
        (
            "judge",
            {"recipe": "world_judge", "config": {}},
            UsageError,
            "no pictures.*ddpm.*latent_diffusion.*vae",
        ),
        ("typo", {"recipe": "ddpm", "config": {"stepz": 1}}, FileProblem, "'stepz'.*'steps'"),
        ("young", {"recipe": "vae", "config": {}}, FileProblem, "source.toml"),
    ):
        Run.create(tmp_path / name, record)
        with pytest.raises(error, match=message):
            bind_run(tmp_path / name)
