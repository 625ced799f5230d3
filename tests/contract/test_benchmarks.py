"""Benchmarks: scripts that parse, results that are complete, a table that is theirs. No time is asserted anywhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import shlex
import statistics
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this copy has no benchmarks/")
SCRIPTS = sorted(FOLDER.glob("*.py"))
RESULTS = sorted((FOLDER / "results").rglob("*.json"))
KEYS = {"name", "command", "seed", "seconds", "machine", "versions", "rows"}
MACHINE = {"cpu", "cores", "ram_gib", "system", "threads", "load"}
ROW = {"what", "who", "unit", "median", "min", "max", "repeats", "ratios"}


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as its neighbours import it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return module("common", monkeypatch)


def check(record: dict[str, Any], common: ModuleType) -> None:
    """Complete, finite, and with ratios that are those of its medians."""
    assert set(record) >= KEYS and set(record["machine"]) == MACHINE
    assert record["command"].split()[:2] == ["python", f"benchmarks/{record['name']}.py"]
    assert isinstance(record["seed"], int) and record["seconds"] > 0 and record["machine"]["cores"] >= 1
    assert {"python", "torch", "huggingvis"} <= set(record["versions"])
    assert common.finite(record) and record["rows"]
    for row in record["rows"]:
        assert set(row) >= ROW and row["repeats"] >= 1
        assert row["min"] <= row["median"] <= row["max"] and row["max"] > 0
        for peer, ratio in row["ratios"].items():
            same = [other["median"] for other in record["rows"] if other["unit"] == row["unit"]]
            assert any(math.isclose(row["median"] / m, ratio, rel_tol=1e-3) for m in same), (row["what"], peer, ratio)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_parse_and_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), path.name)
    compile(tree, path.name, "exec")
    assert len(ast.get_docstring(tree) or "") > 80
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    for name in (m for m in imported if m.startswith("huggingvis")):
        assert importlib.util.find_spec(name) is not None, name


@pytest.mark.parametrize("name", ["common", "startup", "picture", "table", "stable_diffusion"])
def test_what_starts_processes_is_small_itself(name: str) -> None:
    """A child's peak memory is at least its parent's at the start, so these import the standard library alone."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    tops = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in tops if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in tops if isinstance(n, ast.ImportFrom)}
    names -= {"huggingvis.core.machine"}  # tests/contract/test_imports.py: it loads the standard library only
    assert {n.partition(".")[0] for n in names} <= sys.stdlib_module_names | {"common"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_committed_results_are_complete(path: Path, common: ModuleType) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["name"] == path.stem
    check(record, common)


def test_only_ends_that_were_compared_have_a_difference() -> None:
    """Setting up a schedule ends at no latent."""
    rows = json.loads((FOLDER / "results" / "loop.json").read_text(encoding="utf-8"))["rows"]
    for row in (row for row in rows if row["facts"]):
        assert ("largest_difference" in row["facts"]) == ("set-up" not in row["what"]), row["what"]


def test_the_page_holds_the_table_of_the_results(common: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    table = module("table", monkeypatch)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert table.filled(page, table.results()) == page, "run `python benchmarks/table.py`"
    other = table.render({"picture": table.results()["picture"], "float32/picture": table.results()["picture"]})
    assert [line for line in other.splitlines() if line.startswith("#")] == ["### picture", "### picture, float32"]
    for name in table.ORDER:
        assert f"`{name}.py`" in page and FOLDER / f"{name}.py" in SCRIPTS


def test_contenders_take_turns(common: ModuleType) -> None:
    order: list[str] = []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    turns = {name: partial(turn, name) for name in "AB"}
    found = common.interleaved(turns, 3, warm=1)
    assert "".join(order) == "ABABABAB"
    assert found == {"A": [3, 5, 7], "B": [4, 6, 8]}


def test_a_report_is_what_was_measured(common: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--repeats", "3", "--out", str(tmp_path)])
    options = common.parser("A doc.", repeats=5, threads=1).parse_args()
    assert options.repeats == 3 and options.threads == 1
    report = common.Report("/somewhere/benchmarks/some.py", options, ("numpy",))
    ours, peer = [0.3, 0.1, 0.2], [0.5, 0.4, 0.9]
    report.add(common.row("it", "us", "s", ours, beside={"peer": peer}), common.row("it", "peer", "s", peer))
    record = json.loads(report.write().read_text(encoding="utf-8"))
    assert record["command"] == "python benchmarks/some.py --repeats 3"
    first = record["rows"][0]
    assert (first["min"], first["median"], first["max"]) == (0.1, statistics.median(ours), 0.3)
    assert first["ratios"] == {"peer": 0.4}
    record["seconds"] = record["seconds"] or 0.1  # it measured nothing, so it may have taken none
    check(record, common)


def test_the_spread_is_that_of_several_seeds(common: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    module("unet_peers", monkeypatch)
    spread = module("training_loss", monkeypatch).spread
    assert spread([0.25]) == {} and spread([0.25, 0.5]) == {"spread": 0.17678}


def test_numbers_that_are_not_finite_are_refused(common: ModuleType, tmp_path: Path) -> None:
    report = common.Report("some.py", Namespace(threads=1, seed=0, out=tmp_path))
    with pytest.raises(ValueError, match="JSON"):
        report.add(common.row("it", "us", "s", [math.nan]))
    assert list(tmp_path.iterdir()) == []


def test_processes_are_measured_and_failures_told(common: ModuleType) -> None:
    small = common.process([sys.executable, "-S", "-c", "pass"])
    large = common.process([sys.executable, "-S", "-c", "x = bytearray(300 * 2**20)"])
    assert small.seconds > 0
    if sys.platform != "win32":
        assert large.peak_mib > 300
    with pytest.raises(RuntimeError, match="no such thing"):
        common.process([sys.executable, "-S", "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize("half", [True, False])
def test_stable_diffusion_is_measured(half: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--small` in one process, on CPUs with and without bfloat16: every act runs, ours gives diffusers' numbers, and
    what is told is complete."""
    monkeypatch.setattr("huggingvis.core.machine.multiplies_bfloat16", lambda: half)
    monkeypatch.setattr("huggingvis.runtime.precision.multiplies_bfloat16", lambda: half)
    common, script = module("common", monkeypatch), module("stable_diffusion", monkeypatch)
    acts = module("stable_diffusion_child", monkeypatch)
    acts.make(tmp_path / "model", 0, small=True)

    def act(name: str, folder: Path, *, threads: int) -> Any:
        began = time.perf_counter()
        acts.ACTS[name](folder)
        return common.Spent(time.perf_counter() - began, 1.0)

    monkeypatch.setattr(script, "child", act)
    monkeypatch.setattr(script, "process", lambda argv, threads: common.Spent(1.0, 1.0))
    monkeypatch.setattr(sys, "argv", ["x", "--small", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)])
    options = common.parser("A doc.", repeats=1, threads=1)
    options.add_argument("--small", action="store_true")
    report = common.Report("benchmarks/stable_diffusion.py", options.parse_args())
    script.cold(report, tmp_path / "model")
    script.warm(report, tmp_path / "model")
    record = json.loads(report.write().read_text(encoding="utf-8"))
    check(record, common)
    told = {(row["what"], row["who"]): row for row in record["rows"]}
    whats = ("import", "process start to first step", "U-Net from a float32 file to bfloat16", "U-Net step", "decoding")
    assert all(set(told[what, "huggingvis"]["ratios"]) >= {"diffusers"} for what in whats)
    steps = {who: row["facts"]["apart"] for (what, who), row in told.items() if what == "U-Net step"}
    assert steps["huggingvis float32" if half else "huggingvis"] <= 1e-5
    assert len(steps) == (4 if half else 3) and (not half or 0 < steps["diffusers bfloat16"] < 0.05)


# ---- records of trainings --------------------------------------------------------------------------------------------

OTHER: dict[str, dict[str, Any]] = {
    "vae": {"data": "folder:pictures of mine", "widths": [8, 4], "size": 32, "flip": True},
    "pggan": {"penalty": {"kind": "R1", "gamma": 3.0}, "game": {"kind": "Hinge"}},
    "gan": {"penalty": {"kind": "GradientPenalty", "weight": 1.5}, "game": {"kind": "Wasserstein", "drift": 0.0}},
    "vq_vae": {"autoencoder": {"quantiser": {"kind": "FSQ", "levels": [3, 5]}}, "steps": 7},
    "text_to_image": {"autoencoder": "tiny", "reading": "runs/words", "lattice": 16},
}


@pytest.mark.parametrize("recipe", OTHER)
def test_a_recorded_command_repeats_the_training(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the record give back the configuration that was trained, whatever differs from the defaults."""
    from huggingvis.core.catalog import find_recipe
    from huggingvis.core.config import from_dict, to_dict
    from huggingvis.core.flags import parse

    kind = find_recipe(recipe).Config
    config = from_dict(kind, OTHER[recipe])
    words = shlex.split(module("record_run", monkeypatch).command(recipe, to_dict(config), "mine"))
    assert words[:5] == ["hvis", "train", recipe, "--run", "runs/mine"]
    assert parse(kind, words[5:]) == config
