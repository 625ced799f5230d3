"""Pictures on the screen and on the disk while they are made: progress of their steps, each saved as it is finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.screen import Screen
from huggingvis.app.serving import Output
from huggingvis.app.sizes import calls_of
from huggingvis.core.errors import Cancelled, HvisError
from huggingvis.core.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep, Step


class Watched:
    """Progress of a request's steps over all of its chunks; `watch` hears of each step too."""

    def __init__(self, screen: Screen, request: Request, watch: OnStep | None = None):
        self.bar = screen.progress("sampling", request.canvas.count * calls_of(request))
        self.steps = request.sampling.steps if request.refine is None else None
        self.done, self.watch = 0.0, watch

    def __enter__(self) -> Callable[[Step], None]:
        self.tick = self.bar.__enter__()
        return self._step

    def __exit__(self, *trouble: Any) -> None:
        self.bar.__exit__(*trouble)

    def _step(self, step: Step) -> None:
        self.done += len(step.x) * (self.steps or step.total) / step.total  # a source may walk fewer steps, or more
        self.tick(round(self.done))
        if self.watch is not None:
            self.watch(step)


def saved(pictures: Iterable[Picture], request: Request, output: Output) -> tuple[list[dict[str, Any]], list[Picture]]:
    """Each picture saved as soon as it is made, so that what is finished stays when the rest is stopped or fails."""
    told: list[dict[str, Any]] = []
    kept: list[Picture] = []
    try:
        for picture in map(output.checked, pictures):
            path = output.save(picture)
            kept.append(picture)
            told.append({"path": str(path), **picture.made})
            output.screen.say(f"{path}  (seed {picture.made['seed']}, {picture.made['seconds']:.2f} s)")
    except KeyboardInterrupt:
        raise Cancelled(stopped(len(told), request.canvas.count, output.folder)) from None
    except HvisError as error:
        if told:
            output.screen.note(stopped(len(told), request.canvas.count, output.folder))
        raise error
    return told, kept


def stopped(done: int, asked: int, folder: Path) -> str:
    """What is told of a making that was not finished."""
    kept = f"{done} of {asked} pictures are finished and stay in {folder}" if done else "no picture was finished"
    return f"Stopped while sampling: {kept}. Nothing half-written was left behind."


def sheet(pictures: list[Picture], request: Request, output: Output) -> str:
    """All pictures on one sheet; its path."""
    from huggingvis.export.grid import Sheet, cell_for, contact_sheet
    from huggingvis.export.image import save_numbered

    cell = cell_for(max(max(picture.size) for picture in pictures))
    words = request.prompt.text.strip() or Path(str(pictures[0].made["model"])).name
    path = save_numbered(contact_sheet(pictures, Sheet(cell=cell)), output.folder, f"grid {output.name(words)}")
    output.screen.say(f"{path}  (all of them on one sheet)")
    return str(path)
