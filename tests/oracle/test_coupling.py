"""Minibatch optimal transport: the assignment beside scipy's, and what dealing noise out leaves as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from huggingvis.core.assignment import assignment
from huggingvis.core.errors import UsageError
from huggingvis.data.coupling import OptimalPairs, optimal_order
from huggingvis.data.mixture import standard_mixture


@pytest.mark.parametrize("n", [1, 2, 3, 10, 40, 96])
@pytest.mark.parametrize("kind", ["normal", "distances", "ties", "equal"])
def test_the_assignment_is_scipys(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    cost = {
        "normal": rng.normal(size=(n, n)),
        "distances": ((a[:, None] - b[None]) ** 2).sum(-1),
        "ties": rng.integers(0, 4, size=(n, n)).astype(float),
        "equal": np.full((n, n), 2.5),
    }[kind]
    ours, (rows, columns) = assignment(cost), linear_sum_assignment(cost)
    assert sorted(ours.tolist()) == list(range(n))
    assert cost[rows, ours].sum() == pytest.approx(cost[rows, columns].sum(), rel=1e-12, abs=1e-12)
    if kind in ("normal", "distances"):  # one solution only
        assert np.array_equal(ours, columns)


def test_an_assignment_of_nothing_and_of_nonsense() -> None:
    assert assignment(np.zeros((0, 0))).tolist() == []
    for wrong in (np.zeros((2, 3)), np.array([[np.nan]])):
        with pytest.raises(UsageError, match="finite costs"):
            assignment(wrong)


class Mixture:
    """Draws of the standard mixture with their components."""

    def batch(self, index: int, size: int) -> dict[str, Tensor]:
        x0, label = standard_mixture().sample_labelled(size, torch.Generator().manual_seed(index))
        return {"x0": x0, "label": label} if index % 2 else {"x0": x0}


def test_optimal_pairs_keep_both_laws_and_cost_less() -> None:
    """Noise is a permutation of standard normal draws, whether it is dealt among all data or among those of a label;
    and what a label gets is standard normal too only if it is dealt within the label.
    """
    pairs, size = OptimalPairs(Mixture(), seed=3), 128
    batches = [pairs.batch(i, size) for i in range(40)]
    free, within = batches[0::2], batches[1::2]
    for some, share in ((free, 0.5), (within, 0.9)):
        eps = torch.cat([batch["eps"] for batch in some])
        n = len(eps)
        assert float(eps.mean(0).abs().max()) < 4 / n**0.5
        assert float((torch.cov(eps.T) - torch.eye(2)).abs().max()) < 4 * (2 / n) ** 0.5
        way = torch.cat([(batch["x0"] - batch["eps"]).square().sum(1) for batch in some])
        blind = torch.cat([(batch["x0"] - batch["eps"].roll(1, 0)).square().sum(1) for batch in some])
        assert float(way.mean()) < share * float(blind.mean())
    label, eps = (torch.cat([batch[key] for batch in within]) for key in ("label", "eps"))
    for k in range(3):
        own = eps[label == k]
        assert float(own.mean(0).abs().max()) < 4 / len(own) ** 0.5
    nearest = torch.cat([batch["x0"] for batch in free])[:, 0] > 0.7  # the component on the right
    skewed = torch.cat([batch["eps"] for batch in free])[nearest]
    assert float(skewed[:, 0].mean()) > 0.5

    again, other = (OptimalPairs(Mixture(), seed).batch(4, size)["eps"] for seed in (3, 0))
    assert torch.equal(again, batches[4]["eps"]) and not torch.equal(again, other)


def test_the_order_is_scipys_on_pictures() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(32, 1, 4, 4, generator=g) for _ in range(2))
    cost = torch.cdist(x0.flatten(1), eps.flatten(1)).square().numpy()
    assert optimal_order(x0, eps).tolist() == linear_sum_assignment(cost)[1].tolist()
    labels = torch.arange(32) % 3
    order = optimal_order(x0, eps, labels)
    assert torch.equal(labels[order], labels) and sorted(order.tolist()) == list(range(32))
