"""The few shapes of callables that everything else agrees on.

`Denoiser` is the waist: networks, closed-form mixtures and foreign models below it; guidance, samplers and edits above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.noise import Noise
from huggingvis.core.request import Request


@dataclass(frozen=True)
class Step:
    """What `on_step` is told: step `index` of `total` went from `t` to `s`, gave `x`, and believed `belief` at `t`."""

    index: int
    total: int
    t: float
    s: float
    x: Tensor
    belief: Belief | None


OnStep = Callable[[Step], None]
"""Called after each step: progress, previews; to cancel, raise `errors.Cancelled` from it."""

Cond = Mapping[str, Tensor]
"""What a model is conditioned on; dimension 0 of every value is the batch.

Common keys: `vector` [B, D]; `tokens` [B, L, D] with `tokens_mask` [B, L] bool, so lengths can differ; `concat`
[B, C, H, W]; `guidance` [B], the scale that a net distilled from guidance imitates; `residuals.N` and `features.N`,
what adapters add inside a U-Net; `clock` [B], when a grid tells the net another clock value than the process would;
`estimate` [B, ...], what was believed of x_0 one call before; `step` [B], the number of the step, for conditions that
change between steps. The condition that guidance moves away from has the same
keys under the prefix `negative.`.
"""


@runtime_checkable
class Denoiser(Protocol):
    """Belief about x_0 from x_t. `x` [B, ...] float32 or wider, `t` [] or [B] float64 in [0, 1]."""

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief: ...


Bound = Callable[[Tensor, Tensor], Belief]
"""A denoiser with its condition already in it: what samplers call."""

Guidance = Callable[[Denoiser], Denoiser]


@runtime_checkable
class Generative(Protocol):
    """Makes `n` samples: VAE decoder, GAN, flow inverse, diffusion, chains of them.

    `on_step` hears of each step of those that have steps.
    """

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor: ...


@runtime_checkable
class DrawsNone(Protocol):
    """A generative model that makes no picture of nothing: `why_none` says why, and what to do with it instead."""

    @property
    def why_none(self) -> str: ...


@runtime_checkable
class Encodes(Protocol):
    """Maps media tensors [B, C, H, W] in [-1, 1] to model space."""

    def encode(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class EncodesByChance(Protocol):
    """What a picture becomes has a law of its own; with `noise` it is drawn, without it is the likeliest."""

    by_chance: bool

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor: ...


class Shows(Protocol):
    """What a net that looks at pictures beside x_t is shown: entries of its condition.

    `x` [B, C, H, W] in [-1, 1]; `hole` [B, 1, H, W] is 1 where x is made anew, None where nothing is masked.
    """

    def __call__(self, x: Tensor, hole: Tensor | None, noise: Noise) -> Mapping[str, Tensor]: ...


@runtime_checkable
class Decodes(Protocol):
    """Maps model space back to media tensors [B, C, H, W] in [-1, 1]."""

    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class Codec(Encodes, Decodes, Protocol):
    """Both ways between media and model space."""


@runtime_checkable
class Latent(Protocol):
    """Pictures are made of latents that have a law of their own: `decode(latents(n, cond, noise=noise), cond)`.

    `middle` is the latent that the others lie around, without a batch dimension: zeros for N(0, I).
    """

    @property
    def middle(self) -> Tensor: ...

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor: ...

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor: ...


@runtime_checkable
class Shaped(Protocol):
    """Latents have this shape, without the batch; 0 where any number will do."""

    @property
    def latent_shape(self) -> tuple[int, ...]: ...


@runtime_checkable
class Styles(Latent, Protocol):
    """Latents are styles w, one for each of `layers` layers, [B, L, D]: those of two pictures can be mixed."""

    @property
    def layers(self) -> int: ...


@runtime_checkable
class Mapped(Styles, Protocol):
    """Styles are made from draws z of N(0, I), [B, Z]: `latents` are `styled` ones."""

    def normals(self, n: int, *, noise: Noise) -> Tensor: ...

    def styled(self, z: Tensor, cond: Cond) -> Tensor: ...


@runtime_checkable
class Completes(Protocol):
    """Tells what pictures x [B, C, H, W] in [-1, 1] may look like where they are not seen.

    Which part is seen is the model's to say: one that takes any mask is bound to a mask before it is asked.
    """

    def seen(self, x: Tensor) -> Tensor:
        """Where pictures like x are seen, bool [1 or B, 1, H, W]; the rest of x is never looked at."""
        ...

    def complete(self, x: Tensor, *, noise: Noise) -> Tensor:
        """A draw for each picture, equal to x where it is seen."""
        ...

    def likeliest(self, x: Tensor) -> Tensor:
        """The same without chance: what is believed most of each picture."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Tells log p(x) in nats, [B]."""

    def log_prob(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Density(Likelihood, Protocol):
    """`log_prob` is that of a continuous density over pictures in [-1, 1], which have `dims` numbers each."""

    @property
    def dims(self) -> int: ...


@runtime_checkable
class Classifies(Protocol):
    """Tells log p(class | picture), [B, K], of pictures [B, C, H, W] in [-1, 1]; `classes` are the names of the K."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def log_probs(self, x: Tensor) -> Tensor: ...


class Conditioner(Protocol):
    """Turns requests (one per picture) into a `Cond`; `prepare` adds what no step changes.

    `notes` says in sentences what a request asks for that the model cannot do (words it does not know).
    """

    def __call__(self, requests: Sequence[Request]) -> Cond: ...

    def prepare(self, cond: Cond) -> Cond: ...

    def notes(self, request: Request) -> tuple[str, ...]: ...


Batch = Mapping[str, Any]
"""One training batch: tensors with dimension 0 the batch; text travels as a list of strings."""


class Batches(Protocol):
    """Training data addressed by number, so that a killed run resumes on exactly the next batch."""

    def batch(self, index: int, size: int) -> Batch:
        """Batch number `index` of `size` items: a pure function of its arguments."""
        ...


@dataclass(frozen=True)
class Measure:
    """What a family of models is compared by on pictures that it was not trained on.

    `each(batch, draws, seed)` tells named numbers of every picture of a batch, [B] each; `meaning` says in words what
    they are and in which unit. `draws`: how many random draws they are estimated by where none are asked for.
    """

    each: Callable[[Batch, int, int], Mapping[str, Tensor]]
    meaning: str
    draws: int = 1
