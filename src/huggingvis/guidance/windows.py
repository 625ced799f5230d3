r"""A canvas larger than what a net knows: overlapping windows, whose beliefs are averaged where they meet.

Bar-Tal, Yariv, Lipman, Dekel 2023, "MultiDiffusion" (arXiv 2302.08113), Eq. 5 with even weights. What is averaged is
the belief about x_0 in place of x after the step; a step is affine in the belief, so both are the same picture, and
here every sampler walks the whole canvas without knowing of windows. For n windows F_i that see a place,

    x_0 = 1/n sum_i D(F_i(x_t), t, F_i(c))

Entries of the condition that have places, such as a plan, a mask or what an adapter made of a picture, are cut as x_t
is. Edges may meet, for textures that repeat: windows then go round. Book: chapter 6, "Large pictures".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond, Denoiser

SYSTEM = {
    "name": "MultiDiffusion",
    "chapter": 6,
    "paper": "2302.08113",
    "files": ["edits/sizes.py"],
    "built": "tests/walks/test_large_pictures.py::test_a_panorama_of_the_shipped_model",
    "exact": [
        "tests/oracle/test_windows.py::test_a_pixelwise_denoiser_is_not_changed",
        "tests/interop/test_large_pictures.py::test_a_panorama_is_that_of_diffusers",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

GRAIN = 8
"""Windows begin at multiples of this where they can, so that the smaller maps of what is cut along fit too."""


@final
@dataclass(frozen=True)
class Windows:
    """Beliefs of windows [.., height, width], averaged. A window as large as the canvas changes no bit.

    `overlap`: the share of a window that the next one covers too, at least. `wrap`: whether the upper and lower, the
    left and right edges meet. `at_once`: windows in one call of the net. Raises `UsageError` for a condition that
    cannot be cut.
    """

    height: int
    width: int
    overlap: float = 0.5
    wrap: tuple[bool, bool] = (False, False)
    at_once: int = 4

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def averaged(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            if x.ndim != 4:
                raise UsageError(f"Windows are cut out of pictures [B, C, H, W], found {x.ndim} dimensions.")
            sides, meets = x.shape[-2:], self.wrap
            rows = starts(sides[0], self.height, self.overlap, meets[0])
            columns = starts(sides[1], self.width, self.overlap, meets[1])
            corners = list(product(rows, columns))
            if corners == [(0, 0)]:
                return denoise(x, t, cond)
            mean, seen = _Mean(x), 0
            while seen < len(corners):
                some = corners[seen : seen + self.at_once]
                belief = denoise(*_cut(x, t, cond, [self._view(sides, corner) for corner in some]))
                if not isinstance(belief, Gaussian):
                    raise TypeError(f"windows average beliefs about numbers, found {type(belief).__name__}")
                for corner, parts in zip(some, _parts(belief, len(some)), strict=True):
                    mean.add(parts, self._view(sides, corner))
                seen += len(some)
            return mean.belief()

        return averaged

    def _view(self, sides: Sequence[int], corner: tuple[int, int]) -> View:
        rows, columns = sides
        return View(min(self.height, rows), min(self.width, columns), *corner, rows, columns)


def starts(length: int, window: int, overlap: float, wrap: bool = False) -> list[int]:
    """Where windows begin along an axis: as few as share at least `overlap`, evenly spread; on a ring if it wraps."""
    window = min(window, length)
    stride = max(1, int(window * (1 - overlap)))
    rest = length if wrap else length - window
    count = math.ceil(rest / stride) + (not wrap)
    if count == 1:
        return [0]
    grain = math.gcd(rest, stride, GRAIN)
    return [grain * round(i * rest / (count - (not wrap)) / grain) for i in range(count)]


@final
@dataclass(frozen=True)
class View:
    """A window of `height` by `width` at `top`, `left` of a canvas of `rows` by `columns`; it may go round edges."""

    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int

    def of(self, value: Tensor) -> Tensor:
        """The window's part of `value` [B, C, H', W'], a map of the canvas in any size. Raises `UsageError`."""
        for dim, first, size, whole in (
            (2, self.top, self.height, self.rows),
            (3, self.left, self.width, self.columns),
        ):
            first, size = (_rescaled(n, value.shape[dim], whole) for n in (first, size))
            value = _taken(value, dim, first, size)
        return value


def _rescaled(n: int, to: int, of: int) -> int:
    if n * to % of:
        raise UsageError(
            f"A condition in {to} parts cannot be cut along with {of} latents into windows that begin at or last {n} "
            "of them. Choose windows and a canvas of multiples of 64 pixels, or leave the adapter out."
        )
    return n * to // of


def _taken(value: Tensor, dim: int, first: int, size: int) -> Tensor:
    if first + size <= value.shape[dim]:
        return value.narrow(dim, first, size)
    at = torch.arange(first, first + size, device=value.device) % value.shape[dim]
    return value.index_select(dim, at)


def _cut(x: Tensor, t: Tensor, cond: Cond, views: Sequence[View]) -> tuple[Tensor, Tensor, Cond]:
    """The windows one after another in the batch, with their times and conditions."""
    n = len(views)
    told = {
        key: torch.cat([view.of(value) for view in views]) if _has_places(value, x) else _repeated(value, n)
        for key, value in cond.items()
    }
    return torch.cat([view.of(x) for view in views]), t if t.ndim == 0 else t.repeat(n), told


def _repeated(value: Tensor, n: int) -> Tensor:
    return value.repeat(n, *[1] * (value.ndim - 1))


def _has_places(value: Tensor, x: Tensor) -> bool:
    """Whether an entry of the condition is a map of the canvas: four dimensions, the last two of its shape."""
    return value.ndim == 4 and value.shape[-2] * x.shape[-1] == value.shape[-1] * x.shape[-2]


def _parts(belief: Gaussian, n: int) -> list[Gaussian]:
    logvar, v = (None if part is None else part.chunk(n) for part in (belief.logvar, belief.v))
    return [
        Gaussian(x0, None if logvar is None else logvar[i], None if v is None else v[i])
        for i, x0 in enumerate(belief.x0.chunk(n))
    ]


class _Mean:
    """A mean that is updated window by window: of equal numbers it is that number, bit for bit."""

    def __init__(self, x: Tensor):
        self.count = x.new_zeros(1, 1, *x.shape[-2:])  # [1, 1, H, W]
        self.maps: dict[str, Tensor] = {}
        self.like = x

    def add(self, belief: Gaussian, view: View) -> None:
        rows = (torch.arange(view.height, device=self.like.device) + view.top) % view.rows
        columns = (torch.arange(view.width, device=self.like.device) + view.left) % view.columns
        self.count[:, :, rows[:, None], columns] += 1
        for name in ("x0", "logvar", "v"):
            part: Tensor | None = getattr(belief, name)
            if part is None:
                continue
            if name not in self.maps:
                self.maps[name] = part.new_zeros(*self.like.shape[:1], part.shape[1], *self.like.shape[-2:])
            old = view.of(self.maps[name])
            self.maps[name][:, :, rows[:, None], columns] = old + (part - old) / view.of(self.count)

    def belief(self) -> Gaussian:
        return replace(Gaussian(self.maps["x0"]), logvar=self.maps.get("logvar"), v=self.maps.get("v"))
