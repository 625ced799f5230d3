"""Many requests, each made once: what is there is kept, what fails is told and does not stop the rest.

A row's pictures are called after its content address: a hash of the request, the model, the files that both name and
`core.version.NUMERICS`. So whoever runs a batch again makes only what is missing or has changed, and what was stopped
goes on. Rows are taken together by model, so that each model is loaded once, and only if one of its rows lacks a
picture. Book: the three walks.
"""

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingvis.core import config
from huggingvis.core.errors import Cancelled, HvisError
from huggingvis.core.files import check_folder, write_atomically
from huggingvis.core.media import Picture
from huggingvis.core.protocols import OnStep
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.edits.generate import prepared
from huggingvis.export.image import save, slugify
from huggingvis.recipes.addresses import Identities, address

MADE, KEPT, FAILED, LEFT = "made", "kept", "failed", "left"
"""What became of a row: its pictures are new, were there, could not be made, or were not reached."""
_NAMED = re.compile(r"(?:^|-)([0-9a-f]{12})(?:-(\d+))?$")


@dataclass(frozen=True)
class Row:
    """One request of a batch.

    `number`: as its file counts. `model`: what `load` names; None for the batch's own. `notes`: what was found when it
    was read.
    """

    request: Request
    number: int = 1
    model: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a row. `seconds`: of its sampling; `error`: why it failed; `notes`: what the model cannot do."""

    row: Row
    state: str
    address: str
    paths: tuple[Path, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In JSON values."""
        shown = {"error": self.error, "notes": list(self.notes), "model": self.row.model}
        return {
            "row": self.row.number, "state": self.state, "address": self.address,
            "pictures": [str(path) for path in self.paths], "seconds": round(self.seconds, 3),
            **{key: value for key, value in shown.items() if value},
        }  # fmt: skip


def _nothing(*told: Any) -> None:
    return None


@dataclass(frozen=True)
class Batch:
    """How a batch is made.

    Attributes:
        folder: where its pictures go, and where they are looked for.
        load: the system that a row's model names.
        place: the path of that model, or its fingerprint, told without loading it.
        how: what else decides the pictures, as precision and the like, in JSON values and paths of files.
        metadata: whether pictures say how they were made, and their names.
        extension: `.png`, `.jpg` or `.webp`: how pictures are saved, and which are looked for.
        judge: what may be saved of a picture.
        on_row: told what became of each row.
        on_step: told of every step.
    """

    folder: Path
    load: Callable[[str | None], System]
    place: Callable[[str | None], Path | str]
    how: Mapping[str, Any] = field(default_factory=dict)
    metadata: bool = True
    extension: str = ".png"
    judge: Callable[[Picture], Picture] | None = None
    on_row: Callable[[Outcome], None] = _nothing
    on_step: OnStep | None = None


@dataclass(frozen=True)
class Done:
    """All rows in their order, and whether the batch was stopped before its end."""

    outcomes: tuple[Outcome, ...]
    stopped: bool = False
    seconds: float = 0.0

    def count(self, state: str) -> int:
        """How many rows ended so."""
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def paths(self) -> list[Path]:
        """All pictures that are there, in the order of the rows."""
        return [path for outcome in self.outcomes for path in outcome.paths]

    def to_dict(self) -> dict[str, Any]:
        """In JSON values."""
        counts = {state: self.count(state) for state in (MADE, KEPT, FAILED, LEFT)}
        rows = [outcome.to_dict() for outcome in self.outcomes]
        return {**counts, "stopped": self.stopped, "seconds": round(self.seconds, 3), "rows": rows}

    def __str__(self) -> str:
        """A line for people."""
        told = {MADE: "made", KEPT: "there already", FAILED: "failed", LEFT: "not reached"}
        counts = [f"{self.count(state)} {words}" for state, words in told.items() if self.count(state)]
        rows = "1 row" if len(self.outcomes) == 1 else f"{len(self.outcomes)} rows"
        return f"{rows}: {', '.join(counts) or 'nothing to do'}, in {self.seconds:.2f} s"


def run(rows: Sequence[Row], batch: Batch) -> Done:
    """Make what is missing of `rows`, model by model. Never raises for a row: its outcome says why it failed.

    Stopped by ctrl-C or a `Cancelled`, what is finished stays and `Done.stopped` is true. Raises `FileProblem` where
    the folder takes no pictures, now or later, or a file that decides them cannot be read.
    """
    began = time.perf_counter()
    check_folder(batch.folder)
    identities = Identities()
    addresses = [address(row.request, batch.place(row.model), batch.how, identities) for row in rows]
    work = _Work(rows, addresses, batch, _there(batch))
    stopped = False
    try:
        for numbers in _together(rows):
            work.of_model(numbers)
    except (KeyboardInterrupt, Cancelled):
        stopped = True
    left = (Outcome(row, LEFT, told) for row, told in zip(rows, addresses, strict=True))
    outcomes = tuple(work.outcomes.get(i, outcome) for i, outcome in enumerate(left))
    return Done(outcomes, stopped, time.perf_counter() - began)


def write_summary(done: Done, path: Path, more: Mapping[str, Any] | None = None) -> Path:
    """What became of every row, as JSON beside the pictures."""
    text = json.dumps({**done.to_dict(), **(more or {})}, ensure_ascii=False, indent=1) + "\n"
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def _together(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Places of the rows of each model, in the order in which models and what goes on top of them first appear."""
    models: dict[str | None, dict[str, list[int]]] = {}
    for i, row in enumerate(rows):
        plain = config.to_dict(row.request)
        beside = json.dumps([plain["adapters"], plain["refiner"]])
        models.setdefault(row.model, {}).setdefault(beside, []).append(i)
    for by_adapters in models.values():
        yield [i for numbers in by_adapters.values() for i in numbers]


def _there(batch: Batch) -> dict[tuple[str, int], Path]:
    """The pictures that earlier runs made: (address, number within the row) -> path."""
    paths = sorted(batch.folder.glob(f"*{batch.extension}")) if batch.folder.is_dir() else []
    named = ((_NAMED.search(path.stem), path) for path in paths)
    return {(m[1], int(m[2] or 1)): path for m, path in named if m is not None}


class _Work:
    """The rows of a batch while they are made."""

    def __init__(self, rows: Sequence[Row], addresses: Sequence[str], batch: Batch, there: dict[tuple[str, int], Path]):
        self.rows, self.addresses, self.batch, self.there = rows, addresses, batch, there
        self.outcomes: dict[int, Outcome] = {}

    def of_model(self, numbers: Iterable[int]) -> None:
        """Rows of one model, which is loaded with the first that lacks a picture and let go after the last."""
        system: System | None = None
        failure: str | None = None
        for i in numbers:
            outcome = self._kept(i)
            if outcome is None and system is None and failure is None:
                try:
                    system = self.batch.load(self.rows[i].model)
                except (KeyboardInterrupt, Cancelled):
                    raise
                except Exception as error:
                    failure = _reason(error)
            if outcome is None and system is None:
                outcome = Outcome(self.rows[i], FAILED, self.addresses[i], error=failure)
            if outcome is None and system is not None:
                outcome = self._made(i, system)
            assert outcome is not None
            self.outcomes[i] = outcome
            self.batch.on_row(outcome)
        system = None
        _let_go()

    def _kept(self, i: int) -> Outcome | None:
        count, told = self.rows[i].request.canvas.count, self.addresses[i]
        paths = tuple(self.there[told, n] for n in range(1, count + 1) if (told, n) in self.there)
        return Outcome(self.rows[i], KEPT, told, paths) if len(paths) == count else None

    def _made(self, i: int, system: System) -> Outcome:
        """A row's pictures, each saved as soon as it is there. A folder that takes none ends the whole batch."""
        row, told, paths = self.rows[i], self.addresses[i], list[Path]()
        began, making = time.perf_counter(), _Making(row, system, self.batch)
        for n, picture in enumerate(making, start=1):
            path = self.there.setdefault((told, n), self._path(row, told, n))
            if not path.exists():
                save(picture if self.batch.metadata else picture.bare(), path)
            paths.append(path)
        state = FAILED if making.error else MADE
        return Outcome(row, state, told, tuple(paths), time.perf_counter() - began, making.error, making.notes)

    def _path(self, row: Row, told: str, n: int) -> Path:
        words = slugify(row.request.prompt.text or Path(row.model or "picture").name) if self.batch.metadata else ""
        name = "-".join(part for part in (f"{row.number:05d}", words, told, str(n) if n > 1 else "") if part)
        self.batch.folder.mkdir(parents=True, exist_ok=True)
        return self.batch.folder / f"{name}{self.batch.extension}"


class _Making:
    """The pictures of a row, until one cannot be made; then `error` says why."""

    def __init__(self, row: Row, system: System, batch: Batch):
        self.row, self.system, self.batch = row, system, batch
        self.error: str | None = None
        self.notes = row.notes

    def __iter__(self) -> Iterator[Picture]:
        judge = self.batch.judge
        pictures: Iterator[Picture] = iter(())
        try:
            ready = prepared(self.system, self.row.request)
            self.notes, pictures = (*self.notes, *ready.notes), ready.pictures(self.batch.on_step)
        except Exception as error:
            self.error = _reason(error)
        while self.error is None:
            try:
                picture = next(pictures, None)
                shown = picture if judge is None or picture is None else judge(picture)
            except Cancelled:
                raise
            except Exception as error:
                self.error = _reason(error)
                return
            if shown is None:
                return
            yield shown


def _reason(error: Exception) -> str:
    """Why something failed, in a paragraph; of a fault of ours or a full memory its kind too."""
    if isinstance(error, HvisError):
        return str(error)
    return f"Something went wrong inside that should have been explained ({type(error).__name__}: {error})."


def _let_go() -> None:
    """Memory of a model that is no longer needed, before the next is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
