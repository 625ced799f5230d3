"""From what a text encoder read to a plan: which things there are, at their likeliest, and where, by a draw.

A sentence leaves open where things stand; a picture does not. Boxes are codes, left, top, right, bottom of one thing
after another in steps of a pixel or so, and their law given the sentence is the causal transformer that VQ-VAE draws
its codes from, so that things keep clear of each other and stand as the sentence says (LayoutTransformer, Gupta et al.
2021, arXiv 2006.14615, Sec. 3). The plan conditions the diffusion model as unCLIP's prior does its decoder (Ramesh et
al. 2022, arXiv 2204.06125, Sec. 2): p(picture | text) = sum over boxes of p(picture | boxes, text) p(boxes | text),
with kinds and colours at their likeliest. Those are read by layers of the planner's own: the encoder's slots alone took
a colour for another's in 3 of 100 sentences. Book: chapter 5, "Plan, then draw".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import FileProblem
from huggingvis.core.noise import Noise, Replayed
from huggingvis.core.protocols import Cond
from huggingvis.guidance.by_step import AND
from huggingvis.guidance.cfg import NEGATIVE
from huggingvis.nets.code_prior import CodePrior, CodePriorConfig
from huggingvis.nets.plan_map import Plan, PlanMap
from huggingvis.nets.plan_reader import SIDES, PlanReader, told
from huggingvis.nets.text_tower import TextTowerConfig
from huggingvis.nets.unet import UNetConfig
from huggingvis.objectives.code_prior import AutoregressiveCodes


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
        reading: layers over the text encoder's tokens that tell kinds and colours.
    """

    kinds: int
    colours: int
    slots: int = 4
    text_dim: int = 192
    places: int = 64
    dim: int = 128
    depth: int = 4
    heads: int = 4
    reading: int = 2


def prior_of(c: PlannerConfig) -> CodePrior:
    """The transformer over boxes alone, with fresh weights."""
    text = {"vector_dim": c.text_dim, "tokens_dim": c.text_dim}
    return CodePrior(CodePriorConfig(c.places + 1, c.slots, SIDES, c.dim, c.depth, c.heads, **text))


def reader_of(c: PlannerConfig) -> PlanReader:
    """What reads kinds and colours alone, with fresh weights."""
    return PlanReader(c.text_dim, c.slots, c.kinds, c.colours, c.reading, c.heads)


@final
class Planner(nn.Module):
    """tokens [B, S + L, D] of a text encoder, the first S of them its slots, and their mask -> `Plan`."""

    def __init__(self, config: PlannerConfig):
        super().__init__()
        self.config = c = config
        self.reader = reader_of(c)
        self.prior = prior_of(c)

    @torch.no_grad()
    def plan(self, tokens: Tensor, mask: Tensor, noise: Noise) -> Plan:
        """What the sentence speaks of, each thing in a place drawn for it."""
        kinds, colours = (logits.argmax(-1) - 1 for logits in self.reader(tokens, mask))  # [B, S] each
        cond = told(tokens, mask, self.config.slots)
        codes = AutoregressiveCodes(self.prior).sample(len(tokens), cond, noise=noise)  # [B, S, 4]
        return Plan(kinds, colours, codes.to(tokens.dtype) / self.config.places)


@final
@dataclass(frozen=True)
class PlanPrior:
    """Completes a condition by a plan of the picture, the `concat` port [B, channels, H, W].

    Nothing is planned for the negative prompt, nor for any if there is no planner: training knows pictures without a
    plan (`unplanned` of recipe text_to_image).
    """

    planner: Planner | None
    channels: int
    height: int
    width: int

    def __call__(self, cond: Cond, noise: Noise) -> Cond:
        drawn = Replayed(noise)
        plans = {}
        for key in [key for key in cond if key.endswith("tokens")]:
            place = key.removesuffix("tokens")
            if place.startswith(NEGATIVE):
                plans[f"{place}concat"] = self._nothing(cond[key])
            else:  # what a prompt changes to stands where it stood before; what AND adds has a place of its own
                chance = noise if place.startswith(AND) else drawn.again()
                plans[f"{place}concat"] = self._plan(cond[key], cond[f"{key}_mask"], chance)
        return {**cond, **plans}

    def _nothing(self, tokens: Tensor) -> Tensor:
        return tokens.new_zeros(len(tokens), self.channels, self.height, self.width)

    def _plan(self, tokens: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        if self.planner is None:
            return self._nothing(tokens)
        c = self.planner.config
        drawn = self.planner.plan(tokens, mask, noise)
        return PlanMap(c.kinds, c.colours)(drawn, self.height, self.width)


def check_belongs(plan: PlannerConfig, unet: UNetConfig, text: TextTowerConfig) -> None:
    """Raises `FileProblem` for a planner of another text encoder or another U-Net."""
    channels = PlanMap(plan.kinds, plan.colours).channels
    if (channels, plan.slots, plan.text_dim) != (unet.concat_channels, text.slots, text.dim):
        raise FileProblem(
            f"The planner reads {plan.slots} slots of {plan.text_dim} numbers and plans {channels} channels, but the "
            f"text encoder has {text.slots} of {text.dim} and the U-Net sees {unet.concat_channels}: they are of "
            "different models. Take all parts from one."
        )
