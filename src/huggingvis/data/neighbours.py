"""Exact nearest neighbours among the codes of a set of pictures, and the set as the memory of a generative model.

The search goes through all codes, a block of queries against a block of codes at a time, and misses nothing; where it
is used: A. Blattmann, R. Rombach, K. Oktay, J. Müller, B. Ommer, "Retrieval-Augmented Diffusion Models", 2022,
arXiv:2204.11824, section 3.1. Book: chapter 4, "Models with a memory".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.classes import ANY
from huggingvis.core.errors import UsageError

BLOCK = 4096


def nearest(queries: Tensor, codes: Tensor, k: int, *, skip: Tensor | None = None, block: int = BLOCK) -> Tensor:
    """Rows of `codes` [N, D] that are nearest to each of `queries` [Q, D], nearest first, [Q, k] int64.

    In float64, by Euclidean distance; of equally near ones, any. `skip` [Q]: a row that does not count for that query,
    negative for none. Raises `UsageError` where fewer than `k` rows are left.
    """
    if k > len(codes) - (skip is not None):
        raise UsageError(
            f"{k} neighbours were asked for, but there are {len(codes)} pictures to find them among"
            f"{', each counted out as its own neighbour' if skip is not None else ''}. Ask for fewer."
        )
    parts = [
        _nearest(q.double(), codes, k, None if skip is None else skip[start : start + block], block)
        for start, q in zip(range(0, len(queries), block), queries.split(block), strict=True)
    ]
    return torch.cat(parts) if parts else torch.empty(0, k, dtype=torch.long)


def _nearest(q: Tensor, codes: Tensor, k: int, skip: Tensor | None, block: int) -> Tensor:
    best = torch.empty(len(q), 0, dtype=torch.float64, device=q.device)
    rows = torch.empty(len(q), 0, dtype=torch.long, device=q.device)
    for start in range(0, len(codes), block):
        some = codes[start : start + block].double()  # [M, D]
        far = some.square().sum(1) - 2 * q @ some.T  # [Q, M]: |q - c|^2 - |q|^2
        number = torch.arange(start, start + len(some), device=q.device).expand_as(far)
        if skip is not None:
            far = far.masked_fill(number == skip[:, None], torch.inf)
        far, number = torch.cat([best, far], 1), torch.cat([rows, number], 1)
        best, order = far.topk(min(k, far.shape[1]), dim=1, largest=False)
        rows = number.gather(1, order)
    return rows


@final
@dataclass(frozen=True, eq=False)
class Memory:
    """Codes [N, D] of a set of pictures, on the CPU; `labels` [N] int64 and their names where they have classes."""

    codes: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    def drawn(self, u: Tensor, wanted: Tensor | None = None) -> Tensor:
        """A row for each of `u` [B] in [0, 1): uniform among all, or among those of class `wanted` [B] (ANY: all)."""
        wanted = torch.full_like(u, ANY, dtype=torch.long) if wanted is None else wanted
        out = torch.empty_like(u, dtype=torch.long)
        for number in wanted.unique().tolist():
            rows = torch.arange(len(self.codes)) if number == ANY else self._of_class(number)
            here = wanted == number
            out[here] = rows[(u[here].double() * len(rows)).long().clamp(max=len(rows) - 1)]
        return out

    def near(self, codes: Tensor, k: int, skip: Tensor | None = None) -> Tensor:
        """The codes of the `k` rows nearest to each of `codes` [B, D], nearest first: [B, k, D]."""
        return self.codes[nearest(codes, self.codes, k, skip=skip)]

    def around(self, rows: Tensor, k: int) -> Tensor:
        """The codes of the `k` nearest of other pictures for each of `rows` [B]: [B, k, D]."""
        return self.near(self.codes[rows], k, skip=rows)

    def _of_class(self, number: int) -> Tensor:
        rows = torch.empty(0) if self.labels is None else (self.labels == number).nonzero().flatten()
        if not len(rows):
            raise UsageError(f"No picture of the database is a {self.classes[number]!r}. Ask for another class.")
        return rows
