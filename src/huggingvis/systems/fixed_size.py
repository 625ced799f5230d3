"""A system whose model makes pictures of one size in one go: generators, decoders and flows, trained here or elsewhere.

Book: chapters 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Conditioner, Generative
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.systems.unconditional import Unconditional


@final
@dataclass(frozen=True)
class FixedSize:
    """What such a system is: `family` names the file that binds it, `shape` [C, H, W] is that of all its pictures.

    `otherwise`: what else one may do who wants another size, as the end of "Leave the size out".
    """

    name: str
    family: str
    shape: tuple[int, int, int]
    licence: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    otherwise: str = ""

    @property
    def spec(self) -> Spec:
        """The same in the words of every system."""
        channels, height, width = self.shape
        return Spec(self.name, self.family, (width, height), licence=self.licence, card=self.card, channels=channels)

    def system(
        self,
        model: Generative,
        parts: Mapping[str, nn.Module],
        *,
        conditioner: Conditioner | None = None,
        device: torch.device | None = None,
    ) -> System:
        """The system that draws from `model`, without words or classes unless a `conditioner` reads them.

        Its generator raises `UsageError` for a canvas of another size.
        """
        spec = self.spec

        def generator(request: Request) -> Generative:
            width, height = canvas_of(request, spec)
            if (width, height) != spec.size:
                raise UsageError(
                    f"This model makes pictures of {spec.size[0]} x {spec.size[1]} pixels and no other, but "
                    f"{width} x {height} were asked for. Leave the size out{self.otherwise}."
                )
            return model

        return System(
            spec=spec,
            parts=parts,
            conditioner=conditioner or Unconditional(),
            codec=Pixels(),
            generator=generator,
            defaults=Sampling(steps=1, guidance_scale=1.0),
            limits=Limits(multiple=1, prompt_required=False),
            device=device or torch.device("cpu"),
        )
