"""The CIFAR-10 files: the binary and the Python version, as `.tar.gz` or unpacked.

Binary version: records of 3,073 bytes, one label and then 32 x 32 values each of red, green, blue. Python version:
pickled dictionaries with `data` uint8 [10000, 3072] and `labels`; they are read by an unpickler that can build
numpy arrays and nothing else, so a hostile file cannot run code.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from huggingvis.core.errors import FileProblem

UNPACKED = {"cifar-10-binary.tar.gz": "cifar-10-batches-bin", "cifar-10-python.tar.gz": "cifar-10-batches-py"}
_RECORD = 3073
_TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
_TEST = ["test_batch"]


def read_train(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [50000, 32, 32, 3] and int64 [50000] from one archive or unpacked folder."""
    return _read(paths[0], _TRAIN)


def read_test(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [10000, 32, 32, 3] and int64 [10000] from one archive or unpacked folder."""
    return _read(paths[0], _TEST)


def _read(path: Path, batches: list[str]) -> tuple[np.ndarray, np.ndarray]:
    try:
        contents = _folder(path, batches) if path.is_dir() else _archive(path, batches)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise FileProblem(
            f"{path} could not be read ({error}): it is damaged or incomplete. Remove it and fetch it again."
        ) from error
    missing = [batch for batch in batches if batch not in contents]
    if missing:
        raise FileProblem(f"{path} lacks {', '.join(missing)}: it is not the official CIFAR-10. Fetch it again.")
    planes, labels = zip(*(_parse(path, batch, *contents[batch]) for batch in batches), strict=True)
    chw = np.concatenate(planes).reshape(-1, 3, 32, 32)  # [N, C, H, W]
    return np.ascontiguousarray(chw.transpose(0, 2, 3, 1)), np.concatenate(labels)


def _folder(path: Path, batches: list[str]) -> dict[str, tuple[str, bytes]]:
    files = [file for file in sorted(path.iterdir()) if file.stem in batches]
    return {file.stem: (file.suffix, file.read_bytes()) for file in files}


def _archive(path: Path, batches: list[str]) -> dict[str, tuple[str, bytes]]:
    """Members are read into memory by name; nothing is unpacked, so no member can escape to another place."""
    contents = {}
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            name = Path(member.name)
            if member.isfile() and name.stem in batches and member.size < 1 << 26:
                file = archive.extractfile(member)
                contents[name.stem] = (name.suffix, file.read() if file else b"")
    return contents


def _parse(path: Path, batch: str, suffix: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    parse: Callable[[bytes], tuple[np.ndarray, np.ndarray]] = _parse_binary if suffix == ".bin" else _parse_python
    try:
        return parse(data)
    except Exception as error:  # damaged pickles raise errors of every kind
        raise FileProblem(
            f"{batch}{suffix} in {path} is not a CIFAR-10 batch ({type(error).__name__}: {error}). "
            "Remove the file and fetch it again."
        ) from error


def _parse_binary(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not data or len(data) % _RECORD:
        raise ValueError(f"{len(data):,} bytes are no whole number of {_RECORD}-byte records")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _parse_python(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    planes, labels = batch[b"data"], np.asarray(batch[b"labels"], dtype=np.int64)
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape != (len(labels), _RECORD - 1):
        raise ValueError("`data` is not uint8 [N, 3072] with N labels")
    return planes, labels


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file does")


def _reconstruct(_kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.ndarray(shape, dtype)


def _latin1(text: str, _encoding: str = "latin1") -> bytes:
    return text.encode("latin1")
