"""The safety checker of Stable Diffusion: how near a picture lies to concepts that should not be served to others.

Rombach et al. 2022 (arXiv 2112.10752), the model card of Stable Diffusion 1; taken apart in Rando et al. 2022 (arXiv
2210.04610). CLIP's image tower gives the picture an embedding v; each concept is an embedding c_k with a threshold, and

    e_k = cos(v, c_k) - threshold_k        e_k > 0: the picture shows concept k

Some concepts are only watched: where one of them is near, all others are asked 0.01 more strictly.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.errors import UsageError
from huggingvis.nets.clip_vision import CLIPVision, CLIPVisionConfig

STRICTER = 0.01
"""What is added to every e_k where a watched concept is near."""


@dataclass(frozen=True)
class SafetyConfig:
    """Sizes of a `SafetyChecker`: its image tower, how many concepts it refuses, and how many it watches."""

    tower: CLIPVisionConfig = CLIPVisionConfig()
    concepts: int = 17
    watched: int = 3


@final
class SafetyChecker(nn.Module):
    """Pictures [B, C, S, S] as CLIP sees them -> e of the watched concepts [B, W] and of the refused ones [B, K].

    Raises `UsageError` for a tower without projection: the concepts lie in the space that it projects to.
    """

    def __init__(self, config: SafetyConfig):
        super().__init__()
        self.config = c = config
        if c.tower.projection is None:
            raise UsageError("A safety checker measures angles between projected embeddings: its tower must project.")
        self.tower = CLIPVision(c.tower)
        self.concepts = nn.Parameter(torch.ones(c.concepts, c.tower.projection))
        self.watched = nn.Parameter(torch.ones(c.watched, c.tower.projection))
        self.thresholds = nn.Parameter(torch.ones(c.concepts))
        self.watched_thresholds = nn.Parameter(torch.ones(c.watched))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        embedding = F.normalize(self.tower.pooled(self.tower.hidden(image)))  # [B, P]
        watched = embedding @ F.normalize(self.watched).T - self.watched_thresholds  # [B, W]
        return watched, embedding @ F.normalize(self.concepts).T - self.thresholds  # [B, K]

    def flagged(self, image: Tensor) -> Tensor:
        """Whether a picture shows a refused concept, as booleans [B]; e counts in whole thousandths."""
        watched, refused = (e.float() for e in self(image))
        near = _thousandths(watched).gt(0).any(1, keepdim=True)  # [B, 1]
        return _thousandths(refused + STRICTER * near).gt(0).any(1)


def _thousandths(e: Tensor) -> Tensor:
    return (1000 * e).round()
