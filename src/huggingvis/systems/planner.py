"""From what a text encoder read to a plan: which things there are, by argmax, and where, by a draw.

A sentence leaves open where things stand; a picture does not. Boxes are codes, left, top, right, bottom of one thing
after another in steps of a pixel or so, and their law given the sentence is the causal transformer that VQ-VAE draws
its codes from, so that things keep clear of each other and stand as the sentence says (LayoutTransformer, Gupta et al.
2021, arXiv 2006.14615, Sec. 3). The plan conditions the diffusion model as unCLIP's prior does its decoder (Ramesh et
al. 2022, arXiv 2204.06125, Sec. 2): p(picture | text) = sum over boxes of p(picture | boxes, text) p(boxes | text),
with kinds and colours at their likeliest. Book: chapter 5, "Plan, then draw".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond
from huggingvis.nets.code_prior import CodePrior, CodePriorConfig
from huggingvis.nets.plan_map import NONE, Plan
from huggingvis.objectives.code_prior import AutoregressiveCodes

SIDES = 4  # of a box


@dataclass(frozen=True)
class PlannerConfig:
    """Sizes of a `Planner`.

    Attributes:
        kinds: kinds of thing it tells apart.
        colours: colours it tells apart.
        slots: most things in a plan, the text encoder's slots.
        text_dim: width of a slot.
        places: a side of a box is a whole number of 1/places of the canvas.
        dim: width of the transformer over boxes.
        depth: its blocks.
        heads: its attention heads.
    """

    kinds: int
    colours: int
    slots: int = 4
    text_dim: int = 192
    places: int = 64
    dim: int = 128
    depth: int = 4
    heads: int = 4


def prior_of(c: PlannerConfig) -> CodePrior:
    """The transformer over boxes alone, with fresh weights."""
    text = {"vector_dim": c.text_dim, "tokens_dim": c.text_dim}
    return CodePrior(CodePriorConfig(c.places + 1, c.slots, SIDES, c.dim, c.depth, c.heads, **text))


def told(tokens: Tensor, mask: Tensor, slots: int) -> Cond:
    """What a text encoder's `tokens` [B, S + L, D] tell the planner: all of them, and of each thing its slot."""
    return {"tokens": tokens, "tokens_mask": mask, "vector": tokens[:, :slots].repeat_interleave(SIDES, dim=1)}


@final
class Planner(nn.Module):
    """tokens [B, S + L, D] of a text encoder, the first S of them its slots, and their mask -> `Plan`."""

    def __init__(self, config: PlannerConfig):
        super().__init__()
        self.config = c = config
        self.kind, self.colour = nn.Linear(c.text_dim, 1 + c.kinds), nn.Linear(c.text_dim, 1 + c.colours)  # 0: none
        self.prior = prior_of(c)

    @torch.no_grad()
    def plan(self, tokens: Tensor, mask: Tensor, noise: Noise) -> Plan:
        """What the slots speak of, each thing in a place drawn for it."""
        slots = tokens[:, : self.config.slots]
        kinds, colours = (head(slots).argmax(-1) - 1 for head in (self.kind, self.colour))  # [B, S] each
        cond = told(tokens, mask, self.config.slots)
        codes = AutoregressiveCodes(self.prior).sample(len(slots), cond, noise=noise)  # [B, S, 4]
        return Plan(kinds, colours, codes.to(slots.dtype) / self.config.places)


def codes_of(plan: Plan, places: int) -> Tensor:
    """The boxes as the planner draws them, int64 [B, S, 4]; all zeros where there is no thing."""
    codes = (places * plan.boxes).round().long().clamp(0, places)
    return codes.where((plan.kinds != NONE)[..., None], 0)
