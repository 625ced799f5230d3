"""What reading a checkpoint costs in memory: a cast holds the new tensors and a few MiB, a mapped file nothing."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from huggingvis.checkpoints.io import load, save
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.streaming import PIECE
from huggingvis.checkpoints.transforms import Group, Transform, Transpose

COUNT, SIDE = 16, 4096  # 16 matrices of 64 MiB: 1 GiB in float32
CAST = COUNT * SIDE * SIDE * 2
LARGEST = SIDE * SIDE * 4
SLACK = 12 << 20


def hollow(path: Path) -> Path:
    """A safetensors file of zeros that takes no disk."""
    size = SIDE * SIDE * 4
    table = {f"w{n}": {"dtype": "F32", "shape": [SIDE, SIDE], "data_offsets": [n * size, (n + 1) * size]}
             for n in range(COUNT)}  # fmt: skip
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + COUNT * size)
    return path


def hollow_zip(path: Path) -> Path:
    with torch.serialization.skip_data():
        torch.save({"state_dict": {f"w{n}": torch.empty(SIDE, SIDE) for n in range(COUNT)}}, path)
    return path


def rise(path: Path) -> tuple[int, int]:
    """(as it is, as bfloat16)."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("the operating system does not keep the highest mark of memory")
    child = Path(__file__).with_name("cast_child.py")
    run = subprocess.run([sys.executable, child, path], capture_output=True, text=True, env=dict(os.environ))
    assert run.returncode == 0, run.stderr
    mapped, cast = map(int, run.stdout.split())
    return mapped, cast


@pytest.mark.parametrize("make", [hollow, hollow_zip])
def test_a_cast_holds_the_new_tensors_and_one_piece_of_the_file(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "x.ckpt")  # type: ignore[operator]
    mapped, peak = rise(path)
    print(f"cast {peak / 2**20:.0f} MiB of {CAST / 2**20:.0f} needed; mapped {mapped / 2**20:.0f} MiB")
    assert CAST <= peak < CAST + PIECE + SLACK < CAST + LARGEST
    assert mapped < LARGEST


def test_a_cast_in_pieces_equals_a_cast_at_once(tmp_path: Path) -> None:
    """Sizes around the piece, empty and without axes, of every floating type, in both kinds of file."""
    many = PIECE // 4
    given = {f"n{n}": torch.randn(n) for n in (0, 1, many - 1, many, many + 1, 2 * many + 7)}
    given |= {"scalar": torch.tensor(3.7), "turned": torch.randn(5, 7).T, "none": torch.zeros(0, 4)}
    given |= {str(t): torch.randn(33, 5).to(t) for t in (torch.float64, torch.float16, torch.bfloat16)}
    given |= {str(t): torch.randn(33, 5).to(t) for t in (torch.float8_e4m3fn, torch.float8_e5m2)}
    torch.save(given, tmp_path / "x.pt")
    for path in (save(tmp_path / "x.safetensors", given), tmp_path / "x.pt"):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            found = load(path, dtype=dtype)
            assert found.keys() == given.keys()
            for name, x in given.items():
                assert found[name].dtype == dtype and found[name].equal(x.to(dtype)), (path.suffix, name)


@dataclass(frozen=True)
class Watched(Transform):
    """A transposition that notes how many tensors of theirs were still there when it ran."""

    theirs: dict[str, Tensor]
    left: list[int]

    def to_ours(self, theirs: Group) -> Group:
        self.left.append(len(self.theirs))
        return Transpose().to_ours(theirs)

    def to_theirs(self, ours: Group) -> Group:
        return Transpose().to_theirs(ours)


def test_a_key_map_consumes_what_it_translates() -> None:
    theirs = {f"w{n}": torch.randn(2, 3) for n in range(5)} | {"ids": torch.ones(1)}
    wanted = {f"x{n}": theirs[f"w{n}"].T for n in range(5)}
    left: list[int] = []
    keymap = KeyMap([Rule("x{i}", "w{i}", Watched(theirs, left))], ignored=["ids"])
    ours = keymap.consume(theirs)
    assert left == [4, 3, 2, 1, 0] and not theirs
    assert ours.keys() == wanted.keys() and all(ours[name].equal(x) for name, x in wanted.items())
