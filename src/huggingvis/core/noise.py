"""Randomness with one stream per sample: the same seed draws the same numbers whatever the batch it sits in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor


class Noise(Protocol):
    """A source of standard normal numbers for a batch."""

    def draw(self, like: Tensor) -> Tensor:
        """Fresh N(0, I) numbers with shape, dtype and device of `like`; float32 where `like` holds no such numbers."""
        ...


def _dtype(like: Tensor) -> torch.dtype:
    return like.dtype if like.is_floating_point() else torch.float32


@final
class SeedNoise:
    """One CPU generator per sample: sample i is seeded with `seeds[i]` and never sees its neighbours.

    Numbers are drawn in float32 on the CPU and moved, so every device starts from the same noise.
    """

    def __init__(self, seeds: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def draw(self, like: Tensor) -> Tensor:
        if len(self.generators) != like.shape[0]:
            raise ValueError(f"noise was made for {len(self.generators)} samples, the batch has {like.shape[0]}")
        rows = [torch.randn(like.shape[1:], generator=g) for g in self.generators]
        return torch.stack(rows).to(dtype=_dtype(like), device=like.device)  # [B, ...]


@final
class BatchNoise:
    """One generator for a whole batch, in the dtype asked for: training, Monte-Carlo tests, large sample sets."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(int(seed))

    def draw(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=_dtype(like)).to(like.device)


@final
class ReplayNoise:
    """Hands out recorded draws in order: feeds a reference implementation's own noise to ours."""

    def __init__(self, draws: Sequence[Tensor]):
        self.draws = list(draws)
        self.used = 0

    def draw(self, like: Tensor) -> Tensor:
        if self.used >= len(self.draws):
            raise ValueError(f"the recording holds {len(self.draws)} draws and all are used")
        out = self.draws[self.used]
        self.used += 1
        return out.to(dtype=_dtype(like), device=like.device)


@final
class Replayed:
    """Draws of `inner` that can be had again from the first; those that nobody had before are fresh.

    `draws`: what was drawn before.
    """

    def __init__(self, inner: Noise, draws: Sequence[Tensor] = ()):
        self.inner, self.draws, self.used = inner, list(draws), 0

    def again(self) -> Replayed:
        """Itself, back at the first draw."""
        self.used = 0
        return self

    def draw(self, like: Tensor) -> Tensor:
        self.used += 1
        if self.used > len(self.draws):
            self.draws.append(self.inner.draw(like))
        return self.draws[self.used - 1]
