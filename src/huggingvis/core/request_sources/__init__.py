"""What a picture may start from instead of noise: a file for each kind, and one of its name in edits/.

A new kind is those two files and its name in `Source`: what else must know of a source asks the kind itself
(`kind.SourceKind`). Book: chapter 6.
"""

from __future__ import annotations

from typing import get_args

from huggingvis.core.request_sources.colourise import Colourise
from huggingvis.core.request_sources.from_picture import FromPicture
from huggingvis.core.request_sources.inpaint import Inpaint
from huggingvis.core.request_sources.kind import SourceKind
from huggingvis.core.request_sources.outpaint import Outpaint

Source = FromPicture | Inpaint | Outpaint | Colourise
"""Every kind; records tell them apart by their names."""


def kinds() -> tuple[type[SourceKind], ...]:
    """Every kind."""
    return get_args(Source)


def beginnings() -> tuple[str, ...]:
    """The fields that make a request's source one of another kind, in the order in which they are said."""
    return tuple(kind.begins[1] for kind in kinds() if kind.begins is not None)


def kind_after(before: str | None, field: str) -> type[SourceKind] | None:
    """What a source of the kind called `before` (None: there is none) becomes by that field; None: it stays."""
    return next((kind for kind in kinds() if kind.begins == (before, field)), None)
