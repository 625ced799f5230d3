"""`hvis compare`, `explain` and `evaluate` on full and closed disks, stopped by ctrl-C, on numbers out of bounds."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import FOX
from inception_file import save_pictures, tensors
from refusals import left, places_that_refuse, refused, small_files

from huggingvis.checkpoints.io import load, save
from huggingvis.recipes.compared_cells import Kept

SMALL = ["--prompt", FOX, "--samplers", "ddim", "--nfe", 2, "--fine", 3, "--count", 1]


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the network of FID, and beside it the folders `a` and `b`."""
    place = tmp_path_factory.mktemp("inception")
    save_pictures(place)
    return save(place / "inception.safetensors", tensors())


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as any bar moves."""
    from huggingvis.app.screen import Screen

    @contextlib.contextmanager
    def progress(self: Screen, label: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda done: signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Screen, "progress", progress)


def against(inception: Path) -> list[object]:
    folders = inception.parent
    return ["evaluate", folders / "a", "--against", folders / "b", "--inception", inception]


def test_places_that_refuse_are_found_before_anything_is_loaded(hvis: Any, tmp_path: Path) -> None:
    for place, word in places_that_refuse(tmp_path):
        refused(hvis(["compare", "samplers", "--model", "no such model", "-o", place / "it"]), 3, word)
        refused(hvis(["explain", "process", "cosine", "-o", place / "it.png"]), 3, word)
        refused(hvis(["explore", "traverse", "--model", "no such model", "-o", place / "it.png"]), 3, word)
        refused(hvis(["evaluate", "no such folder", "--against", "none", "-o", place / "it.json"]), 3, word)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    for words in (["explain", "process", "cosine"], ["evaluate", "no such model"], ["explore", "traverse"]):
        refused(hvis([*words, "-o", folder]), 3, "it is a folder: give the name of a file inside it")
    refused(hvis(["compare", "samplers", "--model", "none", "-o", tmp_path / "folder"]), 3, "it is a folder")
    Path("out").write_text("")
    for words in (["explain", "process", "cosine"], ["explore", "traverse", "--model", "no such model"]):
        refused(hvis(words), 3, "out is a file; expected a folder")
    assert left() == ["out"]


def test_a_full_disk_is_found_before_comparing(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(hvis(["compare", "samplers", "--model", "not looked for"]), 3, "1,000 free", "Free some space")
    assert left() == []


def test_a_disk_that_fills_up_leaves_no_part_of_a_file(hvis: Any, tiny_model: Path, inception: Path) -> None:
    with small_files(100):
        compared = hvis(["compare", "samplers", "--model", tiny_model, *SMALL])
        explained = hvis(["explain", "process", "cosine", "-o", "it.png"])
        evaluated = hvis([*against(inception), "-o", "it.json"])
    for said in (compared, explained, evaluated):
        refused(said, 3, "Could not write", "larger than this system allows")
    assert left() == []


def test_ctrl_c_leaves_nothing_but_finished_cells(
    hvis: Any, tiny_model: Path, inception: Path, interrupting: None
) -> None:
    for words in (["compare", "samplers", "--model", tiny_model, *SMALL], [*against(inception), "-o", "it.json"]):
        said = hvis([*words, "--json"])
        refused(said, 130, "Stopped", "Nothing half-written was left behind")
        assert said.document["error"]["kind"] == "Cancelled"
    kept = Path("compare-cells")
    assert left() and all(path == kept.name or path.startswith(f"{kept.name}/") for path in left())
    assert all(any(file.match(own) for own in Kept.OWN) for file in kept.iterdir())  # whole ones, to go on from


def test_numbers_that_are_not_finite_are_not_told(hvis: Any, tiny_model: Path, inception: Path, tmp_path: Path) -> None:
    loud = Path(shutil.copytree(tiny_model, tmp_path / "loud"))
    weights = load(loud / "unet.safetensors")
    last = {name: x for name, x in weights.items() if name.startswith("conv_out") and x.is_floating_point()}
    weights |= {name: torch.full_like(x.float(), 3e38) for name, x in last.items()}
    save(loud / "unet.safetensors", weights)
    refused(hvis(["compare", "samplers", "--model", loud, *SMALL]), 5, "The sample of", "finite")
    bad = tensors()
    bad["Mixed_7c.branch_pool.bn.running_mean"][0] = float("nan")
    damaged = save(tmp_path / "damaged.safetensors", bad)
    refused(hvis([*against(inception)[:-1], damaged]), 5, "damaged.safetensors", "finite")
    assert left() == []


def test_wrong_names_are_refused_before_the_model_is_loaded(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingvis import api
    from huggingvis.api import training

    for where in (api, training):
        monkeypatch.setattr(where, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    refused(hvis(["compare", "samplers", "--samplers", "ddim,huen"]), 2, "no sampler called 'huen'", "'heun'")
    refused(hvis(["compare", "samplers", "--samplers", "euler-a"]), 2, "draws fresh noise")
    refused(hvis(["compare", "samplers", "--schedule", "karas"]), 2, "no schedule called 'karas'", "karras")
    refused(hvis(["compare", "sampler"]), 2, "'samplers'")
    refused(hvis(["generate", FOX, "--sampler", "dpm++2n"]), 2, "no sampler called 'dpm++2n'", "'dpm++2m'")
    assert left() == []


def test_folders_that_cannot_be_compared(hvis: Any, inception: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    torn = Path(shutil.copytree(inception.parent / "a", tmp_path / "torn"))
    picture = torn / "1.png"
    picture.write_bytes(picture.read_bytes()[:40])
    words = against(inception)
    for folder, code, word in (
        ("empty", 3, "no images under"),
        ("none", 3, "no folder"),
        ("torn", 3, "1.png cannot be"),
    ):
        refused(hvis(["evaluate", tmp_path / folder, *words[2:]]), code, word)
    refused(hvis([*words[:3], tmp_path / "none", *words[4:]]), 3, "no folder")
    refused(hvis(["evaluate", "--against", tmp_path / "empty", *words[4:]]), 2, "Name two folders")
