"""What the training loop says and leaves: NaN, callbacks, checkpoints kept, other settings refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract.fit_child import CONFIG, PLAIN, QUIET, Points, Toy, assert_same_bits, mlp, weights

from huggingvis.core.errors import Cancelled, FileProblem, NumericalTrouble, UsageError
from huggingvis.core.objective import Losses
from huggingvis.core.protocols import Batch
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings


def test_not_a_number_names_loss_and_step(tmp_path: Path) -> None:
    class Breaks(Toy):
        def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
            losses = super().loss(batch, step, rng)
            return {
                **losses,
                "kl": losses["mse"] * (float("nan") if step == 6 else 0.0),
                "_odd": torch.tensor(float("inf")),
            }

    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=5, log_every=100, progress=False)
    with pytest.raises(NumericalTrouble, match=r"'loss.kl' became nan at step 7") as caught:
        fit(Breaks(), Points(), run, optim=PLAIN, steps=20, batch_size=4, settings=settings)
    assert caught.value.exit_code == 5
    assert [c.step for c in run.checkpoints()] == [5]
    assert all(torch.isfinite(value).all() for value in weights(run).values())


def test_infinite_gradient_is_found(tmp_path: Path) -> None:
    class Root(Toy):
        def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
            return {"root": (self.net(batch["x"]) * 0.0).abs().sum().sqrt()}

    with pytest.raises(NumericalTrouble, match=r"gradient norm of 'net' became (nan|inf) at step 1"):
        fit(Root(), Points(), Run.create(tmp_path / "r", {}), optim=PLAIN, steps=3, batch_size=4, settings=QUIET)


def test_callbacks_see_averages_and_leave_no_trace(tmp_path: Path) -> None:
    seen = []

    def draw(at: TrainStep) -> None:
        with at.averaged():
            seen.append((at.step, at.objective.net.training, torch.is_grad_enabled(), float(torch.randn(()))))
        assert at.objective.net.training and at.run.samples.is_dir()

    runs = [Run.create(tmp_path / name, {}) for name in "ab"]
    for run, calls in zip(runs, ((draw,), ()), strict=True):
        toy_ema = Ema(ConstantDecay(0.9))
        fit(Toy(), Points(), run, optim=PLAIN, steps=4, batch_size=4, ema=toy_ema, settings=QUIET, on_step=calls)
    assert [s[:3] for s in seen] == [(n, False, False) for n in (1, 2, 3, 4)]
    assert_same_bits(weights(runs[0]), weights(runs[1]))


def test_the_callers_random_numbers_stay(tmp_path: Path) -> None:
    toy, run = Toy(), Run.create(tmp_path / "r", {})
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    fit(toy, Points(), run, optim=PLAIN, steps=3, batch_size=4, settings=QUIET)
    assert torch.equal(torch.randn(4), expected)


def test_a_callback_can_stop(tmp_path: Path) -> None:
    def stop(at: TrainStep) -> None:
        if at.step == 3:
            raise Cancelled("enough")

    run = Run.create(tmp_path / "r", {})
    with pytest.raises(Cancelled, match="after step 3 of 9"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=9, batch_size=4, settings=QUIET, on_step=[stop])
    assert run.latest().step == 3


def test_which_checkpoints_stay(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=2, keep_last=2, keep_every=6, log_every=4, progress=False)
    fit(Toy(), Points(), run, optim=PLAIN, steps=17, batch_size=4, settings=settings)
    assert [c.step for c in run.checkpoints()] == [6, 12, 16, 17]
    assert [r["step"] for r in run.metrics()] == [4, 8, 12, 16, 17]


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", CONFIG)
    fit(Toy(), Points(), run, optim=PLAIN, steps=2, batch_size=4, settings=QUIET)
    with pytest.raises(UsageError, match=r"net.width: 24 then, 32 now"):
        Run.open(tmp_path / "r", {**CONFIG, "net": {"width": 32}})
    assert Run.open(tmp_path / "r", {**CONFIG, "steps": 999}).config == CONFIG
    with pytest.raises(UsageError, match="batch_size: 4 then, 8 now"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=4, batch_size=8, settings=QUIET)
    with pytest.raises(UsageError, match="holds a run already"):
        Run.begin(tmp_path / "r", CONFIG)
    with pytest.raises(FileProblem, match="not a run folder"):
        Run.open(tmp_path)
    wide = Toy()
    wide.net = mlp(32)
    with pytest.raises(UsageError, match=r"0.weight is \(24, 4\) there and \(32, 4\) here"):
        fit(wide, Points(), run, optim=PLAIN, steps=4, batch_size=4, settings=QUIET)


def test_one_training_per_folder(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    with run.locked(), pytest.raises(UsageError, match="Another training is writing"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=1, batch_size=4, settings=QUIET)
    fit(Toy(), Points(), run, optim=PLAIN, steps=1, batch_size=4, settings=QUIET)
