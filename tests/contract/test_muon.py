"""Muon: its directions against the singular value decomposition, its step size, and its exact resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract.fit_child import QUIET, Points, Toy, assert_same_bits, weights
from torch import nn

from huggingvis.train.fit import fit
from huggingvis.train.muon import Muon, orthogonalised
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run


@pytest.mark.parametrize("shape", [(3, 48, 96), (2, 96, 48), (1, 64, 64)])
def test_directions_are_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    """Singular values of 0.1 to 1 come to about [0.7, 1.2]; the singular vectors stay, but for bfloat16."""
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    sizes = torch.linspace(1.0, 0.1, min(shape[1:]))
    out = orthogonalised(u @ torch.diag(sizes) @ vt).float()
    among = u.mT @ out @ vt.mT  # [n, k, k], diagonal if the vectors stayed
    diagonal = among.diagonal(dim1=1, dim2=2)
    assert float(diagonal.min()) > 0.65 and float(diagonal.max()) < 1.25
    assert float((among - torch.diag_embed(diagonal)).abs().max()) < 0.05


def test_a_step_is_as_long_as_one_of_adamw() -> None:
    """Root mean square 0.2 lr, whatever the gradient's size; decay shrinks the weights first."""
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(64, 32, 3, 3))
    before = kernel.detach().clone()
    kernel.grad = 1e-4 * torch.randn_like(kernel)
    Muon([kernel], lr=1e-2, weight_decay=0.1).step()
    moved = kernel.detach() - before * (1 - 1e-3)
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2e-2, rel=0.2)
    assert float((moved * kernel.grad).sum()) < 0


def test_small_and_thin_weights_go_to_adamw() -> None:
    net = nn.Sequential(nn.Linear(48, 64), nn.Linear(64, 8))
    muon, adamw = Optim(muon=True).build(list(net.parameters()))
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(64, 48)]
    assert sorted(tuple(p.shape) for group in adamw.param_groups for p in group["params"]) == [(8,), (8, 64), (64,)]
    assert [type(o) for o in Optim().build(list(net.parameters()))] == [torch.optim.AdamW]


def test_resumes_exactly(tmp_path: Path) -> None:
    """Momentum and AdamW's moments both come back: 12 steps in one go equal 5 and 7."""

    def train(run: Run, steps: int) -> Run:
        toy = Toy()
        torch.manual_seed(4)
        toy.net = nn.Sequential(nn.Linear(4, 40), nn.SiLU(), nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, 1))
        return fit(toy, Points(), run, optim=Optim(1e-2, muon=True), steps=steps, batch_size=8, settings=QUIET)

    straight = train(Run.create(tmp_path / "straight", {}), 12)
    train(Run.begin(tmp_path / "broken", {}), 5)
    resumed = train(Run.begin(tmp_path / "broken", {}, resume=True), 12)
    assert_same_bits(weights(straight), weights(resumed))
