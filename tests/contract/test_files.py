"""Large things written all or nothing: what a killed process left goes with the next, what others write stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import new_file, new_folder

WRITER = """
import sys, time
from pathlib import Path
from huggingvis.core.files import new_folder
def make(folder):
    (folder / "half").write_bytes(b"0" * 1000)
    print("writing", flush=True)
    time.sleep(600)
new_folder(Path(sys.argv[1]), make)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks on folders: there it takes a day")
def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "model"], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline().strip() == b"writing"
            (left,) = tmp_path.iterdir()
            names = (".mine.0123abcd.tmp", "my.unfinished", ".my notes.unfinished", ".my.0123abcd.unfinished")
            mine = [tmp_path / name for name in names]
            for folder in mine:
                folder.mkdir()
            then = time.time() - 3600
            for path in (left / "model/half", left / "model", left, *mine):
                os.utime(path, (then, then))
            new_file(tmp_path / "one", lambda path: path.write_bytes(b"1"))
            assert (left / "model/half").stat().st_size == 1000  # somebody writes there
        finally:
            writer.kill()
    new_folder(tmp_path / "two", lambda folder: (folder / "it").write_bytes(b"2"))
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", *(path.name for path in mine)}
    assert (tmp_path / "one").read_bytes() == b"1" and (tmp_path / "two/it").read_bytes() == b"2"


def test_nothing_half_written_stays_and_nothing_is_written_over(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        (path / "half" if path.is_dir() else path).write_bytes(b"0")
        raise KeyboardInterrupt

    for make in (new_file, new_folder):
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "it", broken)
        assert not list(tmp_path.iterdir())
    new_file(tmp_path / "it", lambda path: path.write_bytes(b"1"))
    for make in (new_file, new_folder):
        with pytest.raises(FileProblem, match="is there already"):
            make(tmp_path / "it", broken)
    assert (tmp_path / "it").read_bytes() == b"1"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_during_a_save_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(place: Path) -> None:
        place.write_bytes(b"ours")
        (tmp_path / "it").write_bytes(b"theirs")

    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    new_file(tmp_path / "other", lambda place: place.write_bytes(b"ours"))
    with pytest.raises(FileProblem, match="it is there already"):
        new_file(tmp_path / "it", overtaken)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"it": b"theirs", "other": b"ours"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks on folders")
@pytest.mark.parametrize("new", [new_file, new_folder])
def test_a_save_waits_for_who_looks_at_its_folder(
    new: Callable[[Path, Callable[[Path], object]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    mkdir, lookers = Path.mkdir, []

    def looked_at(folder: Path, *args: Any, **kwargs: Any) -> None:
        mkdir(folder, *args, **kwargs)
        if folder.suffix == ".unfinished":
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            lookers.append(threading.Timer(0.2, os.close, (descriptor,)))
            lookers[0].start()

    def make(place: Path) -> None:
        lookers[0].join()
        descriptor = os.open(place.parent, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        (place / "it" if place.is_dir() else place).write_bytes(b"1")

    monkeypatch.setattr(Path, "mkdir", looked_at)
    new(tmp_path / "it", make)
    assert len(lookers) == 1 and [path.name for path in tmp_path.iterdir()] == ["it"]
