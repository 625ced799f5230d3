"""Tensors that a checkpoint keeps, by the names of their set and their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Sets = Mapping[str, Mapping[str, Tensor]]
"""Of each network, optimiser and average: its tensors."""
Live = Callable[[str], Tensor | None]
"""The tensor in use that a stored one is meant for, by its name; None where there is none."""
