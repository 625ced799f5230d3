r"""Whose random numbers a picture is made of, and variations of it.

The same seed is another picture in another program, because each draws its noise elsewhere and in an order of its own.
A source (`SOURCES`) says from what stream a picture's first noise is drawn and from which that of the later steps:

    own      one CPU stream for everything, what encoders of pictures draw included
    cpu      A1111's "CPU": as own, but encoders draw from elsewhere
    philox   A1111's "NV", sd.cpp's cuda: as cpu, of what a GPU draws
    comfy    ComfyUI on a GPU: first from the CPU, steps from the GPU's stream of the same seed
    invoke   InvokeAI on a GPU: first from the CPU, steps from the GPU's stream of seed ^ 0xFFFFFFFF

A1111's ENSD gives the steps a stream of seed + delta. Its variations turn the first noise n_0 towards that of another
seed, n_1, along great circles of columns (Shoemake 1985, omega the angle between them):

    n = sin((1 - s) omega)/sin(omega) n_0 + sin(s omega)/sin(omega) n_1

and a picture of another size may be made from noise of a first size in its middle. Book: chapter 6, "Seeds".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.philox import CudaStream
from huggingvis.core.request_sampling import OWN, Sampling

__all__ = ["PictureNoise", "aside", "noise_of"]

_ALIKE = 0.9995
"""Mean cosine of two noises from which A1111 takes them for one, and mixes them evenly."""


class Stream(Protocol):
    """Random numbers of one picture."""

    def randn(self, shape: Sequence[int]) -> Tensor:
        """The next N(0, 1) numbers, float32 on the CPU."""
        ...


@final
class CpuStream:
    """torch's CPU generator."""

    def __init__(self, seed: int, threads: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def randn(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator)


@final
class GpuStream:
    """What torch's CUDA generator would draw."""

    def __init__(self, seed: int, threads: int = 0):
        self.stream = CudaStream(seed, threads)

    def randn(self, shape: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.stream.randn(tuple(shape)))


Opens = Callable[[int, int], Stream]
"""A stream of a seed and a GPU's number of threads."""


@final
@dataclass(frozen=True)
class Source:
    """Where a program draws: `first` the first noise; `later` that of the steps, if not from the same stream.

    `shared`: encoders of pictures draw from the first stream too.
    """

    first: Opens
    later: Opens | None = None
    shared: bool = False


SOURCES: Mapping[str, Source] = {
    OWN: Source(CpuStream, shared=True),
    "cpu": Source(CpuStream),
    "philox": Source(GpuStream),
    "comfy": Source(CpuStream, GpuStream),
    "invoke": Source(CpuStream, lambda seed, threads: GpuStream(seed ^ 0xFFFFFFFF, threads)),
}


def noise_of(sampling: Sampling, pictures: Sequence[int], canvas: tuple[int, int]) -> Noise:
    """The noise of the `pictures` (their places in the batch) of (width, height) `canvas`."""
    seeds = [sampling.seeds(i)["seed"] for i in pictures]
    plain = sampling.variation_strength == 0.0 and not any(sampling.seed_resize) and not sampling.eta_noise_seed_delta
    if plain and sampling.rng == OWN:
        return SeedNoise(seeds)
    return PictureNoise(sampling, pictures, canvas)


def aside(noise: Noise) -> Noise:
    """What draws beside a picture's own noise, as encoders of pictures do: from the same stream, or from elsewhere."""
    return noise.aside if isinstance(noise, PictureNoise) else noise


@final
class PictureNoise:
    """A stream for each picture: the first draw is its first noise, all further ones are of its steps."""

    def __init__(self, sampling: Sampling, pictures: Sequence[int], canvas: tuple[int, int]):
        self.streams = [_PictureStream(sampling, i, canvas) for i in pictures]

    @property
    def aside(self) -> _Aside:
        """What draws without touching the order of these."""
        return _Aside([stream.beside for stream in self.streams])

    def draw(self, like: Tensor) -> Tensor:
        return _stacked([stream.randn for stream in self.streams], like)


@final
class _Aside:
    def __init__(self, streams: Sequence[Stream]):
        self.streams = streams

    def draw(self, like: Tensor) -> Tensor:
        return _stacked([stream.randn for stream in self.streams], like)


def _stacked(draws: Sequence[Callable[[Sequence[int]], Tensor]], like: Tensor) -> Tensor:
    if len(draws) != like.shape[0]:
        raise ValueError(f"noise was made for {len(draws)} samples, the batch has {like.shape[0]}")
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return torch.stack([draw(like.shape[1:]) for draw in draws]).to(dtype=dtype, device=like.device)  # [B, ...]


@final
class _PictureStream:
    """One picture's numbers in their order."""

    def __init__(self, sampling: Sampling, i: int, canvas: tuple[int, int]):
        self.sampling, self.canvas, self.source = sampling, canvas, SOURCES[sampling.rng]
        told = sampling.seeds(i)
        self.seed, self.other = told["seed"], told.get("variation_seed")
        self.main = self._open(self.source.first, self.seed)
        self.beside: Stream = self.main if self.source.shared else CpuStream(self.seed)
        self.steps: Stream | None = None

    def randn(self, shape: Sequence[int]) -> Tensor:
        if self.steps is not None:
            return self.steps.randn(shape)
        delta = self.sampling.eta_noise_seed_delta
        if delta:
            self.steps = self._open(self.source.first, self.seed + delta)
        elif self.source.later is not None:
            self.steps = self._open(self.source.later, self.seed)
        else:
            self.steps = self.main
        return self._first(tuple(shape))

    def _open(self, opens: Opens, seed: int) -> Stream:
        return opens(seed, self.sampling.gpu_threads)

    def _first(self, shape: tuple[int, ...]) -> Tensor:
        small = self._resized(shape)
        if small == shape:
            return self._leaning(self.main.randn(shape))
        noise = self._leaning(self._open(self.source.first, self.seed).randn(small))
        return _in_the_middle(noise, self.main.randn(shape))

    def _leaning(self, noise: Tensor) -> Tensor:
        """The noise, turned towards the other seed's."""
        if self.other is None:
            return noise
        towards = self._open(self.source.first, self.other).randn(noise.shape)
        return slerp(self.sampling.variation_strength, noise, towards)

    def _resized(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the noise that `seed_resize` asks for, where `shape` is the canvas's."""
        if not any(self.sampling.seed_resize):
            return shape
        if len(shape) != 3:
            raise UsageError(
                f"seed_resize sets noise of one size into that of another, but this model's noise is {list(shape)} and "
                "has no width and height. Leave it out."
            )
        (width, height), (wide, high) = self.canvas, self.sampling.seed_resize
        return shape[0], high // max(1, height // shape[1]), wide // max(1, width // shape[2])


def slerp(share: float, a: Tensor, b: Tensor) -> Tensor:
    """From a [C, H, W] (share 0) to b (share 1) on the great circle of each column, as A1111 does it.

    Two that are the same mix evenly; a column with one direction too, where A1111 would divide by nothing.
    """
    axis = 1 if a.ndim > 1 else 0
    cosine = (a / a.norm(dim=axis, keepdim=True) * (b / b.norm(dim=axis, keepdim=True))).sum(axis)  # [C, W]
    if cosine.mean() > _ALIKE:
        return a * share + b * (1 - share)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    left, right = (torch.sin(part * angle) / sine for part in (1.0 - share, share))
    turned = left.unsqueeze(axis) * a + right.unsqueeze(axis) * b
    return torch.where(sine.unsqueeze(axis).abs() < 1e-6, a * (1 - share) + b * share, turned)


def _in_the_middle(noise: Tensor, around: Tensor) -> Tensor:
    """`noise` [C, h, w] set into the middle of `around` [C, H, W], or its own middle where it is larger."""
    out = around.clone()
    spans = []
    for small, large in zip(noise.shape[1:], around.shape[1:], strict=True):
        gap = (large - small) // 2  # rounded down, of negative ones too, as A1111 does
        most = small if gap >= 0 else small + 2 * gap
        at, of = max(gap, 0), max(-gap, 0)
        spans.append((slice(at, at + most), slice(of, of + most)))
    (top, from_top), (left, from_left) = spans
    out[:, top, left] = noise[:, from_top, from_left]
    return out
