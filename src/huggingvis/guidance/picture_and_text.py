r"""Two strengths at once: how closely to follow a picture that is shown, and how closely the instruction about it.

Brooks, Holynski & Efros 2022, "InstructPix2Pix" (arXiv 2211.09800), Eq. 3, on beliefs about x_0, with c_I the picture
and c_T the text:

    x_0 = x_0(0, 0) + s_I (x_0(c_I, 0) - x_0(0, 0)) + s_T (x_0(c_I, c_T) - x_0(c_I, 0))

Book: chapter 6, "Instructions".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.guidance.cfg import NEGATIVE, negative_of, stacked

SYSTEM = {
    "name": "InstructPix2Pix",
    "chapter": 6,
    "paper": "2211.09800",
    "files": [
        "systems/latent_diffusion.py",
        "edits/from_picture.py",
        "nets/unet.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[instruct]",
    "exact": ["tests/interop/test_pipelines.py::test_instructions"],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class PictureAndText:
    """`text` s_T and `picture` s_I. The picture is `concat`; without it, that port is zeros. One call of 3 B."""

    text: float
    picture: float

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            both = {k: v for k, v in cond.items() if not k.startswith(NEGATIVE)}
            shown = negative_of(cond)
            neither = {**shown, "concat": torch.zeros_like(cond["concat"])}
            times = t if t.ndim == 0 else torch.cat([t, t, t])
            belief = denoise(torch.cat([x, x, x]), times, stacked(stacked(neither, shown), both))
            assert isinstance(belief, Gaussian)  # what is concatenated are numbers
            none, picture, full = belief.x0.chunk(3)
            x0 = none + self.picture * (picture - none) + self.text * (full - picture)
            return replace(belief, x0=x0, logvar=None, v=None)

        return guided
