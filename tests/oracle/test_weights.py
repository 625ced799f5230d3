"""Weights of noise levels: one weight is one loss, whatever the network predicts."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from huggingvis.core.errors import UsageError
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.process import X0, Eps, Prediction, Process, V, Velocity
from huggingvis.objectives.denoise import Denoising, TimeLaw, UniformTimes
from huggingvis.objectives.weights import WEIGHTINGS, output_weight
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.non_uniform import at_speeds
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.denoiser_training import WeightingName

F64 = torch.float64
TIMES = torch.linspace(0.04, 0.96, 12, dtype=F64)


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(len(TIMES), 3, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
@pytest.mark.parametrize("prediction", [Eps(), X0(), V(), Velocity(), Preconditioned()], ids=repr)
@pytest.mark.parametrize(
    "process", [LinearVP(), RectifiedFlow(), GeometricVE(), TableProcess.cosine()], ids=lambda p: type(p).__name__
)
def test_a_weight_is_that_of_the_datums_error(process: Process, prediction: Prediction, name: str) -> None:
    x0, eps, wrong = drawn(0), drawn(1), drawn(2)
    x = process.add_noise(x0, eps, TIMES)
    out = prediction.target(process, wrong, process.eps(x, wrong, TIMES), TIMES)  # what says `wrong` of x
    off = (out - prediction.target(process, x0, eps, TIMES)).square().mean((1, 2))
    snr = (process.alpha(TIMES) / process.sigma(TIMES)) ** 2
    want = WEIGHTINGS[name](snr) * (wrong - x0).square().mean((1, 2))
    got = output_weight(WEIGHTINGS[name], process, prediction, TIMES) * off
    assert float(((got - want) / want).abs().max()) < 1e-8


def test_known_weights() -> None:
    """The plain losses of noise and of v are the weights of their names; EDM's own is that of its paper."""
    vp, ones = CosineVP(), torch.ones_like(TIMES)
    torch.testing.assert_close(output_weight(WEIGHTINGS["eps"], vp, Eps(), TIMES), ones)
    torch.testing.assert_close(output_weight(WEIGHTINGS["v"], vp, V(), TIMES), ones)
    torch.testing.assert_close(output_weight(WEIGHTINGS["x0"], vp, X0(), TIMES), ones)
    edm = Preconditioned(0.5)
    theirs = output_weight(lambda snr: edm.weight(vp, TIMES), vp, edm, TIMES)
    torch.testing.assert_close(theirs, ones)
    flow = output_weight(WEIGHTINGS["eps"], RectifiedFlow(), Velocity(), TIMES)
    torch.testing.assert_close(flow, (1 - TIMES) ** 2)
    snr = torch.tensor([0.25, 1.0, 4.0, 30.0], dtype=F64)
    assert WEIGHTINGS["min-snr"](snr).tolist() == [0.25, 1.0, 4.0, 5.0]
    assert WEIGHTINGS["truncated"](snr).tolist() == [1.0, 1.0, 4.0, 30.0]
    assert WEIGHTINGS["p2"](snr).tolist() == pytest.approx([0.2, 0.5, 0.8, 30 / 31])


def test_a_training_names_every_weight() -> None:
    assert get_args(WeightingName) == ("plain", *WEIGHTINGS)


class Silent(torch.nn.Module):
    def forward(self, x: torch.Tensor, clock: torch.Tensor, cond: object) -> torch.Tensor:
        return torch.zeros_like(x)


class Leaning(TimeLaw):
    """Even times that have a weight of their own; keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[torch.Tensor] = []

    def draw(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return UniformTimes().draw(n, rng)

    def weight(self, t: torch.Tensor) -> torch.Tensor:
        return 0.5 + t

    def note(self, t: torch.Tensor, loss: torch.Tensor) -> None:
        self.heard.append(loss)


def test_the_loss_is_weighted_and_what_is_measured_is_not() -> None:
    process, x0 = LinearVP(), drawn(3)
    plain = Denoising(Silent(), process, V(), UniformTimes())
    law = Leaning()
    weighted = Denoising(Silent(), process, V(), law, weighting=WEIGHTINGS["min-snr"])
    each, t = plain.errors({"x0": x0}, torch.Generator().manual_seed(1))
    want = (each * (0.5 + t) * output_weight(WEIGHTINGS["min-snr"], process, V(), t)).mean()
    got = weighted.loss({"x0": x0}, 0, torch.Generator().manual_seed(1))["mse"]
    assert float(got) == pytest.approx(float(want), rel=1e-6)
    assert len(law.heard) == 1 and torch.equal(law.heard.pop(), each)
    weighted.eval().loss({"x0": x0}, 0, torch.Generator().manual_seed(1))
    assert not law.heard  # held-out data teach it nothing
    one, other = (o.measure({"x0": x0}, 2, 0)["mse"] for o in (plain, weighted))
    assert torch.equal(one, other)


def test_parts_at_different_levels_have_no_one_weight() -> None:
    process = at_speeds(LinearVP(), (1.0, 2.0), (2, 1), dims=1)
    objective = Denoising(Silent(), process, Eps(), UniformTimes(), weighting=WEIGHTINGS["p2"])
    with pytest.raises(UsageError, match="no weight by noise level is that of all of them"):
        objective.loss({"x0": drawn(0)}, 0, torch.Generator().manual_seed(0))
