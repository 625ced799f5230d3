"""PyTorch zip files read by our own unpickler: as torch reads them, with inert stand-ins for what is no tensor."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import refused, tensors
from torch import nn

from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.torch_zip import Unbuilt, read_zip


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype
        and a[n].shape == b[n].shape
        and a[n].reshape(-1).float().equal(b[n].reshape(-1).float())
        for n in a
    )


def test_it_reads_what_torch_reads(tmp_path: Path) -> None:
    """Views, ties, parameters, tensors with attributes, every type: as `torch.load` gives them."""
    base = torch.randn(6, 4)
    marked = torch.randn(3)
    marked.note = "kept by PyTorch as an attribute"  # type: ignore[attr-defined]
    content = tensors() | {
        "turned": base.T, "row": base[2], "part": base[1:3, 1:], "whole": base, "tied": base, "marked": marked,
        "parameter": nn.Parameter(torch.randn(2, 3)), "scalar": torch.tensor(1.5), "step": base[::2, ::3],
    }  # fmt: skip
    torch.save(content, tmp_path / "x.pt")
    expected = torch.load(tmp_path / "x.pt", weights_only=True)
    found = load(tmp_path / "x.pt")
    assert same(found, {name: x.detach() for name, x in expected.items()})
    assert found["tied"].data_ptr() == found["whole"].data_ptr()
    assert same(load(tmp_path / "x.pt", dtype=torch.float64), {
        name: x.detach().double() if x.is_floating_point() else x for name, x in expected.items()
    })  # fmt: skip
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    torch.save({"state_dict": net.state_dict(), "lr": 0.1}, tmp_path / "net.pth")
    assert same(load(tmp_path / "net.pth"), net.state_dict())


class ModelCheckpoint:
    """Stands for a class of a training framework that is not installed here."""

    def __init__(self, *args: object, **named: object):
        self.best = 0.5

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (1, "two"), {"best": self.best}, iter([1, 2]), iter({"a": 1}.items())


def lightning(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as Stable Diffusion 1.4's: weights beside callbacks by class, of a package gone when it is read."""
    package = types.ModuleType("pytorch_lightning")
    kind = type("ModelCheckpoint", (ModelCheckpoint, dict), {"__module__": package.__name__})
    package.ModelCheckpoint = kind  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package.__name__, package)
        patch.setattr(kind, "append", lambda self, value: None, raising=False)
        content = {
            "epoch": 1, "callbacks": {kind: {"best": torch.tensor(0.1)}}, "object": kind(), "state_dict": tensors(),
            "settings": argparse.Namespace(lr=0.1), "where": pathlib.PurePosixPath("/logs"),
            "lists": collections.defaultdict(list, a=[1]), "names": {"a", "b"}, "bytes": bytearray(b"x"),
        }  # fmt: skip
        torch.save(content, path)
    return path


def test_objects_of_trainings_do_not_hide_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lightning(tmp_path / "x.ckpt", monkeypatch)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert same(load(path), tensors())
    assert set(inspect(path).tensors) == set(tensors())
    content = read_zip(path)
    assert content["epoch"] == 1 and isinstance(content["object"], Unbuilt)
    assert content["object"].kind == "pytorch_lightning.ModelCheckpoint" and "pytorch_lightning" not in sys.modules


class Calls:
    """Asks for one function of Python's library with one argument."""

    def __init__(self, function: Any, *args: object):
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.args


def test_programs_are_refused_wherever_they_are(tmp_path: Path) -> None:
    import builtins
    import functools
    import importlib
    import operator
    import subprocess

    mark = tmp_path / "executed"
    path = tmp_path / "x.ckpt"
    order = f"open({str(mark)!r}, 'w')"
    calls: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (os.system, (f"touch {mark}",)), (builtins.eval, (order,)), (builtins.exec, (order,)),
        (subprocess.check_call, (["touch", str(mark)],)), (importlib.import_module, ("antigravity",)),
        (operator.attrgetter, ("system",)), (builtins.getattr, (os, "system")), (functools.partial, (print, 1)),
        (io.FileIO, (str(mark), "w")), (pickle.loads, (b"",)),
    )  # fmt: skip
    for function, args in calls:
        if function is builtins.getattr:
            args = (0, "real")
        torch.save({"state_dict": tensors(), "evil": Calls(function, *args)}, path)
        refused(path, "nothing in it was executed")
    assert not mark.exists()


def raw(path: Path, pickled: bytes, entries: dict[str, bytes] | None = None, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in (entries or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor(count: int = 4, key: str = "0", offset: int = 0, size: str = "(I4\nt", stride: str = "(I1\nt") -> bytes:
    """{"w": a float32 tensor over storage `key`}, opcode by opcode."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'{key}'\nS'cpu'\nI{count}\ntQ".encode()
    made = f"I{offset}\n{size}{stride}I00\nccollections\nOrderedDict\n(tRtR".encode()
    return b"(dS'w'\nctorch._utils\n_rebuild_tensor_v2\n(" + storage + made + b"s."


def test_lying_zips_are_refused(tmp_path: Path) -> None:
    path, numbers = tmp_path / "x.pt", {"data/0": bytes(16)}
    assert load(raw(path, tensor(), numbers))["w"].tolist() == [0.0] * 4
    refused(raw(path, tensor(), {}), "not there")
    refused(raw(path, tensor(), {"data/0": bytes(15)}), "4 numbers in 15 bytes")
    refused(raw(path, tensor(count=-1), numbers), "-1 numbers")
    refused(raw(path, tensor(offset=1), numbers), "reaches beyond")
    refused(raw(path, tensor(offset=-1), numbers), "impossible shape")
    refused(raw(path, tensor(size="(I-4\nt"), numbers), "impossible shape")
    refused(raw(path, tensor(size="(I1000000000000\nt", stride="(I0\nt"), numbers), "reaches beyond")
    refused(raw(path, tensor(size="(I4\nI4\nt"), numbers), "cannot be read")
    refused(raw(path, tensor(), numbers, zipfile.ZIP_DEFLATED), "compressed")
    raw(path, tensor(), numbers)
    with zipfile.ZipFile(
        path, "a", zipfile.ZIP_DEFLATED
    ) as archive:  # a few bytes that would unfold to as many as asked
        archive.writestr("archive/byteorder", bytes(1 << 22))
    refused(path, "archive/byteorder is compressed")
    refused(raw(path, tensor()[:-20], numbers), "cannot be read")
    refused(raw(path, b"\x80\x02}r\xff\xff\xff\x7f.", numbers), "memo slot")
    refused(raw(path, tensor(), numbers | {"byteorder": b"big"}), "byte order")
    refused(raw(path, b"cbuiltins\neval\n(S'1'\ntR.", numbers), "builtins.eval")
    refused(raw(path, b"c__builtin__\neval\n(S'1'\ntR.", numbers), "__builtin__.eval")
    refused(raw(path, b"cnt\nsystem\n(S'1'\ntR.", numbers), "nt.system")
    refused(raw(path, b"cnewpackage\nThing\n(S'1'\ntR.", numbers), "newpackage.Thing")
    one = tensor(16384, size="(I16384\nt")[2:-1]  # without the table around it
    many = b"(d" + b"".join(one.replace(b"'w'", f"'{n}'".encode()) for n in range(99)) + b"."
    refused(raw(path, many, {"data/0": bytes(1 << 16)}), "unfold to more")


def test_a_sparse_weight_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "s": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "'s'", "_rebuild_sparse_tensor")
