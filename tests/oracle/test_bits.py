"""Bits per dimension against codes whose length is known."""

from __future__ import annotations

import math

import pytest
import torch

from huggingvis.core.errors import UsageError
from huggingvis.metrics.bits import bits_per_dim


@pytest.mark.parametrize("levels", [2, 32, 256])
def test_evenly_spread_values_cost_their_whole_word(levels: int) -> None:
    """The uniform density over [-1, 1] is 1/2: it knows nothing, so each value costs log2(levels) bits."""
    nats = torch.full((3,), 12 * math.log(0.5))
    assert torch.allclose(bits_per_dim(nats, 12, levels), torch.tensor(math.log2(levels)).double(), atol=1e-6)


def test_a_density_that_knows_the_bin_costs_nothing() -> None:
    nats = torch.full((2,), 5 * math.log(256 / 2), dtype=torch.float64)
    assert float(bits_per_dim(nats, 5).abs().max()) < 1e-12


def test_entropy_of_a_binned_normal() -> None:
    """A fine enough normal density: its mean cost is its differential entropy over the width of a bin."""
    std, levels = 0.2, 256
    x = std * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nats = torch.distributions.Normal(0.0, std).log_prob(x).sum(1)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * std**2) + math.log2(levels / 2)
    assert float(bits_per_dim(nats, 1, levels).mean()) == pytest.approx(entropy, abs=0.01)


def test_probabilities_need_no_bins() -> None:
    """A coin of chance 1/4 that came down so: two bits. Published: 86.8 nats of 784 binary pixels are 0.16 bits."""
    assert float(bits_per_dim(torch.tensor([math.log(0.25)]).double(), 1, None)) == pytest.approx(2.0)
    assert float(bits_per_dim(torch.tensor([-86.8]).double(), 784, None)) == pytest.approx(0.1597, abs=1e-4)
    with pytest.raises(UsageError, match="at least one value"):
        bits_per_dim(torch.zeros(1), 0)
