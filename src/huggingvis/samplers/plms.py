r"""PNDM: linear multistep on the noise, with the step of DDIM to carry it.

Liu, Ren, Lin, Zhao 2022, arXiv 2202.09778. The four-step Adams-Bashforth rule with its weights for even steps,

    eps' = (55 eps_t - 59 eps_1 + 37 eps_2 - 9 eps_3)/24                              eq. 12

then DDIM's step with eps' (their "transfer part" phi, eq. 11). Its first steps have fewer terms: (3, -1)/2 and
(23, -16, 5)/12. `warm_up` says how the very first is made: `Repeated`, the community's PLMS, makes it once, looks at
where it ends and makes it again with the mean of both noises, one call more; `PseudoRungeKutta`, the paper's eq. 13,
makes each of the first three steps with four calls. Book: chapter 4, "Multistep".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sample import Sampler, State
from huggingvis.samplers._levels import Levels, clean, euler, levels

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def noise_of(denoise: Bound, process: Process, x: Tensor, t: Tensor) -> Tensor:
    """What the network believes the noise in x_t to be, [B, ...]."""
    return process.eps(x, clean(denoise(x, t)), t)


def transfer(x: Tensor, eps: Tensor, c: Levels) -> Tensor:
    """DDIM's step with this noise (eq. 11), written without a difference of near numbers."""
    return (c.a_s / c.a_t) * x + (c.s_s - c.a_s / c.a_t * c.s_t) * eps


class WarmUp(Protocol):
    """How the steps without enough history are made."""

    steps: int

    def __call__(self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """x_s from x_t, `eps` being the noise believed in at x_t."""
        ...


@final
@dataclass(frozen=True)
class Repeated:
    """The first step twice: Euler's, then with the mean of the noises at its two ends."""

    steps: int = 1

    def __call__(self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        c = levels(process, t, s)
        if c.s_s == 0.0:
            return transfer(x, eps, c)
        end = noise_of(denoise, process, transfer(x, eps, c), s)
        return transfer(x, (eps + end) / 2, c)


@final
@dataclass(frozen=True)
class PseudoRungeKutta:
    """The classical four-stage rule with DDIM's step in place of a straight line; half-way is half-way in time."""

    steps: int = 3

    def __call__(self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        half = (t + s) / 2
        to_half, to_end = levels(process, t, half), levels(process, t, s)
        second = noise_of(denoise, process, transfer(x, eps, to_half), half)
        third = noise_of(denoise, process, transfer(x, second, to_half), half)
        if to_end.s_s == 0.0:
            return transfer(x, (eps + 2 * second + 2 * third) / 5, to_end)
        fourth = noise_of(denoise, process, transfer(x, third, to_end), s)
        return transfer(x, (eps + 2 * second + 2 * third + fourth) / 6, to_end)


@final
@dataclass(frozen=True)
class PNDM(Sampler):
    """PNDM, PLMS; its state is the noises of the steps before, newest first. From pure noise a step is Euler's."""

    warm_up: WarmUp = Repeated()
    order = 4

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        if c.blind:
            return euler(x, x0, c), None
        eps = (x - c.a_t * x0) / c.s_t  # [B, ...]
        before = (eps, *(state or ()))[:4]
        if len(before) <= self.warm_up.steps:
            return self.warm_up(denoise, process, x, t, s, eps), before
        mean = sum(w * past for w, past in zip(ADAMS_BASHFORTH[len(before) - 1], before, strict=True))
        assert isinstance(mean, Tensor)
        return transfer(x, mean, c), before
