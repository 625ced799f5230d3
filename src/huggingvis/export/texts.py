"""The texts that a picture file carries about its making, by whatever program, under the names they have in PNG.

PNG: `tEXt`, `zTXt` and `iTXt` chunks. JPEG and WebP: EXIF. There UserComment (0x9286) is A1111's `parameters`, as
`UNICODE\\0` and UTF-16, big-endian as A1111 writes it or little-endian; ComfyUI writes `prompt:{...}` and
`workflow:{...}` into Model, Make and the tags before. Where there is no text at all, it may hide in the lowest bits of
the pixels ("stealth pnginfo", as NovelAI's servers write it): a signature of 15 letters, the number of bits of what
follows as 32 bits, and that, in UTF-8 or gzip; of alpha column by column, or of red, green and blue.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

_DESCRIPTION, _EXIF, _COMMENT = 0x010E, 0x8769, 0x9286
_TAGS = tuple(range(0x0100, 0x0111))
"""ComfyUI counts down from Make, 0x010F."""
_UNICODE, _ASCII, _UNDEFINED = b"UNICODE\0", b"ASCII\0\0\0", b"\0" * 8
_SIGNATURES = {"alpha": (b"stealth_pnginfo", b"stealth_pngcomp"), "rgb": (b"stealth_rgbinfo", b"stealth_rgbcomp")}
_LENGTH = 15
MOST_HIDDEN = 1 << 24
"""Bytes of a hidden text; a longer one is none, or a bomb."""


def texts_of(image: Image.Image) -> dict[str, str]:
    """Name -> text of an opened picture, none of them empty."""
    found = dict(image.text) if isinstance(image, PngImagePlugin.PngImageFile) else {}
    for name, text in _of_exif(image).items():
        found.setdefault(name, text)
    found = {name: str(text) for name, text in found.items() if str(text).strip()}
    return found or hidden(image)


def _of_exif(image: Image.Image) -> dict[str, str]:
    exif = image.getexif()
    found: dict[str, str] = {}
    for tag in _TAGS:
        name, colon, text = _plain(exif.get(tag)).partition(":")
        if colon and name in ("prompt", "workflow", "huggingvis", "parameters"):
            found[name] = text
    comment = exif.get_ifd(_EXIF).get(_COMMENT)
    if comment:
        found.setdefault("parameters", comment if isinstance(comment, str) else _comment(bytes(comment)))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").rstrip("\0")
    return value if isinstance(value, str) else ""


def _comment(data: bytes) -> str:
    """The text of a UserComment: eight letters that say how it is written, then the text."""
    head, body = data[:8], data[8:]
    if head == _UNICODE:
        little = body[1::2].count(0) > body[::2].count(0)  # the zeros of plain letters stand first in big-endian
        return body.decode("utf-16-le" if little else "utf-16-be", errors="replace").strip("\0\ufeff")
    known = head in (_ASCII, _UNDEFINED)
    return (body if known else data).decode("utf-8", errors="replace").strip("\0")


def hidden(image: Image.Image) -> dict[str, str]:
    """The text in the lowest bits of the pixels, if there is one."""
    planes = {"alpha": 3} if image.mode == "RGBA" else {}
    planes |= {"rgb": 0} if image.mode in ("RGB", "RGBA") else {}
    for where in planes:
        pixels = np.asarray(image)
        data = pixels[..., 3].T if where == "alpha" else pixels[..., :3].transpose(1, 0, 2)  # column by column
        text = _hidden(np.ascontiguousarray(data).reshape(-1), _SIGNATURES[where])
        if text is not None:
            return _named(text)
    return {}


def _hidden(values: NDArray[np.uint8], signatures: tuple[bytes, bytes]) -> str | None:
    begin = (_LENGTH + 4) * 8
    if len(values) < begin:
        return None
    head = np.packbits(values[:begin] & 1).tobytes()
    if head[:_LENGTH] not in signatures:
        return None
    bits = int.from_bytes(head[_LENGTH:], "big")
    if bits % 8 or bits > 8 * MOST_HIDDEN or begin + bits > len(values):
        return None
    body = np.packbits(values[begin : begin + bits] & 1).tobytes()
    try:
        if head[:_LENGTH] == signatures[1]:
            unpacking = zlib.decompressobj(wbits=31)
            body = unpacking.decompress(body, MOST_HIDDEN)
        return body.decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        return None


def _named(text: str) -> dict[str, str]:
    """A hidden text is A1111's `parameters`, or NovelAI's texts as one JSON object."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {"parameters": text}
    if not isinstance(told, dict):
        return {"parameters": text}
    return {str(name): part if isinstance(part, str) else json.dumps(part) for name, part in told.items()}
