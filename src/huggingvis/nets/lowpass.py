r"""Low-pass filters designed from numbers: Kaiser's windowed sinc along an axis, and its radially symmetric twin.

Karras et al. 2021 (arXiv 2106.12423), App. C; the window is Kaiser's of 1974. A filter of L taps at s samples per unit
with cutoff f_c, whose transition band is Delta wide (a share of s / 2), is damped there by A dB:

    A    = 2.285 (L - 1) pi Delta + 7.95
    beta = 0.1102 (A - 8.7)                                      A > 50
           0.5842 (A - 21)^0.4 + 0.07886 (A - 21)                21 <= A <= 50, below 0
    h(x) ~ sinc(2 f_c x) w(x)                                    along each axis
    h(r) ~ jinc(2 f_c r) w(x) w(y),  jinc(u) = J_1(pi u) / u     alike in all directions

with w Kaiser's window of beta. A product of two sincs lets through a square of frequencies, whose corners turn when the
picture turns; the jinc is the transform of a disc. Book: chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]


@final
@dataclass(frozen=True)
class Lowpass:
    """Numbers of a filter.

    Attributes:
        taps: L.
        cutoff: f_c, cycles per unit.
        width: of the transition band, cycles per unit.
        rate: s, samples per unit.
    """

    taps: int
    cutoff: float
    width: float
    rate: float

    def separable(self) -> Tensor:
        """The filter of one axis, of sum 1: [L] float32."""
        x = self._places()
        return _summing_to_one(np.sinc(2 * self.cutoff * x) * self._window())

    def radial(self) -> Tensor:
        """The filter of both axes, of sum 1: [L, L] float32."""
        x, w = self._places(), self._window()
        u = 2 * self.cutoff * np.hypot(x[:, None], x)
        return _summing_to_one(_jinc(u) * np.outer(w, w))

    def _places(self) -> Array:
        """Where the taps lie around the middle, [L]."""
        return (np.arange(self.taps, dtype=np.float64) - (self.taps - 1) / 2) / self.rate

    def _window(self) -> Array:
        return np.kaiser(self.taps, beta(2.285 * (self.taps - 1) * math.pi * self.width / (self.rate / 2) + 7.95))


def beta(attenuation: float) -> float:
    """Shape of the Kaiser window that damps by `attenuation` dB."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    over = max(attenuation - 21.0, 0.0)
    return float(0.5842 * over**0.4 + 0.07886 * over)


def _jinc(u: Array) -> Array:
    """J_1(pi u) / u, which is pi / 2 at 0."""
    near = np.maximum(u, 1e-9)
    bessel: Callable[[Tensor], Tensor] = torch.special.bessel_j1
    found: Array = bessel(torch.from_numpy(np.pi * near)).numpy() / near
    return found


def _summing_to_one(h: Array) -> Tensor:
    return torch.from_numpy((h / h.sum()).astype(np.float32))
