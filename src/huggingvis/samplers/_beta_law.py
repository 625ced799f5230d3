r"""Quantiles of the beta law, in plain floats, for the beta schedules.

Its distribution function is the regularised incomplete beta function (NIST Handbook, DLMF 8.17), by its continued
fraction (8.17.22) in Lentz's way, which converges quickly for x < (a + 1)/(a + b + 2); beyond, I_x(a, b) is
1 - I_(1-x)(b, a) (8.17.4). It is inverted by Newton's steps kept inside a shrinking bracket.
"""

from __future__ import annotations

import math

from huggingvis.core.errors import UsageError

_TINY = 1e-300


def distribution(x: float, a: float, b: float) -> float:
    """I_x(a, b), the probability below `x` in [0, 1]."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - distribution(1.0 - x, b, a)
    return math.exp(_log_density(x, a, b) + math.log(x) + math.log1p(-x) - math.log(a)) * _fraction(x, a, b)


def quantile(p: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = `p`, to about 1e-15. Raises `UsageError` unless a, b > 0 and p is in [0, 1]."""
    if a <= 0 or b <= 0 or not 0.0 <= p <= 1.0:
        raise UsageError(f"A beta law has two positive shapes and shares from 0 to 1; found {a:g}, {b:g} and {p:g}.")
    if p in (0.0, 1.0):
        return p
    low, high, x = 0.0, 1.0, min(a / (a + b), _near_zero(p, a, b))
    for _ in range(100):
        miss = distribution(x, a, b) - p
        low, high = (low, x) if miss > 0 else (x, high)
        slope = math.exp(_log_density(x, a, b))
        further = x - miss / slope if slope > 0 else math.nan
        further = further if low < further < high else (low + high) / 2
        if abs(further - x) <= 1e-16 * x or not low < further < high:
            break
        x = further
    return x


def _near_zero(p: float, a: float, b: float) -> float:
    """The quantile where I_x is x^a/(a B(a, b)): for small shares it may be 1e-50, too far for halving."""
    power = (math.log(p * a) + math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)) / a
    return math.exp(min(power, 0.0))


def _log_density(x: float, a: float, b: float) -> float:
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_beta


def _fraction(x: float, a: float, b: float) -> float:
    """1/(1 + d_1/(1 + d_2/(1 + ...))) of DLMF 8.17.22."""
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1.0 / _away(1.0 + term * d), _away(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return value


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
