"""Textual inversions on a system: words of the prompt that its text towers read as learnt vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from huggingvis.adapters.textual_inversion import Embedding, misfit
from huggingvis.checkpoints.embedding_formats import load_embeddings
from huggingvis.core.errors import FileProblem
from huggingvis.core.request import AdapterUse
from huggingvis.systems.attachments import Bench, Removable

Embeddings = tuple[Embedding, ...]


def opened(path: Path, bench: Bench) -> Embeddings:
    """The words in the file. Raises `FileProblem` where they are of another width than the towers'."""
    widths = {reader.name: reader.tower.config.dim for reader in bench.readers}
    found = load_embeddings(path)
    for embedding in found:
        if (trouble := misfit(embedding, widths)) is not None:
            raise FileProblem(trouble)
    return found


def attach(found: Embeddings, use: AdapterUse, bench: Bench) -> tuple[Removable | None, Mapping[str, Tensor]]:
    """Into the words in use, unless its weight is 0."""
    if use.weight:
        bench.words.extend(found)
    return None, {}


def left_out(found: Embeddings) -> str:
    """Nothing: a file that does not fit is refused."""
    return ""
