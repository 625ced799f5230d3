"""What SDXL is told beside the prompt: the pooled text, and the sizes that its training pictures had and were cut to.

Podell et al. 2023, arXiv 2307.01952, Sec. 2.2: original size, the crop's corner and target size, each number as a
sinusoid of 256, follow the pooled text in the `vector` port; the refiner is told a score of beauty in the place of the
target size. A corner other than (0, 0) asks for a picture cut off. Book: chapter 5, "What else to tell".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.request import Request
from huggingvis.core.system import Spec, canvas_of
from huggingvis.nets.embeddings import sinusoid
from huggingvis.systems.options import number, pair

SYSTEM = {
    "name": "Stable Diffusion XL",
    "chapter": 5,
    "paper": "2307.01952",
    "files": [
        "systems/stable_diffusion.py",
        "systems/latent_diffusion.py",
        "systems/prompt_reading.py",
        "nets/unet.py",
        "nets/autoencoder_kl.py",
        "nets/clip_text.py",
        "codecs/clip_tokens.py",
        "checkpoints/diffusers_scheduler.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[xl]",
    "exact": [
        "tests/interop/test_pipelines.py::test_xl",
        "tests/interop/test_pipelines.py::test_xl_is_told_sizes_and_crops",
        "tests/interop/test_pipelines.py::test_xl_without_a_negative_prompt_is_guided_away_from_zeros",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

ORIGINAL, CROP, SCORE, NEGATIVE_SCORE = "original_size", "crop", "aesthetic_score", "negative_aesthetic_score"
USUAL_SCORE, USUAL_NEGATIVE_SCORE = 6.0, 2.5


@final
@dataclass(frozen=True)
class SizeConditions:
    """`vector` [B, P + width n] of `pooled` [B, P] and n numbers. `scored`: the refiner's five, else six.

    Options: original_size (1024x1024), crop (0x0: from the left, from the top), scores of the refiner.
    """

    spec: Spec
    width: int = 256
    scored: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        return (ORIGINAL, CROP, SCORE, NEGATIVE_SCORE) if self.scored else (ORIGINAL, CROP)

    def __call__(self, read: Mapping[str, Tensor], requests: Sequence[Request], negative: bool) -> dict[str, Tensor]:
        pooled = read["pooled"]
        told = torch.tensor([self.numbers(request, negative) for request in requests])  # [B, n]
        parts = sinusoid(told.flatten().to(pooled.device), self.width).reshape(len(told), -1)  # [B, width n]
        ports = {key: value for key, value in read.items() if key != "pooled"}
        return {**ports, "vector": torch.cat([pooled, parts.to(pooled.dtype)], dim=1)}

    def numbers(self, request: Request, negative: bool) -> list[float]:
        """What is told, height before width, top before left. Raises `UsageError` for options that are no numbers."""
        size = canvas_of(request, self.spec)
        width, height = pair(request, ORIGINAL, size)
        left, top = pair(request, CROP, (0, 0))
        first = [height, width, top, left]
        if not self.scored:
            return [float(n) for n in (*first, size[1], size[0])]
        name, usual = (NEGATIVE_SCORE, USUAL_NEGATIVE_SCORE) if negative else (SCORE, USUAL_SCORE)
        return [*map(float, first), number(request, name, usual)]
