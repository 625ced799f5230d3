"""Model folders: written all or nothing, and read with words for whatever is wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from refusals import small_files

from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.errors import FileProblem
from huggingvis.systems import tiny


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def another(folder: Path, place: Path) -> None:
    """The model of `folder` with other weights and another tokenizer, written to `place`."""
    system = tiny.bind(folder)
    with torch.no_grad():
        for part in system.parts.values():
            for p in part.parameters():
                p.add_(1.0)
    assert isinstance(system.conditioner, tiny.TinyConditioner)
    tokenizer = TextTokenizer.learn(["a crab above a pear"], vocabulary=60)
    tower = system.conditioner.tower
    tiny.save(place, replace(system, conditioner=tiny.TinyConditioner(tokenizer, tower)), {"data": "others"})


@contextmanager
def in_the_way(place: Path) -> Iterator[None]:
    (place / "text.safetensors").unlink()
    (place / "text.safetensors").mkdir()
    yield


def full(place: Path) -> AbstractContextManager[None]:
    """Room for the tokenizer and the text encoder, not for the U-Net."""
    sizes = {name: (place / name).stat().st_size for name in ("tokenizer.json", "unet.safetensors")}
    assert sizes["tokenizer.json"] < 10_000 < sizes["unet.safetensors"]
    return small_files(10_000)


@pytest.mark.parametrize("trouble", [full, in_the_way])
def test_a_model_that_cannot_be_written_whole_leaves_the_old_one(
    tiny_model: Path, tmp_path: Path, trouble: Callable[[Path], AbstractContextManager[None]]
) -> None:
    place = tmp_path / "model"
    shutil.copytree(tiny_model, place)
    (place / "README.md").write_text("mine")
    with trouble(place):
        before = files_of(place)
        with pytest.raises(FileProblem, match="Could not write"):
            another(tiny_model, place)
    assert files_of(place) == before
    assert sorted(p.name for p in place.iterdir()) == sorted({*before, "text.safetensors"})


def test_a_model_replaces_an_older_one_and_leaves_what_is_not_of_it(tiny_model: Path, tmp_path: Path) -> None:
    place, fresh = tmp_path / "model", tmp_path / "fresh"
    shutil.copytree(tiny_model, place)
    (place / "README.md").write_text("mine")
    another(tiny_model, place)
    another(tiny_model, fresh)
    shutil.copy(place / "tokenizer.json", fresh)  # pairs that are equally frequent are merged in any order
    assert files_of(place) == files_of(fresh) | {"README.md": b"mine"}
    assert all(files_of(place)[name] != data for name, data in files_of(tiny_model).items())
    assert tiny.bind(place).spec.card == {"data": "others"}
