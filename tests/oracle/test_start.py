"""What makes a start quick changes no number: hollow nets, weights read into their layout, and the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from huggingvis.checkpoints import streaming
from huggingvis.checkpoints.io import load
from huggingvis.core.hollow import hollow
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.runtime import memory


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hollow_net_has_all_names_and_shapes_and_no_numbers() -> None:
    config = CLIPTextConfig(vocabulary=50, dim=8, depth=1, heads=2, hidden=16)
    with hollow():
        empty = CLIPText(config).state_dict()
    full = CLIPText(config).state_dict()
    assert {name: x.shape for name, x in empty.items()} == {name: x.shape for name, x in full.items()}
    assert all(x.is_meta for x in empty.values()) and not any(x.is_meta for x in full.values())
    assert full["token.weight"].std() == pytest.approx(1.0, abs=0.2)  # outside the block draws are as ever
    assert full["position"].std() == pytest.approx(0.01, rel=0.2)


def test_a_hollow_net_imports_no_compiler() -> None:
    code = """
import sys
from huggingvis.core.hollow import hollow
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
before = len(sys.modules)
with hollow():
    CLIPText(CLIPTextConfig())
print(len(sys.modules) - before)
"""
    assert int(python(code)) < 10  # with draws on the meta device it is 822


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("piece", [1 << 20, 160, 64])  # many filters at a time; one (144 bytes); less than one
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_read_into_channels_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype | None, piece: int, suffix: str
) -> None:
    monkeypatch.setattr(streaming, "PIECE", piece)
    torch.manual_seed(0)
    tensors = {
        "conv": torch.randn(7, 4, 3, 3), "one": torch.randn(5, 4, 1, 1), "linear": torch.randn(6, 4),
        "half": torch.randn(6, 4, 3, 3, dtype=torch.float16), "ids": torch.arange(5),
    }  # fmt: skip
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    found, plain = (load(path, dtype=dtype, channels_last=turned) for turned in (True, False))
    for name, x in plain.items():
        assert torch.equal(found[name], x) and found[name].dtype == x.dtype
    for name in ("conv", "half"):
        assert found[name].is_contiguous(memory_format=torch.channels_last) and plain[name].is_contiguous()
    assert found["one"].is_contiguous() and found["linear"].is_contiguous()


def test_imports_are_taken_off_the_collector_once_and_only_where_nobody_had_pytorch() -> None:
    code = (
        "import gc; {}from huggingvis import api; api.ready(); print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    assert python(code.format("")) == "True True"
    assert python(code.format("import torch; ")) == "True False"
    assert python(code.format("gc.disable(); ")) == "False False"


@pytest.mark.skipif(memory._glibc() is None, reason="this system's C library is not glibc")
def test_memory_is_kept_until_the_last_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, most = list[tuple[int, ...]](), 1 << 30

    class Recorded:
        def mallopt(self, name: int, value: int) -> int:
            calls.append((name, value))
            return value <= most

        def malloc_trim(self, pad: int) -> None:
            calls.append((pad,))

    monkeypatch.setattr(memory, "_glibc", Recorded)
    cpu = torch.device("cpu")
    with memory.reused(cpu), memory.reused(cpu), memory.reused(torch.device("meta")):
        assert calls == list(memory._KEPT.items())
    assert calls[2:] == [*memory._USUAL.items(), (0,)]
    calls, most = [], 32 << 20  # what glibc before 2.35 takes
    with memory.reused(cpu):
        assert calls[:2] == [(memory._MMAP_THRESHOLD, 1 << 30), (memory._MMAP_THRESHOLD, 32 << 20)]
