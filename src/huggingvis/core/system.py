"""A system: named weights bound into something that generates.

`Spec` says what it is in words and numbers, `parts` are its networks, `conditioner` reads requests, `generator` makes
the generative model that a request's numbers (steps, sampler, guidance) ask for, `codec` turns its samples into media.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from huggingvis.core.protocols import Conditioner, Decodes, Generative, Shows
from huggingvis.core.request import Limits, Request, Sampling


@dataclass(frozen=True)
class Spec:
    """What a system is: `family` names the file that binds it, `size` its native (width, height), `channels` 1 or 3.

    `trained`: further sizes that it was trained on. `path`: the file or folder that it was bound from, of a model of
    others; `vae`: that of an autoencoder in the place of its own.
    """

    name: str
    family: str
    size: tuple[int, int]
    multiple: int = 1
    licence: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 3
    trained: tuple[tuple[int, int], ...] = ()
    path: str = ""
    vae: str = ""


@dataclass(frozen=True)
class System:
    """Weights bound to their meaning.

    `defaults` are the sampling numbers it is best used with; `limits` what it accepts; `example` is a prompt to show it
    by, empty where none is needed. `shows`: what its net is shown of a picture that a request starts from; None for a
    net that sees x_t alone. `adapts`: what puts a request's adapters on its nets; None where it takes none. `lock`: who
    has it may sample; adapters change the nets for as long as pictures are made, so threads take turns.
    """

    spec: Spec
    parts: Mapping[str, nn.Module]
    conditioner: Conditioner
    codec: Decodes
    generator: Callable[[Request], Generative]
    defaults: Sampling = Sampling()
    limits: Limits = Limits()
    example: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shows: Shows | None = None
    adapts: Adapts | None = None
    lock: AbstractContextManager[bool] = field(default_factory=threading.RLock, repr=False, compare=False)


class Adapts(Protocol):
    """Puts what a request names (LoRA, embeddings, control nets) on a system's nets for as long as a block lasts."""

    def __call__(
        self, request: Request, n: int, generator: Generative | None = None
    ) -> AbstractContextManager[Mapping[str, Tensor]]:
        """A block within which the nets are adapted; what it gives belongs into the condition of `n` pictures.

        `generator`: the model that makes them, whose steps an adapter may act at a part of.
        """
        ...

    def words(self, request: Request) -> AbstractContextManager[None]:
        """A block within which prompts are read with the words that the request's adapters bring."""
        ...

    def notes(self, request: Request) -> tuple[str, ...]:
        """What of the adapters does not apply, in sentences."""
        ...


def nearest_trained(spec: Spec, size: tuple[int, int]) -> tuple[int, int]:
    """Of the sizes that a model was trained on, `size` if it is one, else that of the nearest height / width."""
    known = (spec.size, *spec.trained)
    return size if size in known else min(known, key=lambda one: abs(one[1] / one[0] - size[1] / size[0]))


def canvas_of(request: Request, spec: Spec) -> tuple[int, int]:
    """(width, height) that a request asks for: the model's own where it does not say."""
    return request.canvas.width or spec.size[0], request.canvas.height or spec.size[1]
