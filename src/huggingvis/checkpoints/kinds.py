"""What kind of thing a file or folder is: a checkpoint, a LoRA, an embedding, a picture ..., told from what it holds.

    kind_of("downloads/unnamed.safetensors").name  # "lora"

Names and shapes of tensors decide, and a folder's own settings; a file's name never does. Of safetensors only the
header is read, and torch is not needed; nothing in any file is executed. Each kind is a file of `checkpoints/looks/`
with a `KIND`, found by name, so a new kind is a new file. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.bases import Base
from huggingvis.checkpoints.formats import Format, Header, TensorFact, read_header, sniff
from huggingvis.checkpoints.json_files import read_json
from huggingvis.checkpoints.single_file_family import FOREIGN
from huggingvis.core.errors import no_file
from huggingvis.core.files import check_readable, explain

INDEX, CONFIG = "model_index.json", "config.json"
"""The settings of a whole pipeline and of one of its parts, in diffusers' folders."""
_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
Tensors = Mapping[str, TensorFact]


@final
@dataclass(frozen=True)
class Told:
    """What a kind knows of a file.

    Attributes:
        title: what it is, with its article; empty: the kind's own.
        base: of an adapter the base it was made for, of a model what it is itself.
        sentences: for a person, each one whole.
        facts: further facts by name, in JSON values; the first are the more important.
        triggers: words that call it in a prompt.
        refused: why it cannot be used here at all.
    """

    title: str = ""
    base: Base | None = None
    sentences: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    refused: str = ""


class Kind(ABC):
    """A kind of thing.

    Attributes:
        name: its name here, where there is one the same as in `local_folders.KINDS`.
        title: what people call it, with its article.
        rank: kinds are asked in this order, the specific before the general.
        adapter: it changes a model, and makes no picture without one.
    """

    name: str
    title: str
    rank: int
    adapter: bool = False

    @abstractmethod
    def found(self, subject: Subject) -> bool:
        """Whether `subject` is of this kind."""

    def tell(self, subject: Subject) -> Told:
        """What is worth knowing of it, from headers and settings. Raises `FileProblem` for what is damaged."""
        return Told()


@final
class Subject:
    """A file or folder that is looked at; each thing in it is read once, when it is first asked for.

    Of a model at a hub, of which only settings are here, `listed` has the bytes of every file, and of a file there
    `header` is what was read of it.
    """

    def __init__(self, path: Path | str, listed: Mapping[str, int] | None = None, header: Header | None = None):
        self.path, self._listed, self._header = Path(path), listed, header

    @property
    def is_remote(self) -> bool:
        """Whether only a hub has the whole of it."""
        return self._listed is not None

    @cached_property
    def is_folder(self) -> bool:
        return self._header is None and os.path.isdir(self.path)

    @cached_property
    def picture(self) -> str:
        """PNG, JPEG or WebP if it begins as such a picture does, else empty. Raises `FileProblem` if unreadable."""
        if self.is_folder or self._header is not None:
            return ""
        try:
            with check_readable(self.path).open("rb") as file:
                head = file.read(16)
        except FileNotFoundError:
            raise no_file(self.path) from None
        except OSError as error:
            raise explain(error, self.path, "read") from error
        found = next((name for sign, name in _PICTURES.items() if head.startswith(sign)), "")
        return "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else found

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture's file, whatever its name. Raises `FileProblem` if unreadable."""
        return bool(self.picture)

    @cached_property
    def format(self) -> Format | None:
        """Of a file of tensors; None for folders and pictures."""
        if self._header is not None:
            return Format.SAFETENSORS
        return None if self.is_folder or self.is_picture else sniff(self.path)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Of a folder: its `model_index.json`, or else its `config.json`; empty where there is none."""
        name = next((name for name in (INDEX, CONFIG) if self.has(name)), None)
        return {} if name is None else read_json(self.path / name)

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of that name."""
        return self.is_folder and (self.path / name).is_file()

    def files(self, part: str = "") -> dict[str, int]:
        """Of a folder, or one in it: its files and their bytes."""
        if self._listed is not None:
            begin = f"{part}/" if part else ""
            names = {name.removeprefix(begin): size for name, size in self._listed.items() if name.startswith(begin)}
            return {name: size for name, size in sorted(names.items()) if "/" not in name}
        try:
            return {file.name: file.stat().st_size for file in sorted((self.path / part).iterdir()) if file.is_file()}
        except OSError:
            return {}

    @cached_property
    def size(self) -> int:
        """Bytes of a file."""
        if self._listed is not None:
            return self._listed.get(self.path.name, 0)
        return self.path.stat().st_size

    @property
    def tensors(self) -> Tensors:
        """Of a file of tensors, by the names in it; tables of tensors have their own name before a dot."""
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a safetensors file says of itself."""
        return self.header.metadata

    @cached_property
    def header(self) -> Header:
        """Of a safetensors file; for other files of tensors one that says the same, for all else an empty one."""
        if self._header is not None:
            return self._header
        if self.format is None:
            return Header({})
        if self.format is Format.SAFETENSORS:
            return read_header(self.path)
        from huggingvis.checkpoints.io import all_facts  # torch is loaded only for the files that need it

        return Header(all_facts(self.path))

    def foreign(self, what: str) -> bool:
        """Whether a tensor's name gives away what the table of single files calls so."""
        return any_name(_sign(what), self.tensors)


@cache
def _sign(what: str) -> str:
    return next(row.sign for row in FOREIGN if row.what == what)


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, in the order in which they are asked."""
    from huggingvis.checkpoints import looks

    names = [entry.name for entry in pkgutil.iter_modules(looks.__path__)]
    found = [vars(importlib.import_module(f"{looks.__name__}.{name}")).get("KIND") for name in names]
    return tuple(sorted((kind for kind in found if isinstance(kind, Kind)), key=lambda kind: kind.rank))


def kind_of(what: Path | str | Subject) -> Kind:
    """The kind of a file or folder. Raises `FileProblem` for what is missing, damaged or cannot be read."""
    subject = what if isinstance(what, Subject) else Subject(what)
    return next(kind for kind in kinds() if kind.found(subject))  # the last one takes all


def any_name(pattern: str, names: Iterable[str]) -> bool:
    """Whether one of `names` has the pattern in it."""
    sign = re.compile(pattern)
    return any(sign.search(name) is not None for name in names)
