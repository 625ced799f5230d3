"""Pictures as CLIP's image towers see them.

Radford et al. 2021 (arXiv 2103.00020): the shorter side brought to the tower's size by a bicubic filter, the middle cut
out, each channel less the mean of the training pictures over their standard deviation. Book: chapter 6, "Pictures as
prompts".
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from huggingvis.core.media import Picture

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in the pictures that CLIP learnt from, in [0, 1]."""


def clip_picture(picture: Picture, side: int) -> Tensor:
    """The middle of a picture for a tower of `side` pixels, float32 [3, side, side]; transparency is not looked at."""
    image = picture.to_pil().convert("RGB")
    shorter = min(image.size)
    width, height = (side * length // shorter for length in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = Picture.from_pil(image.crop((left, top, left + side, top + side))).pixels
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255  # [3, side, side] in [0, 1]
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
