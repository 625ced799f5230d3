r"""A conditional model out of one of pairs: the condition is made noisy too, at its own speed.

Batzolis, Stanczuk, Schonlieb, Etmann 2021 (arXiv 2111.13606) and "Non-Uniform Diffusion Models" 2022 (arXiv
2207.09786), Sec. 5. To draw x given y, all one needs is the score of x_t given something that knows y:

    CDE      grad log p(x_t | y)      a network that is told the clean condition
    CDiffE   grad log p(x_t | y_t)    the x part of the score of pairs (x_t, y_t); y_t is drawn from p(y_t | y)
    CMDE     the same where y becomes noise more slowly: the slower, the more is known; at speed 0 it is CDE

The last two need no more than an unconditional model of pairs. Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser

GIVEN, SEED = "given", "given.seed"


@final
@dataclass(frozen=True)
class DiffusedCondition:
    """A denoiser of pairs [x, y] (along dimension 1) becomes one of x, given y = `cond["given"]` [B, C', ...].

    `process`: that of y. `fresh`: the noise of y_t is drawn anew for each time, from `cond["given.seed"]` [B] and the
    time; else one draw serves all times. Raises `UsageError` where the condition is missing.
    """

    process: Process
    fresh: bool = True

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def conditional(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            if GIVEN not in cond or SEED not in cond:
                raise UsageError(
                    "This model draws one half of a pair when the other is given. Put that half under the condition "
                    f"{GIVEN!r} and a seed for each of its items under {SEED!r}."
                )
            y = cond[GIVEN].to(x)
            rest = {key: value for key, value in cond.items() if key not in (GIVEN, SEED)}
            if "estimate" in rest:  # a self-conditioned net's: of y it is known
                rest["estimate"] = torch.cat([rest["estimate"], y], 1)
            y_t = self.process.add_noise(y, self._noise(y, cond[SEED], t), t)
            belief = denoise(torch.cat([x, y_t], 1), t, rest)
            if not isinstance(belief, Gaussian):
                raise TypeError(f"conditions are noised as continuous data are, found {type(belief).__name__}")
            n = x.shape[1]
            return replace(belief, x0=belief.x0[:, :n], logvar=_first(belief.logvar, n), v=_first(belief.v, n))

        return conditional

    def _noise(self, y: Tensor, seeds: Tensor, t: Tensor) -> Tensor:
        times = t.expand(len(y)) if t.ndim == 0 else t
        own = [_mixed(int(seed), float(time) if self.fresh else 0.0) for seed, time in zip(seeds, times, strict=True)]
        return SeedNoise(own).draw(y)


def _first(values: Tensor | None, n: int) -> Tensor | None:
    return None if values is None else values[:, :n]


def _mixed(seed: int, time: float) -> int:
    """A seed for the stream of `seed` at `time`."""
    return int.from_bytes(hashlib.blake2b(struct.pack("<qd", seed, time), digest_size=8).digest(), "little") >> 1
