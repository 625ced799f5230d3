"""The hashes that files go by in the community, remembered for as long as a file stays what it is.

    sha256   of the whole file; A1111 and Civitai show its first 10 digits ("AutoV2"), InvokeAI 2 all 64
    addnet   of safetensors: of the bytes after the header, which new metadata do not change; LoRAs by 12 digits
    autov1   A1111's first: 8 digits of the sha256 of 64 KiB from the first MiB on

A large file takes seconds to read: `Memory` knows it again by path, size and time of change, in this process and, where
it is told a file to keep it in, in later ones. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

from huggingvis.checkpoints.formats import read_header
from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain, write_atomically

_BLOCK = 1 << 20
_FEWEST = 6
"""Digits by which a file can be told from others."""
LARGE = 1 << 26
"""Bytes from which on a file's hashes are worth keeping on the disk."""


@final
@dataclass(frozen=True)
class Hashes:
    """In hexadecimal digits; `addnet` is empty where the file is not safetensors, `autov1` where it is too short."""

    sha256: str
    addnet: str = ""
    autov1: str = ""

    def match(self, digits: str) -> bool | None:
        """Whether `digits` begin one of them; None for what is no hash."""
        plain = digits.strip().lower().removeprefix("0x")
        if len(plain) < _FEWEST or any(digit not in "0123456789abcdef" for digit in plain):
            return None
        return any(known.startswith(plain) for known in (self.sha256, self.addnet, self.autov1) if known)


def read_hashes(path: Path) -> Hashes:
    """The hashes of a file, in one pass through it. Raises `FileProblem` if it cannot be read."""
    try:
        begin = read_header(path).begin
    except FileProblem:  # it is not safetensors
        begin = 0
    whole, tail = hashlib.sha256(), hashlib.sha256()
    try:
        with path.open("rb") as file:
            whole.update(file.read(begin))
            while block := file.read(_BLOCK):
                whole.update(block)
                if begin:
                    tail.update(block)
            file.seek(_BLOCK)
            early = file.read(1 << 16)
    except OSError as error:
        raise explain(error, path, "read") from error
    first = hashlib.sha256(early).hexdigest()[:8] if early else ""
    return Hashes(whole.hexdigest(), tail.hexdigest() if begin else "", first)


@final
@dataclass
class Memory:
    """Hashes of files by what tells whether they changed. `kept`: the file that large ones are remembered in."""

    kept: Path | None = None
    known: dict[str, Hashes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def keep(self, path: Path) -> None:
        """Remember large files in `path`, and what it already holds. A damaged one is begun anew."""
        with self.lock:
            self.kept = path
            try:
                rows = json.loads(path.read_text(encoding="utf-8"))
                self.known |= {str(key): Hashes(**row) for key, row in rows.items()}
            except (OSError, ValueError, TypeError, AttributeError, RecursionError):
                pass

    def of(self, path: Path | str) -> Hashes:
        """The hashes of a file. Raises `FileProblem`."""
        path = Path(path)
        try:
            told = path.stat()
        except OSError as error:
            raise explain(error, path, "read") from error
        key = f"{os.path.realpath(path)}|{told.st_size}|{told.st_mtime_ns}"
        with self.lock:
            if key in self.known:
                return self.known[key]
        found = read_hashes(path)  # nobody waits for another's file
        with self.lock:
            self.known[key] = found
            if told.st_size >= LARGE:
                self._write()
        return found

    def _write(self) -> None:
        """What cannot be written is read again next time."""
        if self.kept is None:
            return
        large = {key: asdict(row) for key, row in self.known.items() if int(key.split("|")[-2]) >= LARGE}
        data = json.dumps(large, indent=1).encode()
        try:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.kept, lambda file: file.write(data))
        except (OSError, FileProblem):
            pass


USUAL = Memory()
"""This process's."""
