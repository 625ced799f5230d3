"""Make the pictures of a whole file of requests: prompts, a table, JSON lines.

hvis batch prompts.txt -o out/                    a prompt a line, or flags: --prompt "a fox" --steps 20 --seed 7
hvis batch wishes.csv --steps 30 -n 2             columns are named like flags: prompt,seed,size,lora,model
hvis batch requests.jsonl --model runs/mine       requests, or parts of them, as `hvis generate --json` shows them

Every flag of `hvis generate` may be given, for all rows that do not say otherwise. Run again, it makes only what is
missing or has changed; what fails is told at the end and does not stop the rest.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.beside import find_parts
from huggingvis.app.commands import generate
from huggingvis.app.locating import located
from huggingvis.app.origins import remember_hashes
from huggingvis.app.preferences import Preferences, preferences
from huggingvis.app.screen import Screen
from huggingvis.app.serving import output_of
from huggingvis.core.errors import Cancelled, HvisError, SomeFailed, UsageError
from huggingvis.core.files import check_folder

if TYPE_CHECKING:
    from huggingvis.core.protocols import Step
    from huggingvis.core.system import System
    from huggingvis.recipes.batching import Done, Outcome, Row


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the requests: .txt, .csv, .tsv, .jsonl or .json")
    generate.arguments(parser, words)


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    if args.picture is not None or args.grid:
        raise UsageError(
            "A batch takes its requests from its file: leave out --from and --grid. `hvis generate --from` repeats one "
            "picture, `hvis grid` makes labelled sheets."
        )
    usual = preferences()
    from huggingvis.app.rows import RowReader
    from huggingvis.recipes.row_places import rows_in

    cells = rows_in(args.file)
    name = "row" if args.file.suffix.lower() == ".json" else "line"
    done = made(RowReader(args, usual, screen).rows(cells, name), args, usual, screen, name)
    return finished(done, folder_of(args, usual) / f"{args.file.stem}.summary.json", screen, {"file": str(args.file)})


def folder_of(args: argparse.Namespace, usual: Preferences) -> Path:
    """Where the pictures go."""
    folder: Path = args.output or usual.output
    return folder


def made(rows: Sequence[Row], args: argparse.Namespace, usual: Preferences, screen: Screen, name: str = "row") -> Done:
    """What became of the rows, each told on the screen as it ends; `name`: what one is called there."""
    from huggingvis.recipes import batching

    remember_hashes()
    find_parts(args, usual, screen)
    folder = check_folder(folder_of(args, usual))
    output = output_of(args, folder, usual, screen)
    models = _Models(args, usual, screen)
    steps = sum(row.request.canvas.count * row.request.sampling.steps for row in rows)
    with screen.progress("sampling", steps) as tick:
        batch = batching.Batch(
            folder, models.load, models.place, how=_how(args), metadata=output.metadata, extension=output.extension,
            judge=output.checked if output.judge else None, on_row=_Told(screen, name), on_step=_counted(tick),
        )  # fmt: skip
        return batching.run(rows, batch)


def finished(done: Done, summary: Path, screen: Screen, more: dict[str, Any]) -> dict[str, Any]:
    """The document of a batch, kept beside its pictures. Raises `Cancelled`, `SomeFailed` with it where that is so."""
    from huggingvis.recipes.batching import FAILED, write_summary

    document = {**more, **done.to_dict(), "summary": str(write_summary(done, summary, more))}
    screen.say(f"{done}  ({summary})")
    if done.stopped:
        stop = Cancelled(f"Stopped; what is finished stays in {summary.parent}. The same command goes on from there.")
        stop.result = document
        raise stop
    if failed := done.count(FAILED):
        which = "1 row" if failed == 1 else f"{failed} rows"
        raise SomeFailed(f"{which} of {len(done.outcomes)} failed, for the reasons above and in {summary}.", document)
    return document


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """What decides pictures beside model and request; only what was said, so that new flags change no address."""
    from huggingvis.recipes.addresses import how_loaded

    looked_at = args.safety_checker
    judge = {"safety_checker": Path(looked_at) if os.path.exists(looked_at) else looked_at} if looked_at else {}
    return {**how_loaded(args.precision, args.vae, args.prediction, args.text_encoder), **judge}


class _Models:
    """The models that rows name; each is looked for once."""

    def __init__(self, args: argparse.Namespace, usual: Preferences, screen: Screen):
        self.args, self.usual, self.screen = args, usual, screen
        self._places: dict[str | None, Path | str] = {}

    def place(self, named: str | None) -> Path | str:
        """Path of a model. One that a row names and that is not there fails with that row, when it is loaded."""
        if named not in self._places:
            self._places[named] = self._place(named)
        return self._places[named]

    def load(self, named: str | None) -> System:
        return generate.system_of(self._args(named), self.usual, None, self.screen)

    def _place(self, named: str | None) -> Path | str:
        from huggingvis.recipes.models import place_of_model

        args = self._args(named)
        try:
            return place_of_model(located(args.model or self.usual.model, args, self.usual, self.screen))
        except HvisError as error:
            if named is None:
                raise
            return str(error)

    def _args(self, named: str | None) -> argparse.Namespace:
        return argparse.Namespace(**{**vars(self.args), "model": named or self.args.model})


class _Told:
    """Says what became of each row as it ends."""

    def __init__(self, screen: Screen, name: str):
        self.screen, self.name, self._notes, self._errors = screen, name, set[str](), dict[str, int]()

    def __call__(self, outcome: Outcome) -> None:
        from huggingvis.recipes.batching import FAILED, KEPT

        for note in outcome.notes:
            if note not in self._notes:  # of a thousand rows with one unknown word the first tells it
                self._notes.add(note)
                self.screen.note(note)
        number = f"{self.name} {outcome.row.number}"
        for path in outcome.paths:
            seconds = "there already" if outcome.state == KEPT else f"{outcome.seconds:.2f} s"
            self.screen.say(f"{path}  ({number}, {seconds})")
        if outcome.state == FAILED:
            error = str(outcome.error)
            first = self._errors.setdefault(error, outcome.row.number)
            same = first != outcome.row.number
            self.screen.note(f"{number} failed: {f'as {self.name} {first}.' if same else error}")


def _counted(tick: Callable[[int], None]) -> Callable[[Step], None]:
    done = 0

    def on_step(step: Step) -> None:
        nonlocal done
        done += len(step.x)
        tick(done)

    return on_step
