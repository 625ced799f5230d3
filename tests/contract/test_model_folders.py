"""Model folders: written all or nothing, and read with words for whatever is wrong in them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from refusals import small_files

import huggingvis
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.errors import FileProblem, HvisError
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.systems import tiny
from huggingvis.systems.judges import world
from huggingvis.systems.packaged import RECORD, packaged


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
    assert files_of(place) == files_of(fresh) | {"README.md": b"mine"}
    assert all(files_of(place)[name] != data for name, data in files_of(tiny_model).items())
    assert tiny.bind(place).spec.card == {"data": "others"}


WRONG = ("abc", None, ["abc"], {"abc": 1}, -1, math.nan)
SHIPPED = packaged("tiny") / RECORD
JUDGE = packaged("judge-world") / RECORD


def keys_of(file: Path) -> list[tuple[str, ...]]:
    """Every key of a record, and those inside of its tables of numbers."""
    record = json.loads(file.read_text("utf-8"))
    tables = [key for key in record if isinstance(record[key], dict) and key not in ("card", "training")]
    return [(key,) for key in record] + [(key, inner) for key in tables for inner in record[key]]


def refusals(folder: Path, key: tuple[str, ...], use: Callable[[], object]) -> list[str]:
    """What is said where `key` of the record of `folder` has each of the wrong values and `use` takes offence."""
    said = []
    whole = (folder / RECORD).read_bytes()
    for wrong in WRONG:
        record = json.loads(whole)
        inside = record[key[0]] if len(key) > 1 else record
        inside[key[-1]] = wrong
        (folder / RECORD).write_text(json.dumps(record))
        try:
            use()
        except HvisError as error:
            said.append(str(error))
    (folder / RECORD).write_bytes(whole)
    return said


@pytest.mark.parametrize("key", [key for key in keys_of(SHIPPED) if key[0] != "planner"], ids=".".join)
def test_a_wrong_value_in_a_record_is_harmless_or_told(tiny_model: Path, tmp_path: Path, key: tuple[str, ...]) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    request = Request(Prompt("a fox"), sampling=Sampling(sampler="euler", schedule="uniform", steps=1))
    said = refusals(tmp_path / "model", key, lambda: huggingvis.generate(request, model=tmp_path / "model"))
    assert len(said) >= 5
    assert all(RECORD in text or "family" in text for text in said[:3]) and all(key[-1] in text for text in said[:3])


@pytest.mark.parametrize("key", [key for key in keys_of(SHIPPED) if key[0] == "planner"], ids=".".join)
def test_a_wrong_value_of_the_planner_is_told(tmp_path: Path, key: tuple[str, ...]) -> None:
    shutil.copytree(SHIPPED.parent, tmp_path / "model")
    said = refusals(tmp_path / "model", key, lambda: tiny.load_parts(tmp_path / "model", torch.device("cpu")))
    assert len(said) >= 5 and all(RECORD in text and key[-1] in text for text in said)


@pytest.mark.parametrize("key", keys_of(JUDGE), ids=".".join)
def test_a_wrong_value_of_the_judge_is_harmless_or_told(tmp_path: Path, key: tuple[str, ...]) -> None:
    shutil.copytree(JUDGE.parent, tmp_path / "judge")
    said = refusals(tmp_path / "judge", key, lambda: world.bind(tmp_path / "judge"))
    unread = key[0] in ("family", "name", "size", "training")
    assert len(said) == 0 if unread else len(said) == 6 and all(RECORD in text and key[-1] in text for text in said)
