"""What recipes see of a training while it runs: for sample grids, judges, early stopping."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.objective import Objective
from huggingvis.train.ema import Averages
from huggingvis.train.run import Run


def _nobody(what: str) -> None:
    """Hears nothing."""


@final
@dataclass(frozen=True)
class TrainStep:
    """What callbacks get after `step` of `total` steps are done (1 is the first)."""

    step: int
    total: int
    losses: Mapping[str, float]
    """The newest known values (see `train.meter` for the keys): on the CPU those of this very step."""
    measured: Mapping[str, int]
    """The step that each of them is of: on an accelerator they are read now and then, and lazy turns are rare."""
    objective: Objective
    ema: Averages | None
    run: Run
    tell: Callable[[str], None] = _nobody
    """What takes long says here, and again as it comes on, what it is doing; where the training is to stop, `Cancelled`
    comes back."""

    def due(self, every: int) -> bool:
        """Whether `every` divides the step, or the training is done."""
        return self.step == self.total or (every > 0 and self.step % every == 0)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the nets hold their averaged weights, in evaluation mode and without gradients."""
        with evaluating(self.objective, self.ema):
            yield


Callback = Callable[[TrainStep], object]


@contextlib.contextmanager
def evaluating(objective: Objective, averages: Averages | None) -> Iterator[None]:
    """Averaged weights, evaluation mode, no gradients; afterwards everything is as it was."""
    nets = objective.nets().values()
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        with torch.no_grad(), averages.swap() if averages else contextlib.nullcontext():
            yield
    finally:
        for module, training in modes:
            module.training = training
