"""Official files that are hostile or damaged: refused by what they ask for, in bounded memory, and nothing runs."""

from __future__ import annotations

import codecs
import collections
import io
import os
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_pickles import Persistent, official_file
from official_pickles import official as official  # a fixture of every test here

from huggingvis.checkpoints.persistent_pickle import load_networks, network
from huggingvis.core.errors import FileProblem


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
