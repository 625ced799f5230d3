"""The training loop: its arithmetic against plain PyTorch, turns, averages and precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from contract.fit_child import PLAIN, QUIET, Points, Toy, assert_same_bits, lines, mlp, weights
from torch import nn

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.train import parallel
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import BFLOAT16, FitSettings


def difference(a: nn.Module, b: nn.Module) -> float:
    return max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_fit_is_plain_adamw(tmp_path: Path) -> None:
    """Ten steps equal ten hand-written ones, with clipping at a norm that binds."""
    toy, twin = Toy(0.0, 0.0), Toy(0.0, 0.0)
    run = fit(
        toy,
        Points(),
        Run.create(tmp_path / "r", {}),
        optim=Optim(1e-2, clip=0.5),
        steps=10,
        batch_size=8,
        settings=QUIET,
    )
    plain = torch.optim.AdamW(twin.net.parameters(), lr=1e-2, weight_decay=0.0)
    norms = []
    for step in range(10):
        batch = Points().batch(step, 8)
        plain.zero_grad()
        twin.loss(batch, step, torch.Generator())["mse"].backward()
        norms.append(float(nn.utils.clip_grad_norm_(twin.net.parameters(), 0.5)))
        plain.step()
    assert max(norms) > 0.5
    assert difference(toy.net, twin.net) < 1e-6
    assert [r["grad_norm.net"] for r in run.metrics()] == pytest.approx(norms, rel=1e-4)
    assert toy.seen == 10


def test_accumulation_equals_one_big_batch(tmp_path: Path) -> None:
    whole, cut = Toy(0.0, 0.0), Toy(0.0, 0.0)
    for name, toy, pieces in (("whole", whole, 1), ("cut", cut, 4)):
        run = Run.create(tmp_path / name, {})
        settings = FitSettings(accumulate=pieces, log_every=1, progress=False)
        fit(toy, Points(), run, optim=Optim(1e-3, clip=1.0), steps=20, batch_size=8, settings=settings)
    assert difference(whole.net, cut.net) < 1e-6
    losses = [[r["loss.mse"] for r in Run.open(tmp_path / name).metrics()] for name in ("whole", "cut")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert difference(whole.net, Toy().net) > 1e-2


def test_gradients_are_summed_in_buckets_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gradient once and in order; a bucket holds more than its size only where one gradient does."""
    monkeypatch.setattr(parallel, "BUCKET", 10)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (3, torch.bfloat16)]
    grads = [torch.full((n,), i, dtype=kind) for i, (n, kind) in enumerate([*sizes, (3, torch.float32)])]
    found = [[int(grad[0]) for grad in bucket] for bucket in parallel._buckets(grads)]
    assert found == [[0, 1], [2], [3], [4], [5]]


def test_batch_that_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be cut into 3 equal pieces"):
        fit(
            Toy(),
            Points(),
            Run.create(tmp_path, {}),
            optim=PLAIN,
            steps=1,
            batch_size=8,
            settings=FitSettings(accumulate=3),
        )


class Duel(Objective):
    """Two players; the first moves `repeat` times a step, the second plays lazily. Records what it is given."""

    def __init__(self, every: int = 3, repeat: int = 2):
        super().__init__()
        torch.manual_seed(4)
        self.critic, self.maker = mlp(), mlp()
        self.every, self.repeat = every, repeat
        self.moves: list[tuple[str, int, int]] = []
        self.maker_changed: list[int] = []

    def nets(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic, "maker": self.maker}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (
            Turn(self.judge, ("critic",), repeat=self.repeat, name="critic"),
            Turn(self.make, ("maker",), every=self.every, name="maker"),
        )

    def judge(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        self.moves.append(("critic", step, batch["first"][0]))
        assert not any(p.requires_grad for p in self.maker.parameters())
        return {"gap": (self.critic(self.maker(batch["x"]).expand(-1, 4)) - batch["y"]).square().mean()}

    def make(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        self.moves.append(("maker", step, batch["first"][0]))
        assert not any(p.requires_grad for p in self.critic.parameters())
        return {
            "score": -self.critic(self.maker(batch["x"]).expand(-1, 4)).mean(),
            "size": self.maker(batch["x"]).square().mean(),
        }

    def after(self, turn: Turn, step: int, *, params, batch, reduce) -> None:
        assert set(params) == {"critic", "maker"}
        assert reduce(torch.tensor(2.0)) == 2.0


def test_turns_every_and_repeat(tmp_path: Path) -> None:
    """The lazy player moves at steps 0 and 3; each repetition gets a fresh batch and turns of a step share them."""
    duel = Duel()
    before = [p.detach().clone() for p in duel.maker.parameters()]
    changed = []

    def watch(at: TrainStep) -> None:
        changed.append(any(not torch.equal(p, q) for p, q in zip(before, duel.maker.parameters(), strict=True)))
        before[:] = [p.detach().clone() for p in duel.maker.parameters()]

    run = Run.create(tmp_path / "r", {})
    fit(duel, Points(), run, optim=PLAIN, steps=5, batch_size=4, settings=QUIET, on_step=[watch])
    assert changed == [True, False, False, True, False]
    first = [("critic", s, 4 * (2 * s + r)) for s in range(5) for r in range(2)]
    assert [m for m in duel.moves if m[0] == "critic"] == first
    assert [m for m in duel.moves if m[0] == "maker"] == [("maker", 0, 0), ("maker", 3, 24)]
    records = run.metrics()
    assert ["maker" in r for r in records] == [True, False, False, True, False]
    assert records[0]["maker"] == pytest.approx(records[0]["maker.score"] + records[0]["maker.size"], rel=1e-5)
    assert all(p.requires_grad for p in duel.parameters())


def test_two_players_resume_exactly(tmp_path: Path) -> None:
    """Rounds of data are counted, not computed from the step: repeats and lazy turns resume on the right batch."""
    straight, torn = Run.create(tmp_path / "a", {}), Run.create(tmp_path / "b", {})
    rates = {"critic": Optim(1e-2), "maker": Optim(1e-3)}
    fit(Duel(), Points(), straight, optim=rates, steps=11, batch_size=4, settings=QUIET)
    for steps in (4, 11):
        fit(Duel(), Points(), torn, optim=rates, steps=steps, batch_size=4, settings=QUIET)
    assert_same_bits(weights(straight), weights(torn))
    assert lines(straight) == lines(torn)


def test_unknown_and_double_turns(tmp_path: Path) -> None:
    class Lost(Toy):
        def turns(self, step: int) -> tuple[Turn, ...]:
            return (Turn(self.loss, ("nett",)),)

    class Twice(Toy):
        def turns(self, step: int) -> tuple[Turn, ...]:
            return (Turn(self.loss, ("net",)), Turn(self.loss, ("net",)))

    run = Run.create(tmp_path / "r", {})
    with pytest.raises(UsageError, match="'nett'. Did you mean 'net'"):
        fit(Lost(), Points(), run, optim=PLAIN, steps=1, batch_size=4)
    with pytest.raises(UsageError, match="different names"):
        fit(Twice(), Points(), run, optim=PLAIN, steps=1, batch_size=4)


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    toy, dtypes = Toy(0.0, 0.0), set()
    toy.net[0].register_forward_hook(lambda module, given, out: dtypes.add(out.dtype))
    settings = FitSettings(precision=BFLOAT16, log_every=20, progress=False)
    run = fit(toy, Points(), Run.create(tmp_path / "r", {}), optim=PLAIN, steps=60, batch_size=16, settings=settings)
    assert dtypes == {torch.bfloat16} and {p.dtype for p in toy.net.parameters()} == {torch.float32}
    losses = [r["loss"] for r in run.metrics()]
    assert losses[-1] < 0.5 * losses[0]
