"""Numbers of a training between two log lines: collected without waiting for the device, checked, averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble
from huggingvis.train.parallel import Parallel


@final
class Meter:
    """Holds 0-dim tensors until `flush`, which copies them off the device in one go and finds NaN and infinity.

    Keys: `<turn>` the minimised total, `<turn>.<loss>` its terms, `<turn>._<what>` what is only watched,
    `grad_norm.<net>`.
    """

    def __init__(self, parallel: Parallel):
        self.parallel = parallel
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.latest: dict[str, float] = {}
        self.measured: dict[str, int] = {}  # the step of each of the latest
        self._pending: list[tuple[int, str, Tensor]] = []

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Takes in values of step number `step`, averages over this process's pieces."""
        self._pending.extend((step, key, value) for key, value in values.items())

    def flush(self) -> None:
        """Brings everything up to date. Raises `NumericalTrouble` with the first loss that is not finite."""
        if not self._pending:
            return
        stacked = torch.stack([value.detach().to(torch.float32) for _, _, value in self._pending])  # [N]
        values = self.parallel.mean(stacked).tolist()
        pending, self._pending = self._pending, []
        for (step, key, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value) and "._" not in key:
                raise NumericalTrouble(_trouble(key, value, step))
            self.latest[key], self.measured[key] = value, step
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def means(self) -> dict[str, float]:
        """Averages since the last call."""
        out = {key: total / self.counts[key] for key, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return out

    def state(self) -> dict[str, dict[str, float]]:
        """For the checkpoint: a resumed training logs the same averages."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Takes back what `state` gave."""
        self.sums = dict(state["sums"])
        self.counts = {key: int(count) for key, count in state["counts"].items()}


def _trouble(key: str, value: float, step: int) -> str:
    net = key.removeprefix("grad_norm.")
    what = f"Loss {key!r}" if net == key else f"The gradient norm of {net!r}"
    return (
        f"{what} became {value} at step {step}, where a finite number was expected. Nothing of it was saved: the last "
        "checkpoint is sound. Try a lower learning rate, a longer warm-up, tighter clipping, or float32."
    )
