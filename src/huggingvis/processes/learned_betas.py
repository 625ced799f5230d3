r"""A noise table that is learned with the network, as the first Gaussian diffusion did.

Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, arXiv 1503.03585, Sec. 2.4.1: beta_2 ... beta_T are trained on
the bound, in which noise is reparameterised; beta_1 is a small constant, or the chain would sharpen without end around
the training data. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.processes.table import TableProcess


@final
class LearnedBetas(nn.Module):
    """beta_1 = `first` and `steps` - 1 learned ones. Fresh, log-SNR falls evenly from beta_1's to `end`."""

    def __init__(self, steps: int, first: float = 1e-4, end: float = -4.0):
        super().__init__()
        if steps < 2 or not 0 < first < 0.5:
            raise UsageError(f"A chain has two steps or more and a small first beta, found {steps} and {first}.")
        self.first = first
        low = torch.logit(torch.tensor(1 - first, dtype=torch.float64))
        log_snr = low + (end - low) * torch.arange(steps, dtype=torch.float64) / (steps - 1)
        bar = torch.sigmoid(log_snr)  # alpha_bar, [T]
        self.logits = nn.Parameter(torch.logit(1 - bar[1:] / bar[:-1]).float())  # [T - 1]

    def betas(self) -> Tensor:
        """[T], float64 on the CPU, as processes are."""
        later = torch.sigmoid(self.logits.to("cpu", torch.float64))
        return torch.cat([later.new_tensor([self.first]), later])

    def process(self) -> TableProcess:
        """The process of the betas as they are now; it has their gradient."""
        return TableProcess.from_betas(self.betas())
