"""Official style-based generators by what their file holds: StyleGAN2's or StyleGAN3's, each bound by its own file.

Book: chapter 2.
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.persistent_pickle import network
from huggingvis.core.errors import FileProblem
from huggingvis.core.system import System
from huggingvis.systems import stylegan2, stylegan3


def bind(path: Path | str, device: torch.device | None = None, *, psi: float = 1.0) -> System:
    """The generator of a `.pkl` file as a system; `psi` truncates its styles. A conditional one draws classes at
    random. Raises `FileProblem` for another file or another kind of network."""
    stored = network(path)
    parts = stored.child("synthesis").parts()
    for family in (stylegan2, stylegan3):
        if family.FIRST in parts:
            return family.bind_stored(stored, path, device, psi)
    raise FileProblem(
        f"{path}: the stored network {stored.kind!r} is neither a generator of StyleGAN2, which begins with a block "
        f"{stylegan2.FIRST!r}, nor one of StyleGAN3, which begins with {stylegan3.FIRST!r}. Take an official file of "
        "stylegan2-ada-pytorch or stylegan3."
    )
