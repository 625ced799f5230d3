r"""Variance-preserving processes given by a table, as discrete-time networks were trained on them.

A table of T values alpha_bar_k = prod_{i<=k} (1 - beta_i) (Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 4) becomes a
process in continuous time: knot k sits at t = (k + 1)/T with alpha^2 = alpha_bar_k, and t = 0 is exactly clean.
Between knots log-SNR is linear in t (Lu et al. 2022, arXiv 2206.00927, App. B, and the usual way of telling a network
a time between two integers); below the first knot sigma/alpha is linear, so that it reaches 0; where a table ends in
alpha_bar = 0 (Lin et al. 2023, arXiv 2305.08891) alpha/sigma is linear in the last interval for the same reason.

Book: chapter 4, "Processes".
"""

from __future__ import annotations

import math
from typing import Self, final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.process import Process
from huggingvis.core.shapes import double


@final
class TableProcess(Process):
    """The process of a table `alphas_cumprod` [T], strictly falling inside [0, 1); the clock is the index, t T - 1.

    A table that has a gradient keeps it, so that it can be learnt (`processes.learned_betas`).
    """

    def __init__(self, alphas_cumprod: Tensor):
        bar = alphas_cumprod.to("cpu", torch.float64)
        if bar.ndim != 1 or len(bar) < 2 or not bool((bar[:-1] > bar[1:]).all()) or bar[0] >= 1 or bar[-1] < 0:
            ends = f" from {bar.flatten()[0]:.6g} to {bar.flatten()[-1]:.6g}" if bar.numel() else ""
            raise UsageError(
                "A noise table holds at least two values of alpha_bar that fall strictly inside [0, 1); found "
                f"shape {tuple(bar.shape)}{ends}. Pass alphas_cumprod itself, or use TableProcess.from_betas."
            )
        self.steps = len(bar)
        self.alphas_cumprod = bar  # [T]
        self._alpha = torch.cat([torch.ones(1, dtype=torch.float64), bar.sqrt()])  # [T+1], entry i at t = i/T
        self._sigma = torch.cat([torch.zeros(1, dtype=torch.float64), (1 - bar).sqrt()])  # [T+1]
        self._ends_in_noise = not bool(bar[-1])
        self._log_snr = torch.log(bar) - torch.log1p(-bar)  # [T]

    @classmethod
    def from_betas(cls, betas: Tensor) -> Self:
        """From the variances `betas` [T] of the single steps."""
        return cls(torch.cumprod(1 - betas.to(torch.float64), 0))

    @classmethod
    def linear(cls, start: float = 1e-4, end: float = 0.02, steps: int = 1000) -> Self:
        """beta linear (Ho et al. 2020)."""
        return cls.from_betas(torch.linspace(start, end, steps, dtype=torch.float64))

    @classmethod
    def scaled_linear(cls, start: float = 0.00085, end: float = 0.012, steps: int = 1000) -> Self:
        """sqrt(beta) linear (Rombach et al. 2021, arXiv 2112.10752): Stable Diffusion's table."""
        return cls.from_betas(torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64) ** 2)

    @classmethod
    def cosine(cls, s: float = 0.008, steps: int = 1000, max_beta: float = 0.999) -> Self:
        """alpha_bar a squared cosine, beta at most `max_beta` (Nichol & Dhariwal 2021, arXiv 2102.09672)."""
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        bar = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2  # [T+1]
        return cls.from_betas((1 - bar[1:] / bar[:-1]).clamp(max=max_beta))

    def zero_terminal_snr(self) -> TableProcess:
        """This table with sqrt(alpha_bar) moved and stretched so that it ends in pure noise and begins where it did.

        Lin, Liu, Li, Yang 2023, arXiv 2305.08891, Algorithm 1. Nothing but v or the datum can be predicted at its end.
        """
        root = self.alphas_cumprod.sqrt()
        return TableProcess(((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2)

    def time_of_index(self, index: Tensor) -> Tensor:
        """The time at which the clock shows `index`; -1 is t = 0, fractions lie between knots."""
        return (double(index) + 1) / self.steps

    def clock(self, t: Tensor) -> Tensor:
        """The index t T - 1; a whole number, exactly, at knots."""
        index = t * self.steps - 1
        whole = index.round()
        return torch.where((index - whole).abs() < 1e-9 * self.steps, whole, index)

    def alpha(self, t: Tensor) -> Tensor:
        knot = self._knot(t)
        return torch.sigmoid(self._lam(t)).sqrt() if knot is None else self._alpha[knot]

    def sigma(self, t: Tensor) -> Tensor:
        knot = self._knot(t)
        return torch.sigmoid(-self._lam(t)).sqrt() if knot is None else self._sigma[knot]

    def t_of_logsnr(self, lam: Tensor) -> Tensor:
        """Inverse of the interpolation; `lam` below the table's end gives t = 1."""
        knots = self._log_snr.to(lam.device)
        j = torch.searchsorted(-knots, -lam.detach().contiguous())
        hi, lo = knots[(j - 1).clamp(min=0)], knots[j.clamp(max=self.steps - 1)]
        u = j + (hi - lam) / (hi - lo).clamp(min=1e-300)
        if self._ends_in_noise:
            u = torch.where(j == self.steps - 1, j + 1 - torch.exp((lam - hi) / 2), u)
        u = torch.where(j == 0, torch.exp((knots[0] - lam) / 2), u)
        return torch.where(j >= self.steps, torch.full_like(u, self.steps), u) / self.steps

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha' = lambda' alpha sigma^2/2 and sigma' = -lambda' sigma alpha^2/2; right-sided at knots."""
        a, s = self.alpha(t), self.sigma(t)
        lam = self._log_snr.to(t.device)
        u, k = self._segment(t)
        slope = (lam[k] - lam[k - 1]) * self.steps
        da, ds = slope * a * s**2 / 2, -slope * s * a**2 / 2
        # lambda' is infinite at a clean (or pure-noise) end, its products with sigma (or alpha) are not
        rise = torch.exp(-lam[0] / 2) * self.steps  # slope of sigma/alpha below the first knot
        first = u < 1
        da, ds = torch.where(first, -rise * s * a**2, da), torch.where(first, rise * a**3, ds)
        if self._ends_in_noise:
            fall = torch.exp(lam[-2] / 2) * self.steps  # minus the slope of alpha/sigma in the last interval
            last = k == self.steps - 1
            da, ds = torch.where(last, -fall * s**3, da), torch.where(last, fall * a * s**2, ds)
        return da, ds

    def _knot(self, t: Tensor) -> int | None:
        """The entry that a single time `t` falls on, where nothing is interpolated (that differs by its rounding)."""
        if t.ndim or t.requires_grad:
            return None
        u = float(t) * self.steps
        return round(u) if abs(u - round(u)) < 1e-9 * self.steps and 0 <= round(u) <= self.steps else None

    def _segment(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """u = t T, and k such that u lies between knots k - 1 (at u = k) and k (at u = k + 1)."""
        u = (t * self.steps).clamp(0, self.steps)
        return u, u.detach().floor().long().clamp(1, self.steps - 1)

    def _lam(self, t: Tensor) -> Tensor:
        knots = self._log_snr.to(t.device)
        u, k = self._segment(t)
        hi, lo = knots[k - 1], knots[k]
        if self._ends_in_noise:
            last = k == self.steps - 1
            lam = hi + torch.where(last, 2 * torch.log1p(k - u), (u - k) * torch.where(last, hi, lo).sub(hi))
        else:
            lam = hi + (u - k) * (lo - hi)
        return torch.where(u < 1, knots[0] - 2 * torch.log(u), lam)
