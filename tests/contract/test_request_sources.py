"""Kinds of sources: each is two files, and a new one is known wherever a request's source is looked at."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from huggingvis.app.sources import add_sources, source_of
from huggingvis.core import config, request_fields, request_sources, rules
from huggingvis.core import request as request_module
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import FromPicture, Prompt, Request, check
from huggingvis.core.request_fields import files_of, in_order, with_field
from huggingvis.core.request_sources import kinds
from huggingvis.core.request_sources.kind import SourceKind
from huggingvis.edits import starting
from huggingvis.recipes.addresses import Identities, address
from huggingvis.recipes.beside import check_files
from huggingvis.systems.tiny import bind


@dataclass(frozen=True)
class Between(SourceKind):
    """A kind that nothing in the library names."""

    begins: ClassVar[tuple[str | None, str] | None] = ("FromPicture", "other")
    flag: ClassVar[str | None] = "how near it is to the other"
    alone: ClassVar[tuple[str, ...]] = ("share",)
    strength = 1.0

    path: str
    other: str
    share: float = 0.5

    def files(self) -> tuple[str, ...]:
        return self.path, self.other

    def check(self) -> None:
        rules.number("source.share", self.share, 0.0, 1.0)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`Between` in the one place where kinds are listed."""
    every = reduce(or_, (*kinds(), Between))
    for module in (request_sources, request_module):
        monkeypatch.setattr(module, "Source", every)
    caches = (config._hints, request_fields._kinds, request_fields._short)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    frames = [Image.fromarray(np.full((4, 4, 3), grey, np.uint8)) for grey in (0, 90)]
    frames[0].save(tmp_path / "one.png")
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    return str(tmp_path / "one.png"), str(tmp_path / "two.gif")


def test_every_kind_is_a_file_here_and_one_in_edits() -> None:
    here = {path.stem for path in Path(request_sources.__file__).parent.glob("*.py")} - {"__init__", "kind"}
    assert here == {kind.__module__.rpartition(".")[2] for kind in kinds()}
    for kind in kinds():
        edit = starting.edit_of(kind.__new__(kind))  # type: ignore[arg-type]
        assert all(callable(one) for one in (edit.asked, edit.sample, edit.finish))


@pytest.mark.usefixtures("between")
def test_a_new_kind_is_read_checked_and_written() -> None:
    asked = Request(Prompt("a"), source=Between("a.png", "b.png", 0.25))  # type: ignore[arg-type]
    assert check(asked) == asked and Request.from_json(asked.to_json()) == asked
    assert json.loads(asked.to_json())["source"] == {
        "kind": "Between", "path": "a.png", "other": "b.png", "share": 0.25
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"source\.share must be a number between 0 and 1, found 2"):
        check(with_field(asked, "share", 2.0))


@pytest.mark.usefixtures("between")
def test_a_new_kind_is_begun_by_its_own_field() -> None:
    assert in_order(["share", "other", "image"]) == ["image", "other", "share"]
    begun = with_field(with_field(Request(), "image", "a.png"), "source.other", "b.png")
    assert begun.source == Between("a.png", "b.png")


def test_the_files_of_a_new_kind_are_looked_for_hashed_and_spoken_of(files: tuple[str, str]) -> None:
    asked = Request(Prompt("a"), source=Between(*files))  # type: ignore[arg-type]
    assert list(files_of(asked)) == list(files)
    check_files(asked)
    with pytest.raises(FileProblem, match="no file gone"):
        check_files(replace(asked, source=Between(files[0], "gone.png")))  # type: ignore[arg-type]
    assert starting.notes(bind(), asked) == (f"{files[1]} is a moving picture of 2 frames: the first one is used.",)
    before = address(asked, "m", {}, Identities())
    Path(files[1]).write_bytes(Path(files[0]).read_bytes())
    assert address(asked, "m", {}, Identities()) != before


def test_flags_leave_a_kind_that_they_do_not_know() -> None:
    parser = argparse.ArgumentParser()
    add_sources(parser)
    base = Between("a.png", "b.png", 0.25)
    assert source_of(parser.parse_args([]), base, {}) == base  # type: ignore[arg-type]
    assert source_of(parser.parse_args(["--image", "c.png"]), base, {}) == replace(base, path="c.png")  # type: ignore[arg-type]
    assert source_of(parser.parse_args(["--image", "c.png"]), None, {}) == FromPicture("c.png")


@pytest.mark.usefixtures("between")
def test_a_new_kind_has_its_flag() -> None:
    parser = argparse.ArgumentParser()
    add_sources(parser)
    assert "how near it is to the other. other: (required); share: (default 0.5)" in " ".join(
        parser.format_help().split()
    )
    base = Between("a.png", "b.png", 0.25)
    for words, share in (("share=1", 1.0), ("2", 2.0), ("yes", 0.25)):
        said = parser.parse_args([f"--between={words}"])
        assert source_of(said, base, {}) == replace(base, share=share)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--resize-mode does not go with --between\."):
        source_of(parser.parse_args(["--between", "--resize-mode", "crop"]), base, {})  # type: ignore[arg-type]
