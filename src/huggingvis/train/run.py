"""A run folder: where one training keeps everything it makes.

config.toml          what was asked for
metrics.jsonl        one JSON object per line, each with `step`
samples/             what the recipe's callbacks draw
checkpoints/step-…/  see `train.checkpoint`
tensorboard/         if the package `tensorboard` is installed
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import tomli_w
from torch import Tensor

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.files import explain, write_atomically
from huggingvis.train import checkpoint
from huggingvis.train.checkpoint import Checkpoint
from huggingvis.train.lock import locked
from huggingvis.train.parallel import Parallel

if TYPE_CHECKING:
    from huggingvis.train.board import Board


@final
class Run:
    """A run folder seen by one process; only the first of several processes writes."""

    def __init__(self, path: Path, config: Mapping[str, Any], parallel: Parallel):
        self.path, self.config, self.parallel = path, config, parallel
        self._board: Board | None = None

    @property
    def samples(self) -> Path:
        """Where previews belong."""
        return self.path / "samples"

    @classmethod
    def create(cls, path: Path | str, config: Mapping[str, Any], parallel: Parallel | None = None) -> Run:
        """A new run folder. `config`: nested plain values (None is left out).

        Raises `UsageError` where a run exists already and `FileProblem` where the folder cannot be written.
        """
        path, parallel = Path(path), parallel or Parallel()
        if parallel.writes:
            if (path / "config.toml").exists():
                raise UsageError(
                    f"{path} holds a run already. Resume it, choose another name, or delete the folder to start over."
                )
            try:
                (path / "samples").mkdir(parents=True, exist_ok=True)
                (path / "checkpoints").mkdir(exist_ok=True)
            except OSError as error:
                raise explain(error, path) from error
            write_atomically(path / "config.toml", lambda file: tomli_w.dump(_plain(config), file))
        parallel.barrier()
        return cls(path, _plain(config), parallel)

    @classmethod
    def open(
        cls,
        path: Path | str,
        config: Mapping[str, Any] | None = None,
        parallel: Parallel | None = None,
        may_differ: Sequence[str] = ("steps", "config.steps"),
    ) -> Run:
        """An existing run, to resume or to read; `fit` goes on from its latest checkpoint.

        With `config`, the run must have been started with the same values, apart from the dotted keys in `may_differ`
        (`steps`, at the top or in the recipe's `config`: a finished training can be made longer). Raises `FileProblem`
        or `UsageError`.
        """
        path = Path(path)
        file = path / "config.toml"
        try:
            found = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise FileProblem(f"{path} is not a run folder: it has no config.toml. Check the name.") from None
        except OSError as error:
            raise explain(error, file, "read") from error
        except (ValueError, RecursionError) as error:
            raise FileProblem(f"{file} is damaged: {error}. Restore it, or start a new run.") from error
        if config is not None:
            _same(path, _flat(found), _flat(_plain(config)), may_differ)
        return cls(path, found, parallel or Parallel())

    @classmethod
    def begin(
        cls, path: Path | str, config: Mapping[str, Any], *, resume: bool = False, parallel: Parallel | None = None
    ) -> Run:
        """What recipes call: `open` if asked to resume and there is a run, else `create`."""
        there = (Path(path) / "config.toml").exists()
        if parallel is not None:
            parallel.barrier()  # all processes look before the first one creates
        return cls.open(path, config, parallel) if resume and there else cls.create(path, config, parallel)

    def checkpoints(self) -> list[Checkpoint]:
        """Complete checkpoints, oldest first."""
        return checkpoint.find(self.path / "checkpoints")[0]

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint; says on standard error what it ignored."""
        good, broken = checkpoint.find(self.path / "checkpoints")
        for path in broken if self.parallel.writes else ():
            print(f"Ignored {path}: it was not written to its end.", file=sys.stderr)
        return good[-1] if good else None

    def weights(self, net: str, averaged: bool = True) -> dict[str, Tensor]:
        """The newest weights of one net: its averages if there are any and `averaged`. Raises `FileProblem`."""
        last = self.latest()
        if last is None:
            raise FileProblem(f"{self.path} has no checkpoint yet. Train it first, or wait for its first checkpoint.")
        mean = f"{net}.ema"
        return last.tensors(mean if averaged and mean in last.names() else net)

    def log(self, step: int, record: Mapping[str, float | str]) -> None:
        """Appends one line of numbers and remarks to metrics.jsonl (and to TensorBoard)."""
        if not self.parallel.writes:
            return
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **record}) + "\n")
        except OSError as error:
            raise explain(error, path) from error
        if self._board is not None:
            self._board.log(step, record)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that was cut off by a kill is left out."""
        path = self.path / "metrics.jsonl"
        records = []
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other trainings out of this folder. Raises `UsageError` if one is there."""
        return locked(self.path)

    @contextlib.contextmanager
    def for_callbacks(self) -> Iterator[Run]:
        """This run where this process writes; else one in a folder that is removed afterwards."""
        if self.parallel.writes:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="huggingvis-") as folder:
            yield Run(Path(folder), self.config, self.parallel)

    def rewind(self, step: int) -> None:
        """Forgets what was logged after `step`, and starts logging from there."""
        if not self.parallel.writes:
            return
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        write_atomically(self.path / "metrics.jsonl", lambda file: file.write("".join(kept).encode()))
        checkpoint.clean(self.path / "checkpoints")
        if importlib.util.find_spec("tensorboard") is not None:
            from huggingvis.train.board import Board

            self._board = Board(self.path / "tensorboard", step + 1)

    def close(self) -> None:
        """Flushes logs that stay open."""
        if self._board is not None:
            self._board.close()
            self._board = None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            out[key] = _plain(value)
        elif isinstance(value, list | tuple):
            out[key] = [_plain(v) if isinstance(v, Mapping) else v for v in value]
        elif isinstance(value, Path):
            out[key] = str(value)
        elif value is not None:
            out[key] = value
    return out


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _same(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any], may_differ: Sequence[str]) -> None:
    keys = [key for key in sorted(found.keys() | asked.keys()) if key not in may_differ]
    changed = [key for key in keys if found.get(key) != asked.get(key)]
    if changed:
        said = "; ".join(f"{key}: {found.get(key)!r} then, {asked.get(key)!r} now" for key in changed)
        raise UsageError(
            f"The run {path} was started with other settings ({said}). Resume it with its own, or start a new run."
        )
