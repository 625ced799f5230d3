"""The conditioner of models that were trained on sorted pictures: a prompt is the name of a class.

Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from huggingvis.core.classes import ANY, one_hot
from huggingvis.core.errors import unknown
from huggingvis.core.protocols import Cond
from huggingvis.core.request import Request


@final
class ClassConditioner:
    """Requests -> the `vector` port: a prompt is a class's name or number, the empty one any class.

    Any class is zeros; or, with `last`, one more than there are names for, as diffusers' models have it.
    """

    def __init__(self, classes: Sequence[str], device: torch.device, *, last: bool = False):
        self.classes, self.device, self.last = tuple(classes), device, last

    def number(self, prompt: str) -> int:
        """The class that a prompt names. Raises `UsageError` with the nearest names."""
        asked = " ".join(prompt.split()).casefold()
        if not asked:
            return ANY
        folded = [name.casefold().replace("_", " ") for name in self.classes]
        for known in (folded, [str(i) for i in range(len(folded))]):
            if asked.replace("_", " ") in known:
                return known.index(asked.replace("_", " "))
        raise unknown("class", prompt, self.classes)

    def __call__(self, requests: Sequence[Request]) -> Cond:
        wanted = torch.tensor([self.number(r.prompt.text) for r in requests])
        unwanted = torch.tensor([self.number(r.prompt.negative) for r in requests])
        return {"vector": self._told(wanted), "negative.vector": self._told(unwanted)}

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        return ()

    def _told(self, numbers: Tensor) -> Tensor:
        """[B, K], or [B, K+1] with `last`."""
        count = len(self.classes)
        if self.last:
            return one_hot(torch.where(numbers == ANY, count, numbers), count + 1).to(self.device)
        return one_hot(numbers, count).to(self.device)
