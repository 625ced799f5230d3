"""Where and how a recipe runs: what the command line or a script hands to every recipe's `train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from huggingvis.core.config import to_dict
from huggingvis.core.errors import UsageError, unknown
from huggingvis.runtime.precision import AUTO, usual
from huggingvis.train.parallel import Parallel
from huggingvis.train.run import Run
from huggingvis.train.settings import BFLOAT16, FLOAT32, Precision

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """A run folder, whether to go on in it, the device and processes, and how to report progress."""

    path: Path
    resume: bool = False
    parallel: Parallel = field(default_factory=Parallel)
    progress: bool | None = None

    @property
    def device(self) -> torch.device:
        return self.parallel.device

    @property
    def home(self) -> torch.device:
        """Where what is trained is made; `fit` brings shards of it to the device."""
        return self.parallel.home

    def begin(self, recipe: str, config: object) -> Run:
        """Create the run folder, or open it to go on; its config.toml names the recipe."""
        record = {"recipe": recipe, "config": to_dict(config)}
        return Run.begin(self.path, record, resume=self.resume, parallel=self.parallel)


_AT_LEAST_ONE = {"steps": "Say how long to train, as in --steps 1000.", "batch": "A step needs a picture."}


def sensible(config: T) -> T:
    """The numbers of a recipe themselves, if there is anything to be trained by them. Raises `UsageError`."""
    numbers = to_dict(config)
    for name, advice in _AT_LEAST_ONE.items():
        if isinstance(found := numbers.get(name), int) and found < 1:
            raise UsageError(f"{name} must be 1 or more, found {found}. {advice}")
    return config


def precision(name: str, device: torch.device) -> Precision:
    """`bf16`, `fp32` or `auto`, as recipes' configs spell it; the last is bf16 where `device` is faster in it.

    Raises `UsageError` for another name.
    """
    known = {"bf16": BFLOAT16, "fp32": FLOAT32}
    if name == AUTO:
        return BFLOAT16 if usual(device) is torch.bfloat16 else FLOAT32
    if name not in known:
        raise unknown("precision", name, (AUTO, *known))
    return known[name]
