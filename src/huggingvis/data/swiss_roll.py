r"""The swiss roll in two dimensions: points along a spiral with a little normal noise, as a mixture with all its laws.

    centre(u) = theta (cos theta, sin theta)/scale,    theta = 3/2 pi (1 + 2 u),    u evenly in [0, 1]

scaled so that the whole has unit variance in the mean of its two numbers. With many more centres than the noise can
tell apart the mixture is the smooth spiral to every digit that matters, and its density, entropy and perfect denoiser
are exact (`data.mixture`). The toy of Sohl-Dickstein et al. 2015 (arXiv 1503.03585, Fig. 1), whose noise is not told.
Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

import math

import torch

from huggingvis.data.mixture import GaussianMixture


def swiss_roll(noise: float = 0.05, centres: int = 1000) -> GaussianMixture:
    """The spiral with normal noise of deviation `noise`, where the whole has deviation 1."""
    u = (torch.arange(centres, dtype=torch.float64) + 0.5) / centres
    theta = 1.5 * math.pi * (1 + 2 * u)
    line = theta[:, None] * torch.stack([theta.cos(), theta.sin()], 1)  # [K, 2]
    line = line - line.mean(0)
    line = line * math.sqrt((1 - noise**2) / float(line.square().mean()))
    return GaussianMixture(torch.ones(centres), line, noise**2 * torch.eye(2).expand(centres, 2, 2))
