"""Writing files so that nothing half-written is ever left behind, and saying in words why a write failed.

The bytes go to a temporary name in the same folder, reach the disk, and take their final name in one rename;
whatever goes wrong on the way (full disk, ctrl-C), the temporary file is removed and the old file stays as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from huggingvis.core.errors import FileProblem

_REASONS = {
    errno.EACCES: "the folder or file may not be written to: choose another folder, or change its permissions",
    errno.EPERM: "the folder or file may not be written to: choose another folder, or change its permissions",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOSPC: "the disk is full: free some space, or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose a folder on another disk",
    errno.EFBIG: "the file would be larger than this system allows: choose another folder, or raise the limit",
    errno.EISDIR: "it is a folder: give the name of a file inside it",
    errno.ENOTDIR: "one part of the path is a file, not a folder: correct the path",
    errno.ENOENT: "its folder does not exist: create it first, or correct the path",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
}
_UNFINISHED = re.compile(r"\..{1,40}\.[0-9a-f]{8}\.unfinished", re.DOTALL)
_MARK = ".huggingvis-unfinished"  # a file in each of these folders, by which they are known from a user's
_DAY = 86_400.0  # seconds
_UNREADABLE = {
    errno.EACCES: "it may not be read: change its permissions, or those of its folder",
    errno.EPERM: "it may not be read: change its permissions, or those of its folder",
    errno.EISDIR: _REASONS[errno.EISDIR],
    errno.ENOTDIR: _REASONS[errno.ENOTDIR],
    errno.ENOENT: "there is no such file: check the path",
    errno.ENAMETOOLONG: "its name is longer than names of this file system can be: check the path",
}


def explain(error: OSError, path: Path, doing: Literal["write", "read", "remove"] = "write") -> FileProblem:
    """The `FileProblem` that says in a sentence why `path` could not be written (or what else `doing` says)."""
    why = error.strerror or str(error)
    if doing == "read":
        return FileProblem(f"Could not read {path}: {_UNREADABLE.get(error.errno or 0, f'{why}: try a copy of it')}.")
    reason = _REASONS.get(error.errno or 0, f"{why}: try another folder")
    return FileProblem(f"Could not {doing} {path}: {reason}. Nothing was changed there.")


def check_readable(path: Path) -> Path:
    """`path` itself, unless it is a pipe or a device, which could be waited for or read for ever.

    Raises `FileProblem`; whatever else cannot be read, who opens it says.
    """
    with contextlib.suppress(OSError, ValueError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileProblem(f"{path} is a pipe or a device, expected a file. Save what it gives to a file first.")
    return path


def check_folder(folder: Path, room: int = 0) -> Path:
    """`folder` itself, after a test that files can be written there (or that it can be made) and `room` bytes are free.

    For asking before work that takes long, not after; nothing is left behind. Raises `FileProblem`.
    """
    there = folder.absolute()
    try:
        while not os.path.lexists(there):
            there = there.parent
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise explain(error, folder) from error
    if not there.is_dir():
        raise FileProblem(f"{there} is a file; expected a folder to write into. Choose another name.")
    probe = there / f".{secrets.token_hex(4)}.tmp"
    try:
        probe.write_bytes(b"0")
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        probe.unlink(missing_ok=True)
    if free < room:
        raise FileProblem(
            f"{folder} needs {room:,} bytes for what is to be written there, but its disk has {free:,} free. "
            "Free some space, or choose a folder on another disk."
        )
    return folder


def check_file(path: Path, room: int = 0) -> Path:
    """`path` itself, after a test that a file of `room` bytes can be written there. As `check_folder`."""
    if os.path.isdir(path):
        raise explain(IsADirectoryError(errno.EISDIR, "is a directory"), path)
    check_folder(path.parent, room)
    return path


def in_its_folder(path: Path) -> Path:
    """`path` itself, its folder made, and those above it, where it is not there yet. Raises `FileProblem`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise explain(NotADirectoryError(errno.ENOTDIR, "is no directory"), path) from None
    except OSError as error:
        raise explain(error, path) from error
    return path


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Create or replace `path` with what `write(file)` writes, all or nothing.

    Raises `FileProblem` when the system refuses; any other error of `write` passes through. Either way no
    temporary file stays.
    """
    return replace_atomically(path, _into(write))


def replace_atomically(path: Path, make: Callable[[Path], object]) -> Path:
    """As `write_atomically`, for libraries that open the file themselves: `make(place)` writes it at `place`."""
    if os.path.isdir(path):  # unlike Path.is_dir, quiet about names that are too long: the write says it better
        raise explain(IsADirectoryError(errno.EISDIR, "is a directory"), path)
    with _temporary_beside(path, make) as temporary:
        os.replace(temporary, path)
    return path


def write_new(path: Path, write: Callable[[BinaryIO], object]) -> Path | None:
    """As `write_atomically`, but never over anything: returns None, having written nothing, if `path` exists."""
    if os.path.lexists(path):
        return None
    with _temporary_beside(path, _into(write)) as temporary:
        return _place(temporary, path)


def new_folder(path: Path, make: Callable[[Path], object]) -> Path:
    """Create the folder `path` with what `make(folder)` writes into it, all or nothing, and never over anything."""
    with _unfinished(path) as folder:
        made = folder / path.name
        made.mkdir()
        make(made)
        made.rename(path)
    return path


def new_file(path: Path, make: Callable[[Path], object]) -> Path:
    """As `new_folder`, for one large file: `make(place)` writes it at `place`."""
    with _unfinished(path) as folder:
        made = folder / path.name
        make(made)
        if _place(made, path) is None:
            raise _taken(path)
    return path


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, for what shall be there; those that killed processes left are removed first.

    It is held before it is marked, and none without a mark is looked at: no other process removes it meanwhile.
    """
    if os.path.lexists(path):
        raise _taken(path)
    temporary = in_its_folder(path).with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.unfinished")
    for left in temporary.parent.glob(".*.unfinished"):
        if _UNFINISHED.fullmatch(left.name) and os.path.isfile(left / _MARK) and _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir()
        with _held(temporary, wait=True):
            (temporary / _MARK).touch()
            yield temporary
    except OSError as error:
        raise explain(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether nobody writes there any more: no process holds it, or, where that cannot be told, none came for a day."""
    try:
        with _held(folder, wait=False) as free:
            if free is not None:
                return free
        return time.time() - max(place.stat().st_mtime for place in (folder, *folder.rglob("*"))) > _DAY
    except OSError:
        return False  # it went while it was looked at, or is somebody else's


if sys.platform == "win32":

    @contextlib.contextmanager
    def _held(folder: Path, *, wait: bool) -> Iterator[bool | None]:
        """Windows has no handle on folders."""
        yield None
else:
    import fcntl

    @contextlib.contextmanager
    def _held(folder: Path, *, wait: bool) -> Iterator[bool | None]:
        """Holds `folder` until the block or the process ends.

        `wait`: for another that does. False: another one does; None: that cannot be told.
        """
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                held: bool | None = True
            except BlockingIOError:
                held = False
            except OSError:  # a file system without locks
                held = None
            yield held
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Makes an empty file at `path`; whatever replaces it inside ends with the mode that new files have here.

    safetensors writes to a private file (mode 600) and renames it, which would keep others from reading the weights.
    """
    with open(path, "xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    yield
    os.chmod(path, mode)


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's table of contents, has left the system's buffers."""
    if os.name == "nt" and path.is_dir():  # Windows has no handle on folders to flush
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _into(write: Callable[[BinaryIO], object]) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        with open(place, "wb") as file:
            write(file)

    return make


@contextlib.contextmanager
def _temporary_beside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with usual_mode(temporary):
            make(temporary)
        to_disk(temporary)
        yield temporary
    except OSError as error:
        raise explain(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # it was not even made where the name or the folder is impossible
            temporary.unlink(missing_ok=True)


def _taken(path: Path) -> FileProblem:
    return FileProblem(f"{path} is there already. Remove it, or choose another name.")


def _place(temporary: Path, path: Path) -> Path | None:
    """The file `temporary` as `path` too; None where that is there already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return None
    except OSError:  # a file system without hard links (FAT, some network drives): reserve the name instead
        return _reserve_and_replace(temporary, path)
    return path


def _reserve_and_replace(temporary: Path, path: Path) -> Path | None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return None
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(path)
        raise
    return path
