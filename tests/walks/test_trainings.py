"""Trainings that were recorded as proof, done again: the same command reaches the same held-out losses. Slow."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from conftest import Hvis

RECORDS = Path(__file__).parents[2] / "benchmarks" / "trained"
LONGEST = 420.0


def quick() -> list[Path]:
    """Records of trainings of a few minutes that begin with no other run."""
    records = {path: json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))}
    return [path for path, it in records.items() if it["seconds"] <= LONGEST and it["command"].count(" runs/") == 1]


@pytest.mark.slow
@pytest.mark.parametrize("path", quick(), ids=lambda p: p.stem)
def test_a_recorded_training_repeats(path: Path, hvis: Hvis, tmp_path: Path) -> None:
    """Rounding differs between machines, and a training amplifies it: losses agree within 3 %."""
    record = json.loads(path.read_text())
    if "$HUGGINGVIS_TESTDATA" in record["command"] and "HUGGINGVIS_TESTDATA" not in os.environ:
        pytest.skip("needs the data that HUGGINGVIS_TESTDATA names")
    words = shlex.split(os.path.expandvars(record["command"]))
    words[words.index("--run") + 1] = str(tmp_path / "run")
    assert words.pop(0) == "hvis"
    said = hvis(words)
    assert said.code == 0, said.err
    found = hvis(["evaluate", tmp_path / "run", "--json"]).document["held_out_losses"]
    assert found == pytest.approx(record["held_out"], rel=0.03)
