r"""What is lost where the belief about the clean picture itself is measured: cold and soft diffusion.

Cold (Bansal et al. 2022, arXiv 2208.09392): a restorer R of degraded pictures is trained by

    E |R(D(x_0, t), t) - x_0|_1

Soft (Daras et al. 2022, arXiv 2209.05442, Eq. 12): soft score matching, the error after it is itself corrupted like
the data, with the weight 1/s_t^2

    E 1/s_t^2 |C_t (x_0-hat - x_0)|^2

so a net is not asked for what C_t has taken. With the score (C_t x_0-hat - x_t)/s_t^2 it is score matching, and where
C_t is a number it is the loss of DDPM and of NCSN: |eps-hat - eps|^2 = (alpha_t/sigma_t)^2 |x_0-hat - x_0|^2.
Both are errors for `objectives.denoise`. Book: chapter 4, "Without noise".
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from huggingvis.core.process import Prediction, Process
from huggingvis.core.shapes import expand
from huggingvis.objectives.denoise import Asked, Error


@final
class Restored(Error):
    """Mean absolute error of the belief about the clean datum."""

    name = "l1"

    def forward(self, asked: Asked, process: Process, prediction: Prediction) -> Tensor:
        return (_believed(asked, process, prediction) - asked.x0).abs().flatten(1).mean(1)


@final
class SoftScore(Error):
    """Mean square of the belief's error after the process has degraded it, over sigma^2; times must have noise."""

    name = "soft"

    def forward(self, asked: Asked, process: Process, prediction: Prediction) -> Tensor:
        believed = _believed(asked, process, prediction)
        off = process.signal(believed, asked.t) - process.signal(asked.x0, asked.t)  # [B, C, ...]
        return (off / expand(process.sigma(asked.t), off)).square().flatten(1).mean(1)


def _believed(asked: Asked, process: Process, prediction: Prediction) -> Tensor:
    return prediction.x0(process, asked.out.to(asked.x.dtype), asked.x, asked.t)
