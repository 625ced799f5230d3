"""Pictures to files and back, with what they were made from inside.

A PNG carries our record as JSON in an iTXt chunk named `huggingvis` and the community's `parameters` text (see
`export.infotext`); JPEG and WebP carry the same two in EXIF, as ImageDescription and UserComment. The record is
    {"format": 1, "request": {...}, "made": {...}}
and `request` is what repeats the picture. What other programs wrote is read by `export.dialects`. Files appear whole or
not at all.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.files import explain, in_its_folder, write_atomically, write_new
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture, read
from huggingvis.core.request import Request
from huggingvis.export import dialects
from huggingvis.export.dialects.reading import Reading
from huggingvis.export.infotext import describe
from huggingvis.export.texts import texts_of

_CHUNK = "huggingvis"
_FORMAT = 1
_DESCRIPTION, _EXIF, _COMMENT = 0x010E, 0x8769, 0x9286
_COMMENT_HEAD = b"UNICODE\x00"
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True)
class Provenance:
    """What a file says about its making. `request_json` is None in pictures of other tools, `infotext` in bare ones.

    `reading`: what another program's notes say, where there is no record of ours.
    """

    path: Path
    request_json: str | None
    made: Mapping[str, Any]
    infotext: str | None
    texts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def reading(self) -> Reading | None:
        return None if self.request_json is not None else dialects.read(self.texts)

    def request(self) -> Request:
        """The request that repeats the picture, or as near as another program's notes come to one.

        Raises `FileProblem` saying what the file has in its place.
        """
        if self.request_json is not None:
            return Request.from_json(self.request_json)
        if self.reading is not None:
            return self.reading.request
        if _CHUNK in self.texts:
            raise FileProblem(
                f"{self.path} was made by this library, but not from one request: it is a sheet of several pictures, "
                "or was prepared from another picture. Name a picture that was generated."
            )
        names = ", ".join(f"{name} ({_shorten(text)!r})" for name, text in list(self.texts.items())[:4])
        raise FileProblem(
            f"{self.path} was not made by this library, or its record was removed by another program; what it has is "
            f"of no program that is known here: {names}. Use its words in a request of your own."
        )


def save(picture: Picture, path: Path | str) -> Path:
    """Write `picture` to `path` (.png, .jpg, .jpeg, .webp), replacing a file of that name; its folder is made.

    Raises `UsageError` for another extension or a record that does not fit, `FileProblem` when the system refuses.
    """
    path = Path(path)
    data = encode(picture, path.suffix)
    return write_atomically(in_its_folder(path), lambda file: file.write(data))


def save_numbered(picture: Picture, folder: Path | str, words: str, extension: str = ".png") -> Path:
    """Write `00007-a-fox-to-the-left.png` into `folder` (made if missing) with the next free number.

    `words` (usually the prompt) give the name. Never overwrites, whatever other processes write there meanwhile.
    """
    folder = Path(folder)
    data = encode(picture, extension)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [int(m[0]) for p in folder.iterdir() if (m := re.match(r"\d{5,}(?=[-.])", p.name))]
    except FileExistsError as error:
        raise FileProblem(f"{folder} is a file; expected a folder for the pictures. Choose another name.") from error
    except OSError as error:
        raise explain(error, folder) from error
    number = max(taken, default=0) + 1
    slug = slugify(words)
    while True:
        path = folder / (f"{number:05d}-{slug}{extension}" if slug else f"{number:05d}{extension}")
        if write_new(path, lambda file: file.write(data)) is not None:
            return path
        number += 1


def slugify(words: str, most_words: int = 5, most_characters: int = 40) -> str:
    """The first words in lower case, joined by hyphens; letters of every script stay, all else goes."""
    plain = unicodedata.normalize("NFC", words).lower()
    slug = "-".join(re.findall(r"[^\W_]+", plain)[:most_words])
    while len(slug) > most_characters and "-" in slug:
        slug = slug.rpartition("-")[0]
    return slug[:most_characters]


def encode(picture: Picture, extension: str) -> bytes:
    """The bytes of the file `save` writes, for HTTP replies and archives. `extension` is `.png`, `.jpg`, `.webp`."""
    kind = _KINDS.get(extension.lower())
    if kind is None:
        raise UsageError(f"Pictures are saved as {', '.join(_KINDS)}; found {extension or 'no extension'!r}.")
    record = _record(picture)
    text = str(describe(picture)) if picture.request is not None else None
    image, out = picture.to_pil(), io.BytesIO()
    if kind == "PNG":
        image.save(out, kind, pnginfo=_png_text(record, text))
        return out.getvalue()
    if kind == "JPEG" and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    try:
        image.save(out, kind, quality=95, exif=_exif(record, text) if record or text else b"")
    except (ValueError, OSError) as error:  # EXIF in a JPEG ends at 64 KiB
        size = len(record or "") + 2 * len(text or "")
        raise UsageError(
            f"The picture and its record of about {size:,} bytes do not fit into a {kind} file ({error}). "
            "Save it as .png, which has no such limit."
        ) from error
    return out.getvalue()


def read_provenance(path: Path | str) -> Provenance:
    """What the picture file `path` says about its making. The whole file is decoded, so a truncated one is found.

    Raises `FileProblem` when it is missing, no picture, damaged, or says nothing.
    """
    told = _provenance(Path(path))
    if not told.texts:
        raise FileProblem(
            f"{path} does not say how it was made: it has neither a `{_CHUNK}` record nor a `parameters` text nor "
            "another program's notes. Programs that edit or send pictures often remove them; use the original file."
        )
    return told


def _provenance(path: Path) -> Provenance:
    """As `read_provenance`, empty for a file that says nothing."""
    texts = read(path, texts_of)
    record = texts.get(_CHUNK)
    request, made = _open_record(path, record) if record is not None else (None, {})
    return Provenance(path, request, made, texts.get("parameters"), texts)


def picture_facts(path: Path) -> dict[str, Any]:
    """What the picture file `path` shows of its making, in JSON values; `texts` is empty where it says nothing.

    Raises `FileProblem` for what is no picture, or damaged.
    """
    picture, told = open_picture(path), _provenance(path)
    reading = told.reading
    request = told.request().to_dict() if told.request_json is not None or reading is not None else None
    return {
        "path": str(path),
        "format": "picture",
        "bytes": path.stat().st_size,
        "size": list(picture.size),
        "request": request,
        "made": dict(told.made),
        "parameters": told.infotext,
        "program": reading.program if reading else "huggingvis" if _CHUNK in told.texts else None,
        "files": [asdict(file) for file in reading.files] if reading else [],
        "notes": list(reading.notes) if reading else [],
        "texts": sorted(told.texts),
    }


def _record(picture: Picture) -> str | None:
    """ASCII JSON, so that it fits any text field."""
    if picture.request is None and not picture.made:
        return None
    request = None if picture.request is None else picture.request.to_dict()
    try:
        return json.dumps({"format": _FORMAT, "request": request, "made": dict(picture.made)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"What a picture was made from must be JSON values (text, finite numbers, lists, objects): {error}."
        ) from error


def _open_record(path: Path, record: str) -> tuple[str | None, Mapping[str, Any]]:
    try:
        value = json.loads(record)
        version, request, made = value["format"], value["request"], value["made"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileProblem(f"The `{_CHUNK}` record in {path} is damaged ({error!r}). Use an intact copy.") from error
    if version != _FORMAT or not isinstance(made, dict) or not isinstance(request, dict | None):
        raise FileProblem(
            f"The `{_CHUNK}` record in {path} has format {version!r}; this version reads format {_FORMAT}. "
            "Update the library, or use an intact copy."
        )
    return None if request is None else json.dumps(request, ensure_ascii=False), made


def _png_text(record: str | None, text: str | None) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    if record is not None:
        chunks.add_itxt(_CHUNK, record)
    if text is not None:
        chunks.add_text("parameters", text)  # tEXt where Latin-1 suffices, else iTXt: what other tools read
    return chunks


def _exif(record: str | None, text: str | None) -> Image.Exif:
    exif = Image.Exif()
    if record is not None:
        exif[_DESCRIPTION] = f"{_CHUNK}:{record}"
    if text is not None:
        exif[_EXIF] = {_COMMENT: _COMMENT_HEAD + text.encode("utf-16-be")}
    return exif


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
