r"""RePaint: what is known is put in, and the way is walked several times, so that the rest comes to agree with it.

Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion Probabilistic Models" (arXiv 2201.09865), Alg. 1:

    x_s of what is known    alpha_s x_0 + sigma_s eps, fresh eps at each step             eq. 8a
    x_s of the rest         the sampler's step from the whole x_t                         eq. 8b
    a jump                  x_s back to x_t by q(x_t | x_s), then down again              Sec. 4.2

Putting in what is known makes each x_s right there, but joins it to a rest that was drawn for another x_t: one walk
stays biased however many steps it has. A jump mixes both in the noise and lets the next walk settle the seam. The rest
is then as good as a draw of p(rest | known) once the jumps are many; §4.2 of the paper takes jumps of 10 of 250 steps,
each part of the way walked 10 times. A grid that rises is all that a jump is (`core.grid`).
Book: chapter 6, "Resampling".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import Noise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Bound
from huggingvis.core.sampler import Sampler, State

SYSTEM = {
    "name": "RePaint",
    "chapter": 6,
    "paper": "2201.09865",
    "files": [
        "edits/inpaint.py",
        "core/sample.py",
    ],
    "built": "tests/walks/test_inpainting.py::test_every_method_fills_the_hole_alone",
    "exact": [
        "tests/oracle/test_repaint.py::test_the_bias_falls_with_resampling",
        "tests/oracle/test_repaint.py::test_jumps_are_the_official_list",
        "tests/interop/test_repaint.py::test_equal_to_diffusers",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class Replaced(Sampler):
    """`inner`, with what is known put in after each step (eq. 8): x_s = alpha_s x_0 + sigma_s eps outside the hole.

    `hole`, which spreads over `known` x_0 [B, C, ...]: 1 where x is made up. `eps` as `known`: one and the same noise
    at each step, as blending has it (`edits.inpaint`); None: fresh noise at each, as RePaint. `basis` [C, C],
    orthonormal: the hole is one of the channels turned by it (`edits.colourise`); None: of the channels as they are.
    """

    inner: Sampler
    hole: Tensor
    known: Tensor
    eps: Tensor | None = None
    basis: Tensor | None = None

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of `inner`."""
        return self.inner.order

    def init(self) -> State:
        return self.inner.init()

    def step(
        self, denoise: Bound, process: Process, x: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        x, state = self.inner.step(denoise, process, x, t, s, state, noise)
        return self.put_in(x, process, s, noise), state

    def put_in(self, x: Tensor, process: Process, s: Tensor, noise: Noise) -> Tensor:
        """x_s with what is known in it, noised to s."""
        eps = noise.draw(self.known) if self.eps is None else self.eps
        return self.joined(x, process.add_noise(self.known, eps, s))

    def joined(self, x: Tensor, known: Tensor) -> Tensor:
        """`x` in the hole and `known` outside of it, [B, C, ...]."""
        if self.basis is None:
            return torch.where(self.hole > 0, x, known)
        both = torch.where(self.hole > 0, turned(x, self.basis), turned(known, self.basis))
        return turned(both, self.basis.T)


def turned(x: Tensor, basis: Tensor) -> Tensor:
    """The channels of x [B, C, ...] in the basis whose vectors are the rows of `basis` [C, C]."""
    return torch.einsum("ij,bj...->bi...", basis.to(x), x)


def jumping(grid: Grid, length: int, resamples: int, *, last: int = 1) -> Grid:
    """`grid` with jumps of `length` steps back, so that each part of the way is walked `resamples` times.

    A jump begins at each `length`-th time counted from the one `last` steps before the end, wherever there is room for
    it: the authors' list with 1, diffusers' with 0. Raises `UsageError` where there is no room for any.
    """
    if resamples == 1:
        return grid
    n = len(grid)
    if n <= length:
        raise UsageError(
            f"A jump of {length} steps has no room in {n} steps, so resampling would do nothing. Ask for at least "
            f"{length + 1} steps, or for shorter jumps."
        )
    left = {n - last - i: resamples - 1 for i in range(0, n - length, length)}
    places, at = [0], 0
    while at < n:
        at += 1
        places.append(at)
        if left.get(at, 0):
            left[at] -= 1
            at -= length
            places.append(at)
    path = torch.tensor(places)
    clocks = None if grid.clocks is None else grid.clocks[path[:-1].clamp(max=n - 1)]
    return Grid(grid.times[path], clocks)
