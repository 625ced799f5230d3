"""One training per run folder: a lock that the system frees when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from huggingvis.core.errors import UsageError
from huggingvis.core.files import explain

if sys.platform == "win32":
    import msvcrt

    def _grab(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _grab(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process. Raises `UsageError` if another process trains there."""
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise explain(error, path) from error
    try:
        try:
            _grab(descriptor)
        except OSError as error:
            raise UsageError(
                f"Another training is writing to {folder}. Wait until it ends, or choose another run folder."
            ) from error
        yield
    finally:
        os.close(descriptor)
