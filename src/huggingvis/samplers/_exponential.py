r"""Exponential integrators: the linear part of the diffusion ODE or SDE is solved exactly, the rest by a polynomial.

In half log-SNR lambda = log(alpha/sigma), with h = lambda_s - lambda_t and u = (lambda - lambda_t)/h,

    data    x_s = sigma_s/sigma_t e^(-eta h) x_t + alpha_s I[x_0](z) + sigma_s sqrt(1 - e^(-2 eta h)) z',  z = (1+eta) h
    noise   x_s = alpha_s/alpha_t x_t - (1+eta) sigma_s J[eps](h) + sigma_s sqrt(eta (e^(2 h) - 1)) z'

    I[f](z) = int_0^1 z e^(-z (1-u)) f(u) du,     J[f](h) = int_0^1 h e^(h (1-u)) f(u) du = -I[f](-h)

(Lu et al. 2022, arXiv 2206.00927, prop. 3.1, and 2211.01095, eq. 8 and 15; for any eta Xue et al. 2023, arXiv
2309.05019, prop. 4.2 and app. A). For f a polynomial the integrals are known
through phi_k(w) = sum_n w^n/(n+k)!  (Hochbruck & Ostermann 2010, eq. 2.10):  I[u^k](z) = k! z phi_(k+1)(-z).
Book: chapter 4, "Exponential integrators".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALL = 0.05
"""Below it phi_k is summed: its recurrence would lose digits."""


def phi(k: int, w: float) -> float:
    """phi_k(w), k >= 1."""
    if abs(w) < SMALL:
        return sum(w**n / math.factorial(n + k) for n in range(8))
    value = math.expm1(w) / w
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / w
    return value


def moments(z: float, n: int) -> tuple[float, ...]:
    """I[u^k](z) for k = 0..n-1; also of infinite z, where only the end u = 1 counts."""
    if math.isinf(z):
        return (1.0,) * n
    return tuple(math.factorial(k) * z * phi(k + 1, -z) for k in range(n))


def weights(nodes: Sequence[float], integrals: Sequence[float]) -> tuple[float, ...]:
    """w with sum_j w_j p(nodes_j) = the integral of p for every polynomial p of degree below len(nodes).

    `integrals` are those of 1, u, u^2 ... In exact form up to three nodes; these are all that anyone uses stably, and a
    fourth (LMS, PLMS) is solved for the same way, by dividing one node out at a time.
    """
    found = []
    for j, node in enumerate(nodes):
        coefficients = [1.0]  # of the Lagrange polynomial of this node, lowest power first
        for k, other in enumerate(nodes):
            if k != j:
                scale = 1 / (node - other)
                raised = [0.0, *coefficients]
                coefficients = [
                    (up - other * same) * scale for up, same in zip(raised, [*coefficients, 0.0], strict=True)
                ]
        found.append(sum(c * m for c, m in zip(coefficients, integrals, strict=True)))
    return tuple(found)
