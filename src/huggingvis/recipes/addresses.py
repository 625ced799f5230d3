"""Content addresses: what would make the same picture has the same name, whatever its files are called.

The address of a request is a hash of its fields, of the model, of the bytes of all files it names and of the version of
the numerics; neither paths count nor fields that are as ever. Of a large file a fixed sample of its bytes is read, as
`edits.generate` does of tensors: two trainings of one network differ in nearly all of them. Book: the three walks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, final

from huggingvis.core import config
from huggingvis.core.files import explain
from huggingvis.core.request import Request, Unsaid
from huggingvis.core.request_fields import files_of
from huggingvis.core.version import NUMERICS
from huggingvis.recipes.beside import each

DIGITS = 12
WHOLE = 1 << 24
"""Bytes of a file that is read from end to end; of a larger one `_PIECES` pieces of `_PIECE` bytes are."""
_PIECES, _PIECE = 256, 1 << 14


@final
class Identities:
    """What files and folders hold, in hex digits; each is read once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, path: Path | str) -> str:
        """Of a file its bytes, of a folder the names and bytes of all its files. Raises `FileProblem`."""
        name = os.path.abspath(path)
        if name not in self._known:
            try:
                self._known[name] = _of_folder(Path(path)) if os.path.isdir(path) else _of_file(Path(path))
            except OSError as error:
                raise explain(error, Path(path), "read") from error
        return self._known[name]


def address(request: Request, model: Path | str, how: Mapping[str, Any], identities: Identities) -> str:
    """12 hex digits. `model`: its path, or what else tells it from others; of `how` paths (`Path`), alone or in lists,
    count as what lies there.

    Raises `FileProblem` for a file that cannot be read.
    """
    plain = _told(request)
    if isinstance(request.sampling, Unsaid):  # of what was not said the model has its own
        plain["sampling"] = {"said": request.sampling.numbers()}
    named = [*files_of(request), *([request.refiner.model] if request.refiner else [])]
    told = _with_bytes(plain, {path: identities(path) for path in named if os.path.exists(path)})
    if isinstance(told.get("options"), dict):
        told["options"] = {name: _with_data(word, identities) for name, word in told["options"].items()}
    model = identities(model) if isinstance(model, Path) else model
    by = {name: _by_content(value, identities) for name, value in how.items()}
    text = json.dumps([NUMERICS, told, model, by], sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def _told(value: Any) -> Any:
    """The plain form of a record, without what is as ever: fields that come to a record later change no address."""
    if is_dataclass(value):
        told = {field.name: getattr(value, field.name) for field in fields(value)}
        usual = {field.name: config.default_of(field) for field in fields(value)}
        return {"is": type(value).__name__, **{name: _told(own) for name, own in told.items() if own != usual[name]}}
    if isinstance(value, Mapping):
        return dict(value)
    return [_told(one) for one in value] if isinstance(value, tuple) else value


def _with_bytes(plain: Any, bytes_of: Mapping[str, str]) -> Any:
    """The plain form of a request with what files hold in the place of their paths."""
    if isinstance(plain, dict):
        return {
            key: value if key in ("prompt", "options") else _with_bytes(value, bytes_of) for key, value in plain.items()
        }
    if isinstance(plain, list):
        return [_with_bytes(value, bytes_of) for value in plain]
    return bytes_of.get(plain, plain) if isinstance(plain, str) else plain


def _by_content(value: Any, identities: Identities) -> Any:
    if isinstance(value, list):
        return [_by_content(one, identities) for one in value]
    return identities(value) if isinstance(value, Path) else value


def _with_data(word: str, identities: Identities) -> str:
    """An option with what a file or folder holds in the place of its path: `database=folder:photos`."""
    kind, colon, path = word.rpartition(":")
    for before, name in (("", word), (kind + colon, path)):
        if name and os.path.exists(name):
            return f"{before}{identities(name)}"
    return word


def how_loaded(
    precision: str | None = None,
    vae: Path | str | None = None,
    prediction: str | None = None,
    text_encoder: Path | str | Sequence[Path | str] | None = None,
) -> dict[str, Any]:
    """What of a model's loading decides pictures, for `address`; only what was said, so that new ways change none."""
    texts = [_file(name) for name in each(text_encoder)]
    said = {
        "vae": vae and _file(vae),
        "prediction": prediction,
        "precision": None if precision == "auto" else precision,
    }
    return {name: value for name, value in {**said, "text_encoder": texts}.items() if value}


def _file(name: Path | str) -> Path | str:
    """A name that is a path here as one."""
    return Path(name) if os.path.exists(name) else name


def _of_file(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
        else:
            for n in range(_PIECES):
                file.seek((size - _PIECE) * n // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest()


def _of_folder(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place) / name
            if not name.startswith(".") and path.is_file():
                digest.update(f"{path.relative_to(folder).as_posix()} {_of_file(path)}\n".encode())
    return digest.hexdigest()
