"""Large things written all or nothing: what a killed process left goes with the next, what others write stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

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
            mine = [tmp_path / ".mine.0123abcd.tmp", tmp_path / "my.unfinished"]
            for folder in mine:
                folder.mkdir()
            then = time.time() - 3600
            for path in (left / "half", left, *mine):
                os.utime(path, (then, then))
            new_file(tmp_path / "one", lambda path: path.write_bytes(b"1"))
            assert (left / "half").stat().st_size == 1000  # somebody writes there
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
