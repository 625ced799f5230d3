"""A judge for those who serve pictures to others: Stable Diffusion's safety checker, looking at finished pictures.

    checked = bind("safety_checker")
    shown = checked(picture)                    # the picture, or a black one that says why
    refused = checked.flagged(pictures)         # for servers that answer otherwise

It is never in the way unless it is asked for, it sees finished pictures of any system, and what it said is recorded in
each (`made["safety"]`). It misses things and is wrong about harmless ones. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.safety_checker_files import SAFETY
from huggingvis.codecs.clip_pictures import clip_picture
from huggingvis.core.media import Picture
from huggingvis.nets.safety_checker import SafetyChecker

FAMILY = Family(
    "safety checker",
    {"concept_embeds": (17, None), "special_care_embeds": (3, None), "visual_projection.weight": (None, None)},
    use="`hvis generate --safety-checker FOLDER` asks the one in its folder",
    alone=False,
)

BLANK = "The safety checker refused this picture, so it is black. Try another prompt or seed."


@final
@dataclass(frozen=True)
class SafetyJudge:
    """Finished pictures go in; those that show a concept of `net` come out black. `name`: recorded in each."""

    net: SafetyChecker
    name: str

    @torch.inference_mode()
    def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
        """Whether each picture shows something that should not be served; one at a time, as their sizes differ."""
        weight, side = self.net.concepts, self.net.config.tower.image
        seen = (clip_picture(picture, side).to(weight) for picture in pictures)
        return [bool(self.net.flagged(x[None])) for x in seen]

    def __call__(self, picture: Picture) -> Picture:
        """The picture, or a black one of its size, with what was said in its record, and in words in its notes."""
        (flagged,) = self.flagged([picture])
        made = {**picture.made, "safety": {"checker": self.name, "flagged": flagged}}
        if not flagged:
            return replace(picture, made=made)
        black = np.zeros_like(picture.pixels)
        black[:, :, 3:] = 255
        return replace(picture, pixels=black, made={**made, "notes": [*made.get("notes", ()), BLANK]})


def bind(folder: Path | str, device: torch.device | None = None) -> SafetyJudge:
    """The judge from a `safety_checker` folder of diffusers, in float32. Raises `FileProblem` for another folder."""
    net = SAFETY.read(folder, torch.float32)
    return SafetyJudge(net.to(device or torch.device("cpu")).requires_grad_(False), Path(folder).resolve().name)
