"""Adversarial recipes on tiny pictures: they learn, load again, draw the same from the same seed, resume, and warn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Turn
from huggingvis.nets.mlp_gan import MLPCritic, MLPGenerator
from huggingvis.objectives.gan import GAN, Adversarial
from huggingvis.recipes.adversarial_training import alarms
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.loading import bind_run
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.run import Run

KINDS = ["animal", "food", "plant", "vehicle", "building", "nature", "thing", "shape"]
SMALL = {"batch": 16, "lr": 5e-3, "latent_dim": 4, "sample_every": 0}
MLP = {**SMALL, "hidden": [32], "critic": "leaky", "critic_hidden": [32]}
WATCHED = ("_spread", "_rank", "_told_apart")


def test_gan_learns_loads_and_draws(tmp_path: Path) -> None:
    data = digits(tmp_path / "data")
    run = train("gan", tmp_path / "run", {**MLP, "data": data, "steps": 60, "sample_every": 30, "ema": 0.9})
    assert all(len(course(run, f"validation.{key}")) == 2 for key in ("critic", "generator", *WATCHED))
    assert course(run, "critic._told_apart")[0] > 0.6
    assert course(run, "generator.adversarial")[-1] > 1.0  # log 2 before a critic that knows nothing
    assert sorted(p.name for p in run.samples.iterdir()) == [f"step-{n:08d}.png" for n in (30, 60)]
    system = bind_run(tmp_path / "run")
    assert system.spec.size == (12, 12) and system.spec.family == "gan" and set(system.parts) == {"generator"}
    pictures = drawn(system, count=8)
    assert pictures.shape == (8, 12, 12, 1) and np.array_equal(pictures, drawn(system, count=8))
    assert not np.array_equal(pictures[0], pictures[1])
    assert abs(pictures.mean() - 55) < 30  # the pictures' mean; a fresh generator's is 127
    assert np.abs(drawn(system, count=1, seed=4)[0].astype(int) - pictures[1]).max() <= 1
    with pytest.raises(UsageError, match="without words or classes"):
        drawn(system, "a fox")


@pytest.mark.parametrize(
    "rules",
    [
        {"game": {"kind": "Wasserstein"}, "penalty": {"kind": "GradientPenalty"}, "critic_steps": 2},
        {"game": {"kind": "Hinge"}, "penalty": {"kind": "R1", "gamma": 1.0}, "penalty_every": 4},
    ],
    ids=["wasserstein", "hinge with lazy R1"],
)
def test_gan_under_other_rules_resumes_to_the_same_bits(tmp_path: Path, rules: dict[str, object]) -> None:
    numbers = {**MLP, "critic": "maxout", "data": digits(tmp_path / "data"), "prior": "uniform", **rules}
    straight = train("gan", tmp_path / "straight", {**numbers, "steps": 11})
    train("gan", tmp_path / "broken", {**numbers, "steps": 6})
    assert_same_weights(straight, train("gan", tmp_path / "broken", {**numbers, "steps": 11}, resume=True))
    found, other = "critic.penalty", "penalty.penalty"  # a lazy one is a turn of its own
    if "penalty_every" in rules:
        found, other = other, found
    assert course(straight, other) == [] and len(course(straight, found)) == 1
    # 10 (slope - 1)^2 within half of a slope of 1; and 4 times 1/2 slope^2 of a slope below it
    assert 0.01 < course(straight, found)[0] < (2.5 if found == "critic.penalty" else 2.0)
    assert drawn(bind_run(straight.path)).shape == (2, 12, 12, 1)


def test_cgan_learns_its_classes(tmp_path: Path) -> None:
    sizes = {
        "noise": 16,
        "label": 32,
        "joint": 64,
        "picture": 32,
        "critic_label": 32,
        "critic_joint": 32,
        "dropout": 0.0,
    }
    numbers = {**SMALL, "data": folder(tmp_path / "data", colour=False), "channels": 1, "size": 8, "net": sizes}
    numbers |= {"batch": 24, "lr": 2e-3, "betas": [0.5, 0.9], "penalty": {"kind": "R1", "gamma": 1.0}, "steps": 450}
    system = bind_run(train("cgan", tmp_path / "run", numbers).path)
    assert system.spec.card["classes"] == ["lying", "upright"]
    for name, down, right in (("upright", 1, 2), ("lying", 2, 1)):  # an upright bar is the same all the way down
        bars = drawn(system, name, count=16)[..., 0] / 255.0  # [N, H, W]
        assert bars.mean(down).var(1).mean() > 1.5 * bars.mean(right).var(1).mean(), name
    assert drawn(system, count=3).shape == (3, 8, 8, 1)  # any class
    with pytest.raises(UsageError, match="no class called 'upwright'.*'upright'"):
        drawn(system, "upwright")
    with pytest.raises(UsageError, match="no classes to condition on"):
        train("cgan", tmp_path / "other", {**numbers, "data": f"folder:{tmp_path / 'data' / 'lying'}"})


@pytest.mark.parametrize("recipe", ["cgan", "cvae"])
def test_the_world_is_sorted_into_kinds_for_those_who_ask(tmp_path: Path, recipe: str) -> None:
    numbers = {"data": "world:24", "size": 16, "batch": 4, "sample_every": 2, "steps": 2}
    system = bind_run(train(recipe, tmp_path / "run", numbers).path)
    assert system.spec.card["classes"] == KINDS
    assert np.array_equal(drawn(system, "animal"), drawn(system, "0"))
    with pytest.raises(UsageError, match="no class called 'vehicl'.*'vehicle'"):
        drawn(system, "vehicl")


def test_dcgan_learns_loads_and_draws(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "size": 9, "width": 4, "flip": True}
    straight = train("dcgan", tmp_path / "straight", {**numbers, "steps": 30})
    train("dcgan", tmp_path / "broken", {**numbers, "steps": 14})
    assert_same_weights(straight, train("dcgan", tmp_path / "broken", {**numbers, "steps": 30}, resume=True))
    system = bind_run(straight.path)
    pictures = drawn(system, count=8)
    assert pictures.shape == (8, 9, 9, 3) and np.array_equal(pictures, drawn(system, count=8))
    assert pictures.mean() < 105  # a fresh generator's pictures are grey


def test_pggan_grows_loads_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"data": folder(tmp_path / "data"), "size": 8, "width": 4, "most": 8, "fade": 64, "settle": 64}
    numbers |= {"batch": 8, "latent_dim": 4, "sample_every": 6}
    straight = train("pggan", tmp_path / "straight", {**numbers, "steps": 18})
    assert "have grown" not in capsys.readouterr().err
    broken = train("pggan", tmp_path / "broken", {**numbers, "steps": 5})
    assert "5 steps end before the pictures have grown to 8 pixels, which takes 17" in capsys.readouterr().err
    young = drawn(bind_run(broken.path)).astype(int)
    assert young.shape == (2, 8, 8, 3) and np.abs(young[:, ::2] - young[:, 1::2]).max() == 0  # still 4 pixels
    middle = train("pggan", tmp_path / "broken", {**numbers, "steps": 12}, resume=True)
    assert np.abs(np.diff(drawn(bind_run(middle.path)).astype(int), axis=1)[:, ::2]).max() > 0
    whole = train("pggan", tmp_path / "broken", {**numbers, "steps": 18}, resume=True)
    assert_same_weights(straight, whole)
    for key in ("validation.critic", "validation.generator", "validation._spread"):  # of players as grown at 6, 12, 18
        assert len(course(straight, key)) == 3 and course(straight, key) == course(whole, key)[-3:]
    names = [f"step-{step:08d}.png" for step in (6, 12, 18)]
    assert [p.name for p in sorted(straight.samples.iterdir())] == names
    assert all((straight.samples / name).read_bytes() == (whole.samples / name).read_bytes() for name in names)
    (real,), (drift,) = course(straight, "critic.real"), course(straight, "critic.drift")
    assert 1e-3 * real**2 < drift < 1e-3  # 0.001 E D(x)^2 is above that of the mean, and holds D near 0
    assert 1.0 < course(straight, "critic.penalty")[0] < 10.0  # 10 for a critic without slope
    with pytest.raises(UsageError, match="never gives 9 pixels"):
        train("pggan", tmp_path / "odd", {**numbers, "size": 9, "steps": 1})


def test_mode_collapse_is_named_once_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "run", {})
    objective = Adversarial(GAN(MLPGenerator((1, 4, 4), 3, (8,)), 3), MLPCritic((1, 4, 4), (8,)))
    batch = {"image": torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        objective.generator.get_parameter("layers.0.weight").zero_()  # z no longer matters
        watched = objective.critic_loss(batch, 0, torch.Generator().manual_seed(0))
    losses = {f"critic.{key}": float(watched[key]) for key in WATCHED}
    assert losses["critic._spread"] < 1e-3
    well = dict.fromkeys(losses, 1.0)
    alarm = next(a for a in alarms() if a.key == "critic._spread")

    def at(step: int, values: dict[str, float], measured: int | None = None) -> None:
        steps = dict.fromkeys(values, measured or step)
        alarm(TrainStep(step, 9999, values, steps, objective, None, run))

    for step in range(1, alarm.after + alarm.patience):
        at(step, losses)
    assert run.metrics() == [] and capsys.readouterr().err == ""  # not before it has lasted
    for step in range(2500, 2500 + 2 * alarm.patience):
        at(step, well, 2500)  # a number read once, as on an accelerator, is one measurement
        at(step, losses, 2501)
    assert run.metrics() == []
    for step in range(3000, 3000 + 2 * alarm.patience):
        at(step, losses)
    (record,) = run.metrics()
    assert record["trouble"].startswith("Mode collapse") and "--penalty R1" in record["trouble"]
    assert f"step {record['step']}: Mode collapse" in capsys.readouterr().err
    for step in range(4000, 4000 + alarm.patience):
        at(step, well)
    for step in range(5000, 5000 + alarm.patience):
        at(step, losses)
    assert len(run.metrics()) == 2  # it came back
    assert {a.key for a in alarms()} <= losses.keys()  # an alarm of what nobody reports would never ring


def test_a_critic_with_rate_0_stays_as_it_is(tmp_path: Path) -> None:
    numbers = {**MLP, "data": digits(tmp_path / "data"), "ema": 0.0}
    one, two = (train("gan", tmp_path / str(n), {**numbers, "steps": n, "critic_lr": 0.0}) for n in (1, 3))
    critics, makers = ([run.checkpoints()[-1].tensors(net) for run in (one, two)] for net in ("critic", "generator"))
    assert all(critics[0][key].equal(critics[1][key]) for key in critics[0])
    assert not any(makers[0][key].equal(makers[1][key]) for key in makers[0])


@pytest.mark.parametrize(("numbers", "found"), [({"every": 0}, "every 0 and repeat 1"), ({"repeat": -1}, "repeat -1")])
def test_a_turn_that_is_never_taken_is_refused(numbers: dict[str, int], found: str) -> None:
    with pytest.raises(UsageError, match=f"'critic'.*{found}"):
        Turn(lambda batch, step, rng: {}, ("critic",), name="critic", **numbers)


def test_a_net_without_heads_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one head, found 0"):
        UNetSizes(heads=0)
