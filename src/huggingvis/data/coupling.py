r"""Noise dealt out to the data of each batch such that the straight ways between them are short.

Tong et al. 2023, "Improving and generalizing flow-based generative models with minibatch optimal transport" (arXiv
2302.00482, Sec. 3.2), and Pooladian et al. 2023 (arXiv 2304.14772): fresh noise of a batch, in the order for which
sum ||x_0 - eps||^2 is least. The law of the data and that of the noise stay what they are, so a flow that learns these
pairs ends at the same data; its paths are shorter and straighter than with noise that knows nothing of its datum.
Book: chapter 4, "Flow matching".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.assignment import assignment
from huggingvis.core.protocols import Batch, Batches
from huggingvis.data.draws import stable_hash

SYSTEM = {
    "name": "OT-CFM",
    "chapter": 4,
    "paper": "2302.00482",
    "files": ["core/assignment.py", "recipes/diffusion/flow_matching.py"],
    "built": "tests/walks/test_flow_recipes.py::test_flow_matching_learns_loads_and_draws",
    "exact": [
        "tests/oracle/test_coupling.py::test_the_assignment_is_scipys",
        "tests/oracle/test_coupling.py::test_optimal_pairs_keep_both_laws_and_cost_less",
    ],
    "trained": "benchmarks/trained/flow_optimal.json",
    "explained": None,
    "usable": None,
}


def optimal_order(x0: Tensor, eps: Tensor, labels: Tensor | None = None) -> Tensor:
    """Which of `eps` [B, ...] each of `x0` [B, ...] gets, int64 [B]; with `labels` [B], one from a datum of its label.

    Across labels noise would be dealt by label: each class would be trained on a part of the noise only, and yet be
    sampled from all of it (Cheng & Schwing 2025, arXiv 2503.10636).
    """
    cost = torch.cdist(x0.flatten(1), eps.flatten(1)).square().cpu().double().numpy()  # [B, B]
    group = np.zeros(len(x0)) if labels is None else labels.cpu().numpy()
    order = np.arange(len(x0))
    for label in np.unique(group):
        among = np.flatnonzero(group == label)
        order[among] = among[assignment(cost[np.ix_(among, among)])]
    return torch.from_numpy(order).to(eps.device)


@final
@dataclass(frozen=True)
class OptimalPairs:
    """`batches` with noise `eps` [B, ...] for their `x0`, dealt out among data of one `label` where they have some."""

    batches: Batches
    seed: int = 0

    def batch(self, index: int, size: int) -> Batch:
        batch = self.batches.batch(index, size)
        x0 = batch["x0"]
        rng = torch.Generator().manual_seed(stable_hash("noise", self.seed, index) % 2**63)
        eps = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        return {**batch, "eps": eps[optimal_order(x0, eps, batch.get("label"))]}
