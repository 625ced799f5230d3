"""The IDX format of the MNIST files, packed with gzip or not.

Layout (LeCun's page on MNIST): big-endian; two zero bytes, a type byte (8 = unsigned byte), the number of
dimensions, each dimension as 4 bytes, then the values.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from huggingvis.core.errors import FileProblem

_IMAGES, _LABELS = 0x0803, 0x0801
_MOST_BYTES = 1 << 32  # no MNIST-like set is near this; a header asking for more is damaged or hostile


def read_pair(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, H, W, 1] and int64 [N] from an images file and its labels file."""
    images, labels = paths
    return read_idx(images, _IMAGES)[..., None], read_idx(labels, _LABELS).astype(np.int64)


def read_idx(path: Path, magic: int) -> np.ndarray:
    """uint8 array of an IDX file whose first four bytes must be `magic`, else `FileProblem`."""
    try:
        with _open(path) as file:
            return _parse(path, file, magic)
    except (OSError, EOFError, zlib.error) as error:
        raise FileProblem(
            f"{path} could not be read ({error}): it is damaged or incomplete. Remove it and fetch it again."
        ) from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # the name may say .gz although a browser unpacked the file
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _parse(path: Path, file: IO[bytes], magic: int) -> np.ndarray:
    found = int.from_bytes(file.read(4), "big")
    if found != magic:
        kind = {_IMAGES: "pictures", _LABELS: "labels"}[magic]
        raise FileProblem(
            f"{path} should be an IDX file of {kind}, which begins with the number {magic}; it begins with {found}. "
            "Check that pictures and labels are not exchanged, or fetch the file again."
        )
    dims = magic & 0xFF
    header = file.read(4 * dims)
    shape = struct.unpack(f">{dims}I", header) if len(header) == 4 * dims else (0,)
    count = 1
    for dim in shape:
        count *= dim
    if not 0 < count <= _MOST_BYTES:
        raise FileProblem(f"{path} announces an array of shape {list(shape)}: it is damaged. Fetch it again.")
    data = file.read(count + 1)
    if len(data) != count:
        more = "more than " if len(data) > count else ""
        raise FileProblem(
            f"{path} announces {count:,} values of shape {list(shape)} and holds {more}{min(len(data), count):,}: "
            "it is incomplete or damaged. Fetch it again."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
