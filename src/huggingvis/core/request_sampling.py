"""The numbers of a request that say how belief becomes a sample, and from whose random numbers.

Part of the `Request` (`core.request`); plain, without tensors. `core.streams` has the sources of random numbers.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar, final

from huggingvis.core import rules
from huggingvis.core.errors import UsageError, unknown

MAX_SEED = 2**63 - 1
BY_CHANCE = -1
"""A seed that is to be drawn, as other programs have it."""
OWN = "own"
"""The name of the sampler, and of the schedule, that a model came with."""
RNGS = (OWN, "cpu", "philox", "comfy", "invoke")
"""Where noise may come from."""
FIRST = frozenset({
    "sampler", "schedule", "steps", "guidance_scale", "guidance_rescale", "guidance_interval", "eta", "seed",
})  # fmt: skip
"""The numbers that the first records had: who says all of them leaves none to the model."""
_MOST_THREADS = 1 << 24
_LARGEST_DELTA = 1 << 32
_DRAWN_SEEDS = 1 << 32  # as many as other programs can repeat


@dataclass(frozen=True)
class Sampling:
    """How belief becomes a sample: who integrates, on which times, how strongly guided, from which noise."""

    sampler: str = "dpm++2m"  #: the sampler's name
    schedule: str = "uniform"  #: how the times of the steps are spread
    steps: int = 20  #: calls of the sampler
    guidance_scale: float = 5.0  #: classifier-free guidance; 1 is none
    guidance_rescale: float = 0.0  #: 0 to 1: how far the guided belief gets back the spread of the conditional one
    guidance_interval: tuple[float, float] = (0.0, 1.0)  #: the times t (0 clean, 1 noise) between which guidance acts
    eta: float = 0.0  #: 0 to 1: share of fresh noise in samplers that have one
    seed: int = 0  #: start of the noise, -1: a random one; picture i of the batch has a stream of its own
    #: whose random numbers: own, cpu (A1111's), philox (a GPU's, A1111's NV), comfy or invoke (a GPU's for the steps)
    rng: str = OWN
    gpu_threads: int = 0  #: resident threads of the GPU whose numbers are repeated; 0: as many as there are numbers
    eta_noise_seed_delta: int = 0  #: A1111's ENSD: added to the seed for the noise of the steps
    variation_seed: int = 0  #: the seed that variations lean to; picture i of the batch leans to the i-th after it
    variation_strength: float = 0.0  #: 0 to 1: how far the first noise leans to that of the variation seed
    seed_resize: tuple[int, int] = (0, 0)  #: width,height whose noise lies in the middle of the picture's; 0,0: none
    discard_penultimate: bool = False  #: one level more, and of them the last above clean is left out

    def seeds(self, i: int) -> dict[str, int]:
        """The `seed` of picture i, and its `variation_seed` if it is a variation; variations share the seed."""
        if self.variation_strength == 0.0:
            return {"seed": self.seed + i}
        return {"seed": self.seed, "variation_seed": self.variation_seed + i}

    def saying(self, **numbers: Any) -> Self:
        """With these numbers, which are said thereby even where they are as ever."""
        return replace(self, **numbers)


@final
@dataclass(frozen=True)
class Unsaid(Sampling):
    """The numbers of a request that says only some, or none: a model has its own in the place of the others."""

    said: frozenset[str] = frozenset()  #: names of those that were said; whatever is not as ever was

    def __post_init__(self) -> None:
        changed = {field.name for field in fields(Sampling) if getattr(self, field.name) != field.default}
        object.__setattr__(self, "said", frozenset(self.said | changed))

    def saying(self, **numbers: Any) -> Self:
        return replace(self, said=self.said | numbers.keys(), **numbers)

    def numbers(self) -> dict[str, Any]:
        """Those that were said."""
        return {name: getattr(self, name) for name in sorted(self.said)}


def as_said(sampling: Sampling, names: Iterable[str], before: Sampling) -> Sampling:
    """`sampling`, of which a plain form has `names`, on top of `before`: where it leaves out some, they are unsaid."""
    said = frozenset(names)
    if not isinstance(before, Unsaid) or said >= FIRST:
        return sampling
    return Unsaid(**vars(sampling) | {"said": before.said | said})


S = TypeVar("S", bound=Sampling)


def drawn(sampling: S) -> S:
    """`sampling` with a number drawn for each seed that is -1; who asks draws once, and the record holds what was."""
    seed, variation_seed = (
        secrets.randbelow(_DRAWN_SEEDS) if asked == BY_CHANCE else asked
        for asked in (sampling.seed, sampling.variation_seed)
    )
    return replace(sampling, seed=seed, variation_seed=variation_seed)


def check_seeds(sampling: Sampling, count: int, sides: tuple[int, int]) -> None:
    """Raises `UsageError` for random numbers that cannot be; `sides`: the least and the largest of a picture."""
    for name in ("seed", "variation_seed"):
        rules.whole(name, getattr(sampling, name), 0, MAX_SEED, also=f", or {BY_CHANCE} for a random one")
    if count - 1 > MAX_SEED - max(sampling.seed, sampling.variation_seed):
        raise UsageError(f"seed plus count must stay within {MAX_SEED}; choose a smaller seed.")
    if sampling.rng not in RNGS:
        if sampling.rng.lower() in ("nv", "gpu"):
            raise UsageError(
                f"There is no source of random numbers (rng) called {sampling.rng!r}. A1111's NV and GPU are 'philox'."
            )
        raise unknown("source of random numbers (rng)", sampling.rng, RNGS)
    rules.whole("gpu_threads", sampling.gpu_threads, 0, _MOST_THREADS)
    rules.whole("eta_noise_seed_delta", sampling.eta_noise_seed_delta, -_LARGEST_DELTA, _LARGEST_DELTA)
    if sampling.eta_noise_seed_delta and sampling.rng in ("comfy", "invoke"):
        raise UsageError(
            f"eta_noise_seed_delta is A1111's, but rng {sampling.rng!r} has a rule of its own for the noise of the "
            "steps. Leave one of them out, or take the rng 'cpu' or 'philox'."
        )
    rules.number("variation_strength", sampling.variation_strength, 0.0, 1.0)
    if any(sampling.seed_resize):
        for side in sampling.seed_resize:
            rules.whole("seed_resize", side, *sides, unit=" pixels")
