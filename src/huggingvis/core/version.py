"""The version of the package, in the one place that everything may import."""

from __future__ import annotations

__version__ = "0.1.0"
NUMERICS = 2
"""Raised where the same request makes other pixels than before: what a batch made earlier is then made again."""
