r"""PNDM: linear multistep on the noise, with the step of DDIM to carry it.

Liu, Ren, Lin, Zhao 2022, arXiv 2202.09778; of second order. The four-step Adams-Bashforth rule with its weights for
even steps,

    eps' = (55 eps_t - 59 eps_1 + 37 eps_2 - 9 eps_3)/24                              eq. 12

then DDIM's step with eps' (their "transfer part" phi, eq. 11). Its first steps have fewer terms: (3, -1)/2 and
(23, -16, 5)/12. `warm_up` says how the very first is made: `Repeated`, the community's PLMS, makes it once, looks at
where it ends and makes it again with the mean of both noises, one call more; `PseudoRungeKutta`, the paper's eq. 13,
makes each of the first three steps with four calls; `AsTheyCome` makes them with the noises there are: the community's
IPNDM (Zhang & Chen 2022, arXiv 2204.13902, App. H.3). Book: chapter 4, "Multistep".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor

from huggingvis.core.noise import Noise
from huggingvis.core.process import Eps, Prediction, Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State
from huggingvis.samplers._levels import clean, euler, levels
from huggingvis.samplers._strides import GRID, Stride

SYSTEM = {
    "name": "PNDM",
    "chapter": 4,
    "paper": "2202.09778",
    "files": [],
    "built": "tests/walks/test_samplers_by_name.py::test_every_sampler_draws_from_a_run[plms]",
    "exact": [
        "tests/oracle/test_solvers.py::test_order_of_convergence",
        "tests/oracle/test_sampler_facts.py::test_pndm_beats_ddim_at_as_many_calls",
        "tests/interop/test_multistep_schedulers.py::test_plms",
        "tests/interop/test_multistep_schedulers.py::test_pndm_with_its_runge_kutta_start",
        "tests/interop/test_multistep_schedulers.py::test_pndm_as_a_folder_says",
        "tests/interop/test_sigma_schedules.py::test_ipndm",
    ],
    "trained": "benchmarks/curves/solvers.json",
    "explained": None,
    "usable": None,
}


ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


Asking = Callable[[Tensor, Tensor], Tensor]
"""(x, t) -> what the network predicts there."""
Stepping = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(prediction, t, s) -> x_s from the x of the step's start, taken to be x_t, by the transfer part."""


class WarmUp(Protocol):
    """How the first `steps` steps are made, `told` being the prediction at their start."""

    @property
    def steps(self) -> int:
        """How many."""
        ...

    def __call__(self, ask: Asking, go: Stepping, stride: Stride, t: Tensor, s: Tensor, told: Tensor) -> Tensor:
        """x_s."""
        ...


@final
@dataclass(frozen=True)
class Repeated:
    """The first step twice: Euler's, then with the mean of the predictions at its two ends."""

    steps: int = 1

    def __call__(self, ask: Asking, go: Stepping, stride: Stride, t: Tensor, s: Tensor, told: Tensor) -> Tensor:
        once = go(told, t, stride.end(t, s))
        return once if float(s) == 0.0 else go((told + ask(once, s)) / 2, stride.start(t, s), s)


@final
@dataclass(frozen=True)
class PseudoRungeKutta:
    """The classical four-stage rule with DDIM's step in place of a straight line; half-way is half-way in time."""

    steps: int = 3

    def __call__(self, ask: Asking, go: Stepping, stride: Stride, t: Tensor, s: Tensor, told: Tensor) -> Tensor:
        first, half = stride.middle(t, s)
        second = ask(go(told, t, first), half)
        third = ask(go(second, t, half), half)
        if float(s) == 0.0:  # nothing can be asked about clean data
            return go((told + 2 * second + 2 * third) / 5, t, s)
        return go((told + 2 * second + 2 * third + ask(go(third, t, s), s)) / 6, t, s)


@final
@dataclass(frozen=True)
class AsTheyCome:
    """No warm-up: the rules of one, two and three terms from the start, one call a step."""

    steps: int = 0

    def __call__(self, ask: Asking, go: Stepping, stride: Stride, t: Tensor, s: Tensor, told: Tensor) -> Tensor:
        return go(told, t, stride.end(t, s))


@final
@dataclass(frozen=True)
class PNDM(Sampler):
    """PNDM, PLMS; its state is the predictions of the steps before, newest first. From pure noise a step is Euler's.

    `of`: what is averaged. The paper averages noises; diffusers averages whatever the network predicts, v for some.
    `stride`: where a step ends, if not at the next call.
    """

    warm_up: WarmUp = Repeated()
    of: Prediction = Eps()
    stride: Stride = GRID
    order = 2

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x0 = clean(denoise(x, t))  # [B, ...]
        c = levels(process, t, s)
        if c.blind:
            return euler(x, x0, levels(process, t, self.stride.end(t, s))), None
        told = self._told(process, x, x0, t)
        before = (told, *(state or ()))[:4]
        ask, go = self._asking(denoise, process), self._stepping(process, x)
        if len(before) <= self.warm_up.steps:
            return self.warm_up(ask, go, self.stride, t, s, told), before
        mean = sum(w * past for w, past in zip(ADAMS_BASHFORTH[len(before) - 1], before, strict=True))
        assert isinstance(mean, Tensor)
        return go(mean, t, self.stride.end(t, s)), before

    def _told(self, process: Process, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return self.of.target(process, x0, process.eps(x, x0, t), t)

    def _asking(self, denoise: Bound, process: Process) -> Asking:
        return lambda x, t: self._told(process, x, clean(denoise(x, t)), t)

    def _stepping(self, process: Process, x: Tensor) -> Stepping:
        return lambda told, t, s: euler(x, self.of.x0(process, told, x, t), levels(process, t, s))
