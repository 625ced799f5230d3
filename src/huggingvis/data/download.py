"""Fetching a known file: from the first mirror that answers, checked against its sum before it gets its name.

The bytes stream into a temporary file in the target folder; only when their number and their MD5 are right is the
file renamed. MD5 is what the data sets' authors publish: it guards against damage here, not against an attacker.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain, write_atomically

_CHUNK = 1 << 18

Progress = Callable[[str, int, int], None]  # (file name, bytes so far, bytes in all)


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name, its length in bytes, the MD5 its authors give (32 hex digits), its folders' URLs."""

    name: str
    length: int
    md5: str
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Download:
    """How to download. `mirrors` are tried before the table's own; `timeout` is in seconds without a byte."""

    progress: Progress | None = None
    mirrors: tuple[str, ...] = ()
    timeout: float = 30.0

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Put `file` into `folder` (made if missing) and return its path.

        Raises `FileProblem`, naming the file, its sum and where to put it by hand, when no mirror has it intact.
        """
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            return self._fetch(file, folder)
        except BaseException:  # ctrl-C too: no empty folder stays
            for place in made:
                with contextlib.suppress(OSError):
                    place.rmdir()
            raise

    def _fetch(self, file: RemoteFile, folder: Path) -> Path:
        target = folder / file.name
        failures = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise explain(error, target) from error
        if free < file.length:
            raise FileProblem(
                f"{target} needs {file.length:,} bytes, but its disk has {free:,} free. "
                "Free some space, or choose a folder on another disk."
            )
        if self.progress is not None:
            self.progress(file.name, 0, file.length)
        for mirror in (*self.mirrors, *file.mirrors):
            url = f"{mirror.rstrip('/')}/{file.name}"
            trouble = self._try(url, file, target)
            if trouble is None:
                return target
            failures.append(f"{url}: {trouble}")
        raise FileProblem(
            f"Could not download {file.name} ({file.length:,} bytes, MD5 {file.md5}). Tried "
            + "; ".join(failures)
            + f". Without a network, put the file by hand at {target}."
        )

    def _try(self, url: str, file: RemoteFile, target: Path) -> str | None:
        """None when `target` is there and intact, else what went wrong with this mirror."""
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "huggingvis"})
            response = urllib.request.urlopen(request, timeout=self.timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return _reason(error)
        with response:
            try:
                write_atomically(target, lambda out: self._stream(response, out, file))
            except _BadAnswer as trouble:
                return str(trouble)
        return None

    def _stream(self, response: BinaryIO, out: BinaryIO, file: RemoteFile) -> None:
        digest, done = hashlib.md5(usedforsecurity=False), 0
        while done <= file.length and (chunk := _read(response)):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if self.progress is not None:
                self.progress(file.name, done, file.length)
        if done != file.length:
            how = "the answer is longer than" if done > file.length else f"the answer stopped after {done:,} of"
            raise _BadAnswer(f"{how} {file.length:,} bytes")
        if digest.hexdigest() != file.md5:
            raise _BadAnswer(f"the answer has MD5 {digest.hexdigest()} where {file.md5} was expected")


class _BadAnswer(Exception):
    """A mirror answered with something that is not the file; the next one is tried."""


def _read(response: BinaryIO) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:  # the network's failure, not the disk's
        raise _BadAnswer(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)  # of an HTTPError the whole text is wanted: it has the status number
    return str(error) or type(error).__name__
