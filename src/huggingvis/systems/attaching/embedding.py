"""Textual inversions on a system: words of the prompt that its text towers read as learnt vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from huggingvis.adapters.textual_inversion import misfit
from huggingvis.checkpoints.embedding_formats import load_embeddings
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import AdapterUse
from huggingvis.systems.attachments import Bench, Learnt, Removable, check_all_steps


def opened(path: Path, bench: Bench) -> Learnt:
    """The words in the file. Raises `FileProblem` where they are of another width than the towers'.

    Raises `UsageError` where no text tower of the system learns words.
    """
    if not bench.readers:
        raise UsageError(
            f"{path} holds learnt words, but the text tower of {bench.spec.name!r} learns none: CLIP's do. Use it with "
            "the model it was made for."
        )
    widths = {reader.name: reader.tower.config.dim for reader in bench.readers}
    found = load_embeddings(path)
    for embedding in found:
        if (trouble := misfit(embedding, widths)) is not None:
            raise FileProblem(trouble)
    return Learnt(tuple(found))


def attach(found: Learnt, use: AdapterUse, bench: Bench) -> tuple[Removable | None, Mapping[str, Tensor]]:
    """Nothing: `Attachments` teaches the words, those of weight 0 left out. Raises `UsageError` for other weights."""
    check_all_steps(use, "a word of the prompt")
    if use.weight not in (0.0, 1.0):
        raise UsageError(
            f"{use.path} holds words, which have no strength: its weight is 1, or 0, found {use.weight:g}."
        )
    return None, {}
