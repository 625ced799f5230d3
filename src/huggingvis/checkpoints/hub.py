"""A model by its name at a hub: found in the cache, or fetched into it.

    path = fetch(remote("stable-diffusion-v1-5/stable-diffusion-v1-5"))     # a folder
    path = fetch(remote("owner/name:lora.safetensors"))                      # a file

The cache is `huggingface_hub`'s own, so what one program fetched serves all: `models--OWNER--NAME` with the contents in
`blobs` under their hashes, their names in `snapshots/COMMIT`, and `refs/BRANCH`. Beside them lies what the hub said of
each commit, by which a model is known to be whole without asking again: then nothing is asked of the network.
Only the files that are needed are fetched (`hub_files`), after a look at the free space of the disk; each goes on where
it was cut, and has its hash checked (`hub_transfer`).
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.hub_files import INDEX, VARIANTS, Choice, needed
from huggingvis.checkpoints.hub_line import Line, Patience, Say
from huggingvis.checkpoints.hub_names import HubFile, Listing, Remote, Source, remote
from huggingvis.checkpoints.hub_sources import source_of
from huggingvis.checkpoints.hub_transfer import PART, Transfer
from huggingvis.core.errors import Cancelled, FileProblem, HvisError
from huggingvis.core.files import check_folder, explain, write_atomically

__all__ = ["USUAL", "Fetching", "Patience", "Progress", "fetch", "remote"]

MARGIN = 64 << 20
"""Bytes that are left free on the disk."""


@final
@dataclass(frozen=True)
class Progress:
    """How far a model is: the file that is fetched now, the number of files, and bytes of all of them together."""

    file: str
    number: int
    files: int
    done: int
    total: int


@final
@dataclass(frozen=True)
class Fetching:
    """How to fetch. `progress` is told of bytes (and may raise `Cancelled`), `say` of what a person should know."""

    variant: str | None = None  #: fp16, bf16: the precision to fetch where there is a choice
    newest: bool = False  #: ask the hub even where the cache has the model
    progress: Callable[[Progress], None] | None = None
    say: Say = lambda text: None
    patience: Patience = Patience()
    endpoint: str | None = None  #: instead of the hub's own address, or of HF_ENDPOINT
    cache: Path | None = None  #: instead of the cache that HF_HOME or HF_HUB_CACHE name


USUAL = Fetching()


def fetch(what: Remote, how: Fetching = USUAL) -> Path:
    """The folder or the file that `what` names, in the cache.

    Raises `UsageError` for names that the hub does not know, `FileProblem` for trouble with the network or the disk,
    `Cancelled` after ctrl-C; what has arrived stays, and the same call goes on from there.
    """
    return Fetch(what, how).run()


@final
class Fetch:
    """One fetch of one model; its steps, for those who want only some of them."""

    def __init__(self, what: Remote, how: Fetching):
        self.what, self.how = what, how
        self.source: Source = source_of(what, how.endpoint, how.cache)
        self.line = Line(self.source, what, how.patience, how.say)
        self.folder = Path(self.source.cache) / f"models--{what.repo.replace('/', '--')}"
        self.revision = what.revision or self.source.branch
        self.done = self.total = 0

    def run(self) -> Path:
        from huggingface_hub import constants

        found = self.cached()
        if found is not None and self.how.newest and constants.HF_HUB_OFFLINE:
            self.how.say(f"HF_HUB_OFFLINE forbids to look for a newer {self.what}: the one in the cache stays.")
        if found is not None and (constants.HF_HUB_OFFLINE or not self.how.newest):
            return found
        try:
            listing = self.listing()
            choice = self._choice(listing)
            self.bring(listing, choice)
        except KeyboardInterrupt:
            stays = f" {self.done:,} of {self.total:,} bytes are here and stay;" if self.total else ""
            raise Cancelled(f"Stopped while fetching {self.what}.{stays} the same call goes on from there.") from None
        self._remember(listing)
        return self.place(listing.commit, choice)

    # ---- what is here ------------------------------------------------------------------------------------------------

    def cached(self) -> Path | None:
        """Where the whole of it is already; another precision than the asked one is as good, since it is cast."""
        commit = self._commit()
        if commit is None:
            return None
        known = _read_listing(self.folder / "listings" / f"{commit}.json")
        snapshot = self.folder / "snapshots" / commit
        names = list(known.files) if known else _names(snapshot)
        index = read_object(snapshot / INDEX)
        if self.what.file is None and index is None and (INDEX in names or (not known and "config.json" not in names)):
            return None  # some files of it are here; whether they are the model, only the hub knows
        for variant in (self.how.variant, *VARIANTS):
            with contextlib.suppress(HvisError):
                choice = needed(names, index, variant=variant, part=self.what.file)
                if all((snapshot / name).exists() for name in choice.files) and (known or _has_weights(choice)):
                    return self.place(commit, choice)
        return None

    def _commit(self) -> str | None:
        if re.fullmatch(r"[0-9a-f]{40}", self.revision):
            return self.revision
        try:
            return (self.folder / "refs" / self.revision).read_text(encoding="ascii").strip() or None
        except (OSError, ValueError):
            return None

    def place(self, commit: str, choice: Choice) -> Path:
        return self.folder / "snapshots" / commit / choice.model

    # ---- what the hub has --------------------------------------------------------------------------------------------

    def listing(self) -> Listing:
        while True:
            try:
                listing = self.source.listing(self.what, self.how.patience.timeout)
            except Exception as error:
                self.line.again(error)
            else:
                _check_names(listing, self.source)
                return listing

    def _choice(self, listing: Listing) -> Choice:
        index = None
        if INDEX in listing.files and self.what.file is None:
            self._count(listing, Choice((INDEX,)))
            self._bring_one(listing, INDEX, Progress(INDEX, 1, 1, 0, self.total))
            index = read_object(self.folder / "snapshots" / listing.commit / INDEX)
            if index is None:
                raise FileProblem(f"{INDEX} of {self.what} is damaged at {self.source.title}: it is no JSON object.")
        return needed(list(listing.files), index, variant=self.how.variant, part=self.what.file)

    # ---- from there to here ------------------------------------------------------------------------------------------

    def bring(self, listing: Listing, choice: Choice) -> None:
        missing = self._count(listing, choice)
        room = sum(listing.files[name].size - self._arrived(listing, name) for name in missing)
        if room:
            _check_room(Path(self.source.cache), room, self.what)
        for number, name in enumerate(missing, 1):
            self._bring_one(listing, name, Progress(name, number, len(missing), 0, self.total))

    def _count(self, listing: Listing, choice: Choice) -> list[str]:
        """The files that are not here yet, the small ones first; sets the sums."""
        snapshot = self.folder / "snapshots" / listing.commit
        missing = [name for name in choice.files if not (snapshot / name).exists()]
        self.done, self.total = 0, sum(listing.files[name].size for name in missing)
        return sorted(missing, key=lambda name: listing.files[name].size)

    def _arrived(self, listing: Listing, name: str) -> int:
        file, blob = listing.files[name], self._blob(listing, name)
        for place in (blob, blob.with_name(blob.name + PART)):
            with contextlib.suppress(OSError):
                return min(place.stat().st_size, file.size)
        return 0

    def _blob(self, listing: Listing, name: str) -> Path:
        """Where the content lies, under its hash; where the hub gives none, under that of its name."""
        named = hashlib.sha1(f"{listing.commit}/{name}".encode(), usedforsecurity=False)
        return self.folder / "blobs" / (listing.files[name].key or named.hexdigest())

    def _bring_one(self, listing: Listing, name: str, told: Progress) -> None:
        from huggingface_hub.utils import WeakFileLock

        file = listing.files[name]
        blob, pointer = self._blob(listing, name), self.folder / "snapshots" / listing.commit / name
        url, headers = self.source.address(self.what, listing.commit, name)
        lock = Path(self.source.cache) / ".locks" / self.folder.name / f"{blob.name}.lock"

        def moved(count: int) -> None:
            self.done += count
            if self.how.progress is not None:
                self.how.progress(Progress(name, told.number, told.files, self.done, self.total))

        try:
            for place in (blob, pointer, lock):
                place.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(lock):  # two programs that want the same file fetch it once
                if not blob.exists() and not pointer.exists():
                    Transfer(name, file, url, headers, blob, moved).run(self.line)
                else:
                    moved(file.size)
                _link(blob, pointer)
        except OSError as error:
            raise explain(error, blob) from error

    def _remember(self, listing: Listing) -> None:
        told = {"commit": listing.commit, "files": {path: asdict(file) for path, file in listing.files.items()}}
        record = self.folder / "listings" / f"{listing.commit}.json"
        ref = self.folder / "refs" / self.revision
        try:
            for place in (record, ref):
                place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, record) from error
        write_atomically(record, lambda out: out.write(json.dumps(told).encode()))
        if self.revision != listing.commit:
            write_atomically(ref, lambda out: out.write(listing.commit.encode()))


def _link(blob: Path, pointer: Path) -> None:
    """Gives the content its name: a relative link, or where the system allows none (Windows) the file itself."""
    if pointer.exists():
        return
    with contextlib.suppress(FileNotFoundError):
        pointer.unlink()  # a link whose content was removed
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        os.replace(blob, pointer)


def _check_room(cache: Path, room: int, what: Remote) -> None:
    check_folder(cache)
    there = next(place for place in (cache, *cache.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < room + MARGIN:
        raise FileProblem(
            f"{what} needs {room:,} bytes, but the disk of the cache {cache} has {free:,} free. Free some space, ask "
            "for half precision (--variant fp16), or let HF_HOME name a folder on another disk."
        )


def _check_names(listing: Listing, source: Source) -> None:
    """A hub's answer decides where files are written: nothing outside the snapshot."""
    for name in listing.files:
        parts = re.split(r"[/\\]", name)
        if ".." in parts or "" in parts or ":" in parts[0] or "\0" in name:
            raise FileProblem(f"{source.title} lists a file named {name!r}, outside the model. Refused.")
    keys = [listing.commit, *(file.key for file in listing.files.values() if file.key)]
    if not all(re.fullmatch(r"[0-9a-f]{40,64}", key) for key in keys):
        raise FileProblem(f"{source.title} gives hashes that are none. A proxy may have answered in its place.")


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _has_weights(choice: Choice) -> bool:
    return any(name.endswith((".safetensors", ".bin", ".ckpt", ".pt", ".pth")) for name in choice.files)


def read_object(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _read_listing(path: Path) -> Listing | None:
    told = read_object(path)
    try:
        return None if told is None else Listing(
            str(told["commit"]), {str(name): HubFile(**file) for name, file in told["files"].items()}
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError):
        return None
