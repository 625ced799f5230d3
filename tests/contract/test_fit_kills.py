"""What the training loop promises of kills, stops, full disks and several processes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from contract.fit_child import CONFIG, PLAIN, QUIET, Points, Toy, assert_same_bits, lines, toy_fit, weights

from huggingvis.core.errors import FileProblem
from huggingvis.train import checkpoint
from huggingvis.train.fit import fit
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings

CHILD = Path(__file__).with_name("fit_child.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"


def child(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def reached_step(run: Run, goal: int) -> bool:
    return any(c.step >= goal for c in run.checkpoints())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, f"ended too early: {process.stderr.read()}"
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The training of `fit_child` from step 0 to 200 in one go."""
    run = Run.create(tmp_path_factory.mktemp("straight") / "r", CONFIG)
    return toy_fit(run, Toy(), 200)


def test_killed_and_resumed_is_the_same_bit_for_bit(straight: Run, tmp_path: Path) -> None:
    """SIGKILL at random moments, twice; the third start ends with the bits and the log of an unbroken training."""
    path, clock = tmp_path / "r", random.Random()
    reached = [0]
    for _ in range(2):
        process = child(path, 200, 0.005)
        run = Run(path, CONFIG, straight.parallel)
        wait_for(partial(reached_step, run, reached[-1] + 20), process)
        time.sleep(clock.uniform(0, 0.15))
        process.kill()
        process.wait()
        process.stderr.close()
        reached.append(run.checkpoints()[-1].step)
    assert 20 <= reached[1] < reached[2] < 200, reached
    toy_fit(Run.open(path, CONFIG), Toy(), 200)
    assert_same_bits(weights(straight), weights(run))
    assert lines(straight) == lines(run)
    assert checkpoint.find(path / "checkpoints")[1] == []


def test_ctrl_c_saves_and_says_how_to_go_on(straight: Run, tmp_path: Path) -> None:
    process = child(tmp_path / "r", 200, 0.005)
    run = Run(tmp_path / "r", CONFIG, straight.parallel)
    wait_for(lambda: bool(run.checkpoints()), process)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said and "a resume goes on exactly from there" in said
    step = run.checkpoints()[-1].step
    assert f"Stopped after step {step} of 200" in said
    toy_fit(Run.open(tmp_path / "r", CONFIG), Toy(), step + 3)
    assert run.checkpoints()[-1].step == step + 3


def test_half_written_checkpoints_are_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=2, keep_last=9, log_every=1, progress=False)
    fit(Toy(), Points(), run, optim=PLAIN, steps=6, batch_size=4, settings=settings)
    two, four, six = run.checkpoints()
    expected = weights(run)
    (six.path / "net.safetensors").write_bytes((six.path / "net.safetensors").read_bytes()[:100])
    (run.path / "checkpoints" / ".writing-step-00000008-1").mkdir()
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    capsys.readouterr()
    assert run.latest() == four and two.step == 2
    said = capsys.readouterr().err
    assert "step-00000006: it was not written to its end" in said and ".writing-step-00000008-1" in said
    fit(Toy(), Points(), run, optim=PLAIN, steps=6, batch_size=4, settings=settings)
    assert_same_bits(expected, weights(run))
    assert [r["step"] for r in run.metrics()] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name[:5] for p in (run.path / "checkpoints").iterdir()) == ["step-"] * 3


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: the system refuses the write in the middle of it."""
    run = Run.create(tmp_path / "r", {})
    fit(Toy(), Points(), run, optim=PLAIN, steps=2, batch_size=4, settings=QUIET)
    before = weights(run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder, big = run.path / "checkpoints", {"net": {"w": torch.zeros(500_000)}}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(
            FileProblem, match=r"step-00000004.*larger than this system allows.*before this one are intact"
        ):
            checkpoint.write(folder, 4, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same_bits(before, weights(run))
    assert [p.name for p in folder.iterdir()] == ["step-00000002"]


def test_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(FileProblem, match="is a file, not a folder"):
        Run.create(tmp_path / "file" / "r", {})


def test_checkpoint_holds_tied_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    sets = {"net": {"a": base, "tied": base, "row": base[1], "turned": base.permute(2, 0, 1)}}
    back = checkpoint.write(tmp_path, 1, sets, {}).tensors("net")
    assert_same_bits({k: v.contiguous() for k, v in sets["net"].items()}, back)
    with pytest.raises(FileProblem, match="no 'nett'; it holds net"):
        checkpoint.find(tmp_path)[0][0].tensors("nett")
    assert json.loads((tmp_path / "step-00000001" / "state.json").read_text())["step"] == 1
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "step-00000001").iterdir()}
    assert modes["net.safetensors"] == modes["state.json"]  # the umask's, not the private one of a temporary file


def test_two_processes_same_losses_as_one(straight: Run, tmp_path: Path) -> None:
    """torchrun with gloo: pieces of a batch on two processes, losses within 1e-5 at every log line."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = child(tmp_path / "r", 60, launcher=launcher)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    both = Run.open(tmp_path / "r").metrics()
    alone = [r for r in straight.metrics() if r["step"] <= 60]
    assert [r["step"] for r in both if "loss" in r] == [10, 20, 30, 40, 50, 60]
    for key in ("loss", "loss.mse", "loss._mean", "grad_norm.net", "validation.mse"):
        one, two = ([r[key] for r in records if key in r and r["step"] <= 50] for records in (alone, both))
        assert len(one) == (1 if key == "validation.mse" else 5)
        assert two == pytest.approx(one, abs=1e-5), key
