"""Official StyleGAN2 files: read for their tensors, bound to our networks, and never executed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.api import load
from huggingvis.checkpoints.persistent_pickle import Record, load_networks, network
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Canvas, Request
from huggingvis.edits.generate import generate
from huggingvis.nets.layer_noise import StoredNoise
from huggingvis.nets.resampling import taps
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems import stylegan2

SIZES = StyleGANSizes((10, 8, 6), 3, 5, 7, 2, 0.01, 0, 256.0)
SOURCE = "import sys; sys.modules['the_source_was_run'] = sys"  # what travels with each class, and must never be run


def _reconstruct_persistent_obj(meta: object) -> object:
    """As `torch_utils.persistence._reconstruct_persistent_obj`, which would build the class from its source."""
    raise AssertionError("the official code was called")


class EasyDict(dict):
    """As `dnnlib.util.EasyDict`."""


class Persistent:
    """Pickles as an instance of an official persistent class does."""

    meta: dict[str, Any]

    def __init__(self, kind: str, state: dict[str, Any], version: int = 6):
        self.meta = {"type": "class", "version": version, "module_src": SOURCE, "class_name": kind, "state": state}

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,), None)


@pytest.fixture(autouse=True)
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names that a pickle of the official code refers to, for as long as it is written."""
    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for thing, module in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util")):
        monkeypatch.setattr(thing, "__module__", module)
        setattr(sys.modules[module], thing.__name__, thing)
    yield
    assert "the_source_was_run" not in sys.modules


def stored(kind: str, tensors: dict[str, Tensor], facts: dict[str, dict[str, Any]], prefix: str = "") -> Persistent:
    """Tensors by dotted names as nested persistent objects; `facts`: further state by the object's name."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = value
    modules = {name: stored(name, part, facts, f"{prefix}{name}.") for name, part in parts.items()}
    buffers = ("resample_filter", "noise_const", "w_avg")
    state = {
        "training": False,
        "_parameters": collections.OrderedDict((k, nn.Parameter(v)) for k, v in own.items() if k not in buffers),
        "_buffers": collections.OrderedDict((k, v) for k, v in own.items() if k in buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": collections.OrderedDict(modules),
        "_init_kwargs": EasyDict(num_fp16_res=4),
        **facts.get(prefix.removesuffix("."), {}),
    }
    return Persistent(kind, state)


def official_file(path: Path, protocol: int = 4, **changed: Any) -> tuple[Path, StyleGenerator, StyleDiscriminator]:
    """A file as the official training writes it, and the networks whose weights are in it."""
    torch.manual_seed(1)
    net = fresh_generator(SIZES, StyleGAN2Synthesis(SIZES)).requires_grad_(False)
    critic = StyleDiscriminator(SIZES, group=2).requires_grad_(False)
    net.w_avg.normal_()
    tensors = stylegan2.generator_keymap().to_theirs(net.state_dict())
    tensors["synthesis.b8.resample_filter"] = torch.outer(taps(), taps())
    facts: dict[str, dict[str, Any]] = {
        "mapping": {"z_dim": 5, "w_dim": 7, "c_dim": 0},
        "mapping.fc0": {"bias_gain": 0.01},
        "synthesis.b16": {"architecture": "skip", **changed},
        "synthesis.b16.conv1": {"conv_clamp": 256, "weight_gain": np.float64(0.5)},
    }
    judged = stylegan2.discriminator_keymap(SIZES).to_theirs(critic.state_dict())
    judge = stored("D", judged, {"b16": {"architecture": "resnet"}, "b16.conv1": {"conv_clamp": 256}})
    judge.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"] = Persistent("Std", {"group_size": 2})
    g = stored("Generator", tensors, facts)
    settings = EasyDict(resolution=16, mean=np.arange(6, dtype=np.float32).reshape(2, 3).T)
    content = {"G": g, "D": judge, "G_ema": g, "augment_pipe": None, "training_set_kwargs": settings}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path, net, critic


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_an_official_file_loads_to_the_same_networks(tmp_path: Path, protocol: int) -> None:
    path, net, critic = official_file(tmp_path / "ffhq.pkl", protocol)
    read = stylegan2.generator(path)
    assert [(k, v.shape) for k, v in read.state_dict().items()] == [(k, v.shape) for k, v in net.state_dict().items()]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in read.state_dict().items())
    z = torch.randn(2, 5)
    x = net(z, None, StoredNoise())
    assert torch.equal(read(z, None, StoredNoise()), x)
    assert torch.equal(stylegan2.discriminator(path)(x), critic(x))
    settings = load_networks(path)["training_set_kwargs"]
    assert settings["resolution"] == 16 and settings["mean"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_an_official_file_generates(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    system = stylegan2.bind(path, psi=0.0)
    pictures = generate(system, Request(canvas=Canvas(count=2)))
    assert [p.size for p in pictures] == [(16, 16), (16, 16)] and system.spec.name == "ffhq"
    by_path = generate(load(path), Request(canvas=Canvas(count=2)))
    assert by_path[0].pixels.shape == (16, 16, 3) and not np.array_equal(by_path[0].pixels, pictures[0].pixels)
    with pytest.raises(UsageError, match="16"):
        generate(system, Request(canvas=Canvas(width=32, height=32)))


def test_records_are_inert(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    record = network(path)
    assert type(record) is Record and record.kind == "Generator" and record.child("mapping").kind == "mapping"
    with pytest.raises(FileProblem, match="no part 'b4'"):
        record.child("b4")
    with pytest.raises(UsageError, match="no network in .* called 'G_emma'.*'G_ema'"):
        network(path, "G_emma")


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "resnet.pkl", architecture="resnet")
    with pytest.raises(FileProblem, match="architecture 'resnet'.*'skip'"):
        stylegan2.generator(path)
    alias_free = Persistent("Generator", {"_modules": {"synthesis": Persistent("S", {"_modules": {}})}})
    path.write_bytes(pickle.dumps({"G_ema": alias_free}))
    with pytest.raises(FileProblem, match="alias-free networks of StyleGAN3"):
        stylegan2.generator(path)


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.parts = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def storage_bytes(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def hostile(mark: Path) -> dict[str, Any]:
    """Contents that would make a file at `mark`, reach beyond memory, or change what reads them."""
    touch = f"touch {mark}"
    rebuild, from_bytes = torch._utils._rebuild_tensor_v2, torch.storage._load_from_bytes
    floats = torch.zeros(4)._typed_storage()
    hooks: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    return {
        "a shell command": Calls(os.system, touch),
        "evaluated text": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "an attribute": Calls(getattr, "text", "upper"),
        "inside a state": Persistent("G", {"_modules": {"a": Calls(os.system, touch)}}),
        "inside a tensor's numbers": Calls(from_bytes, storage_bytes([Calls(os.system, touch)])),
        "a tensor beyond its numbers": Calls(rebuild, floats, 0, (5,), (1,), False, hooks),
        "a tensor before its numbers": Calls(rebuild, floats, -1, (1,), (1,), False, hooks),
        "a tensor that runs backwards": Calls(rebuild, floats, 3, (4,), (-1,), False, hooks),
        "a tensor of no numbers": Calls(rebuild, "text", 0, (1,), (1,), False, hooks),
        "an array of objects": np.array([print, len], dtype=object),
        "an array of records": np.zeros(2, dtype=[("a", "f4")]),
        "another version": Persistent("G", {}, version=5),
        "a state that is no table": Persistent("G", [1]),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("name", hostile(Path("mark")))
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_hostile_pickles_are_refused(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Persistent("G", {}), "more": hostile(mark)[name]}))
    with pytest.raises(FileProblem, match="hostile.pkl"):
        load_networks(path)
    assert not mark.exists()


def test_what_is_no_such_file_is_refused_in_words(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    whole = path.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (b"<html>", "cannot be read"),
        (pickle.dumps([1, 2]), "holds a list without networks"),
        (pickle.dumps({"a": 1}), "without networks"),
        (b"cdnnlib.tflib.network\nNetwork\n.", "TensorFlow pickle"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "data outside itself"),
        (b"\x80\x02\x82\x01.", "cannot be read"),  # a name out of the extension registry
    ):
        path.write_bytes(content)
        with pytest.raises(FileProblem, match=said):
            load_networks(path)
    with pytest.raises(FileProblem, match="missing.pkl"):
        load_networks(tmp_path / "missing.pkl")
