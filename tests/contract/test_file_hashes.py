"""The hashes that files go by, beside hashlib; what is remembered of a file and when it is read again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from huggingvis.checkpoints import file_hashes
from huggingvis.checkpoints.file_hashes import Memory, read_hashes
from huggingvis.core.errors import FileProblem


def test_every_kind_of_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": np.arange(400_000, dtype=np.float32)}, path, {"title": "a"})
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    found = read_hashes(path)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.addnet == hashlib.sha256(data[begin:]).hexdigest()
    assert found.autov1 == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    for digits in (found.sha256, found.sha256[:10], found.addnet[:12].upper(), found.autov1):
        assert found.match(digits) is True
    assert found.match("0123456789") is False
    assert found.match("") is None and found.match("blake3:00aa") is None
    save_file({"x": np.arange(400_000, dtype=np.float32)}, path, {"title": "other words"})
    assert read_hashes(path).addnet == found.addnet and read_hashes(path).sha256 != found.sha256


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"short")
    found = read_hashes(tmp_path / "a.ckpt")
    assert (found.addnet, found.autov1) == ("", "") and found.match(found.sha256[:8]) is True
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 20)
    assert read_hashes(tmp_path / "bad.safetensors").sha256 == hashlib.sha256(b"\xff" * 20).hexdigest()
    with pytest.raises(FileProblem, match="Could not read"):
        Memory().of(tmp_path / "gone.ckpt")


def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "LARGE", 4)
    path, kept = tmp_path / "a.ckpt", tmp_path / "settings" / "hashes.json"
    path.write_bytes(b"12345")
    first = Memory()
    first.keep(kept)
    told = first.of(path)
    monkeypatch.setattr(file_hashes, "read_hashes", lambda path: pytest.fail("it was read again"))
    later = Memory()
    later.keep(kept)
    assert later.of(path) == told == first.of(path)
    monkeypatch.undo()
    path.write_bytes(b"54321")
    os.utime(path, ns=(1, 1))
    assert later.of(path) != told


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1}', '{"a": {"sha256": "x", "more": 1}}'])
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "hashes.json").write_text(text)
    (tmp_path / "a.ckpt").write_bytes(b"1")
    memory = Memory()
    memory.keep(tmp_path / "hashes.json")
    assert memory.of(tmp_path / "a.ckpt").sha256 == hashlib.sha256(b"1").hexdigest()
