"""Sharded training (FSDP2): the numbers of one process on two and on three, parts that any count of processes reads,
and refusals in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from contract.fit_child import QUIET, Points
from contract.shard_child import begin, denoising, train
from torch import Tensor, nn

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.parallel import Parallel, from_torchrun
from huggingvis.train.run import Run
from huggingvis.train.sharding import shard, units

CHILD = Path(__file__).with_name("shard_child.py")
ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
CPU = torch.device("cpu")


def launch(processes: int, steps: int, *folders: Path) -> None:
    """The training of `shard_child` on so many processes and gloo."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), str(processes), str(steps), *map(str, folders)]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The two trainings on one process, whole."""
    folder = tmp_path_factory.mktemp("alone")
    runs = {name: begin(folder / name) for name in ("fp32", "bf16")}
    for name, run in runs.items():
        train(run, STEPS // (2 if name == "bf16" else 1), name == "bf16")
    return runs


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same on two processes, cut."""
    folder = tmp_path_factory.mktemp("two")
    launch(2, STEPS, folder / "fp32", folder / "bf16")
    return {name: Run.open(folder / name) for name in ("fp32", "bf16")}


def copied(run: Run, folder: Path) -> Run:
    """A run as it was at its checkpoint of step 2."""
    shutil.copytree(run.path, folder)
    shutil.rmtree(folder / "checkpoints" / f"step-{STEPS:08d}")
    return Run.open(folder)


def assert_same_logs(one: Run, other: Run, tolerance: float = 1e-5) -> None:
    records = [[r for r in run.metrics() if len(r) > 1] for run in (one, other)]
    assert [r.keys() for r in records[0]] == [r.keys() for r in records[1]]
    seen = set()
    for a, b in zip(*records, strict=True):
        for key in a.keys() - {"seconds"}:
            assert b[key] == pytest.approx(a[key], rel=tolerance, abs=tolerance), (a["step"], key)
            seen.add(key)
    assert {"loss", "grad_norm.net", "grad_norm.words", "validation.mse", "drawn"} <= seen


def everything(run: Run, step: int) -> dict[str, Tensor]:
    """Every tensor of one checkpoint, whole."""
    saved = next(c for c in run.checkpoints() if c.step == step)
    return {f"{name}:{key}": value for name in saved.names() for key, value in saved.tensors(name).items()}


def assert_close(a: Mapping[str, Tensor], b: Mapping[str, Tensor], within: float = 2e-5) -> None:
    assert a.keys() == b.keys()
    far = {key: float((a[key] - b[key]).abs().max()) for key in a if a[key].numel()}
    assert max(far.values()) < within, max(far, key=lambda key: far[key])


def test_two_processes_tell_the_numbers_of_one(alone: dict[str, Run], two: dict[str, Run]) -> None:
    """Losses, gradient norms before clipping (which acts), held-out losses and a picture of the averages: 1e-5."""
    assert_same_logs(alone["fp32"], two["fp32"])
    assert min(r["grad_norm.net"] for r in alone["fp32"].metrics() if "loss" in r) > 0.5


def test_bf16_is_that_of_one_process(alone: dict[str, Run], two: dict[str, Run]) -> None:
    """Roundings of 2^-9 may fall otherwise where sums have another order; float32 is farther away than that."""
    assert_same_logs(alone["bf16"], two["bf16"], 2e-3)
    losses = [[r["loss"] for r in run.metrics() if "loss" in r] for run in (alone["bf16"], alone["fp32"])]
    assert losses[0] != losses[1]


def test_each_process_holds_its_part(two: dict[str, Run]) -> None:
    numbers = sum(p.numel() for p in denoising().parameters())
    held = [json.loads((two["fp32"].path / f"held-2-{rank}.json").read_text()) for rank in range(2)]
    assert sum(h["numbers"] for h in held) == numbers
    assert max(h["numbers"] for h in held) < 0.51 * numbers
    assert {h["tensors"] for h in held} == {len(list(denoising().parameters()))}


def test_checkpoints_are_parts_and_the_last_one_is_whole(alone: dict[str, Run], two: dict[str, Run]) -> None:
    """Each process wrote about half of it; whoever reads either sees whole tensors."""
    first, last = two["fp32"].checkpoints()
    parts = sorted(first.path.glob("*.safetensors"))
    sizes = [part.stat().st_size for part in parts]
    assert len(parts) == 2 and max(sizes) < 1.2 * min(sizes)
    assert {p.name for p in last.path.iterdir()} == {p.name for p in alone["fp32"].checkpoints()[-1].path.iterdir()}
    for step in (2, STEPS):
        assert_close(everything(alone["fp32"], step), everything(two["fp32"], step))
    net = denoising().net
    net.load_state_dict(two["fp32"].weights("net"))
    assert first.shapes("net") == {key: tuple(value.shape) for key, value in net.state_dict().items()}


def test_three_processes_go_on_from_parts_of_two(alone: dict[str, Run], two: dict[str, Run], tmp_path: Path) -> None:
    """And one process, whole, from the parts of three; each to where the others came."""
    run = copied(two["fp32"], tmp_path / "three")
    launch(3, STEPS + 1, run.path)
    assert_same_logs(alone["fp32"], first_steps(run, tmp_path / "cut"))
    assert_close(everything(alone["fp32"], STEPS), everything(run, STEPS))
    assert [len(list(c.path.glob("shard-*.safetensors"))) for c in run.checkpoints()] == [2, 3, 0]
    one = Run.open(shutil.copytree(run.path, tmp_path / "one"))
    shutil.rmtree(one.checkpoints()[-1].path)
    train(one, STEPS + 1)
    assert_same_logs(run, one)
    assert_close(everything(run, STEPS + 1), everything(one, STEPS + 1))


def first_steps(run: Run, folder: Path) -> Run:
    """The run with the log of its first `STEPS` steps."""
    copy = Run.open(shutil.copytree(run.path, folder))
    copy.rewind(STEPS)
    copy.close()
    return copy


def test_whole_checkpoints_are_cut_when_shards_go_on(two: dict[str, Run], tmp_path: Path, group: Parallel) -> None:
    """The last checkpoint of a training, made longer with shards: the same as without."""
    shutil.copytree(two["fp32"].path, tmp_path / "whole")
    shutil.copytree(two["fp32"].path, tmp_path / "cut")
    whole, cut = Run.open(tmp_path / "whole"), Run.open(tmp_path / "cut", parallel=group)
    train(whole, STEPS + 1)
    train(cut, STEPS + 1)
    assert_same_logs(whole, cut)
    assert_close(everything(whole, STEPS + 1), everything(cut, STEPS + 1))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Parallel]:
    """One process that shards with itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield Parallel(0, 1, CPU, sharded=True)
    dist.destroy_process_group()


class Halves(nn.Module):
    """A net whose loss may call it, or only read a weight of its part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Game(Objective):
    """`reads`: the loss takes a weight of the net past its call. `turns`: so many take part."""

    def __init__(self, net: nn.Module, reads: bool = False, players: int = 1):
        super().__init__()
        self.net, self.reads, self.players = net, reads, players

    def nets(self) -> Mapping[str, nn.Module]:
        return {"net": self.net}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return tuple(Turn(self.loss, ("net",), name=f"turn{i}") for i in range(self.players))

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        if self.reads:
            return {"read": (batch["x"] @ self.net.first.weight.T).mean()}
        return {"mse": (self.net(batch["x"]) - batch["y"]).square().mean()}


def cut(objective: Objective, **numbers: Any) -> None:
    """`shard` before any process is asked to take part."""
    shard(objective, Optim(**numbers), Parallel(0, 2, CPU, sharded=True))


def test_what_shards_cannot_hold_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="whole matrices orthogonal.*muon off"):
        cut(Game(Halves()), muon=True)
    with pytest.raises(UsageError, match="the nets \\(net\\) take turns"):
        cut(Game(Halves(), players=2))
    tied = Halves()
    tied.second.weight = nn.Parameter(torch.ones(1, 8))
    tied.third = nn.Linear(8, 1)
    tied.third.weight = tied.second.weight
    with pytest.raises(UsageError, match="'second.weight' of the net 'net' belongs to two blocks"):
        cut(Game(tied))
    alone = Halves()
    alone.gain = nn.Parameter(torch.ones(()))
    with pytest.raises(UsageError, match="'gain' of the net 'net' is a number without axes"):
        cut(Game(alone))
    with pytest.raises(UsageError, match="here is one. Start several, as in `torchrun"):
        from_torchrun(CPU, sharded=True)


def test_a_weight_read_past_its_block_is_refused_in_words(tmp_path: Path, group: Parallel) -> None:
    run = Run.create(tmp_path / "r", {}, group)
    with pytest.raises(UsageError, match="without calling the module that holds them"):
        fit(Game(Halves(), reads=True), Points(), run, optim=Optim(), steps=1, batch_size=4, settings=QUIET)


def test_a_damaged_part_is_named(two: dict[str, Run], tmp_path: Path) -> None:
    run = copied(two["fp32"], tmp_path / "damaged")
    (saved,) = run.checkpoints()
    part = next(saved.path.glob("*.safetensors"))
    part.write_bytes(b"\xff" * part.stat().st_size)
    with pytest.raises(FileProblem, match="step-00000002 is damaged .*checkpoint before it"):
        run.weights("net")
    part.unlink()
    assert run.checkpoints() == []


def test_blocks_are_the_outermost_modules_that_can_be_called() -> None:
    net = denoising().net
    found = list(units(net))
    inside = sum(p.numel() for unit in found for p in unit.parameters())
    assert inside == sum(p.numel() for p in net.parameters())
    assert max(sum(p.numel() for p in unit.parameters()) for unit in found) < 0.25 * inside
