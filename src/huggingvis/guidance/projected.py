r"""Keeping the belief among what a codec can say: x_0 <- encode(decode(x_0)).

For a model space that is another view of pictures (wavelets), this is the clipping of Ho, Jain, Abbeel 2020 (arXiv
2006.11239) in pixels. Book: chapter 4, "Guidance".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.protocols import Codec, Cond, Denoiser


@final
@dataclass(frozen=True)
class Projected:
    """x_0 decoded and encoded again by `codec`, whose `decode` keeps media in their range."""

    codec: Codec

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def projected(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            belief = denoise(x, t, cond)
            if not isinstance(belief, Gaussian):
                raise TypeError(f"thresholds act on beliefs about continuous data, found {type(belief).__name__}")
            return replace(belief, x0=self.codec.encode(self.codec.decode(belief.x0)))

        return projected
