"""What kind of checkpoint a file is, told from its bytes alone, and the header of a safetensors file, checked.

A name proves nothing: downloads that failed are web pages called `.safetensors`, and pickles travel under every
suffix. So the first bytes decide, and a file is refused in words before any library opens it.

The safetensors layout: 8 bytes little-endian header length n, n bytes of JSON {name: {dtype, shape, data_offsets}} with
an optional `__metadata__` of strings, then the tensors' bytes without holes. Nothing here needs torch.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from pathlib import Path
from typing import Any

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import check_readable, explain

MAX_HEADER = 100_000_000
"""Bytes that the format allows a safetensors header; a longer one is an attack or damage."""
_MOST_AXES = 64
"""No tensor has more."""

BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip


class Format(Enum):
    """Formats that hold tensors and can be read here; the value is what people call them."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "PyTorch zip"
    TORCH_LEGACY = "PyTorch pickle (before 1.6)"


@dataclass(frozen=True)
class TensorFact:
    """One tensor of a file, without its numbers: `dtype` in safetensors spelling (F32, BF16, ...)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A safetensors header: tensors in file order, the file's own string metadata, the byte where tensors begin."""

    tensors: Mapping[str, TensorFact]
    metadata: Mapping[str, str] = field(default_factory=dict)
    begin: int = 0


_IMPOSTORS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for: run `git lfs pull` in its repository"),
    (b"<", "a web page, so the download met a login or an error: open the address in a browser and download again"),
    (b"{", "text in JSON, settings or a server's refusal: read it in an editor, and download the file that was meant"),
    (bytes(64), "empty space, which a download reserved and did not fill: let it end, or download again"),
    (b"GGUF", "a GGUF file, whose quantised blocks are not read here: get the safetensors version of the model"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras): convert it to safetensors first"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
)  # fmt: skip


def sniff(path: Path) -> Format:
    """The format of the file at `path`. Raises `FileProblem` when it is missing, empty, a folder or no checkpoint."""
    try:
        size = check_readable(path).stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise FileProblem(f"There is no file {path}. Check the path; `hvis models list` shows what is here.") from None
    except OSError as error:
        raise explain(error, path, "read") from error
    if size == 0:
        raise FileProblem(f"{path} should be a checkpoint, but it is empty (0 bytes). Download or copy it again.")
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if _looks_like_safetensors(head):
        return Format.SAFETENSORS
    for magic, what in _IMPOSTORS:
        if head.lstrip().startswith(magic):
            raise FileProblem(f"{path} should be a checkpoint, but it is {what}.")
    if head[0] == 0x80 and b"" < head[1:2] <= b"\x05":  # the PROTO opcode of a pickle, protocols 0..5
        return Format.TORCH_LEGACY
    raise FileProblem(
        f"{path} ({size} bytes) is not a checkpoint: it starts with {head[:8]!r}, which is neither safetensors nor a "
        "PyTorch file. If it was downloaded, compare its size with the original's and download it again."
    )


def _looks_like_safetensors(head: bytes) -> bool:
    is_text = head[:8].isascii() and head[:8].decode("ascii").isprintable()
    return head[8:9] == b"{" and not is_text


def _zip_kind(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rsplit("/", 1)[-1] for name in archive.namelist()]
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise FileProblem(
            f"{path} starts like a PyTorch checkpoint, but its end, which holds the table of contents, is missing or "
            "damaged. The download or copy was cut short: get it again."
        ) from error
    if "constants.pkl" in names:
        raise FileProblem(f"{path} is a TorchScript program, not weights; programs are not run here. Get the weights.")
    if "data.pkl" not in names:
        raise FileProblem(f"{path} is a zip archive, but not of PyTorch weights. Unpack it and name a file inside.")
    return Format.TORCH_ZIP


def read_header(path: Path) -> Header:
    """The header of a safetensors file, every claim checked against the file. Raises `FileProblem` on the first lie."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise FileProblem(
                    f"{path} claims a header of {length} bytes; a safetensors file may have at most {MAX_HEADER}. "
                    "The file is damaged or made to exhaust memory: do not use it."
                )
            if length > size - 8:
                raise FileProblem(
                    f"{path} is cut short: its header should be {length} bytes long, but the whole file has {size}. "
                    "Download or copy it again."
                )
            text = file.read(length)
    except OSError as error:
        raise explain(error, path, "read") from error
    return parse_header(path, text, size - 8 - length)


def read_numbers(path: Path, header: Header, wanted: Collection[str]) -> dict[str, float]:
    """The tensors of `wanted` that hold one plain floating number each.

    Few bytes of the file are read. Raises `FileProblem` where the system refuses.
    """
    codes = {"F64": "<d", "F32": "<f", "F16": "<e"}
    found: dict[str, float] = {}
    at = header.begin
    try:
        with path.open("rb") as file:
            for name, fact in header.tensors.items():  # in the order of their bytes, without holes
                size = fact.numel * BITS[fact.dtype] // 8
                if name in wanted and fact.numel == 1 and fact.dtype in (*codes, "BF16"):
                    file.seek(at)
                    data = file.read(size)
                    data, code = (b"\0\0" + data, "<f") if fact.dtype == "BF16" else (data, codes[fact.dtype])
                    found[name] = struct.unpack(code, data)[0]
                at += size
    except (OSError, struct.error) as error:
        raise (
            explain(error, path, "read")
            if isinstance(error, OSError)
            else FileProblem(f"{path} is cut short. Download or copy it again.")
        ) from error
    return found


def parse_header(path: Path, text: bytes, body: int) -> Header:
    """The header in these bytes of JSON, of a file with `body` bytes after them; as `read_header`."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path} has a safetensors header that is not valid JSON ({error}). Get it again.") from error
    if not isinstance(table, dict):
        raise FileProblem(f"{path} has a safetensors header that is no table of tensors. Get the file again.")
    metadata = table.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise FileProblem(f"{path}: the safetensors metadata should be a table of strings. Save the file again.")
    spans: list[tuple[int, int, str]] = []
    tensors = {}
    for name, entry in table.items():
        tensors[name], begin, end = _fact(path, name, entry)
        spans.append((begin, end, name))
    spans.sort()
    _check_cover(path, spans, body)
    return Header({name: tensors[name] for _, _, name in spans}, metadata, 8 + len(text))


def _fact(path: Path, name: str, entry: Any) -> tuple[TensorFact, int, int]:
    """One entry of the table, and where its bytes begin and end."""

    def natural(value: Any) -> bool:
        return type(value) is int and value >= 0  # JSON's true is an int to Python, not here

    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise FileProblem(f"{path}: tensor {name!r} has the unknown type {dtype!r}. Known: {', '.join(BITS)}.")
    lists = isinstance(shape, list) and len(shape) <= _MOST_AXES and isinstance(span, list) and len(span) == 2
    if not (lists and all(natural(v) for v in [*shape, *span])):
        raise FileProblem(f"{path}: tensor {name!r} has no valid shape and data_offsets in the header. Get it again.")
    fact = TensorFact(dtype, tuple(shape))
    begin, end = span
    takes = fact.numel * BITS[dtype] // 8
    if takes != end - begin:
        raise FileProblem(
            f"{path}: tensor {name!r} of shape {list(shape)} and type {dtype} takes {takes} bytes, but the "
            f"header gives it {end - begin}. The file is damaged: get it again."
        )
    return fact, begin, end


def _check_cover(path: Path, spans: list[tuple[int, int, str]], body: int) -> None:
    """The tensors must cover the bytes after the header exactly: no hole, no overlap, nothing missing or left over."""
    at = 0
    for begin, end, name in spans:
        if begin != at:
            fault = "a hole before" if begin > at else "an overlap at"
            raise FileProblem(
                f"{path} has {fault} tensor {name!r}: its bytes should begin at {at}, the header says {begin}. "
                "The file is damaged or was written by a faulty program: get it again."
            )
        at = end
    if at > body:
        first = next(name for _, end, name in spans if end > body)
        raise FileProblem(
            f"{path} is cut short: {at} bytes of tensors are announced, {body} are there ({first!r} is the first one "
            "incomplete). Download or copy it again."
        )
    if at < body:
        raise FileProblem(f"{path} has {body - at} bytes after its last tensor that belong to none. Get it again.")
