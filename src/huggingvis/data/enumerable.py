r"""A law of words that can be written down: the oracle in which every quantity of categorical diffusion is exact.

If p(x_0) = sum_n w_n [x_0 = word n], then on any categorical process, whose noise meets each position by itself:

    q(x_t)              = sum_n w_n prod_i q(x_t,i | word_n,i)
    r_n(x_t)            = w_n prod_i q(x_t,i | word_n,i) / q(x_t)                  (which word it was)
    p(x_0,i = j | x_t)  = sum_n r_n [word_n,i = j]                                  (the perfect denoiser)

The heartbeat of Sohl-Dickstein et al. 2015 (arXiv 1503.03585, Sec. 3.1.2) is one. Book: chapter 4, "An oracle".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Categorical
from huggingvis.core.categorical import CategoricalProcess
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond, Denoiser


@final
class Enumerable:
    """`words` [N, L] int64, all different, with the probabilities `weights` [N], kept in float64."""

    def __init__(self, words: Tensor, weights: Tensor | None = None):
        self.words = words.to(torch.int64)
        if self.words.ndim != 2 or len(self.words.unique(dim=0)) != len(self.words):
            raise UsageError(f"Words are rows of classes [N, L] that all differ, found {tuple(self.words.shape)}.")
        even = torch.ones(len(self.words), dtype=torch.float64) if weights is None else weights.to(torch.float64)
        self.weights = even / even.sum()

    @property
    def entropy(self) -> float:
        """Of a word, in nats."""
        return float(torch.special.entr(self.weights).sum())

    def denoiser(self, process: CategoricalProcess) -> Denoiser:
        """The perfect denoiser on `process`."""
        return EnumerableDenoiser(self, process)

    def log_prob(self, x: Tensor, process: CategoricalProcess, t: Tensor) -> Tensor:
        """log q(x_t) of x [B, L] in nats, [B]; at t = 0 the data's own."""
        return self._joint(x, process, t).logsumexp(-1)

    def posterior(self, x: Tensor, process: CategoricalProcess, t: Tensor) -> Tensor:
        """Which word x_t [B, ..., L] was: [B, ..., N]."""
        return self._joint(x, process, t).softmax(-1)

    def x0(self, x: Tensor, process: CategoricalProcess, t: Tensor) -> Tensor:
        """p(x_0 = j | x_t) at every position, [B, ..., L, K]."""
        return torch.einsum("...n,nlk->...lk", self.posterior(x, process, t), process.one_hot(self.words))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` exact draws, int64 [n, L]."""
        return self.words[torch.multinomial(self.weights, n, replacement=True, generator=generator)]

    def _joint(self, x: Tensor, process: CategoricalProcess, t: Tensor) -> Tensor:
        """log w_n q(x_t | word n), [B, ..., N]."""
        each = process.backward(x, torch.zeros_like(t), t).log()  # [B, ..., L, K]
        place = torch.arange(self.words.shape[1])
        return each[..., place, self.words].sum(-1) + self.weights.log()


@final
@dataclass(frozen=True)
class EnumerableDenoiser:
    """The perfect denoiser of the words of `law` on `process`."""

    law: Enumerable
    process: CategoricalProcess

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        return Categorical(self.law.x0(x, self.process, t).log())


def heartbeat(length: int = 20, period: int = 5) -> Enumerable:
    """Sequences of bits in which every `period`-th is 1 and the others 0, all phases alike."""
    if period < 1 or length % period:
        raise UsageError(f"A heartbeat's length is a multiple of its period, found {length} and {period}.")
    return Enumerable(torch.eye(period, dtype=torch.int64).repeat(1, length // period))
