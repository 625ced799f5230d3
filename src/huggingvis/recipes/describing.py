"""Models that say what a picture shows, by name: the run folder of a recipe with `describer(config, run, device)`.

Book: chapter 4, "Sentences as bits".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.request import Sampling
from huggingvis.data.worldset import to_tensor
from huggingvis.recipes.loading import Recipe, able_recipe
from huggingvis.recipes.pictures import Facts, shown
from huggingvis.train.run import Run


class Describer(Protocol):
    """Says sentences of pictures. `facts`: of the pictures that it was trained on; `usual`: how it is best asked."""

    @property
    def facts(self) -> Facts: ...

    @property
    def usual(self) -> Sampling: ...

    def __call__(self, x: Tensor, noise: Noise, sampling: Sampling | None = None) -> list[str]:
        """A sentence for each of the pictures x [B, C, S, S] in [-1, 1]."""
        ...


@runtime_checkable
class Describes(Recipe, Protocol):
    """A recipe's module whose runs say what pictures show."""

    def describer(self, config: Any, run: Run, device: torch.device) -> Describer: ...


def open_describer(path: Path | str, device: torch.device) -> Describer:
    """What the run folder `path` trained. Raises as `bind_run` for one that says nothing of pictures."""
    run = Run.open(path)
    recipe, config = able_recipe(run, Describes, "says nothing of pictures. Recipes whose runs do")
    return recipe.describer(config, run, device)


def as_seen(picture: Image.Image, facts: Facts) -> Tensor:
    """The largest square in the middle of a picture as a model trained on `facts` sees it, [1, C, S, S]."""
    return shown(to_tensor(np.array(picture.convert("RGB"))[None]), facts.size, facts.channels)
