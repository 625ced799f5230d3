"""From what a user calls a model to a path on this machine.

In this order: a path that is there; a model in the folders of other programs (`local_folders`); a model at a hub, from
its cache or fetched (`hub`). A name such as `runs/mine` could be a path or a hub's OWNER/NAME: it is a path wherever
the folder `runs` is here or is one that this program makes; `hf:runs/mine` is always the hub's.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from huggingvis.checkpoints.hub import USUAL, Fetching, fetch
from huggingvis.checkpoints.hub_names import Remote, remote
from huggingvis.checkpoints.local_folders import KINDS, listed, lookup, of_another_kind
from huggingvis.core.errors import UsageError, no_file, unknown

WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""How names of files of weights end."""
OWN = frozenset({"runs", "out", "data", "models", "weights", "checkpoints", "loras", "embeddings"})
"""Folders that this program and others make: never taken for an owner at a hub."""
ALSO = {"checkpoint": ("unet",)}
"""Kinds that may be named for another: a U-Net is a model whose other parts lie elsewhere."""


def resolve(
    name: str | Path,
    roots: Sequence[Path] = (),
    *,
    kind: str = "checkpoint",
    how: Fetching = USUAL,
    known: Collection[str] = (),
) -> Path:
    """The file or folder that `name` means.

    `roots`: folders of other programs; `kind`: what it is for (a key of `local_folders.KINDS`); `how`: how a hub is
    asked; `known`: names that the caller knows beside these, for the suggestion where nothing is found.
    Raises `UsageError` for a name that nothing has, and as `hub.fetch` and `local_folders.find`.
    """
    text = str(name)
    if os.path.lexists(name):
        return Path(name)
    for one in (kind, *ALSO.get(kind, ())):
        if roots and (found := lookup(text, one, roots)):
            return found
    what = None if isinstance(name, Path) else remote(text)
    if what is not None and not is_path(what):
        return fetch(what, how)
    if (fault := of_another_kind(text, kind, roots)) is not None:
        raise fault
    names = [model.name for model in listed(kind, roots)]
    if not names and os.path.splitext(text)[1] in WEIGHTS:
        raise no_file(text, "Check the path, or say with --models in which folder your models are.")
    if not names and not known and not roots:
        raise UsageError(
            f"There is no {KINDS[kind].title} called {text!r}: no folder of models was named. Give the path of its "
            "file, or say with --models in which folder your models are."
        )
    raise unknown("model or run folder" if kind == "checkpoint" else KINDS[kind].title, text, [*known, *names])


def is_path(what: Remote) -> bool:
    """Whether a name that both could have is a path's."""
    owner = what.repo.partition("/")[0]
    return what.plain and (owner in OWN or os.path.isdir(owner))
