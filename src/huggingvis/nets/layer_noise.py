"""Where a style-based generator takes the noise of its layers from: the stored one, fresh draws, or nowhere.

Karras, Laine & Aila 2018 (arXiv 1812.04948), Sec. 2: one picture of uncorrelated noise per layer, scaled by a learnt
strength, gives stochastic detail that the style need not spend its numbers on. Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from torch import Tensor


class LayerNoise(Protocol):
    """The noise of one layer after another, in the order in which the layers run."""

    def __call__(self, stored: Tensor, batch: int) -> Tensor | None:
        """From the layer's `stored` noise [H, W]: [H, W], [batch, 1, H, W], or None for none."""
        ...


@final
class StoredNoise:
    """The noise that belongs to the weights: the picture is a function of its styles alone."""

    def __call__(self, stored: Tensor, batch: int) -> Tensor | None:
        return stored


@final
class NoNoise:
    """No noise at all: what the styles alone decide."""

    def __call__(self, stored: Tensor, batch: int) -> Tensor | None:
        return None


@final
class DrawnNoise:
    """Fresh noise for each layer and picture by `draw(like)`, such as `core.noise.SeedNoise(seeds).draw`."""

    def __init__(self, draw: Callable[[Tensor], Tensor]):
        self.draw = draw

    def __call__(self, stored: Tensor, batch: int) -> Tensor | None:
        return self.draw(stored.new_empty(batch, 1, *stored.shape))
