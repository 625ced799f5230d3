"""Classifier guidance with the mixture's exact classifier: s = 1 is the conditional model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from huggingvis.core.diffusion import compose
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.data.mixture import standard_mixture
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.classifier import Classifier, LogProb
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import LogSNR

F64 = torch.float64
MIXTURE = standard_mixture()


def exact(process: Process) -> LogProb:
    def log_prob(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return torch.log(MIXTURE.class_posterior(x, process, t))[torch.arange(len(x)), cond["wanted"]]

    return log_prob


def start(n: int) -> Tensor:
    return torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "process", [LinearVP(), CosineVP(), RectifiedFlow(), LinearVE(), TableProcess.linear()],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
@pytest.mark.parametrize("t", [torch.tensor(0.4, dtype=F64), torch.linspace(0.02, 0.7, 30, dtype=F64)])
def test_scale_one_is_the_conditional_score(process: Process, t: Tensor) -> None:
    """And any scale is classifier-free guidance of the two exact models."""
    classes = torch.arange(30) % 3
    x = process.add_noise(MIXTURE.sample(30, torch.Generator().manual_seed(1)), start(30), t)
    cond = {"class": torch.full((30,), -1), "wanted": classes}
    denoise = MIXTURE.denoiser(process)
    got = Classifier(exact(process), process)(denoise)(x, t, cond).x0
    score, want = process.score(x, got, t), MIXTURE.score(x, process, t, classes)
    assert float(((score - want) / want.abs().max()).abs().max()) < 1e-10
    both = {"class": classes, "negative.class": torch.full((30,), -1)}
    free = ClassifierFree(2.5)(denoise)(x, t, both).x0
    assert float((Classifier(exact(process), process, 2.5)(denoise)(x, t, cond).x0 - free).abs().max()) < 1e-9


def test_guided_samples_are_those_of_the_class() -> None:
    process, x = LinearVP(), start(48)
    classes = torch.arange(48) % 3
    grid = LogSNR(40)(process)
    guided = Classifier(exact(process), process)(MIXTURE.denoiser(process))
    with torch.inference_mode():  # as when pictures are made
        got = sample(guided, process, DDIM(), x, grid, {"class": torch.full((48,), -1), "wanted": classes},
                     noise=BatchNoise(0))  # fmt: skip
        want = sample(MIXTURE.denoiser(process), process, DDIM(), x, grid, {"class": classes}, noise=BatchNoise(0))
    assert float((got - want).abs().max()) < 1e-8
    found = MIXTURE.class_posterior(got, process, torch.tensor(0.0, dtype=F64)).argmax(1)
    assert torch.equal(found, classes)


def test_where_it_does_not_act_no_bit_changes() -> None:
    process, x = RectifiedFlow(), start(6)
    cond = {"class": torch.full((6,), -1), "wanted": torch.zeros(6, dtype=torch.long)}
    denoise = MIXTURE.denoiser(process)
    half, one = torch.tensor(0.5, dtype=F64), torch.tensor(1.0, dtype=F64)

    def never(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        raise AssertionError("the classifier was asked")

    for guidance, t in (
        (Classifier(never, process, 0.0), half),
        (Classifier(never, process, 3.0, (0.6, 1.0)), half),
        (Classifier(never, process, 3.0), one),  # pure noise: nothing to classify
    ):
        assert torch.equal(compose(denoise, (guidance,))(x, t, cond).x0, denoise(x, t, cond).x0)
    times = torch.tensor([0.2, 0.4, 0.5, 0.7, 0.9, 1.0], dtype=F64)
    mixed = Classifier(exact(process), process, 2.0, (0.3, 0.8))(denoise)(x, times, cond).x0
    plain = denoise(x, times, cond).x0
    assert torch.equal(mixed[[0, 4, 5]], plain[[0, 4, 5]]) and bool((mixed != plain)[1:4].any(1).all())
