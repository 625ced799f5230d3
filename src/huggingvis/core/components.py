r"""A process whose components become noise at different rates, and how any sampler walks it.

Batzolis, Stanczuk, Schonlieb, Etmann 2022, "Non-Uniform Diffusion Models" (arXiv 2207.09786), Sec. 3: instead of one
number, signal and noise are vectors of time,

    x_t = alpha(t) * x_0 + sigma(t) * eps,        alpha, sigma: one value for each component

Components that share a rate are a part, and each part is a plain process. Beliefs couple the parts, but given a belief
they do not know of each other; so a step of any sampler is taken in each part by itself (`Lockstep`). In which basis
the components are (pixels, wavelets, cosines) is a codec's business. Book: chapter 4, "Different speeds".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.levels import Table
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State


@final
class Components(Process):
    """`parts`: the processes; `part_of`: int64 of shape [C, H, W] or what broadcasts to it, the part of each component.

    The first part sets the pace: grids and the network's clock go by it. Coefficients are [B or 1, *part_of.shape].
    """

    def __init__(self, parts: tuple[Process, ...], part_of: Tensor):
        found = set(part_of.unique().tolist())
        if found != set(range(len(parts))):
            raise UsageError(
                f"Each of the {len(parts)} parts of a process needs components, numbered from 0; found those of "
                f"{sorted(found)}."
            )
        self.parts, self.part_of = parts, part_of

    @property
    def pace(self) -> Process:
        """The first part."""
        return self.parts[0]

    def alpha(self, t: Tensor) -> Tensor:
        return self._spread([part.alpha(t) for part in self.parts])

    def sigma(self, t: Tensor) -> Tensor:
        return self._spread([part.sigma(t) for part in self.parts])

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, noise = zip(*(part.derivatives(t) for part in self.parts), strict=True)
        return self._spread(list(signal)), self._spread(list(noise))

    def tables(self, times: Tensor) -> dict[int, Table | None]:
        """Those of each part."""
        return {key: table for part in self.parts for key, table in part.tables(times).items()}

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """The time at which the first part has this log-SNR."""
        return self.pace.t_of_logsnr(lam)

    def clock(self, t: Tensor) -> Tensor:
        return self.pace.clock(t)

    def places(self, shape: torch.Size) -> tuple[Tensor, ...]:
        """Where each part's components are in data of `shape` (without the batch) laid out in a row, int64 [n_k]."""
        part_of = self.part_of.expand(shape).flatten()
        return tuple((part_of == k).nonzero()[:, 0] for k in range(len(self.parts)))

    def _spread(self, values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values, -1)  # [K] or [B, K]
        stacked = stacked[None] if stacked.ndim == 1 else stacked
        return stacked[:, self.part_of.to(stacked.device)]  # [B or 1, *part_of.shape]


class _Asks(Exception):
    """A part's step needs the belief at (x, t) before it can go on."""

    def __init__(self, x: Tensor, t: Tensor):
        self.x, self.t = x, t


class _Ends(NamedTuple):
    """A part's step is done."""

    x: Tensor  # [B, n]
    state: State


@dataclass(frozen=True)
class _Shared:
    """What all parts are told in a step: beliefs about the whole datum, and noise of its shape, each kept in order."""

    noise: Noise
    whole: Tensor  # [B, ...]
    beliefs: list[Gaussian] = field(default_factory=list)
    draws: list[Tensor] = field(default_factory=list)

    def draw(self, n: int) -> Tensor:
        if n == len(self.draws):
            self.draws.append(self.noise.draw(self.whole))
        return self.draws[n].flatten(1)


@dataclass(frozen=True)
class _Part:
    """One part at the start of a step: its process, where its components are, their values, its history."""

    process: Process
    place: Tensor  # [n]
    start: Tensor  # [B, n]
    history: State

    def run(self, sampler: Sampler, t: Tensor, s: Tensor, shared: _Shared) -> _Ends | _Asks:
        """The step as far as what is `shared` carries it."""
        if _rests(self.process, t, s):
            return _Ends(self.start, sampler.init())
        view = _View(self.place, shared)
        try:
            return _Ends(*sampler.step(view.believe, self.process, self.start, t, s, self.history, view))
        except _Asks as asks:
            return asks


@dataclass
class _View:
    """A part's own view of what is shared, from its beginning."""

    place: Tensor
    shared: _Shared
    asked: int = 0
    drawn: int = 0

    def believe(self, x: Tensor, t: Tensor) -> Belief:
        if self.asked == len(self.shared.beliefs):
            raise _Asks(x, t)
        self.asked += 1
        return _taken(self.shared.beliefs[self.asked - 1], self.place)

    def draw(self, like: Tensor) -> Tensor:
        self.drawn += 1
        return self.shared.draw(self.drawn - 1)[:, self.place].to(like)


@final
@dataclass(frozen=True)
class Lockstep:
    """`sampler` on all parts of a process at once.

    A step is a pure function, so it is run in each part until it needs a belief, which is then asked for all parts
    together, and run again from its start with one more answer. The arithmetic is repeated, the network is not.
    Raises `UsageError` for samplers that go by noise levels inside of a step: parts reach them at different times.
    """

    sampler: Sampler

    def init(self) -> State:
        return None

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        assert isinstance(process, Components)
        places, states = state or self._begin(process, x)
        parts = [
            _Part(of, place, x.flatten(1)[:, place], history)
            for of, place, history in zip(process.parts, places, states, strict=True)
        ]
        shared = _Shared(noise, x)
        while True:
            outcomes = [part.run(self.sampler, t, s, shared) for part in parts]
            ended = [outcome for outcome in outcomes if isinstance(outcome, _Ends)]
            if len(ended) == len(parts):
                return _joined([end.x for end in ended], places, x), (places, [end.state for end in ended])
            when = self._one_time([outcome.t for outcome in outcomes if isinstance(outcome, _Asks)])
            there = [self._at(when, t, s, part, outcome) for part, outcome in zip(parts, outcomes, strict=True)]
            belief = denoise(_joined(there, places, x), when)
            if not isinstance(belief, Gaussian):
                raise UsageError("Data whose components become noise at different rates are continuous.")
            shared.beliefs.append(belief)

    def _begin(self, process: Components, x: Tensor) -> tuple[list[Tensor], list[State]]:
        """Where the parts are, found once a walk, and their histories."""
        places = [place.to(x.device) for place in process.places(x.shape[1:])]
        return places, [self.sampler.init() for _ in places]

    def _one_time(self, times: list[Tensor]) -> Tensor:
        values = [float(t) for t in times]
        if max(values) - min(values) > 1e-12:
            raise self._refusal()
        return times[0]

    def _at(self, when: Tensor, t: Tensor, s: Tensor, part: _Part, outcome: _Ends | _Asks) -> Tensor:
        """The values of a part at `when`; those of one that has ended are known at `t`, at `s`, and where it rests."""
        if isinstance(outcome, _Asks):
            return outcome.x
        if float(when) == float(t) or outcome.x is part.start:
            return part.start
        if float(when) == float(s):
            return outcome.x
        raise self._refusal()

    def _refusal(self) -> UsageError:
        return UsageError(
            f"{type(self.sampler).__name__} calls the network between the times of its grid, and this model's "
            "components, which become noise at different speeds, need it at different ones. Use one that calls it at "
            "the grid's times alone, such as ddim, ddpm, heun, dpm++2m, lms, deis or unipc."
        )


def _rests(part: Process, t: Tensor, s: Tensor) -> bool:
    """Whether nothing happens in this part between `t` and `s`."""
    return float(part.alpha(t)) == float(part.alpha(s)) and float(part.sigma(t)) == float(part.sigma(s))


def _joined(parts: list[Tensor], places: list[Tensor], like: Tensor) -> Tensor:
    """The components [B, n_k] of all parts in their places, shaped like `like` [B, ...]."""
    out = torch.empty(len(like), like[0].numel(), dtype=like.dtype, device=like.device)
    return out.index_copy(1, torch.cat(places), torch.cat(parts, 1)).view(like.shape)


def _taken(belief: Gaussian, place: Tensor) -> Gaussian:
    def take(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.flatten(1)[:, place]

    return replace(belief, x0=belief.x0.flatten(1)[:, place], logvar=take(belief.logvar), v=take(belief.v))
