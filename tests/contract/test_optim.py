"""Learning rates, weight decay and averaged weights, against their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from contract.fit_child import QUIET, mlp
from torch import nn

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.train.ema import Averages, ConstantDecay, Ema, PowerDecay
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, InverseSqrt, Optim
from huggingvis.train.run import Run


def test_learning_rates() -> None:
    """Values from the formulas by hand."""
    cosine = Optim(lr=2.0, warmup=4, schedule=Cosine(100, floor=0.1))
    assert [cosine.rate(s) for s in (0, 1, 3)] == pytest.approx(
        [0.5, 1.0 * Cosine(100, 0.1).factor(1), 2 * Cosine(100, 0.1).factor(3)], rel=1e-6
    )
    assert [Cosine(100, 0.1).factor(s) for s in (0, 25, 50, 100, 500)] == pytest.approx(
        [1.0, 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5)), 0.55, 0.1, 0.1]
    )
    assert [InverseSqrt(100).factor(s) for s in (0, 100, 400, 10000)] == pytest.approx([1, 1, 0.5, 0.1])
    assert Optim(lr=3e-4).rate(12345) == 3e-4


def test_weight_decay_spares_vectors() -> None:
    net = mlp()
    (adamw,) = Optim(weight_decay=0.5).build(list(net.parameters()))
    groups = adamw.param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.5, {2}), (0.0, {1})]


def test_units_of_many_inputs_move_no_faster_than_others(tmp_path: Path) -> None:
    """AdamW's first step moves each weight by the rate; with `wide`, a unit of 4000 inputs moves as one of 40 does."""

    class Ones:
        def batch(self, index: int, size: int) -> dict[str, torch.Tensor]:
            return {"narrow": torch.ones(size, 40), "many": torch.ones(size, 4000)}

    class Sums(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.units = {"narrow": nn.Linear(40, 1, bias=False), "many": nn.Linear(4000, 1, bias=False)}
            self.net = nn.ModuleDict(self.units)

        def nets(self) -> dict[str, nn.Module]:
            return {"net": self.net}

        def turns(self, step: int) -> tuple[Turn, ...]:
            return (Turn(self.loss, ("net",)),)

        def said(self) -> dict[str, float]:
            return {name: float(unit.weight.detach().sum()) for name, unit in self.units.items()}

        def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
            return {name: unit(batch[name]).mean() for name, unit in self.net.items()}

    def moved(wide: int | None) -> dict[str, float]:
        sums = Sums()
        before = sums.said()
        run = Run.create(tmp_path / str(wide), {})
        fit(sums, Ones(), run, optim=Optim(1e-3, wide=wide), steps=1, batch_size=2, settings=QUIET)
        return {name: before[name] - value for name, value in sums.said().items()}

    assert moved(None) == pytest.approx({"narrow": 0.04, "many": 4.0}, rel=1e-3)
    assert moved(40) == pytest.approx({"narrow": 0.04, "many": 0.04}, rel=1e-3)


def test_ema_formula_and_swap() -> None:
    net = nn.Linear(3, 2)
    ema = Averages(Ema(ConstantDecay(0.9)), {"net": net})
    mean = net.weight.detach().double().clone()
    for step in range(200):
        with torch.no_grad():
            net.weight += 0.01 * torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        ema.update(step)
        d = min(0.9, (1 + step) / (10 + step))
        mean = d * mean + (1 - d) * net.weight.detach().double()
    live, place = net.weight.detach().clone(), net.weight.data_ptr()
    with ema.swap():
        assert (net.weight.double() - mean).abs().max() < 1e-6
        assert not torch.equal(net.weight, live)
    assert torch.equal(net.weight, live) and net.weight.data_ptr() == place
    other = Averages(Ema(ConstantDecay(0.9)), {"net": net})
    other.load_state_dict("net", ema.state_dict("net"))
    assert torch.equal(other.state_dict("net")["weight"], ema.state_dict("net")["weight"])


def test_power_decay_is_the_power_function_average() -> None:
    """sigma_rel = 0.1 is gamma = 6.94 (arXiv:2312.02696); the profile at tau of n steps goes as (tau/n)^gamma."""
    power, n = PowerDecay(0.1), 4000
    profile = torch.zeros(n, dtype=torch.float64)
    for step in range(n):
        profile *= power.at(step)
        profile[step] += 1 - power.at(step)
    assert float(profile.sum()) == pytest.approx(1.0)
    tau = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    mean = (profile * tau).sum()
    assert float((profile * (tau - mean).square()).sum().sqrt()) == pytest.approx(0.1, abs=1e-3)
    assert float(profile[n // 2] / profile[-1]) == pytest.approx(0.5**6.94, rel=0.02)
    with pytest.raises(UsageError, match="width"):
        PowerDecay(0.5)
