"""What every evaluation takes and gives. Which there are: `scene_evaluation.SceneScores`, `held_out.LastLosses`,
`held_out.HeldOut`, `parzen_window.ParzenWindow`, `patch_distance.PatchDistance`, `path_lengths.PathLengths`,
`class_accuracy.ClassAccuracy`, `sample_distance.SampleDistance`, `probing.Probe`, `folder_distance.FolderDistance`.

An evaluation is a frozen dataclass of numbers, called with its subject; a new one is a new file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Sampling
from huggingvis.core.system import System
from huggingvis.data.standard import Split
from huggingvis.recipes.drawing import drawn, prompts_for
from huggingvis.recipes.pictures import Facts, Pictures, View
from huggingvis.recipes.sources import open_split
from huggingvis.train.run import Run

Tick = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Tick]]
"""A bar for work of a name and a size, which is told how much is done."""


@contextmanager
def silent(label: str, total: int) -> Iterator[Tick]:
    """No bar."""
    yield lambda done: None


@dataclass(frozen=True)
class Evaluation:
    """What was measured: `record` in JSON values, `text` for people, `notes` on how far the numbers reach."""

    record: Mapping[str, Any]
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What is evaluated: its name as it was given (or the system itself), and how it loads."""

    name: System | str | Path | None
    device: torch.device
    load: Callable[[], System]
    progress: Progress = field(default=silent)

    @cached_property
    def system(self) -> System:
        """The subject as something that generates. Raises as `load`."""
        return self.load()

    @cached_property
    def run(self) -> Run:
        """The subject as a run folder. Raises `UsageError` for anything else."""
        if not self.is_run:
            raise UsageError("Which run shall be evaluated? Give a run folder, as `hvis train` makes it.")
        return Run.open(Path(str(self.name)))

    def draw(self, count: int, seed: int, sampling: Sampling | None = None) -> Tensor:
        """`count` pictures of the subject, each class in turn where it has some, [N, C, H, W] in [-1, 1] on the CPU.

        `sampling`: how; none: as it usually does. Raises `UsageError` where it draws what sentences say.
        """
        prompts = prompts_for(self.system, count)
        with self.progress("drawing", count) as tick:
            numbers = replace(sampling or self.system.defaults, seed=seed)
            return torch.cat(list(drawn(self.system, prompts, numbers, on_chunk=tick)))

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder."""
        return isinstance(self.name, str | Path) and (Path(self.name) / "config.toml").is_file()


class Evaluator(Protocol):
    """Measures a subject."""

    def __call__(self, subject: Subject) -> Evaluation: ...


@dataclass(frozen=True)
class Wanted:
    """Pictures to measure on.

    Attributes:
        data: as in training; none: the run's own.
        split: train, validation or test.
        root: folder in which standard data sets lie; none: the run's own.
        limit: measure on that many of them, evenly spaced; none: on all.
    """

    data: str | None = None
    split: Split = Split.TEST
    root: str | None = None
    limit: int | None = None

    def of(self, run: Run) -> Wanted:
        """With what is not said taken from `run`."""
        trained = run.config.get("config", {})
        return Wanted(self.data or Facts.of(run).data, self.split, self.root or trained.get("root", "data"), self.limit)

    def open(self, view: View) -> Pictures:
        """The pictures, as `view` shows them. Raises as `sources.open_split`."""
        assert self.data is not None and self.root is not None  # `of` saw to it
        pictures = open_split(self.data, self.split, view, root=self.root)
        return pictures if self.limit is None else pictures.some(self.limit)

    def __str__(self) -> str:
        return f"{self.data}, {self.split.value} split"

    def record(self, run: Run, n: int) -> dict[str, Any]:
        """What was measured on what, in JSON values."""
        newest = run.latest()  # none of what is fitted in one go
        model = {"run": str(run.path), "recipe": run.config.get("recipe"), "step": newest.step if newest else 0}
        return {**model, "data": self.data, "split": self.split.value, "n": n}
