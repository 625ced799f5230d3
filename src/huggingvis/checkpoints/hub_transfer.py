"""One file from a hub into its cache: what has arrived stays, and nothing gets its name before its hash is right.

The bytes go to `KEY.part` beside the place that they will have. A transfer that was cut, or stopped by ctrl-C, goes on
from there by a Range request, in this process or in a later one; the hash runs over all of it.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, final

from huggingvis.checkpoints.hub_line import Line
from huggingvis.checkpoints.hub_names import HubFile
from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain

CHUNK = 1 << 20
PART = ".part"


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@final
class Transfer:
    """Fetches `file`, called `name`, from `url` to `target`. `moved` is told each number of bytes that arrived."""

    def __init__(
        self, name: str, file: HubFile, url: str, headers: dict[str, str], target: Path, moved: Callable[[int], None]
    ):
        self.name, self.file, self.url, self.target = name, file, url, target
        self.headers = {**headers, "Accept-Encoding": "identity"}  # a Range counts bytes of the file itself
        self.moved = moved
        self.part = target.with_name(target.name + PART)

    def run(self, line: Line) -> None:
        """Raises `FileProblem` when the line gives up, the disk refuses, or the hash is wrong twice."""
        resumed = _size(self.part) > 0
        while True:
            digest = self._arrive(line)
            if self.file.key is None or digest == self.file.key:
                break
            self.part.unlink()
            self.moved(-self.file.size)
            if not resumed:
                raise FileProblem(
                    f"{self.name} arrived with the hash {digest}, but {line.source.title} says {self.file.key}. What "
                    "arrived was thrown away. A proxy or a mirror changes files on their way: try again, or "
                    f"{line.source.elsewhere}."
                )
            line.say(f"What was here of {self.name} is damaged: fetching it anew.")
            resumed = False
        os.replace(self.part, self.target)

    def _arrive(self, line: Line) -> str:
        """Brings the part file to its whole length; returns the hash of its content."""
        try:
            with open(self.part, "ab+", buffering=0) as out:
                digest = self._hash_of(out)
                if have := out.tell():
                    self.moved(have)
                    line.say(f"Going on with {self.name}: {have:,} of {self.file.size:,} bytes are here.")
                while out.tell() < self.file.size:
                    try:
                        self._stream(line, out, digest)
                    except _Disk:
                        raise
                    except Exception as error:
                        line.again(error)
                _to_disk(out)
        except _Disk as error:
            raise self._no_room(error.reason) from error.reason
        return digest.hexdigest()

    def _hash_of(self, out: BinaryIO) -> Digest:
        """The hash so far; leaves the position at the end, which is cut off where it is beyond the file's."""
        digest: Digest
        if self.file.sha256 is None and self.file.git is not None:
            digest = hashlib.sha1(f"blob {self.file.size}\0".encode(), usedforsecurity=False)
        else:
            digest = hashlib.sha256()
        if out.tell() > self.file.size:
            out.truncate(0)
        out.seek(0)
        while chunk := out.read(CHUNK):
            digest.update(chunk)
        return digest

    def _stream(self, line: Line, out: BinaryIO, digest: Digest) -> None:
        """One answer's bytes. Raises what the client raises."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        have = out.tell()
        headers = {**self.headers, "Range": f"bytes={have}-"} if have else self.headers
        session: Any = get_session()
        with session.stream("GET", self.url, headers=headers, timeout=line.patience.timeout) as answer:
            hf_raise_for_status(answer)
            skip = have if have and answer.status_code == 200 else 0  # a server that ignores Range begins anew
            for chunk in answer.iter_raw():
                if skip:
                    skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
                self._keep(chunk[: self.file.size - out.tell()], out, digest)
                line.moved(f"{out.tell():,} of {self.file.size:,} bytes of {self.name} are here and stay. ")
        if out.tell() == have:
            raise ConnectionError("the answer was empty")

    def _keep(self, chunk: bytes, out: BinaryIO, digest: Digest) -> None:
        digest.update(chunk)
        left = memoryview(chunk)
        while left:  # an unbuffered file may take less than it is given
            try:
                written = out.write(left)
            except OSError as error:
                raise _Disk(error) from error
            self.moved(written)
            left = left[written:]

    def _no_room(self, error: OSError) -> FileProblem:
        told = explain(error, self.part)
        stays = f"{_size(self.part):,} of {self.file.size:,} bytes of {self.name} are here and stay"
        return FileProblem(f"{str(told).removesuffix(' Nothing was changed there.')} {stays}: the same goes on then.")


class _Disk(Exception):
    """The disk refused, which no further try mends."""

    def __init__(self, reason: OSError):
        super().__init__(str(reason))
        self.reason = reason


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _to_disk(out: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # some network drives know no fsync
        os.fsync(out.fileno())
