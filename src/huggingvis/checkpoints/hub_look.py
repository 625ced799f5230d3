"""A look at a model at a hub without fetching it: its settings, the sizes of its files, a header by a range of bytes.

    subject, sums = subject_at(remote("owner/name"))   # a few KiB, whatever the size of the model
    report_of(subject).summary

What the cache has whole is looked at there, and the network is not asked. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from huggingvis.checkpoints.formats import MAX_HEADER, Header, parse_header
from huggingvis.checkpoints.hub import USUAL, Fetch, Fetching, read_object
from huggingvis.checkpoints.hub_files import INDEX, Choice, needed
from huggingvis.checkpoints.hub_names import HubFile, Listing, Remote
from huggingvis.checkpoints.kinds import Subject
from huggingvis.core.errors import FileProblem, HvisError

SETTINGS = re.compile(
    r"(?:[\w.-]+/)?(?:model_index|config|scheduler_config|adapter_config)\.json|README\.md|LICENSE[\w.]*"
)
"""Files that tell what a model is."""
TELLING = 1 << 20
"""Bytes of the longest of these."""


def subject_at(what: Remote, how: Fetching = USUAL) -> tuple[Subject, str | None]:
    """What there is to look at, and the SHA-256 that the hub says a file has.

    Raises as `hub.fetch`, and `FileProblem` for a file that only the whole of it tells about.
    """
    fetching = Fetch(what, how)
    found = fetching.cached()
    if found is not None:
        return Subject(found), None
    listing = fetching.listing()
    small = [name for name, file in listing.files.items() if SETTINGS.fullmatch(name) and file.size <= TELLING]
    fetching.bring(listing, Choice(tuple(small)))
    folder = fetching.place(listing.commit, Choice(()))
    model = what.file or ""
    with contextlib.suppress(HvisError):  # what cannot be fetched can be told of
        model = needed(list(listing.files), read_object(folder / INDEX), part=what.file).model
    if model in listing.files:
        return _file(fetching, listing, folder / model, model)
    begin = f"{model}/" if model else ""
    sizes = {n.removeprefix(begin): file.size for n, file in listing.files.items() if n.startswith(begin)}
    return Subject(folder / model, sizes), None


def _file(fetching: Fetch, listing: Listing, path: Path, name: str) -> tuple[Subject, str | None]:
    file = listing.files[name]
    if not name.endswith(".safetensors"):
        raise FileProblem(
            f"{name} of {fetching.what} has no header that could be read from afar ({file.size:,} bytes). Fetch it "
            f"first (`hvis models get {fetching.what}`), then look at it."
        )
    return Subject(path, {path.name: file.size}, _header(fetching, listing, name, file)), file.sha256


def _header(fetching: Fetch, listing: Listing, name: str, file: HubFile) -> Header:
    url, headers = fetching.source.address(fetching.what, listing.commit, name)
    asked = {**headers, "Accept-Encoding": "identity"}
    length = int.from_bytes(_range(fetching, url, asked, 0, 8), "little")
    if length > min(MAX_HEADER, file.size - 8):
        raise FileProblem(
            f"{name} of {fetching.what} is no safetensors file: its header would have {length} bytes, the file has "
            f"{file.size}."
        )
    return parse_header(Path(name), _range(fetching, url, asked, 8, length), file.size - 8 - length)


def _range(fetching: Fetch, url: str, headers: dict[str, str], begin: int, count: int) -> bytes:
    """So many bytes of a file there; of a server that ignores ranges no more of the answer is read than these."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    asked = {**headers, "Range": f"bytes={begin}-{begin + count - 1}"}
    session: Any = get_session()
    while True:
        try:
            with session.stream("GET", url, headers=asked, timeout=fetching.how.patience.timeout) as answer:
                hf_raise_for_status(answer)
                end = count + (begin if answer.status_code == 200 else 0)
                data = b""
                for chunk in answer.iter_raw():
                    data += chunk
                    if len(data) >= end:
                        return data[end - count : end]
            raise ConnectionError("the answer was cut")
        except Exception as error:
            fetching.line.again(error)
