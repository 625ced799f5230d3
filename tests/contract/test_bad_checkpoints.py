"""Files that are no checkpoints, or damaged, or hostile: each is refused in words, and nothing of it runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_files import refused, tensors
from torch import nn

from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import check_finite, load, save
from huggingvis.core.errors import NumericalTrouble


def raw(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no file")
    for name, content, word in (
        ("empty.safetensors", b"", "0 bytes"),
        ("page.safetensors", b"<!DOCTYPE html><html>login</html>", "web page"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("model.gguf", b"GGUF\x03\x00\x00\x00" * 9, "GGUF"),
        ("picture.pt", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "PNG"),
        ("text.ckpt", b'{"error": "not found"}', "JSON"),
        ("reserved.safetensors", bytes(5000), "download reserved"),
        ("noise.bin", bytes(range(32, 96)), "not a checkpoint"),
        ("byte.safetensors", b"\x80", "not a checkpoint"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, word)
    with zipfile.ZipFile(tmp_path / "plain.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    refused(tmp_path / "plain.pt", "zip archive")


def test_truncated_files(tmp_path: Path) -> None:
    """Cut anywhere, a file is refused: in the length, in the header, in the tensors; zip and old pickles likewise."""
    save(tmp_path / "x.safetensors", tensors())
    torch.save(tensors(), tmp_path / "zip.pt")
    torch.save({"a": torch.ones(99)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("x.safetensors", "zip.pt", "old.pt"):
        whole = (tmp_path / name).read_bytes()
        for keep in (1, 5, 9, 40, len(whole) // 2, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:keep])
            refused(tmp_path / name)
        (tmp_path / name).write_bytes(whole)
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:-10])
    refused(tmp_path / "x.safetensors", "cut short", "incomplete")


def test_lying_safetensors_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    refused(raw(path, {"a": entry([1], 0, 4)}, b"1234", length=1 << 60), "exhaust memory")
    refused(raw(path, {"a": entry([1], 0, 4)}, b"1234", length=90_000_000), "cut short")
    refused(raw(path, b"{" * 200), "JSON")
    refused(raw(path, b'{"a":' + b"[" * 100_000), "JSON")
    refused(raw(path, {"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"x" * 12), "hole", "'b'")
    refused(raw(path, {"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"x" * 8), "overlap", "'b'")
    refused(raw(path, {"a": entry([1], 0, 4)}, b"x" * 9), "5 bytes")
    refused(raw(path, {"a": entry([3], 0, 8)}, b"x" * 8), "12 bytes", "'a'")
    refused(raw(path, {"a": entry([1], 0, 4, "F31")}, b"x" * 4), "'F31'")
    refused(raw(path, {"a": {**entry([1], 0, 4), "dtype": ["F32"]}}, b"x" * 4), "unknown type ['F32']")
    refused(raw(path, {"a": entry([10**6] * 100_000, 0, 4)}, b"x" * 4), "no valid shape")
    refused(raw(path, {"a": entry([-1], 0, 4)}, b"x" * 4), "shape")
    refused(raw(path, {"a": entry([True], 0, 4)}, b"x" * 4), "shape")
    refused(raw(path, {"a": [1, 2]}, b"x" * 4), "'a'")
    refused(raw(path, {"__metadata__": {"a": 1}}, b""), "metadata")


class Bomb:
    """Runs a command when unpickled by a reader that lets it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    content = {"weight": torch.ones(2), "evil": Bomb(mark)}
    torch.save(content, tmp_path / "zip.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "old.pt"):
        refused(tmp_path / name, "nothing in it was executed", "system")
    for protocol in (2, 5):
        (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(content, protocol))
        refused(tmp_path / "bare.ckpt")
    (tmp_path / "zip.pt").rename(tmp_path / "zip.safetensors")
    refused(tmp_path / "zip.safetensors", "is a pickle")
    (tmp_path / "old.pt").rename(tmp_path / "old.safetensors")
    refused(tmp_path / "old.safetensors", "is a pickle")
    assert not mark.exists()


def test_what_a_file_is_does_not_depend_on_its_name(tmp_path: Path) -> None:
    """PyTorch itself takes what is called .safetensors for that."""
    torch.save({"a": torch.ones(2)}, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.safetensors", "is a pickle")
    assert inspect(tmp_path / "old.safetensors").tensors["a"].shape == (2,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pickles_of_other_things(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "list")
    torch.save({"epoch": 1}, tmp_path / "none.pt")
    refused(tmp_path / "none.pt", "no tensors")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    refused(tmp_path / "module.pt", "state_dict")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    refused(tmp_path / "script.pt", "TorchScript")


def test_nan_weights_are_named(tmp_path: Path) -> None:
    bad = tensors()
    bad["b"][1, 0, 0] = float("nan")
    bad["wide"][0] = float("inf")
    path = save(tmp_path / "x.safetensors", bad)
    assert load(path)["b"].isnan().sum() == 1
    with pytest.raises(NumericalTrouble, match=r"1 of 8 numbers of 'b'"):
        load(path, check=True, wanted=lambda name: name != "wide")
    with pytest.raises(NumericalTrouble, match="'wide'"):
        check_finite(bad["wide"], "wide", path)
    assert len(load(save(path, tensors()), check=True)) == 8
