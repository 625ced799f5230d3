"""Trainings on record, run by run, and the pages that compare them with papers and with each other.

    python benchmarks/published.py plan                     every row's command, and about how long it takes
    python benchmarks/published.py budget nice              trains a row for 15 s of one core: pictures a second
    python benchmarks/published.py record nice runs/nice    measures a finished run and keeps it: trained/nice.json
    python benchmarks/published.py table                    published.md and the pages of experiments from these alone

Rows are those of `published_rows.py` (figures that papers report), `family_rows.py` and `foundation_rows.py` (the
experiments of chapters 1 to 3 and of chapter 4). Without `--split test` figures are of the last 10,000 training digits,
which no training sees, and are labelled validation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import HERE, write_text
from experiment_page import page as experiments
from family_experiments import FAMILIES
from foundation_experiments import FOUNDATIONS
from published_rows import NOT_COMPARABLE, ROWS, Row
from record_run import TRAINED, command, prove
from trainings import RUN_FOLDERS, Training

from huggingvis.core.catalog import find_recipe
from huggingvis.core.config import from_dict, to_dict
from huggingvis.core.errors import Cancelled, UsageError, unknown
from huggingvis.core.machine import cores

if TYPE_CHECKING:
    from huggingvis.train.run import Run

PAGE = HERE / "published.md"
EXPERIMENTS = {HERE / "first_chapters.md": FAMILIES, HERE / "foundations.md": FOUNDATIONS}
ALL: Mapping[str, Training] = {**ROWS, **FAMILIES.rows, **FOUNDATIONS.rows}
SECONDS = 15
TICKS = "▁▂▃▄▅▆▇█"


def row_of(name: str) -> Training:
    """The row called `name`."""
    if name not in ALL:
        raise unknown("training on record", name, ALL)
    return ALL[name]


def planned(name: str) -> str:
    """The command that trains a row."""
    row = row_of(name)
    return command(row.recipe, to_dict(from_dict(find_recipe(row.recipe).Config, row.config)), name)


def plan() -> str:
    """The commands of all rows; each chapter's in the order in which they are worth their time."""
    parts = []
    chapters = ((f"Experiments of {each.title}", each.rows) for each in EXPERIMENTS.values())
    for title, rows in (("Figures of papers", ROWS), *chapters):
        lines = [f"{name:<22} ~{row.minutes:>4.3g} min   {planned(name)}" for name, row in rows.items()]
        parts.append("\n".join((f"{title}: {sum(row.minutes for row in rows.values()):.0f} min", *lines)))
    return "\n\n".join(parts)


# ---- record ----------------------------------------------------------------------------------------------------------


def figures(name: str, run: Run, given: argparse.Namespace) -> dict[str, Any]:
    """What a finished run reaches of the figures of a row."""
    from published_measures import Asked, measure

    from huggingvis.recipes.pictures import Facts

    row = row_of(name)
    if run.config["recipe"] != row.recipe:
        raise UsageError(f"{run.path} was trained by {run.config['recipe']!r}, the row {name!r} is of {row.recipe!r}.")
    asked = Asked(given.split, given.root and str(given.root), given.pictures, given.draws)
    found, n = measure(row, run, asked)
    newest = run.latest()  # none of what is fitted in one go
    return {
        "row": name,
        "epochs": newest and round(newest.step * run.config["config"]["batch"] / Facts.of(run).count, 1),
        "split": given.split,
        "pictures": n,
        "draws": given.draws or row.draws,
        "result": {k: {"value": round(f.value, 4), "error": f.error and round(f.error, 4)} for k, f in found.items()},
    }


# ---- budget ----------------------------------------------------------------------------------------------------------


def budget(name: str, runs: Path) -> str:
    """Trains a row for `SECONDS` of one core in a folder that is thrown away, and tells what an hour would bring; of a
    row with stages each of them, a line each.

    `runs`: where the runs lie that it is built on. Time is that of the process, so that others on the machine count
    little. Raises `UsageError` as `paced`.
    """
    row, numbers = row_of(name), paced(name, runs)
    lines, minutes = [], 0.0
    for stage in (*row.stages, None):
        pace, batch = _pace(row.recipe, numbers, stage)
        steps = (row.numbers if stage is None else row.numbers[stage]).get("steps", 0)
        minutes += steps / pace / 60
        lines.append(
            f"{stage or name}: {pace:.3g} steps/s, {3600 * pace:,.0f} an hour; {pace * batch:,.0f} pictures/s; "
            f"the planned {steps:,} steps take {steps / pace / 60:.1f} min of one core"
        )
        if stage is not None:
            numbers[stage] = {**numbers[stage], "steps": 1}  # done at once when the next stage is timed
    return "\n".join((*lines[:-1], f"{lines[-1]} (the row says {row.minutes:g}, this is {minutes:.1f})"))


def _pace(recipe: str, numbers: Mapping[str, Any], stage: str | None) -> tuple[float, int]:
    """Steps a second of a training, or of a stage of it, and the pictures of one."""
    import torch

    import huggingvis as hv
    from huggingvis.train.run import Run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        timed = path / (stage or "")
        clock = _Clock(timed / "metrics.jsonl", SECONDS)
        threading.Thread(target=clock.watch, daemon=True).start()
        with contextlib.suppress(Cancelled):
            hv.train(recipe, path, numbers, device="cpu")
        spent, last = time.process_time() - clock.began, Run.open(timed).latest()
        assert last is not None
        asked = Run.open(timed).config["config"]
        return last.step / spent, asked["batch"]


def paced(name: str, runs: Path) -> dict[str, Any]:
    """The numbers of a row for a training that never draws. Raises `UsageError` for what is fitted in one go."""
    row = row_of(name)
    if "steps" not in {field.name for field in fields(find_recipe(row.recipe).Config)}:
        raise UsageError(
            f"A budget is told from steps a second, but {row.recipe!r} takes no steps: it is fitted in one go, by its "
            f"row in about {row.minutes:g} minutes. Run the command that `plan` gives."
        )
    return {key: _placed(value, runs) for key, value in row.config.items()} | {"sample_every": 1_000_000}


def _placed(value: Any, runs: Path) -> Any:
    """A number of a row with variables written out and the folder of runs where it is."""
    if not isinstance(value, str):
        return value
    return str(runs / value.removeprefix(RUN_FOLDERS)) if value.startswith(RUN_FOLDERS) else os.path.expandvars(value)


@dataclass
class _Clock:
    """Presses ctrl-C after so many seconds of this process's time since the file `begun` is there, which a training
    makes when it is ready to be stopped."""

    begun: Path
    seconds: float
    began: float = 0.0

    def watch(self) -> None:
        wait = threading.Event()
        while not self.begun.exists():
            wait.wait(0.02)
        self.began = time.process_time()
        while time.process_time() < self.began + self.seconds:
            wait.wait(0.1)
        os.kill(os.getpid(), signal.SIGINT)


# ---- table -----------------------------------------------------------------------------------------------------------


def page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, from what was recorded."""
    head = (
        "# Published figures, and ours\n\n"
        "Made by `python benchmarks/published.py table` from `trained/*.json`. Figures of the validation set (the "
        "last 10,000 training digits, which no training sees) stand beside papers' figures of the test set and are "
        "labelled so. A figure out of budget is stated at its budget.\n\n"
        "| system | figure | paper | ours | |\n|---|---|---|---|---|\n"
    )
    lines = [line for name, row in ROWS.items() for line in _lines(row, records.get(name))]
    details = [_details(name, row, records.get(name)) for name, row in ROWS.items()]
    return head + "\n".join(lines) + "\n\n" + "\n\n".join((*details, "## Not comparable", *NOT_COMPARABLE)) + "\n"


def _lines(row: Row, told: Mapping[str, Any] | None) -> list[str]:
    """A line for each figure of the paper; the verdict is that of the first."""
    out = []
    for number, (key, paper) in enumerate(row.paper.items()):
        ours, verdict = "not trained yet", ""
        if told:
            found = told["published"]["result"][key]
            error = f" ± {found['error']:.2g}" if found["error"] else ""
            ours = f"**{found['value']:.5g}**{error} {row.unit}, {told['published']['split']}"
            better = found["value"] >= paper if row.more else found["value"] <= paper
            verdict = "" if number else ("reached" if better else "not reached at this budget")
        out.append(f"| {row.system} | {key.replace('_', ' ')} | {paper:g} {row.unit} | {ours} | {verdict} |")
    return out


def _details(name: str, row: Row, told: Mapping[str, Any] | None) -> str:
    said = told["command"] if told else planned(name)
    parts = [
        f"## {row.system}\n",
        f"- Paper: {row.source}.",
        f"- Measured: {row.measured}.",
        f"- Like for like: {row.alike}.",
        f"- Command: `{said}`",
    ]
    if told is None:
        return "\n".join((*parts, f"- Not trained yet; about {row.minutes:g} minutes on two cores."))
    scored = told["published"]
    rest = {k: v for k, v in scored["result"].items() if k not in row.paper}
    beside = "".join(f"; {key.replace('_', ' ')} {found['value']:.5g}" for key, found in rest.items())
    about = told["machine"]
    parts += [
        f"- Trained: {told['steps']:,} steps ({scored['epochs']:g} epochs) in {told['seconds'] / 60:.1f} min, seed "
        f"{told['seed']}, on {about['cpu']}, {about['cores']} cores; "
        + ", ".join(f"{k} {v}" for k, v in told["versions"].items())
        + ".",
        f"- Scored: {scored['pictures']:,} pictures ({scored['split']}){beside}.",
    ]
    key = next((key for key in told["curves"] if key in (row.curve, f"validation.{row.curve}")), None)
    if key is not None:
        points = [value for _, value in told["curves"][key]]
        parts.append(f"- `{key}` from {points[0]:.4g} to {points[-1]:.4g}: {_spark(points)}")
    if "sheet" in told:
        parts.append(f"\n![What it draws]({Path(told['sheet']).relative_to(HERE.name).as_posix()})")
    return "\n".join(parts)


def _spark(points: list[float]) -> str:
    """Numbers as bars of a line of text."""
    low, high = min(points), max(points)
    scale = (len(TICKS) - 1) / (high - low) if high > low else 0.0
    return "".join(TICKS[round((p - low) * scale)] for p in points)


def recorded(folder: Path = TRAINED) -> dict[str, Any]:
    """Every record of a training that was measured against a paper's figures, by its row."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {told["published"]["row"]: told for told in records if "published" in told}


# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> int:
    given = _options().parse_args()
    try:
        _act(given)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _act(given: argparse.Namespace) -> None:
    if given.verb == "plan":
        print(plan())
    elif given.verb == "budget":
        print(budget(given.row, given.runs))
    elif given.verb == "record":
        import torch

        from huggingvis.train.run import Run

        torch.set_num_threads(cores())
        told = figures(given.row, Run.open(given.run), given)
        prove(given.run, given.row, {"published": told})
        print(told["result"])
    else:
        write_text(PAGE, page(recorded()))
        for path, chapters in EXPERIMENTS.items():
            write_text(path, experiments(chapters, recorded(), planned))
        print(f"Wrote {', '.join(path.name for path in (PAGE, *EXPERIMENTS))}")


def _options() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = out.add_subparsers(dest="verb", required=True)
    verbs.add_parser("plan", help="commands of all rows")
    verbs.add_parser("table", help="write published.md and the pages of experiments")
    ask = verbs.add_parser("budget", help="how long a row takes here")
    ask.add_argument("row", choices=ALL)
    ask.add_argument("--runs", type=Path, default=Path(RUN_FOLDERS), help="where runs that it is built on lie")
    keep = verbs.add_parser("record", help="measure a finished run")
    keep.add_argument("row", choices=ALL)
    keep.add_argument("run", type=Path)
    keep.add_argument("--split", choices=("validation", "test"), default="validation")
    keep.add_argument("--root", type=Path, help="folder of the official files (default: where the run found them)")
    keep.add_argument("--pictures", type=int, help="score so many, evenly spaced (default: the row's)")
    keep.add_argument("--draws", type=int, help="of each number (default: the row's)")
    return out


if __name__ == "__main__":
    sys.exit(main())
