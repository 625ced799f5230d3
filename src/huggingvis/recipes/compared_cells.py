"""What a comparison of samplers does and in what time: its cells, the pace of a model, and a folder that keeps cells.

A cell is one sampler at one number of network calls. A finished one is a small JSON file and the picture that the
contact sheet shows, so that a comparison that was killed goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from safetensors.torch import load_file, save_file
from torch import Tensor

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.files import check_folder, replace_atomically, write_atomically
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.export.image import save
from huggingvis.recipes.sampler_facts import Kind

FRESH = "draws fresh noise, so its pictures have no reference to be near to; real pictures (against) would measure it"


class Made(NamedTuple):
    """Samples in model space [N, ...] and as pictures [N, C, H, W], float32 on the CPU; the calls that each took."""

    latents: Tensor
    pictures: Tensor
    calls: int


class Cell(NamedTuple):
    """One kind of sampler at about `nfe` calls of the network, in `steps` whole steps."""

    kind: Kind
    nfe: int

    @property
    def steps(self) -> int:
        return self.nfe // self.kind.each


@dataclass(frozen=True)
class CellPlan:
    """The `cells` that make sense, and, by sampler and by the calls asked for, why others do not."""

    cells: tuple[Cell, ...]
    left_out: tuple[dict[str, Any], ...]

    @classmethod
    def of(
        cls, kinds: Sequence[Kind], nfe: Sequence[int], judged: bool, fault: Callable[[Cell], str] = lambda cell: ""
    ) -> CellPlan:
        """`judged`: whether there are real pictures to compare with; `fault`: why the model cannot draw a cell; empty:
        it can. Raises `UsageError` where nothing is left."""
        cells: list[Cell] = []
        left: list[dict[str, Any]] = []
        for kind in kinds:
            if kind.stochastic and not judged:
                left.append({"sampler": kind.name, "reason": FRESH})
                continue
            for cell in (Cell(kind, n) for n in nfe):
                reason = f"one step takes {kind.each} calls" if cell.nfe < kind.each else fault(cell)
                if reason:
                    left.append({"sampler": kind.name, "nfe": cell.nfe, "reason": reason})
                else:
                    cells.append(cell)
        if not cells:
            raise UsageError(
                "No sampler is left to compare: " + "; ".join(f"{x['sampler']} {x['reason']}" for x in left)
            )
        return cls(tuple(cells), tuple(left))

    def calls(self) -> int:
        """Network calls for one picture of every cell."""
        return sum(cell.steps * cell.kind.each for cell in self.cells)


@dataclass(frozen=True)
class Pace:
    """Seconds that a picture costs: `call` for each call of the network, `rest` for its text and decoding."""

    call: float
    rest: float

    def seconds(self, plan: CellPlan, fine: int, count: int) -> float:
        """Of a whole plan and of its reference by `fine` steps of two calls."""
        return count * (self.call * (plan.calls() + 2 * fine) + self.rest * (len(plan.cells) + 1))

    def told(self, plan: CellPlan, fine: int, count: int) -> str:
        total = self.seconds(plan, fine, count)
        cell = (total - count * 2 * fine * self.call) / (len(plan.cells) + 1)
        return (
            f"{len(plan.cells)} cells of {count} pictures at about {cell:.3g} s each, and a reference of {2 * fine} "
            f"calls (fewer: --fine N): about {_duration(total)}."
        )

    def count(self, plan: CellPlan, fine: int, most: int, least: int, minutes: float) -> int:
        """How many pictures, at most `most`, take `minutes`. Raises `UsageError` where that is below `least`."""
        fits = int(60 * minutes / self.seconds(plan, fine, 1))
        if fits < least:
            need = self.seconds(plan, fine, least) / 60
            raise UsageError(
                f"In {minutes:g} minutes these {len(plan.cells)} cells have time for {fits} pictures each; at least "
                f"{least} are needed, which take about {need:.3g}. Allow more minutes, name fewer samplers or numbers "
                "of calls, or a coarser reference (--fine)."
            )
        return min(most, fits)


@final
class Kept:
    """Cells in `folder`, which is new, empty or an earlier comparison's. None: nothing is kept.

    Raises `UsageError` for a folder with anything else, `FileProblem` for one that cannot be used or is damaged.
    """

    NOTE = "comparison.json"
    REFERENCE = "reference.safetensors"
    OWN = ("*.cell.json", "*.cell.png", REFERENCE, NOTE)
    """What is written here; the note last, for it says whose folder this is."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.what: dict[str, Any] | None = None
        if folder is None:
            return
        check_folder(folder)
        if (folder / self.NOTE).exists():
            self.what = _read(folder / self.NOTE, "count")
        elif folder.exists() and any(folder.iterdir()):
            raise UsageError(
                f"Unfinished comparisons are kept in {folder}, but that folder holds other things (it has no "
                f"{self.NOTE}). Name another output (-o), or move it away."
            )

    @property
    def count(self) -> int | None:
        """The number of pictures of each cell that is kept."""
        return int(self.what["count"]) if self.what is not None else None

    def begin(self, what: Mapping[str, Any]) -> None:
        """`what` names all that the cells depend on. Raises `UsageError` where others are kept."""
        if self.folder is None:
            return
        if self.what is not None and self.what != what:
            raise UsageError(
                f"{self.folder} keeps what was done of a comparison with another model or other numbers. Name another "
                "output (-o), or remove that folder."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            _write(self.folder / self.NOTE, what)
        except BaseException:
            with suppress(OSError):
                self.folder.rmdir()  # a folder with nothing in it tells nothing
            raise

    def row(self, cell: Cell, make: Callable[[], tuple[dict[str, Any], Picture]]) -> tuple[dict[str, Any], Picture]:
        """A cell's numbers and its picture: those kept, or those made now."""
        if self.folder is None:
            return make()
        stem = f"{cell.kind.name.replace('/', '_')}-{cell.nfe}.cell"
        numbers, shown = self.folder / f"{stem}.json", self.folder / f"{stem}.png"
        if not numbers.exists():
            row, picture = make()
            save(picture, shown)
            _write(numbers, row)  # last: it says that the cell is done
        return _read(numbers, "nfe"), open_picture(shown)

    def made(self, make: Callable[[], Made]) -> Made:
        """The reference."""
        file = self.folder / self.REFERENCE if self.folder is not None else None
        if file is None:
            return make()
        if not file.exists():
            made = make()
            tensors = {"latents": made.latents.contiguous(), "pictures": made.pictures.contiguous()}
            replace_atomically(file, lambda place: save_file(tensors, place))
            return made
        held = load_file(file)
        return Made(held["latents"], held["pictures"], 0)

    def remove(self) -> None:
        """Away with all that was written here, and with the folder where nothing else lies in it."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            for own in self.OWN:
                for path in (*self.folder.glob(f".{own}.*.tmp"), *self.folder.glob(own)):  # .tmp: of a killed write
                    path.unlink()
            self.folder.rmdir()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.3g} minutes"


def _write(path: Path, what: Mapping[str, Any]) -> None:
    text = json.dumps(what, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def _read(path: Path, number: str) -> dict[str, Any]:
    """The object in a JSON file, which has at least a `number` of that name."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise FileProblem(f"{path} should be JSON, but is damaged ({error}). Remove {path.parent}.") from error
    if not isinstance(found, dict) or not isinstance(found.get(number), int):
        raise FileProblem(
            f"{path} should hold an object with a number {number!r}, but is damaged. Remove {path.parent}."
        )
    return found
