"""Official StyleGAN2 files: read for their tensors, bound to our networks, and never executed."""

from __future__ import annotations

import codecs
import collections
import io
import os
import pickle
import sys
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from huggingvis.nets.pggan import minibatch_deviation
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


def official_file(
    path: Path, protocol: int = 4, changed: Mapping[str, dict[str, Any]] | None = None, sizes: StyleGANSizes = SIZES
) -> tuple[Path, StyleGenerator, StyleDiscriminator]:
    """A file as the official training writes it, and the networks whose weights are in it.

    `changed`: state of the generator's parts, and of the discriminator's part `mbstd`, other than usual.
    """
    torch.manual_seed(1)
    changed = changed or {}
    std = {"group_size": 2, "num_channels": 1, **changed.get("mbstd", {})}
    net = fresh_generator(sizes, StyleGAN2Synthesis(sizes)).requires_grad_(False)
    critic = StyleDiscriminator(sizes, group=std["group_size"]).requires_grad_(False)
    net.w_avg.normal_()
    tensors = stylegan2.generator_keymap().to_theirs(net.state_dict())
    tensors["synthesis.b8.resample_filter"] = torch.outer(taps(), taps())
    facts: dict[str, dict[str, Any]] = {
        "mapping": {"z_dim": 5, "w_dim": 7, "c_dim": 0},
        "mapping.fc0": {"bias_gain": 0.01},
        "synthesis.b16": {"architecture": "skip"},
        "synthesis.b16.conv1": {"conv_clamp": 256, "weight_gain": np.float64(0.5)},
    }
    for part, state in changed.items():
        facts[part] = facts.get(part, {}) | state
    judged = stylegan2.discriminator_keymap(sizes).to_theirs(critic.state_dict())
    judge = stored("D", judged, {"b16": {"architecture": "resnet"}, "b16.conv1": {"conv_clamp": 256}})
    judge.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"] = Persistent("Std", std)
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


def test_grey_pictures_and_a_spread_over_the_whole_batch(tmp_path: Path) -> None:
    path, net, critic = official_file(
        tmp_path / "grey.pkl", changed={"mbstd": {"group_size": None}}, sizes=replace(SIZES, channels=1)
    )
    assert stylegan2.bind(path).spec.channels == 1
    x = net(torch.randn(6, 5), None, StoredNoise())
    read = stylegan2.discriminator(path)
    assert read.head.group is None and torch.equal(read(x), critic(x))
    h = torch.randn(6, 10, 4, 4)
    assert torch.equal(minibatch_deviation(h, None), minibatch_deviation(h, 6))
    assert not torch.equal(minibatch_deviation(h, None), minibatch_deviation(h, 4))


@pytest.mark.parametrize(
    ("part", "state", "said"),
    [
        ("mapping", {"z_dim": None}, "'z_dim' from 1 to 65536, but holds None"),
        ("mapping", {"z_dim": "5"}, "'z_dim' from 1 to 65536, but holds '5'"),
        ("mapping", {"w_dim": 10**5000}, "'w_dim' .* more than 12 digits"),
        ("mapping", {"w_dim": 60000}, "does not fit the sizes it states"),
        ("mapping", {"c_dim": -1}, "'c_dim' from 0"),
        ("mapping.fc0", {"bias_gain": float("nan")}, "'bias_gain' .* holds nan"),
        ("synthesis.b16.conv1", {"conv_clamp": [1]}, "'conv_clamp' .* a list"),
        ("synthesis.b16.torgb", {"_parameters": {}}, "tensor 'synthesis.b16.torgb.bias' .* found none"),
        ("synthesis.b16.torgb", {"_parameters": {"bias": torch.zeros(())}}, r"of shape \[\]"),
        ("synthesis.b16.torgb", {"_parameters": {"bias": torch.zeros(4)}}, "channel.*found 4"),
        ("synthesis.b16", {"architecture": 10**5000}, "architecture a number of more"),
        ("mbstd", {"num_channels": 2}, "mbstd_num_channels.* found 2"),
        ("mbstd", {"group_size": 0}, "'group_size' from 1"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(
    tmp_path: Path, part: str, state: dict[str, Any], said: str
) -> None:
    usual = {"group_size": 2} if part == "mbstd" else {}
    path, _, _ = official_file(tmp_path / "absurd.pkl", changed={part: usual | state})
    with pytest.raises(FileProblem, match=said):
        stylegan2.discriminator(path) if part == "mbstd" else stylegan2.generator(path)


def test_records_are_inert(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "ffhq.pkl")
    record = network(path)
    assert type(record) is Record and record.kind == "Generator" and record.child("mapping").kind == "mapping"
    with pytest.raises(FileProblem, match="no part 'b4'"):
        record.child("b4")
    with pytest.raises(UsageError, match="no network in .* called 'G_emma'.*'G_ema'"):
        network(path, "G_emma")


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    path, _, _ = official_file(tmp_path / "resnet.pkl", changed={"synthesis.b16": {"architecture": "resnet"}})
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


def zipped() -> bytes:
    file = io.BytesIO()
    torch.save(torch.zeros(4)._typed_storage(), file)
    return file.getvalue()


class Stated(Persistent):
    """A network that is given a second state after it was checked."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__()[:2], (None, {"kind": [], "state": []}))


class StatedTensor(Calls):
    """A tensor that is changed after it was checked."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (*self.parts, (self.parts[1][0], 0, (10**9,), (0,)))


def hostile(mark: Path) -> dict[str, Any]:
    """Contents that would make a file at `mark`, reach beyond memory, or change what reads them."""
    touch = f"touch {mark}"
    rebuild, from_bytes = torch._utils._rebuild_tensor_v2, torch.storage._load_from_bytes
    floats = torch.zeros(4)._typed_storage()
    hooks: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    data = storage_bytes(torch.zeros(1000)._typed_storage())
    other_count = data[:-4008] + (2**40).to_bytes(8, "little") + data[-4000:]
    short = storage_bytes(floats)
    size = short.index(b"K\x04", short.index(b"cpu"))  # BININT1 4, the number of its numbers
    return {
        "a shell command": Calls(os.system, touch),
        "evaluated text": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "an attribute": Calls(getattr, "text", "upper"),
        "inside a state": Persistent("G", {"_modules": {"a": Calls(os.system, touch)}}),
        "inside a tensor's numbers": Calls(from_bytes, storage_bytes([Calls(os.system, touch)])),
        "a tensor larger than its numbers": Calls(rebuild, floats, 0, (5,), (1,), False, hooks),
        "a tensor beyond its numbers": Calls(rebuild, floats, 1, (4,), (1,), False, hooks),
        "a tensor before its numbers": Calls(rebuild, floats, -1, (1,), (1,), False, hooks),
        "a tensor that runs backwards": Calls(rebuild, floats, 3, (4,), (-1,), False, hooks),
        "a tensor of no numbers": Calls(rebuild, "text", 0, (1,), (1,), False, hooks),
        "a tensor of one number repeated": Calls(rebuild, floats, 0, (10**9,), (0,), False, hooks),
        "a tensor that overlaps itself": Calls(rebuild, floats, 0, (2, 3), (1, 1), False, hooks),
        "a tensor changed afterwards": StatedTensor(rebuild, floats, 0, (1,), (1,), False, hooks),
        "numbers in a zip archive": Calls(from_bytes, zipped()),
        "numbers cut short": Calls(from_bytes, data[:-4]),
        "numbers of another count": Calls(from_bytes, other_count),
        "numbers of an absurd count": Calls(from_bytes, short[:size] + b"J\xff\xff\xff\x7f" + short[size + 2 :]),
        "numbers with a memo slot far out": Calls(from_bytes, b"\x80\x02Nr\x00\x00\x00\x01."),
        "the same numbers many times": [Calls(from_bytes, data) for _ in range(50)],
        "the same text many times": [Calls(codecs.encode, text, "latin1") for text in ["a" * 4000] * 50],
        "a network with a second state": Stated("G", {}),
        "an array of objects": np.array([print, len], dtype=object),
        "an array of records": np.zeros(2, dtype=[("a", "f4")]),
        "another version": Persistent("G", {}, version=5),
        "a state that is no table": Persistent("G", [1]),  # type: ignore[arg-type]
    }


REASONS = {
    "a tensor larger than its numbers": "larger than the 4 numbers",
    "a tensor beyond its numbers": "beyond the 4 numbers",
    "a tensor of one number repeated": "larger than the 4 numbers",
    "a tensor that overlaps itself": "larger than the 4 numbers",
    "a tensor changed afterwards": "a tensor with a state",
    "numbers in a zip archive": "zip archive",
    "numbers cut short": "1000 numbers in 3996 bytes",
    "numbers of another count": "without their description",
    "numbers of an absurd count": "without their description",
    "numbers with a memo slot far out": "memo slot 16777216",
    "the same numbers many times": "its tensors unfold to more",
    "the same text many times": "its texts unfold to more",
    "a network with a second state": "a second state",
}


@pytest.mark.parametrize("name", hostile(Path("mark")))
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_hostile_pickles_are_refused(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Persistent("G", {}), "more": hostile(mark)[name]}))
    with pytest.raises(FileProblem, match=rf"hostile\.pkl.*{REASONS.get(name, '')}"):
        load_networks(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04Nr\x00\x00\x00\x01.", "memo slot 16777216"),
        (b"\x80\x04Np16777216\n.", "memo slot 16777216"),
        (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"a.", "cannot be read.*1099511627776"),
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a.", "cannot be read.*1099511627776"),
        (b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.", "a frame of 1099511627776 bytes"),
        (b"\x80\x04})" + b"\x85" * 10**6 + b"Ns.", "a tuple of more than"),  # hashing it would overflow the C stack
        (b"\x80\x04})" + b"2\x86" * 60 + b"Ns.", "a tuple of more than"),  # and this would take 2^60 steps
        (b"\x80\x04t.", "cannot be read"),
    ],
)
def test_a_tiny_file_cannot_ask_for_gigabytes(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(FileProblem, match=said):
        load_networks(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * len(content) * 8 + 2**20


def nested(parts: dict[Any, Any]) -> Persistent:
    return Persistent("G", {"_modules": parts, "_buffers": {"a": torch.zeros(1)}})


def chain(length: int) -> Persistent:
    """Records one within the other, each twice: 2^length ways through it."""
    here = nested({})
    for _ in range(length):
        here = nested({"a": here, "b": here})
    return here


def test_records_are_walked_as_trees(tmp_path: Path) -> None:
    path = tmp_path / "loop.pkl"
    loop: dict[Any, Any] = {}
    loop["a"] = nested(loop)
    shared = Persistent("G", {"_buffers": {"a" * i: x for x in (torch.zeros(9),) for i in (1, 2)}})
    cases: tuple[tuple[dict[Any, Any], str], ...] = (
        ({"loop": loop, "G_ema": nested(loop)}, "leads back to itself"),
        ({"G_ema": chain(40)}, "at most 32 deep"),
        ({"G_ema": nested({10**5000: nested({})})}, "found a number of more than 12 digits"),
        ({"G_ema": nested({"a" * 201: nested({})})}, "at most 200 letters"),
        ({"G_ema": nested({}), 10**5000: 1}, "found a number of more than 12 digits"),
        ({"G_ema": shared}, "but share them"),
    )
    for content, said in cases:
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(FileProblem, match=said):
            network(path).tensors()
    path.write_bytes(pickle.dumps({"G_ema": chain(30)}))
    start = time.perf_counter()
    assert len(network(path).tensors()) == 31 and time.perf_counter() - start < 5


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
