"""Small trainings for the tests of `fit`, there or as a process: `python fit_child.py <run folder> [steps] [pause]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from huggingvis.core.errors import HvisError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, Optim
from huggingvis.train.parallel import from_torchrun
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

CONFIG = {"recipe": "toy", "steps": 200, "net": {"width": 24}}
PLAIN = Optim(lr=1e-2, clip=None)
QUIET = FitSettings(log_every=1, progress=False)


class Points:
    """Items x [4] with y = sum(x); item number i is the same whatever batch it is in."""

    def __init__(self, pause: float = 0.0, offset: int = 0):
        self.pause, self.offset = pause, offset

    def batch(self, index: int, size: int) -> Batch:
        time.sleep(self.pause)
        first = self.offset + index * size
        rows = [torch.randn(4, generator=torch.Generator().manual_seed(first + i)) for i in range(size)]
        x = torch.stack(rows)  # [B, 4]
        return {"x": x, "y": x.sum(1, keepdim=True), "first": [first]}


def mlp(width: int = 24, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, 1))


class Toy(Objective):
    """One turn: regression from points with noise on them, and dropout, so both sources of randomness count."""

    seen: Tensor

    def __init__(self, noise: float = 0.1, dropout: float = 0.1):
        super().__init__()
        torch.manual_seed(3)
        self.net, self.noise = mlp(dropout=dropout), noise
        self.register_buffer("seen", torch.zeros(()))

    def nets(self) -> Mapping[str, nn.Module]:
        return {"net": self.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, ("net",)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        x = batch["x"] + self.noise * torch.randn(batch["x"].shape, generator=rng)
        return {"mse": (self.net(x) - batch["y"]).square().mean(), "_mean": batch["y"].mean()}

    def after(self, turn: Turn, step: int, **given: object) -> None:
        self.seen += 1


def toy_fit(run: Run, objective: Objective, steps: int, pause: float = 0.0, **settings: Any) -> Run:
    """The training that is killed, stopped, resumed and shared between processes."""
    numbers = {"save_every": 5, "log_every": 10, "progress": False, "seed": 11, "accumulate": 2} | settings
    return fit(
        objective,
        Points(pause),
        run,
        optim=Optim(lr=1e-2, weight_decay=0.01, warmup=10, schedule=Cosine(200)),
        steps=steps,
        batch_size=8,
        ema=Ema(ConstantDecay(0.99)),
        settings=FitSettings(validation=Validation(Points(offset=10**6), every=50, batches=2), **numbers),
    )


def weights(run: Run) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint."""
    last = run.checkpoints()[-1]
    return {f"{name}:{key}": value.clone() for name in last.names() for key, value in last.tensors(name).items()}


def assert_same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def lines(run: Run) -> list[dict[str, float]]:
    """The log without its clock."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.metrics()]


def main(path: str, steps: str = "200", pause: str = "0.0") -> int:
    """Trains, resuming if there is something to resume; leaves as the command line would."""
    parallel = from_torchrun(torch.device("cpu"))
    try:
        run = Run.begin(Path(path), CONFIG, resume=True, parallel=parallel)
        toy = Toy()
        with torch.no_grad():
            for p in toy.net.parameters():
                p.add_(parallel.rank)  # the first process's weights are those that count
        toy_fit(run, toy, int(steps), float(pause))
    except HvisError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        parallel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
