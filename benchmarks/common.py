"""What every benchmark shares: taking turns, measuring a process, and the record that is kept.

A machine is never quiet and never the same twice, so contenders take turns (A B A B) in one run, and what is compared
is the ratio of their medians there; seconds alone are a fact about one machine on one day. Standard library only: a
process that is started from a large one reports the large one's memory as its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from huggingvis.core.machine import cores, machine, versions

HERE = Path(__file__).parent
RESULTS = HERE / "results"
VARIABLE = "$HUGGINGVIS_TESTDATA"
"""Names the folder of test data, wherever it lies."""
T = TypeVar("T")


def parser(doc: str | None, *, repeats: int, threads: int) -> argparse.ArgumentParser:
    """The options that all scripts have; `threads` 0 is one for each core."""
    out = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    out.add_argument("--repeats", type=_positive, default=repeats, help="measured rounds (default: %(default)s)")
    out.add_argument("--seed", type=int, default=0, help="of everything drawn (default: %(default)s)")
    out.add_argument("--threads", type=_positive, default=threads or cores(), help="of torch (default: %(default)s)")
    out.add_argument("--out", type=Path, default=RESULTS, help="folder of the result (default: benchmarks/results)")
    return out


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


def clock(act: Callable[[], object], times: int = 1) -> float:
    """Seconds of one `act()`, averaged over `times` of them."""
    began = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - began) / times


def interleaved(contenders: Mapping[str, Callable[[], T]], rounds: int, *, warm: int = 1) -> dict[str, list[T]]:
    """What each contender returned in each round; all have their turn in every round. `warm` rounds before are lost."""
    out: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(-warm, rounds):
        for name, run in contenders.items():
            value = run()
            if number >= 0:
                out[name].append(value)
    return out


@dataclass(frozen=True)
class Spent:
    """What a process took: wall seconds, and its peak resident memory in MiB (None on Windows, which does not tell)."""

    seconds: float
    peak_mib: float | None


def process(argv: Sequence[str], *, threads: int | None = None) -> Spent:
    """Run a command from start to end. Raises `RuntimeError` with its last words if it fails."""
    env = dict(os.environ) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    began = time.perf_counter()
    child = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    words = child.stderr.read()
    peak = None
    if sys.platform == "win32":
        code = child.wait()
    else:
        _, status, usage = os.wait4(child.pid, 0)
        code = child.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    seconds = time.perf_counter() - began
    if code:
        raise RuntimeError(f"`{shlex.join(argv)}` ended with code {code}:\n{words[-2000:]}")
    return Spent(seconds, peak)


def row(
    what: str,
    who: str,
    unit: str,
    values: Sequence[float],
    *,
    beside: Mapping[str, Sequence[float]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One line of a result: median, least and most of `values`, and its median's ratio to each peer's."""
    median = statistics.median(values)
    return {
        "what": what,
        "who": who,
        "unit": unit,
        "median": _short(median),
        "min": _short(min(values)),
        "max": _short(max(values)),
        "repeats": len(values),
        "ratios": {name: _short(median / statistics.median(other)) for name, other in (beside or {}).items()},
        "facts": dict(facts or {}),
    }


def _short(value: float) -> float:
    """Five digits: the sixth of a time is chance."""
    return float(f"{value:.5g}")


@dataclass
class Report:
    """A run of the script `path` as it is recorded: written after each row, so that one that is cut off leaves what it
    has measured, and at its end."""

    path: str
    options: argparse.Namespace
    packages: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.machine = machine(self.options.threads)
        if (self.machine["load"] or 0) > 0.5:
            told = f"{self.machine['load']} processes were busy before this began: trust only ratios, and those little."
            self.notes.append(told)
            print(f"! {told}", file=sys.stderr)

    def add(self, *rows: dict[str, Any]) -> None:
        """Keep rows, and show them."""
        for r in rows:
            self.rows.append(r)
            ratios = "".join(f", {value:.3g} x {name}" for name, value in r["ratios"].items())
            print(f"{r['what']}, {r['who']}: {r['median']:.4g} [{r['min']:.4g}-{r['max']:.4g}] {r['unit']}{ratios}")
        self._write(finished=False)

    def write(self) -> Path:
        """The JSON in the folder of results. Raises `ValueError` for a number that is not finite."""
        path = self._write(finished=True)
        print(f"{time.perf_counter() - self.began:.1f} s; written: {path.name}", file=sys.stderr)
        return path

    def _write(self, *, finished: bool) -> Path:
        name = Path(self.path).stem
        record = {
            "name": name,
            "command": command(self.path, sys.argv[1:]),
            "seed": self.options.seed,
            "seconds": round(time.perf_counter() - self.began, 1),
            "machine": self.machine,
            "versions": versions(self.packages),
            "notes": self.notes if finished else [*self.notes, "Cut off before its end: rows are missing."],
            "rows": self.rows,
        }
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return write_text(self.options.out / f"{name}.json", text)


def command(path: str, words: Sequence[str]) -> str:
    """How to run it again from the checkout's root; where the result went is nobody else's concern."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--out":
            next(rest, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return " ".join(map(_word, ["python", f"benchmarks/{Path(path).name}", *map(placed, kept)]))


def placed(text: str) -> str:
    """A text that names the test data by their variable, wherever they lie here."""
    data = os.environ.get(VARIABLE.lstrip("$"))
    return text.replace(data, VARIABLE) if data else text


def _word(text: str) -> str:
    return text if VARIABLE in text else shlex.quote(text)


def write_text(path: Path, text: str) -> Path:
    """Create or replace a file, all or nothing."""
    return write_bytes(path, text.encode())


def write_json(path: Path, told: Mapping[str, Any]) -> Path:
    """A record, a line for each of its parts. Raises `ValueError` for a number that is not finite."""
    parts = [f'"{key}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}' for key, value in told.items()]
    return write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def write_bytes(path: Path, content: bytes) -> Path:
    """Create or replace a file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def finite(value: object) -> bool:
    """Whether all numbers inside a JSON value are finite."""
    if isinstance(value, Mapping):
        return all(finite(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)
