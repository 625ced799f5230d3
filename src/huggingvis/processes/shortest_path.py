r"""Which blur goes with which noise: the shortest path from data to their end, in Wasserstein distance.

Daras et al. 2022 (arXiv 2209.05442) choose the corruption levels of soft diffusion so that its marginals move
as little as they can: levels of blur and of noise span a graph of laws, an edge is as long as the Wasserstein distance
of its two laws, and the schedule is the shortest path, walked at even speed. They estimate the distances from samples.
Here they are closed forms: in the cosine basis, in which blur is diagonal, a law with means c_k m_k and variances
c_k^2 P_k + s^2 is taken as the Gaussian with these moments, and for two of them

    W_2^2 = sum_k (c_k - c'_k)^2 m_k^2 + (sqrt(c_k^2 P_k + s^2) - sqrt(c'_k^2 P_k + s'^2))^2      (Gelbrich 1990)

An edge joins levels that are near each other, since a long one would cut through laws that no blur and noise give.
Book: chapter 4, "Without noise".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.processes.blur import Path, cosines, spectrum

REACH = 4
"""Edges go to levels at most so many further, of blur and of noise."""


class Moments(NamedTuple):
    """Mean and variance of every cosine coefficient of pictures, [C, H, W] each."""

    mean: Tensor
    power: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Those of the pictures `x` [N, C, H, W]."""
        v, u = cosines(x.shape[-2]), cosines(x.shape[-1])
        z = v @ x.detach().cpu().double() @ u.T
        return cls(z.mean(0), z.var(0, correction=0))


def standard(moments: Moments, widths: Tensor, sigmas: Tensor) -> Tensor:
    """The laws of all pairs of `widths` [I] (in shares of the shorter side) and `sigmas` [J] as points [I, J, D] whose
    Euclidean distances are their W_2.
    """
    h, w = moments.mean.shape[-2:]
    c = spectrum(widths * min(h, w), h, w)[:, None]  # [I, 1, H, W]
    mean = (c * moments.mean).flatten(1)[:, None].expand(-1, len(sigmas), -1)  # [I, J, CHW]
    variance = (c**2 * moments.power).flatten(1)[:, None] + sigmas[:, None] ** 2  # [I, J, CHW]
    return torch.cat([mean, variance.sqrt()], dim=-1)


def shortest_path(moments: Moments, widths: Tensor, sigmas: Tensor, knots: int = 400) -> Path:
    """The path from the first of `widths` and `sigmas`, both rising, to their last, at even speed on `knots` intervals.

    The first width is 0, and the first noise level is reached after the first interval, from none. A single width is
    noise alone.
    """
    rising = all(bool((levels.diff() > 0).all()) for levels in (widths, sigmas))
    if not rising or len(sigmas) < 2 or float(widths[0]) != 0.0 or float(sigmas[0]) <= 0.0:
        raise UsageError(
            "A path is searched among rising widths from 0 and at least 2 rising noise levels above 0, found "
            f"{widths.tolist()[:3]} ... and {sigmas.tolist()[:3]} ..."
        )
    points = standard(moments, widths.double(), sigmas.double())  # [I, J, 2 C H W]
    route = _route(points)
    at = torch.stack([points[i, j] for i, j in route])
    length = torch.cat([torch.zeros(1, dtype=torch.float64), at.diff(dim=0).norm(dim=1).cumsum(0)])
    even = torch.linspace(0, float(length[-1]), knots, dtype=torch.float64)
    w, s = (
        _read(even, length, levels.double()[[step[axis] for step in route]])
        for axis, levels in enumerate((widths, sigmas))
    )
    return Path((0.0, *w.tolist()), (0.0, *s.tolist()))


def _route(points: Tensor) -> list[tuple[int, int]]:
    """The shortest route (i, j) from the first to the last corner of `points` [I, J, D]; neither index ever falls."""
    rows, columns = points.shape[:2]
    moves = [(a, b) for a in range(REACH + 1) for b in range(REACH + 1) if math.gcd(a, b) == 1]
    edges = {(a, b): (points[a:, b:] - points[: rows - a, : columns - b]).norm(dim=-1).tolist() for a, b in moves
             if a < rows and b < columns}  # fmt: skip
    best: dict[tuple[int, int], tuple[float, tuple[int, int]]] = {(0, 0): (0.0, (0, 0))}
    for i in range(rows):
        for j in range(columns):
            if i or j:
                best[i, j] = min(
                    (best[i - a, j - b][0] + edge[i - a][j - b], (i - a, j - b))
                    for (a, b), edge in edges.items()
                    if a <= i and b <= j
                )
    route = [(rows - 1, columns - 1)]
    while route[-1] != (0, 0):
        route.append(best[route[-1]][1])
    return route[::-1]


def _read(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The line through (x, y), x rising, at `at`."""
    k = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    part = ((at - x[k - 1]) / (x[k] - x[k - 1]).clamp(min=1e-300)).clamp(0, 1)
    return torch.lerp(y[k - 1], y[k], part)
