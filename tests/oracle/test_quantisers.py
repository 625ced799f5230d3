"""Quantisers against closed forms: straight-through gradients, k-means steps, bijections, entropies by enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.nets.lookup_free import FiniteScalarQuantiser, LookupFreeQuantiser
from huggingvis.nets.quantisers import AveragedQuantiser, Quantiser, VectorQuantiser, nearest, perplexity


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(x: Tensor) -> Tensor:
    return x


BUILT: dict[str, Callable[[], Quantiser]] = {
    "vq": lambda: VectorQuantiser(6, 3),
    "averaged": lambda: AveragedQuantiser(6, 3),
    "fsq": lambda: FiniteScalarQuantiser((5, 4, 2)),
    "lfq": lambda: LookupFreeQuantiser(3),
}


def vectors(z: Tensor) -> Tensor:
    return z.movedim(1, -1).flatten(0, 2)


@pytest.mark.parametrize("name", BUILT)
def test_codes_and_latents_are_two_names_of_one_thing(name: str) -> None:
    torch.manual_seed(0)
    quantiser = BUILT[name]().double()
    z = draw(4, 3, 5, 2)
    found = quantiser(z)
    assert found.codes.shape == (4, 5, 2) and found.codes.dtype == torch.int64
    assert int(found.codes.min()) >= 0 and int(found.codes.max()) < quantiser.size
    assert torch.equal(quantiser.look_up(found.codes).double(), found.z)
    every = torch.arange(quantiser.size).reshape(1, -1, 1)
    assert quantiser.look_up(every).shape == (1, 3, quantiser.size, 1)
    assert len(vectors(quantiser.look_up(every)).unique(dim=0)) == quantiser.size


@pytest.mark.parametrize("name", ["vq", "averaged", "lfq"])
def test_gradient_goes_straight_through_to_the_last_bit(name: str) -> None:
    torch.manual_seed(0)
    quantiser = BUILT[name]().double()
    z = draw(2, 3, 4, 4).requires_grad_()
    found = quantiser(z)
    found.z.retain_grad()
    (found.z.sin() * draw(2, 3, 4, 4, seed=1)).sum().backward()
    assert found.z.grad is not None and z.grad is not None
    assert torch.equal(z.grad, found.z.grad) and float(z.grad.abs().max()) > 0.1


def test_gradient_of_fsq_is_that_of_its_bound() -> None:
    quantiser = FiniteScalarQuantiser((8, 5))
    z = draw(3, 2, 2, 2).requires_grad_()
    weight = draw(3, 2, 2, 2, seed=1)
    (quantiser(z).z * weight).sum().backward()
    mine = z.grad
    z.grad = None
    bounded = quantiser.bounded(z.movedim(1, -1)) / torch.tensor([4.0, 2.0])
    (bounded.movedim(-1, 1) * weight).sum().backward()
    assert mine is not None and z.grad is not None and torch.allclose(mine, z.grad, atol=1e-12)


def test_nearest_is_the_argmin_of_all_distances() -> None:
    z, codebook = draw(500, 7), draw(40, 7, seed=1)
    assert torch.equal(nearest(z, codebook), torch.cdist(z, codebook).argmin(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(z.float(), codebook.float()), torch.cdist(z, codebook).argmin(1))


def test_losses_of_equation_3() -> None:
    quantiser = VectorQuantiser(5, 3, commitment=0.25).double()
    z = draw(2, 3, 4, 4, scale=0.3).requires_grad_()
    found = quantiser(z)
    gap = (z - found.z).detach().square().flatten(1).mean(1)
    assert torch.allclose(found.losses["codebook"], gap) and torch.allclose(found.losses["commitment"], gap / 4)
    (found.losses["codebook"].sum() + found.losses["commitment"].sum()).backward()
    e = quantiser.codebook.detach()
    pull = torch.zeros_like(e).index_add_(0, found.codes.flatten(), e[found.codes.flatten()] - vectors(z).detach())
    assert quantiser.codebook.grad is not None and z.grad is not None
    assert torch.allclose(quantiser.codebook.grad, 2 * pull / 48)  # the codebook term alone: 48 = 3 4 4 numbers each
    assert torch.allclose(z.grad, 0.25 * 2 * (z - found.z).detach() / 48)  # the commitment term alone


# ---- codebooks that follow means -------------------------------------------------------------------------------------


def averaged(decay: float, revive: float = 0.0, size: int = 4) -> AveragedQuantiser:
    torch.manual_seed(1)
    return AveragedQuantiser(size, 2, decay=decay, revive=revive).double()


def step(quantiser: AveragedQuantiser, z: Tensor, seed: int = 0) -> Tensor:
    codes = quantiser(z).codes
    quantiser.observe(z, codes, rng(seed))
    quantiser.settle(alone)
    return codes.flatten()


def test_without_memory_a_step_is_a_step_of_k_means() -> None:
    quantiser, z = averaged(decay=0.0), draw(8, 2, 3, 3)
    before = quantiser.codebook.clone()
    codes = step(quantiser, z)
    for k in range(4):
        mine = vectors(z)[codes == k]
        want = mine.mean(0) if len(mine) else before[k]
        assert torch.allclose(quantiser.codebook[k], want, atol=1e-12)
    for _ in range(50):  # and goes on to where k-means ends: every code the mean of its own
        before, codes = quantiser.codebook.clone(), step(quantiser, z)
    assert torch.allclose(before, quantiser.codebook, atol=1e-12)


def test_averages_are_equations_6_to_8() -> None:
    quantiser, gamma = averaged(decay=0.9), 0.9
    n, m = torch.zeros(4).double(), torch.zeros(4, 2).double()
    for i in range(5):
        z = draw(6, 2, 3, 3, seed=i)
        codes = step(quantiser, z)
        n = gamma * n + (1 - gamma) * torch.bincount(codes, minlength=4)
        m = gamma * m + (1 - gamma) * torch.zeros(4, 2).double().index_add_(0, codes, vectors(z))
        assert torch.allclose(quantiser.codebook, m / n[:, None], atol=1e-12)
    assert torch.allclose(quantiser.usage * 54, n, atol=1e-12)


def average(notes: list[list[Tensor]]) -> Callable[[Tensor], Tensor]:
    """What a rank hears when each asks for the mean of what it noted, in order."""
    means = iter([(a + b) / 2 for a, b in zip(*notes)])
    return lambda mine: next(means)


def test_pieces_and_ranks_make_the_same_step() -> None:
    z = draw(8, 2, 3, 3)
    whole, pieces = averaged(decay=0.5), averaged(decay=0.5)
    ranks = [averaged(decay=0.5), averaged(decay=0.5)]
    step(whole, z)
    for part in z.chunk(2):
        pieces.observe(part, pieces(part).codes, rng())
    pieces.settle(alone)
    for rank, part in zip(ranks, z.chunk(2)):
        rank.observe(part, rank(part).codes, rng())
    notes = [[rank._seen.clone(), rank._lots.clone()] for rank in ranks]
    for rank in ranks:
        rank.settle(average(notes))
    for other in (pieces, *ranks):
        assert torch.allclose(other.codebook, whole.codebook, atol=1e-12)


def test_a_dead_code_comes_back_on_a_latent_of_the_batch() -> None:
    quantiser = averaged(decay=0.9, revive=0.05, size=3)
    quantiser.codebook.copy_(torch.tensor([[0.0, 0.0], [5.0, 5.0], [99.0, 99.0]]))
    quantiser.usage.fill_(1 / 3)
    quantiser.sums.copy_(quantiser.codebook / 3)
    z = torch.cat([0.1 * draw(4, 2, 2, 2), 5 + 0.1 * draw(4, 2, 2, 2, seed=1)])
    steps = 0
    while float(quantiser.codebook[2].norm()) > 100:  # its average share falls from 1/3 to below 0.05/3
        step(quantiser, z, seed=steps)
        steps += 1
    assert steps == math.ceil(math.log(0.05) / math.log(0.9))
    apart = (vectors(z) - quantiser.codebook[2]).norm(dim=1)
    assert float(apart.min()) < 1e-9  # a latent of the batch, and one that it alone now serves
    assert torch.allclose(quantiser.sums[2], quantiser.usage[2] * quantiser.codebook[2])
    assert len(quantiser(z).codes.unique()) == 3


def test_two_ranks_revive_the_same_latent() -> None:
    parts = [draw(4, 2, 3, 3, seed=1), draw(4, 2, 3, 3, seed=2)]
    ranks = [averaged(decay=0.99, revive=0.05, size=16), averaged(decay=0.99, revive=0.05, size=16)]
    for i, (rank, part) in enumerate(zip(ranks, parts)):
        rank.observe(part, rank(part).codes, rng(i))
    notes = [[rank._seen.clone(), rank._lots.clone()] for rank in ranks]
    for rank in ranks:
        rank.settle(average(notes))
    assert torch.equal(ranks[0].codebook, ranks[1].codebook)
    latents = torch.cat([vectors(part) for part in parts])
    apart = torch.cdist(ranks[0].codebook, latents).min(1).values
    assert int((apart < 1e-2).sum()) >= 12  # now and then two lots weigh alike, and the code falls between them


def test_the_codebook_begins_as_latents_and_all_of_it_is_used() -> None:
    quantiser = averaged(decay=0.99, revive=0.05, size=32)
    for i in range(300):
        z = 20 + draw(4, 2, 8, 8, seed=i)  # nowhere near the initial codebook
        codes = step(quantiser, z, seed=i)
    assert float(perplexity(codes, 32)) > 20
    lonely = averaged(decay=0.99, revive=0.0, size=32)
    for i in range(300):
        z = 20 + draw(4, 2, 8, 8, seed=i)
        codes = step(lonely, z, seed=i)
    assert float(perplexity(codes, 32)) < 4  # without revival one or two codes serve all


def test_perplexity_counts_codes_in_even_use() -> None:
    assert float(perplexity(torch.arange(8).repeat(3), 10)) == pytest.approx(8, rel=1e-5)
    assert float(perplexity(torch.zeros(2, 5, dtype=torch.int64), 10)) == pytest.approx(1)


# ---- without a codebook ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(8, 6, 5), (3,), (2, 2, 2), (7, 5, 5, 5, 5)])
def test_fsq_is_bounded_and_every_code_is_reached(levels: tuple[int, ...]) -> None:
    quantiser = FiniteScalarQuantiser(levels)
    assert quantiser.size == math.prod(levels)
    grid = quantiser.look_up(torch.arange(quantiser.size).reshape(1, -1, 1))  # [1, D, K, 1]
    assert float(grid.min()) >= -1 and float(grid.max()) <= 1
    for channel, count in enumerate(levels):
        assert len(grid[0, channel].unique()) == count
    extreme = torch.tensor([-1e6, -3.0, -0.2, 0.0, 0.2, 3.0, 1e6]).double()
    for channel, count in enumerate(levels):
        z = torch.zeros(7, len(levels), 1, 1).double()
        z[:, channel, 0, 0] = extreme
        seen = quantiser(z).z[:, channel, 0, 0].float()
        assert float(seen[0]) == float(grid[0, channel].min()) and float(seen[-1]) == float(grid[0, channel].max())
        assert bool((seen.diff() >= 0).all()) and len(seen.unique()) <= count
    if quantiser.size <= 240:  # codes -> latents that round to them -> the same codes
        middle = quantiser.levels // 2
        half, offset = (quantiser.levels - 1) * 1.001 / 2, 0.5 * (1 - quantiser.levels % 2)
        whole = vectors(grid).double() * middle
        z = torch.atanh((whole + offset) / half) - torch.atanh(offset / half)
        again = quantiser(z.T.reshape(1, len(levels), -1, 1)).codes.flatten()
        assert torch.equal(again, torch.arange(quantiser.size))


@pytest.mark.parametrize(("bits", "group"), [(1, 9), (4, 9), (4, 4)])
@pytest.mark.parametrize("temperature", [0.05, 2.0])
def test_lfq_entropies_are_those_of_all_codes(bits: int, group: int, temperature: float) -> None:
    quantiser = LookupFreeQuantiser(bits, temperature=temperature, group=group)
    z = draw(3, bits, 4, 2, scale=0.5)
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits))).double()  # [2^bits, bits]
    logits = -torch.cdist(vectors(z), corners).square() / temperature
    q = logits.softmax(1)  # [N, 2^bits]
    each = torch.special.entr(q).sum(1).reshape(3, -1).mean(1)
    sure, spread = quantiser.entropies(z)
    assert torch.allclose(sure, each, atol=1e-9)
    assert torch.allclose(spread, torch.special.entr(q.mean(0)).sum(), atol=1e-9)
    losses = quantiser(z).losses
    assert float(losses["entropy"]) == pytest.approx(0.1 * float(each.mean() - spread))
    assert torch.equal(quantiser(z).codes.flatten(), logits.argmax(1))  # the nearest code, first channel highest


def test_entropies_of_groups_bound_that_of_all() -> None:
    z = draw(5, 6, 4, 4)
    z[:, 1] = z[:, 0] + 0.1 * z[:, 1]  # two channels that say the same
    whole, parts = (LookupFreeQuantiser(6, temperature=0.5, group=g).entropies(z)[1] for g in (6, 4))
    single = LookupFreeQuantiser(6, temperature=0.5, group=1).entropies(z)[1]
    assert float(whole) < float(parts) + 1e-9 and float(parts) < float(single) - 1e-9 < 6 * math.log(2)


def test_lfq_loss_is_finite_where_chances_vanish() -> None:
    z = (100 * torch.sign(draw(2, 9, 2, 2))).float().requires_grad_()
    loss = LookupFreeQuantiser(9, temperature=0.01)(z).losses["entropy"]
    loss.backward()
    assert z.grad is not None and bool(z.grad.isfinite().all()) and bool(loss.isfinite())


def test_impossible_sizes_are_refused() -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: VectorQuantiser(1, 4), "2 codes or more"),
        (lambda: AveragedQuantiser(8, 4, decay=1.0), "decay of a codebook"),
        (lambda: FiniteScalarQuantiser((8, 1)), "2 values or more"),
        (lambda: LookupFreeQuantiser(40), "1 to 30 bits"),
    ]
    for build, message in wrong:
        with pytest.raises(UsageError, match=message):
            build()
