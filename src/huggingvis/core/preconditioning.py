r"""EDM's preconditioning: a network that is given, and asked for, numbers of unit variance at every noise level.

Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364, Eq. 7 and Table 1. With the noise level rho = sigma/alpha, which is
their sigma, y = x/alpha and d = sigma_data, the standard deviation of the data,

    D(y; rho) = c_skip y + c_out F(c_in y; c_noise)                    the belief about x_0
    c_skip = d^2/(rho^2 + d^2),   c_out = rho d/sqrt(rho^2 + d^2)
    c_in = 1/sqrt(rho^2 + d^2),   c_noise = log(rho)/4

On any process x = alpha x_0 + sigma eps that is, with n^2 = sigma^2 + alpha^2 d^2 (nothing is divided by alpha),

    given x/n,   x_0 = (alpha d^2 x + sigma d n F)/n^2,   F's target (sigma x_0 - alpha d^2 eps)/(d n)

On a variance-preserving process with d = 1 this is -v. Their loss weight lambda = 1/c_out^2 turns the weighted error of
D into the plain one of F, so `objectives.denoise` needs no weight. Book: chapter 4, "EDM".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.process import Prediction, Process
from huggingvis.core.shapes import Coefficient, mixed


@final
@dataclass(frozen=True)
class Preconditioned(Prediction):
    """EDM's parameterisation on any process that keeps some signal. `sigma_data`: standard deviation of the data.

    `sign`: -1 where the network says the opposite, as v does. It is told c_noise, whatever clock a grid would tell: it
    knows noise levels and not a table's numbers.
    """

    sigma_data: float = 0.5
    sign: float = 1.0

    def x0(self, process: Process, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x)
        n = self._size(a, s)
        return mixed(a * self.sigma_data**2 / n**2, x, self.sign * s * self.sigma_data / n, out)

    def target(self, process: Process, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        a, s = process.coefficients(t, x0)
        return self.sign * (s * x0 - a * self.sigma_data**2 * eps) / (self.sigma_data * self._size(a, s))

    def given(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        """c_in y."""
        return x / self._size(*process.coefficients(t, x))

    def clock(self, process: Process, t: Tensor, told: Tensor | None = None) -> Tensor:
        """c_noise; infinite where there is no signal or no noise at all."""
        return -process.pace.log_snr(t) / 8

    def weight(self, process: Process, t: Tensor) -> Tensor:
        """lambda = (rho^2 + d^2)/(rho d)^2: the weight of the squared error of x_0 that the loss amounts to."""
        rho = process.sigma(t) / process.alpha(t)
        return (rho**2 + self.sigma_data**2) / (rho * self.sigma_data) ** 2

    def _size(self, a: Coefficient, s: Coefficient) -> Coefficient:
        """n: the standard deviation of x."""
        return (s**2 + (a * self.sigma_data) ** 2) ** 0.5
