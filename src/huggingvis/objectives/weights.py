r"""What each noise level counts in a training: a weight of the squared error of x_0 by the signal-to-noise ratio.

    E_{x0, eps, t}  w(SNR) ||x_0(net) - x_0||^2,      SNR = alpha^2/sigma^2

    eps        SNR            the error of the noise: Ho et al. 2020, arXiv 2006.11239, eq. 14
    x0         1              that of the datum
    v          SNR + 1        that of v on a process of constant variance: Salimans & Ho 2022, arXiv 2202.00512, sec. 4
    truncated  max(SNR, 1)    ibid.
    min-snr    min(SNR, 5)    Hang et al. 2023, arXiv 2303.09556, eq. 8
    p2         SNR/(1 + SNR)  Choi et al. 2022, arXiv 2204.00227, eq. 8 with k = gamma = 1

What a network believes is affine in what it says, x_0 = k(t) out + ..., so w k^2 is the weight of the error of its
output, and a weight means the same whatever the network predicts. Book: chapter 4, "Training a denoiser".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Prediction, Process

Weighting = Callable[[Tensor], Tensor]
"""SNR [B] -> the weight of ||x_0 error||^2 there, [B]."""

WEIGHTINGS: dict[str, Weighting] = {
    "eps": lambda snr: snr,
    "x0": torch.ones_like,
    "v": lambda snr: snr + 1,
    "truncated": lambda snr: snr.clamp(min=1.0),
    "min-snr": lambda snr: snr.clamp(max=5.0),
    "p2": lambda snr: snr / (1 + snr),
}


def output_weight(weighting: Weighting, process: Process, prediction: Prediction, t: Tensor) -> Tensor:
    """The weight of the squared error of the network's output at `t` [B] that is `weighting` of x_0's, [B] float64.

    Raises `UsageError` for a process that has no one signal-to-noise ratio at a time.
    """
    if process.pace is not process:
        raise UsageError(
            "The parts of this process have different noise levels at one time, so no weight by noise level is that of "
            "all of them. Leave the weighting as it is."
        )
    snr = (process.alpha(t) / process.sigma(t)) ** 2  # [B]
    zero, one = (torch.full((len(t), 1), v, dtype=torch.float64, device=t.device) for v in (0.0, 1.0))
    k = (prediction.x0(process, one, zero, t) - prediction.x0(process, zero, zero, t))[:, 0]  # [B]
    return weighting(snr) * k**2
