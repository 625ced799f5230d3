"""What a refused command says and leaves behind; and what refuses: closed places, full disks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def refused(said: Any, code: int, *words: str) -> None:
    """One paragraph with these words, and this exit code; no traceback, no apology."""
    assert said.code == code, said.err
    for word in words:
        assert word in said.paragraph, said.paragraph
    assert "Traceback" not in said.err and "Sorry" not in said.err
    assert "\n\n" not in said.err.strip()


def left(folder: Path | str = ".") -> list[str]:
    """Every file and folder that is there, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def places_that_refuse(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Folders this process may not write into (taken by a file, kept by the system), and what is said of each."""
    (tmp_path / "file").write_text("")
    yield tmp_path / "file", "file is a file"
    yield tmp_path / "file" / "inside", "file is a file"
    if sys.platform == "linux":
        yield Path("/sys/hvis-test"), "Could not write /sys/hvis-test"
    if os.geteuid() != 0:  # permissions do not bind root
        (tmp_path / "closed").mkdir(mode=0o555)
        yield tmp_path / "closed", "may not be written to"


@contextlib.contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file may grow beyond `most` bytes: the system's own refusal, as of a disk that fills up meanwhile."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are of Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
