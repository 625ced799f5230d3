"""Embeddings that travel as pictures: A1111's PNG files, which carry a textual inversion beside what it looks like.

Two forms, of which such a file has one or both. The text chunk `sd-ti-embedding` is base64 of JSON. The pixel form
survives places that strip chunks: the same JSON, deflated; the low four bits of each byte lie in the low bits of a
block left of the picture, the high four in one at the right, a black column between each and the picture. Both blocks
are scrambled by the stream x <- (1664525 x + 1013904223) mod 2^32, x mod 255, from x = 0. In the JSON a tensor is
{"TORCHTENSOR": nested lists}. Book: chapter 5, "Textual inversion".
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain

CHUNK = "sd-ti-embedding"
_LARGEST = 64_000_000  # bytes of JSON, and pixels; 75 vectors for two towers are 4 MB of digits
_TENSOR = "TORCHTENSOR"
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, RecursionError, zlib.error, SyntaxError, EOFError)


def is_picture(path: Path) -> bool:
    """Whether the file begins as a PNG does. Raises `FileProblem` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89PNG\r\n\x1a\n"
    except FileNotFoundError:
        raise FileProblem(f"There is no file {path}. Check the path.") from None
    except OSError as error:
        raise explain(error, path, "read") from error


def carries(path: Path) -> bool:
    """Whether a picture that can be opened carries an embedding in either form, whole or damaged."""
    try:
        with Image.open(path) as image:
            if CHUNK in getattr(image, "text", {}):
                return True
            if image.width * image.height > _LARGEST:
                return False
            text = _hidden(np.asarray(image.convert("RGB")))
        return text is not None and isinstance(json.loads(text), dict)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, *_DAMAGE):
        return False


def read_picture(path: Path) -> dict[str, Any]:
    """The table that an A1111 `.pt` would hold, tensors as tensors, from either form. Raises `FileProblem`."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > _LARGEST:
                raise FileProblem(f"{path} is {image.width} x {image.height} pixels: too large to carry an embedding.")
            image.load()
            chunk = getattr(image, "text", {}).get(CHUNK)
            hidden = _hidden(np.asarray(image.convert("RGB"))) if chunk is None else b""
        text = hidden if chunk is None else base64.b64decode(chunk, validate=True)
        if text is None:
            raise FileProblem(
                f"{path} is a picture without an embedding: expected a text chunk {CHUNK!r}, or blocks of data left "
                "and right of the picture. If it is from a web page, get the original file: pages scale pictures down."
            )
        table = json.loads(text, object_hook=_tensor)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise FileProblem(f"{path} is a picture that cannot be read ({error}). Get it again.") from error
    except _DAMAGE as error:
        raise FileProblem(
            f"{path} is a picture whose embedding is damaged ({type(error).__name__}: {str(error)[:80]}). It may have "
            "been scaled or saved again: get the original file."
        ) from error
    if not isinstance(table, dict):
        raise FileProblem(f"{path} is a picture whose embedding should be a table, but is a {type(table).__name__}.")
    return table


def _tensor(table: dict[str, Any]) -> Any:
    import torch  # so that looking whether a picture carries an embedding needs none

    return torch.tensor(table[_TENSOR], dtype=torch.float32) if _TENSOR in table else table


def _hidden(pixels: NDArray[np.uint8]) -> bytes | None:
    """The JSON in the blocks beside the picture [H, W, 3]; None if there are no two black columns."""
    lit = np.min(pixels, axis=2) > 0  # [H, W]
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not len(rows):
        return None
    bits = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 15  # [H, W, 3]
    black = np.flatnonzero(bits.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        return None
    low, high = bits[:, : black[0]], bits[:, black[-1] + 1 :]
    if low.shape != high.shape or not low.size:
        return None
    stream = scramble(low.size).reshape(low.shape)
    data = ((high ^ stream) << 4 | (low ^ stream)).tobytes()
    if data[:1] != b"\x78":  # no deflated data: an ordinary picture that has two black columns
        return None
    return zlib.decompressobj().decompress(data, _LARGEST)


def scramble(n: int) -> NDArray[np.uint8]:
    """The first `n` numbers of the scrambling stream, four bits each.

    From k numbers the next k follow at once, since k steps of x <- a x + c are again such a step.
    """
    a, c, mask = 1664525, 1013904223, 2**32 - 1
    x = np.array([c], dtype=np.uint64)
    while len(x) < n:
        x = np.concatenate([x, (x * np.uint64(a) + np.uint64(c)) & np.uint64(mask)])
        a, c = a * a & mask, (a * c + c) & mask
    return (x[:n] % np.uint64(255) & np.uint64(15)).astype(np.uint8)
