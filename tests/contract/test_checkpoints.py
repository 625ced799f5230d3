"""Checkpoint files, good and bad: every bad one is refused with one paragraph that says what, where and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import refused, tensors
from safetensors.numpy import save_file as reference_save
from safetensors.torch import load_file as reference_load

from huggingvis.checkpoints.formats import Format, TensorFact, read_header
from huggingvis.checkpoints.inspect import Family, families_in, identify, inspect, sha256, short_hash
from huggingvis.checkpoints.io import load, save
from huggingvis.core.errors import FileProblem, UsageError


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].float().equal(b[k].float()) for k in a
    )


# ---------------------------------------------------------------------------------------------------- round trips


def test_safetensors_round_trip_keeps_bits_and_metadata(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", tensors(), {"title": "an \N{SNOWMAN}", "step": "3"})
    assert same(load(path), tensors())
    assert same(reference_load(path), tensors())
    assert read_header(path).metadata == {"title": "an \N{SNOWMAN}", "step": "3"}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # as the umask has it: others may read weights


def test_files_of_the_reference_writer_are_read(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(1, np.int8)}
    reference_save(arrays, tmp_path / "x.safetensors")
    found = load(tmp_path / "x.safetensors")
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in arrays.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "params_ema"])
def test_torch_files(tmp_path: Path, zipped: bool, wrapper: str | None) -> None:
    weights = {name: x for name, x in tensors().items() if zipped or name != "small"}  # float8 came after that format
    content = weights if wrapper is None else {"epoch": 3, wrapper: weights, "optimizer": {"m": torch.ones(1)}}
    path = tmp_path / "x.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(load(path), weights)
    assert inspect(path).format is (Format.TORCH_ZIP if zipped else Format.TORCH_LEGACY)


def test_nested_tables_are_named_and_chosen(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"string_to_param": {"*": torch.ones(2, 3)}, "name": "style"}, path)
    refused(path, "string_to_param", "inside")
    assert load(path, inside="string_to_param")["*"].shape == (2, 3)
    with pytest.raises(UsageError, match="string_to_param"):
        load(path, inside="string_to_params")


def test_casting_touches_floats_only_and_wanted_selects(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", tensors())
    cast = load(path, dtype=torch.float16)
    assert {x.dtype for x in cast.values() if x.is_floating_point()} == {torch.float16}
    assert cast["count"].dtype == torch.int64 and cast["mask"].dtype == torch.bool
    assert list(load(path, wanted=lambda name: name.startswith("a."))) == ["a.weight", "a.bias"]


def test_loaded_tensors_never_write_to_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", tensors())
    before = sha256(path)
    load(path)["a.weight"].zero_()
    torch.save(tensors(), tmp_path / "x.pt")
    pickled = sha256(tmp_path / "x.pt")
    load(tmp_path / "x.pt")["a.weight"].zero_()
    assert (sha256(path), sha256(tmp_path / "x.pt")) == (before, pickled)


def test_a_cast_holds_one_old_tensor_at_a_time(tmp_path: Path) -> None:
    """Resident memory grows by the wanted half precision, not by the float32 that is read."""
    count, size = 16, 1 << 20
    path = save(tmp_path / "x.safetensors", {f"w{i}": torch.full((size,), float(i)) for i in range(count)})
    old = 4 * size * count

    def resident() -> int:  # private pages only: those of the mapped file belong to the page cache
        with open("/proc/self/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_Dirty"))

    if not os.path.exists("/proc/self/smaps_rollup"):
        pytest.skip("the operating system does not tell private memory")
    before = resident()
    kept = load(path, dtype=torch.float16)
    assert len(kept) == count and resident() - before < 0.5 * old + 8 * size


def test_tied_tensors_are_saved_under_both_names(tmp_path: Path) -> None:
    w = torch.randn(4, 4)
    found = load(save(tmp_path / "x.safetensors", {"in": w, "out": w, "turned": w.T, "row": w[1]}))
    assert found["in"].equal(w) and found["out"].equal(w) and found["turned"].equal(w.T) and found["row"].equal(w[1])


# -------------------------------------------------------------------------------------------------------- folders


def sharded(folder: Path) -> Path:
    parts = {"1.safetensors": ["a.weight", "b"], "2.safetensors": ["a.bias"]}
    for file, names in parts.items():
        save(folder / file, {name: tensors()[name] for name in names})
    table = {name: file for file, names in parts.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return index


def test_shards_by_folder_and_by_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    for found in (load(tmp_path), load(index)):
        assert same(found, {name: tensors()[name] for name in ("a.weight", "b", "a.bias")})
    assert list(load(tmp_path, wanted=lambda name: name == "b")) == ["b"]


def test_bad_shards(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    good = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**good, "c": "2.safetensors"}}))
    refused(index, "2.safetensors", "'c'")
    for evil in ("../2.safetensors", "/etc/passwd", "..", "a\\b", 3, index.name):
        index.write_text(json.dumps({"weight_map": {**good, "c": evil}}))
        refused(index, "beside the index")
    for broken in ("", "[]", "{}", "[" * 100_000, '{"weight_map": 3}'):
        index.write_text(broken)
        refused(index, "weight_map")
    index.write_text(json.dumps({"weight_map": good}))
    (tmp_path / "2.safetensors").unlink()
    refused(index, "missing", "2.safetensors")


def test_folders_without_index(tmp_path: Path) -> None:
    refused(tmp_path, "no checkpoint")
    torch.save(tensors(), tmp_path / "x.pt")
    assert same(load(tmp_path), tensors())
    save(tmp_path / "x.safetensors", {"only": torch.ones(1)})
    assert list(load(tmp_path)) == ["only"]
    save(tmp_path / "y.safetensors", {"only": torch.ones(1)})
    refused(tmp_path, "x.safetensors", "y.safetensors")


# -------------------------------------------------------------------------------------------------------- writing


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", tensors())
    before = sha256(path)
    resource = pytest.importorskip("resource", reason="this operating system has no limit on file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the system call fails as on a full disk
    try:
        with pytest.raises(FileProblem, match="larger than this system allows"):
            save(path, {"big": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sha256(path) == before and [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="does not exist"):
        save(tmp_path / "no" / "x.safetensors", tensors())
    with pytest.raises(FileProblem, match="is a folder"):
        save(tmp_path, tensors())
    (tmp_path / "locked").mkdir(mode=0o555)
    if os.access(tmp_path / "locked", os.W_OK):  # the superuser may write anywhere: use a system folder that refuses
        locked = Path("/proc/self")
    else:
        locked = tmp_path / "locked"
    with pytest.raises(FileProblem, match="Could not write"):
        save(locked / "x.safetensors", tensors())
    with pytest.raises(UsageError, match="'step'"):
        save(tmp_path / "x.safetensors", tensors(), {"step": 3})  # type: ignore[dict-item]
    assert [p.name for p in tmp_path.iterdir()] == ["locked"]


# -------------------------------------------------------------------------------------------------------- inspect


def test_inspect_tells_what_a_file_is(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", tensors(), {"made": "here"})
    facts = inspect(path)
    assert facts.as_json() == {
        "path": str(path), "format": "safetensors", "bytes": path.stat().st_size, "tensors": 8, "numbers": 38,
        "dtypes": {"F32": 15, "BF16": 8, "F16": 5, "F8_E4M3": 4, "F64": 3, "BOOL": 2, "I64": 1},
        "metadata": {"made": "here"},
    }  # fmt: skip
    torch.save({"state_dict": tensors()}, tmp_path / "x.ckpt")
    assert inspect(tmp_path / "x.ckpt").tensors == {name: facts.tensors[name] for name in tensors()}


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert short_hash(tmp_path / "x") == "ba7816bf8f"
    with pytest.raises(FileProblem, match="Could not read"):
        sha256(tmp_path / "none")


def test_families_are_found_by_files_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"a": TensorFact("F32", (2, 3)), "b": TensorFact("F32", (4,))}
    families = (Family("one", {"a": (None, 3)}), Family("two", {"a": (2, 3), "b": (4,)}), Family("no", {"a": (3, 3)}))
    assert identify(facts, families) is families[1] and identify({}, families) is None
    package = tmp_path / "zoo_of_models"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text(
        "from huggingvis.checkpoints.inspect import Family\nFAMILY = Family('new', {'a': (None, None)})\n"
    )
    (package / "locked.py").write_text("from huggingvis.core.errors import MissingExtra\nraise MissingExtra('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("zoo_of_models")
    assert [family.name for family in families_in(module)] == ["new"]
