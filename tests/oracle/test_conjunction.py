"""AND is the plain sum of its prompts' beliefs, and changing prompts are told step by step."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.guidance.by_step import ByStep
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.conjunction import Conjunction
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.samplers.names import sampler_of

F64 = torch.float64


def net(x: Tensor, t: Tensor, cond: Cond) -> Belief:
    """Something that depends on all it is told, sample by sample."""
    told = cond["tokens"].sum((1, 2)) + cond.get("vector", torch.zeros(len(x), 1, dtype=F64)).sum(1)
    return Gaussian(torch.tanh(x * told[:, None] + 0.3 * told[:, None] ** 2))


def condition(batch: int = 3, parts: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(0)
    places = ["", "negative.", *(f"and.{n}." for n in range(1, parts + 1))]
    found = {f"{place}tokens": torch.randn(batch, 4, 2, dtype=F64) for place in places}
    return found | {f"{place}vector": torch.randn(batch, 5, dtype=F64) for place in places}


def part(cond: Cond, place: str) -> dict[str, Tensor]:
    return {key: cond[f"{place}{key}"] for key in ("tokens", "vector")}


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_it_is_the_plain_sum(scale: float) -> None:
    cond, x, t = condition(), torch.randn(3, 6, dtype=F64), torch.tensor(0.4, dtype=F64)
    weights = (1.0, 0.6, -0.4)
    away = net(x, t, part(cond, "negative.")).x0
    expected = away.clone()
    for weight, place in zip(weights, ("", "and.1.", "and.2."), strict=True):
        expected += scale * weight * (net(x, t, part(cond, place)).x0 - away)
    found = Conjunction(weights, scale)(net)(x, t, cond)
    assert isinstance(found, Gaussian) and float((found.x0 - expected).abs().max()) < 1e-12


def test_one_prompt_of_weight_one_is_classifier_free_guidance() -> None:
    cond, x = condition(parts=0), torch.randn(3, 6, dtype=F64)
    for rescale, t in itertools.product((0.0, 0.7), (torch.tensor(0.4, dtype=F64), torch.tensor([0.1, 0.5, 0.9]))):
        free = ClassifierFree(3.0, rescale, (0.2, 0.8))(net)(x, t, cond)
        one = Conjunction((1.0,), 3.0, rescale, (0.2, 0.8))(net)(x, t, cond)
        inside = (t >= 0.2) & (t <= 0.8) if t.ndim else torch.ones(3, dtype=torch.bool)
        assert float((one.x0 - free.x0)[inside].abs().max()) < 1e-12
        if rescale == 0.0:
            assert float((one.x0 - free.x0).abs().max()) < 1e-12


def test_prompts_of_different_lengths_do_not_see_each_others_padding() -> None:
    cond = condition(parts=1)
    cond["and.1.tokens"] = torch.randn(3, 9, 2, dtype=F64)

    def masked(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        mask = cond["tokens_mask"].to(F64)[..., None]
        return net(x, t, {**cond, "tokens": cond["tokens"] * mask})

    x, t = torch.randn(3, 6, dtype=F64), torch.tensor(0.4, dtype=F64)
    away, one, two = (net(x, t, part(cond, place)).x0 for place in ("negative.", "", "and.1."))
    found = Conjunction((1.0, 1.0), 2.0)(masked)(x, t, cond)
    assert float((found.x0 - (away + 2 * (one - away) + 2 * (two - away))).abs().max()) < 1e-12


class Rows:
    """p(x) = p(x_1) p(x_2), each of two Gaussians of means -1 and 1; a condition says which one a component is of."""

    process: Process = RectifiedFlow()
    spread = 0.3

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Belief:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        means = torch.tensor([-1.0, 1.0], dtype=F64)
        var = (alpha * self.spread) ** 2 + sigma**2
        told = cond["tokens"][:, 0]  # [B, 2]: -1, 1, or 0 where nothing is said
        logits = -((x[..., None] - alpha * means) ** 2) / (2 * var)  # [B, 2, 2]
        logits = logits.masked_fill((told[..., None] != 0) & (told[..., None] != means), -torch.inf)
        each = means + alpha * self.spread**2 / var * (x[..., None] - alpha * means)
        return Gaussian((logits.softmax(-1) * each).sum(-1))


def said(*told: float, batch: int = 1) -> Tensor:
    return torch.tensor(told, dtype=F64).expand(batch, 1, 2)


def test_prompts_of_components_of_their_own_draw_the_joint_law() -> None:
    """The product of experts is exact at every time where each expert speaks of its own components."""
    rows, x = Rows(), torch.randn(50, 2, dtype=F64) * 1.5
    cond = {"tokens": said(1, 0, batch=50), "and.1.tokens": said(0, -1, batch=50)}
    cond["negative.tokens"] = said(0, 0, batch=50)
    both = {"tokens": said(1, -1, batch=50)}
    for time in (0.02, 0.3, 0.7, 0.99):
        t = torch.tensor(time, dtype=F64)
        apart = Conjunction((1.0, 1.0), 1.0)(rows)(x, t, cond).x0 - rows(x, t, both).x0
        assert float(apart.abs().max()) < 1e-12
    grid = Grid(torch.linspace(1.0, 0.0, 61, dtype=F64))
    walk = Diffusion(rows, rows.process, (2,), sampler_of("heun"), lambda _: grid, (Conjunction((1.0, 1.0), 1.0),))
    start = (x - x.mean(0)) / x.std(0)
    drawn = walk.walk(start, grid, cond, noise=BatchNoise(0))
    assert float((drawn.mean(0) - torch.tensor([1.0, -1.0])).abs().max()) < 1e-2
    assert float((drawn.std(0) - rows.spread).abs().max()) < 1e-2


# ---- steps -----------------------------------------------------------------------------------------------------------


def changing(table: tuple[tuple[int, ...], ...], batch: int = 2) -> dict[str, Tensor]:
    variants = {n for step in table for n in step}
    found = {f"variant.{n}.tokens": torch.full((batch, 1, 1), float(n), dtype=F64) for n in variants}
    found |= {f"negative.{key}": value for key, value in found.items()}
    first = table[0]
    found |= {"tokens": found[f"variant.{first[0]}.tokens"], "negative.tokens": found[f"variant.{first[-1]}.tokens"]}
    return {**found, "step": torch.zeros(batch, dtype=torch.int64)}


def test_each_step_is_told_its_own_reading() -> None:
    table = ((0, 1, 3), (0, 1, 3), (2, 1, 4), (0, 2, 3))
    heard = []

    def listening(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        assert not [key for key in cond if "variant" in key or key == "step"]
        heard.append(tuple(float(cond[k][0, 0, 0]) for k in ("tokens", "and.1.tokens", "negative.tokens")))
        return Gaussian(torch.zeros_like(x))

    grid = Grid(torch.linspace(1.0, 0.0, 6, dtype=F64))
    x = torch.randn(2, 3, dtype=F64)
    told = changing(table)
    sample(ByStep(table)(listening), RectifiedFlow(), sampler_of("euler"), x, grid, told, noise=BatchNoise(0))
    assert heard == [table[0], table[1], table[2], table[3], table[3]]
    heard.clear()
    sample(ByStep(table)(listening), RectifiedFlow(), sampler_of("heun"), x, grid, told, noise=BatchNoise(0))
    assert heard[:6] == [table[0]] * 2 + [table[1]] * 2 + [table[2]] * 2  # both calls of a step are told the same


def test_a_walk_that_goes_back_reads_what_it_read_there() -> None:
    heard = []

    def listening(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        heard.append(int(cond["step"][0]))
        return Gaussian(torch.zeros_like(x))

    times = torch.tensor([1.0, 0.8, 0.6, 0.8, 0.6, 0.3, 0.0], dtype=F64)
    cond = {"step": torch.zeros(2, dtype=torch.int64)}
    sample(listening, RectifiedFlow(), sampler_of("euler"), torch.randn(2, 3, dtype=F64), Grid(times), cond,
           noise=BatchNoise(0))  # fmt: skip
    assert heard == [0, 1, 1, 2, 3]  # the step from 0.6 up to 0.8 asks nobody


def test_what_no_condition_asks_for_is_not_told() -> None:
    keys: set[str] = set()

    def listening(x: Tensor, t: Tensor, cond: Cond) -> Belief:
        keys.update(cond)
        return Gaussian(torch.zeros_like(x))

    grid = Grid(torch.linspace(1.0, 0.0, 4, dtype=F64))
    sample(listening, RectifiedFlow(), sampler_of("euler"), torch.randn(2, 3, dtype=F64), grid, {}, noise=BatchNoise(0))
    assert keys == {"estimate"}
