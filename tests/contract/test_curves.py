"""Curves of the benchmarks: a sweep that goes on where it was stopped, and chains with fitted variances."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small_runs import digits, train

from huggingvis.checkpoints.io import save
from huggingvis.core.belief import Gaussian
from huggingvis.nets.lenet import LeNet5
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.processes.table import TableProcess
from huggingvis.samplers._levels import levels
from huggingvis.samplers.analytic import Analytic
from huggingvis.systems.judges import digits as digit_judge

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this copy has no benchmarks/")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    """The scripts, which write into a folder of the test; afterwards none of their neighbours is left."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    found = {name: importlib.import_module(name) for name in ("sweep", "likelihoods", "measured_rows")}
    for module in found.values():
        monkeypatch.setattr(module, "CURVES", tmp_path / "curves")
    yield found
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def test_a_sweep_goes_on_where_it_was_stopped(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Every figure with its levels; a second call measures only what is new, another question begins anew."""
    sweep, data = scripts["sweep"], digits(tmp_path / "data", count=160)
    net = {"channels": [8, 8], "attention": [0, 0], "blocks": 1}
    numbers = {"data": data, "steps": 4, "batch": 8, "sample_every": 0, "net": net, "samples": 2, "sample_steps": 2}
    run = train("ddpm", tmp_path / "run", numbers)
    torch.manual_seed(0)
    judge = save(tmp_path / "lenet.safetensors", digit_judge.keymap().to_theirs(LeNet5().state_dict()))
    usual = ["--model", str(run.path), "--against", data, "--split", "train", "--judge", str(judge)]
    monkeypatch.setenv("HUGGINGVIS_TESTDATA", str(tmp_path / "data"))

    def call(*words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["sweep.py", "steps", *words, *usual])
        assert sweep.main() == 0
        told: dict[str, Any] = json.loads((tmp_path / "curves" / "steps-run.json").read_text())
        return told

    first = call("1", "--count", "50")
    assert first["levels"]["frechet"]["floor"] < first["points"][0]["frechet"]
    assert set(first["points"][0]) >= {"accuracy", "diversity"} and first["levels"]["accuracy"]["chance"] == 0.1
    assert first["asked"]["against"] == "mnist:$HUGGINGVIS_TESTDATA" in first["command"]
    assert (first["seed"], first["seconds"]) == (0, first["points"][0]["seconds"])
    more = call("1", "2", "--count", "50")
    assert more["points"][0] == first["points"][0] and [p["steps"] for p in more["points"]] == [1, 2]
    assert (tmp_path / "curves" / "steps-run.png").stat().st_size > 1000
    assert "about" in capsys.readouterr().err
    assert len(call("2", "--count", "55")["points"]) == 1 and "begins anew" in capsys.readouterr().err
    call("3", "--count", "55", "--budget")
    assert len(call("2", "--count", "55")["points"]) == 1
    capsys.readouterr()
    train("ddpm", run.path, {**numbers, "steps": 8}, resume=True)
    again = call("2", "--count", "55")
    assert "begins anew" in capsys.readouterr().err  # the run was trained further
    assert again["points"][0]["frechet"] != more["points"][1]["frechet"]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.json")), ids=lambda path: path.stem)
def test_a_result_names_no_place_of_the_machine_it_was_made_on(path: Path) -> None:
    assert not re.search(r"(?<![\w}~.$-])/(home|work|tmp|root|mnt|Users)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((FOLDER / "curves").glob("*.json")), ids=lambda path: path.stem)
def test_a_curve_tells_how_it_was_made(path: Path) -> None:
    untimed = {"prompting"}  # measured before times were kept
    keys = {"command", "seed", "machine", "versions", *(() if path.stem in untimed else ("seconds",))}
    assert keys <= set(json.loads(path.read_text(encoding="utf-8")))


def test_sweeps_that_tell_nothing_are_refused(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Before any picture is drawn or looked at: steps of a model without steps, classes of fewer than two pictures."""
    sweep, data = scripts["sweep"], digits(tmp_path / "data")
    numbers = {"data": data, "steps": 1, "batch": 4, "sample_every": 0}
    gan = train("gan", tmp_path / "gan", {**numbers, "hidden": [8], "critic_hidden": [8]})
    net = {"channels": [8, 8], "attention": [0, 0], "blocks": 1}
    ddpm = train("ddpm", tmp_path / "ddpm", {**numbers, "net": net, "samples": 2, "sample_steps": 2})
    for run, count, said in ((gan, "50", "no diffusion model"), (ddpm, "19", "--count 20 or more, found 19")):
        words = ["sweep.py", "steps", "1", "--model", str(run.path), "--against", "nothing", "--judge", "none.pth"]
        monkeypatch.setattr(sys, "argv", [*words, "--count", count])
        assert sweep.main() == 2 and said in capsys.readouterr().err


def test_a_likelihood_is_measured_again_when_its_run_is_another(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record stands in for a run until there is one; a run that was trained further loses its old number."""
    likelihoods, trained = scripts["likelihoods"], tmp_path / "trained"
    trained.mkdir()
    told = {"steps": 7, "published": {"pictures": 4, "result": {"bits_per_dim": {"value": 9.5, "error": 0.1}}}}
    (trained / "nice.json").write_text(json.dumps(told))
    patched = {"TRAINED": trained, "FAMILIES": {"nice": "bits_per_dim"}, "MNIST": digits(tmp_path / "data", count=60)}
    for name, value in patched.items():
        monkeypatch.setattr(likelihoods, name, value)
    given = argparse.Namespace(runs=tmp_path / "runs", pictures=4)
    kept = tmp_path / "curves" / "ledger.json"

    def row() -> dict[str, Any]:
        likelihoods.ledger(given)
        found: dict[str, Any] = json.loads(kept.read_text())["rows"]["nice"]
        return found

    assert (row()["bits_per_dim"]["mean"], row()["step"]) == (9.5, 7)
    net = {"couplings": 2, "width": 8, "depth": 1}
    numbers = {"data": patched["MNIST"], "batch": 4, "sample_every": 0, "net": net}
    run = train("nice", given.runs / "nice", {**numbers, "steps": 2})
    first = row()
    assert first["step"] == 2 and first["bits_per_dim"]["mean"] != 9.5
    assert row() == first  # seconds and all: it was not measured again
    train("nice", run.path, {**numbers, "steps": 4}, resume=True)
    assert row()["step"] == 4
    run.path.rename(given.runs / "elsewhere")
    assert row()["step"] == 4  # a measured number is not lost to a record


def test_fitted_beliefs_are_those_of_the_sampler(scripts: dict[str, ModuleType]) -> None:
    """beta-tilde + g^2 exp(logvar) is the variance that `samplers.analytic` steps with."""
    process = TableProcess.linear()
    times = torch.tensor([0.001, 0.2, 0.5, 1.0], dtype=torch.float64)
    variance = Analytic(tuple(times.tolist()), (0.3, 0.6, 0.9, 0.999), limit=1.0)
    denoise = scripts["likelihoods"].fitted(lambda x, t: Gaussian(torch.zeros_like(x)), process, variance)
    t, s = torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64)
    belief = denoise(torch.zeros(3, 1, 2, 2, dtype=torch.float64), t)
    for i in range(3):
        c = levels(process, t[i], s[i])
        told = c.fresh * c.kept + c.pull**2 * math.exp(float(belief.logvar[i, 0, 0, 0]))
        assert told == pytest.approx(variance.of_step(c, float(t[i])), rel=1e-9)


def test_a_chain_with_the_right_variance_costs_least(scripts: dict[str, ModuleType]) -> None:
    """White noise of variance 1/4: the exact belief with its fitted variance is below beta and beta-tilde, in few
    steps by more."""
    process, spread = TableProcess.linear(), 0.25
    x = 0.5 * torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def exact(x: torch.Tensor, t: torch.Tensor) -> Gaussian:
        a, s = (c.reshape(-1, 1, 1, 1).to(x) for c in (process.alpha(t), process.sigma(t)))
        return Gaussian(a * spread / (a**2 * spread + s**2) * x)

    knots = torch.arange(1, 1001, dtype=torch.float64) / 1000
    a, s = process.alpha(knots), process.sigma(knots)
    variance = Analytic(tuple(knots.tolist()), tuple((s**2 / (a**2 * spread + s**2)).tolist()), limit=math.inf)
    told = scripts["likelihoods"].fitted(exact, process, variance)
    gaps = []
    for steps in (10, 100):
        times = torch.arange(steps + 1, dtype=torch.float64) / steps
        bits = {
            name: scripts["likelihoods"]._chain(DiscreteBound(process, times, v=v), denoise, x)["steps"]["mean"]
            for name, denoise, v in (("beta", exact, 1.0), ("tilde", exact, 0.0), ("fitted", told, 1.0))
        }
        gaps.append(min(bits["beta"], bits["tilde"]) - bits["fitted"])
    assert gaps[0] > 3 * gaps[1] > 0
