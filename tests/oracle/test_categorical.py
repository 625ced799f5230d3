"""Categorical diffusion against enumeration: laws by matrices over all words, Bayes by hand, the bound term by term."""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Categorical
from huggingvis.core.categorical import CategoricalDiffusion, CategoricalNet, CategoricalProcess
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Bound
from huggingvis.data.enumerable import Enumerable, heartbeat
from huggingvis.objectives.categorical_bound import CategoricalBound
from huggingvis.processes.multinomial import Multinomial
from huggingvis.recipes.chain_training import bound_to, total
from huggingvis.recipes.diffusion.diffusion_2015_binomial import perfect
from huggingvis.samplers.categorical import CategoricalAncestral

F64 = torch.float64
PROCESSES = {
    "binomial": Multinomial(),
    "binomial of a rate": Multinomial((0.8, 0.2)),
    "multinomial": Multinomial.even(3),
    "squared": Multinomial.even(3, lambda t: (1 - t) ** 2),
    "absorbing": Multinomial((0.0, 0.0, 1.0), lambda t: (1 - t) ** 2),
}
BITS = 4
LAW = Enumerable(torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]]), torch.tensor([0.5, 0.3, 0.2]))
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=F64)


def matrix(process: Multinomial, s: float, t: float) -> Tensor:
    """Q with rows x_s, columns x_t, written out from the definition."""
    r, pi = float(process.keep(at(t)) / process.keep(at(s))), process.prior
    return r * torch.eye(len(pi), dtype=F64) + (1 - r) * pi.expand(len(pi), -1)


def words(classes: int, length: int) -> Tensor:
    return torch.tensor(list(product(range(classes), repeat=length)))


def whole(process: Multinomial, s: float, t: float) -> Tensor:
    """The matrix over all words of `BITS` positions."""
    return reduce(torch.kron, [matrix(process, s, t)] * BITS)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    assert a.shape == b.shape and float((a - b).abs().max()) < tol


@every_process
def test_steps_multiply_to_the_marginal(process: Multinomial) -> None:
    times = torch.linspace(0, 0.9, 7, dtype=F64).tolist()
    along = reduce(torch.matmul, [matrix(process, s, t) for s, t in pairwise(times)])
    x = torch.arange(len(process.prior))
    close(process.marginal(x, at(0.9)), along, 1e-12)
    close(process.forward(process.one_hot(x), at(0.3), at(0.6)), matrix(process, 0.3, 0.6), 1e-12)
    close(process.backward(x, at(0.3), at(0.6)), matrix(process, 0.3, 0.6).T, 1e-12)
    close(along.sum(1), torch.ones(len(x), dtype=F64), 1e-12)
    close(process.marginal(x, at(1.0)), process.prior.expand(len(x), -1), 0.0 + 1e-15)
    close(process.prior @ matrix(process, 0.2, 0.7), process.prior, 1e-15)  # it stands still


@every_process
def test_posterior_is_bayes_over_all_words(process: Multinomial) -> None:
    """q(x_s|x_t, x_0) by the matrices of whole words, of which positions are shown to be independent."""
    s, t, classes = 0.35, 0.6, len(process.prior)
    every = words(classes, BITS)
    for start in (every[5], every[-2], every[len(every) // 3]):
        row = int((every == start).all(1).nonzero())
        joint = whole(process, 0, s)[row][:, None] * whole(process, s, t)  # [x_s, x_t]
        possible = joint.sum(0) > 0
        noisy = every[possible]
        brute = (joint[:, possible] / joint[:, possible].sum(0)).T  # [x_t, x_s]
        each = process.posterior(process.one_hot(start.expand(len(noisy), -1)), noisy, at(t), at(s))  # [x_t, L, K]
        close(torch.stack([each[:, torch.arange(BITS), w].prod(1) for w in every], 1), brute)


@every_process
def test_the_step_of_the_perfect_belief_is_the_true_one(process: Multinomial) -> None:
    """p(x_s,i | x_t) by enumeration of x_0 and x_s, for data that are a mixture of words."""
    s, t, every = 0.25, 0.7, words(len(process.prior), BITS)
    rows = [int((every == word).all(1).nonzero()) for word in LAW.words]
    joint = (LAW.weights @ whole(process, 0, s)[rows])[:, None] * whole(process, s, t)
    possible = joint.sum(0) > 0
    noisy, law = every[possible], (joint[:, possible] / joint[:, possible].sum(0)).T  # [x_t, x_s]
    each = process.posterior(LAW.x0(noisy, process, at(t)), noisy, at(t), at(s))
    close(each, torch.einsum("ts,slk->tlk", law, process.one_hot(every)))
    close(LAW.log_prob(noisy, process, at(t)), joint[:, possible].sum(0).log())


def test_the_first_paper_s_rates() -> None:
    """beta_t = 1/(T - t + 1): the kernel x (1 - beta) + beta/2, and 1 - t/T of the datum left after t steps."""
    process, steps = Multinomial(), 20
    for k in range(1, steps + 1):
        beta, s, t = 1 / (steps - k + 1), at((k - 1) / steps), at(k / steps)
        for bit in (0, 1):
            one = process.forward(process.one_hot(torch.tensor([bit])), s, t)[0, 1]
            assert float(one) == pytest.approx(bit * (1 - beta) + 0.5 * beta, abs=1e-12)
    kept = math.prod(1 - 1 / (steps - k + 1) for k in range(1, 16))
    assert kept == pytest.approx(1 - 15 / steps, abs=1e-12)


def expected(process: Multinomial, law: Enumerable, ask: Bound, steps: int) -> float:
    """The bound of any denoiser, by every word and every noisy word there is."""
    bound = CategoricalBound(process, torch.arange(steps + 1, dtype=F64) / steps)
    every, nats = words(len(process.prior), law.words.shape[1]), 0.0
    for word, weight in zip(law.words, law.weights, strict=True):
        x = word.expand(len(every), -1)
        for t, s in zip(bound.times[1:], bound.times[:-1], strict=True):
            chance = process.marginal(x, t).gather(-1, every[..., None]).squeeze(-1).prod(-1)
            nats += float(weight * (chance * bound.cost(ask, x, every, t, s)).nan_to_num(0.0).sum())
    return nats


def wrong(process: CategoricalProcess) -> Bound:
    """A denoiser that is somewhat off, and sure of nothing."""

    def ask(x: Tensor, t: Tensor) -> Belief:
        logits = LAW.x0(x, process, t).clamp(min=1e-3).log()
        return Categorical(0.7 * logits + 0.2 * torch.arange(logits.shape[-1]))

    return ask


@pytest.mark.parametrize("denoiser", ["perfect", "wrong"])
def test_the_ledger_is_that_of_all_words(denoiser: str) -> None:
    """The estimate by draws, for each count of draws, has the mean of the enumeration; T = 12 and 3 of them."""
    process, steps = Multinomial((0.7, 0.3)), 12
    ask = bound_to(LAW.denoiser(process)) if denoiser == "perfect" else wrong(process)
    bound = CategoricalBound(process, torch.arange(steps + 1, dtype=F64) / steps)
    x = LAW.sample(6000, torch.Generator().manual_seed(0))
    want = expected(process, LAW, ask, steps)
    for draws in (steps, 3):
        found = total(bound(ask, x, torch.Generator().manual_seed(1), draws))
        assert float(found.mean()) == pytest.approx(want, abs=4 * float(found.std()) / len(x) ** 0.5)
    best = expected(process, LAW, bound_to(LAW.denoiser(process)), steps)
    assert best > LAW.entropy and (want > best + 0.01 if denoiser == "wrong" else want == best)


def test_prior_and_fixed_end() -> None:
    process = Multinomial((0.8, 0.2))
    bound = CategoricalBound(process, torch.tensor([0.0, 0.1, 0.6], dtype=F64))
    x = heartbeat(10, 5).words
    ledger = bound(bound_to(heartbeat(10, 5).denoiser(process)), x, torch.Generator().manual_seed(0), 1)
    zero, one = 0.4 * 0 + 0.6 * 0.2, 0.4 + 0.6 * 0.2  # chances of a 1 at t = 0.6

    def divergence(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert ledger["prior"].tolist() == pytest.approx([8 * divergence(zero, 0.2) + 2 * divergence(one, 0.2)] * 5)
    entropy = sum(n * -(p * math.log(p) + (1 - p) * math.log(1 - p)) for n, p in ((8, 0.02), (2, 0.92)))
    assert bound.fixed_end(x).tolist() == pytest.approx([entropy] * 5)


def test_the_bound_of_the_heartbeat_falls_to_its_entropy() -> None:
    """One step is independent bits, 20 H(1/5); then the gap falls as 1/T, and never below the truth."""
    law, process = heartbeat(), Multinomial((0.8, 0.2))
    small = heartbeat(6, 3)
    rate = Multinomial((2 / 3, 1 / 3))
    brute = expected(rate, small, bound_to(small.denoiser(rate)), 5)
    assert perfect(small, rate, 5) == pytest.approx(brute, abs=1e-10)
    independent = 20 * -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert perfect(law, process, 1) == pytest.approx(independent, abs=1e-10)
    gaps = [perfect(law, process, steps) - law.entropy for steps in (32, 64, 128)]
    assert law.entropy == pytest.approx(math.log(5)) and all(gap > 0 for gap in gaps)
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.06) and gaps[1] / gaps[2] == pytest.approx(2, rel=0.04)


def test_samples_have_the_law_of_the_chain() -> None:
    """The reverse chain's law of x_0 over all 16 words by matrices, against draws; it costs less than the bound."""
    process, steps, every = Multinomial((0.6, 0.4)), 8, words(2, BITS)
    ask = bound_to(LAW.denoiser(process))
    times = torch.arange(steps, -1, -1, dtype=F64) / steps
    law = process.prior[every].prod(1)  # of x_1
    for t, s in pairwise(times):
        belief = ask(every, t)
        assert isinstance(belief, Categorical)
        each = process.posterior(belief.logits.softmax(-1), every, t, s)  # [x_t, L, K]
        law = law @ torch.stack([each[:, torch.arange(BITS), w].prod(1) for w in every], 1)
    assert float(law.sum()) == pytest.approx(1)
    model = CategoricalDiffusion(LAW.denoiser(process), process, (BITS,), CategoricalAncestral(), Grid(times))
    n = 20_000
    drawn = model.sample(n, {}, noise=BatchNoise(0))
    share = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16) / n
    assert bool(((share - law).abs() < 4 * (law * (1 - law) / n).sqrt() + 1e-9).all())
    rows = (LAW.words * torch.tensor([8, 4, 2, 1])).sum(1)
    cost = -float((LAW.weights * law[rows].log()).sum())
    assert LAW.entropy < cost < expected(process, LAW, ask, steps)


def test_samples_do_not_depend_on_their_batch() -> None:
    process = Multinomial.even(2)
    grid = Grid(torch.tensor([1.0, 0.5, 0.8, 0.3, 0.0], dtype=F64))  # it rises once: the loop renoises classes too
    model = CategoricalDiffusion(LAW.denoiser(process), process, (3, BITS), CategoricalAncestral(), grid)
    many, one = model.sample(4, {}, noise=SeedNoise(range(4))), model.sample(1, {}, noise=SeedNoise([2]))
    assert many.dtype == torch.int64 and many.shape == (4, 3, BITS) and torch.equal(many[2:3], one)
    assert {tuple(word) for word in many.flatten(0, 1).tolist()} <= {tuple(w) for w in words(2, BITS).tolist()}


def test_a_net_need_not_learn_a_position_s_own_evidence() -> None:
    """With logits 0 it believes what Bayes says of an even datum whose positions know nothing of each other."""
    process = Multinomial((0.8, 0.2))

    class Silent(torch.nn.Module):
        def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
            return torch.zeros(*x.shape, 2)

    belief = CategoricalNet(Silent(), process)(torch.tensor([[0, 1]]), at(0.5), {})
    assert isinstance(belief, Categorical)
    q = matrix(process, 0, 0.5)  # rows x_0
    close(belief.logits.softmax(-1)[0], (q / q.sum(0)).T, 1e-12)


def test_laws_that_are_none_are_refused() -> None:
    for law in ((1.0,), (0.5, 0.6), (-0.5, 1.5)):
        with pytest.raises(UsageError, match="sum to 1"):
            Multinomial(law)
    with pytest.raises(UsageError, match="multiple of its period"):
        heartbeat(20, 3)
    with pytest.raises(UsageError, match="all differ"):
        Enumerable(torch.zeros(2, 3))
