"""Guidance without its second call: a net that was distilled from guided steps is told the scale.

Luo, Tan, Huang, Li & Zhao 2023, "Latent Consistency Models" (arXiv 2310.04378), Sec. 4.2: the student imitates what the
teacher says at a scale drawn in training, which it is told beside the clock. It is sampled in two to eight steps by
`samplers.consistency`. Book: chapter 5, "Few steps".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond

SYSTEM = {
    "name": "Latent consistency model",
    "chapter": 5,
    "paper": "2310.04378",
    "files": [
        "samplers/consistency.py",
        "samplers/grids/knots.py",
        "nets/unet.py",
        "nets/embeddings.py",
        "systems/latent_diffusion.py",
        "systems/stable_diffusion.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[lcm]",
    "exact": [
        "tests/interop/test_pipelines.py::test_a_distilled_net_is_told_the_scale",
        "tests/interop/test_schedulers.py::test_lcm",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class ToldScale:
    """Gives a condition its `guidance` port: `scale` for each of its pictures, [B]."""

    scale: float

    def __call__(self, cond: Cond, noise: Noise) -> Cond:
        tokens = cond["tokens"]
        return {**cond, "guidance": torch.full((len(tokens),), self.scale, device=tokens.device)}
