"""Plans of pictures: their maps against counted pixels, their law against all boxes there are, their way to the net."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import FileProblem
from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.system import Spec
from huggingvis.data.mixture import standard_mixture
from huggingvis.nets.plan_map import NONE, Plan, PlanMap, codes_of
from huggingvis.nets.plan_reader import PlanReader, told
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.objectives.planning import Planning
from huggingvis.processes.vp import CosineVP
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import Uniform
from huggingvis.systems import tiny
from huggingvis.systems.planner import Planner, PlannerConfig

MAP = PlanMap(kinds=3, colours=2)


def plan(*things: tuple[int, int, tuple[float, float, float, float]]) -> Plan:
    """One picture's; `NONE` fills up to four things."""
    rows = [*things, *[(NONE, NONE, (0.0, 0.0, 0.0, 0.0))] * (4 - len(things))]
    kinds, colours = (torch.tensor([[row[i] for row in rows]]) for i in (0, 1))
    return Plan(kinds, colours, torch.tensor([[row[2] for row in rows]], dtype=torch.float64))


def test_a_map_says_how_much_of_each_place_a_thing_covers() -> None:
    """Against the share of covered points of a fine lattice in each of 4 x 8 places."""
    x0, y0, x1, y1 = box = (0.11, 0.3, 0.52, 0.93)
    n = 400
    points = (torch.arange(8 * n, dtype=torch.float64) + 0.5) / (8 * n)
    across, down = ((low < points) & (points < high) for low, high in ((x0, x1), (y0, y1)))
    counted = torch.outer(
        down.double().reshape(4, 2 * n).mean(1), across.double().reshape(8, n).mean(1)
    )  # rows of a quarter, columns of an eighth
    drawn = MAP(plan((1, NONE, box)), 4, 8)[0]
    assert drawn.shape == (MAP.channels, 4, 8) == (8, 4, 8)
    assert torch.allclose(drawn[0], counted, atol=5e-3)
    assert torch.equal(drawn[3:6], torch.stack([torch.zeros_like(drawn[0]), drawn[0], torch.zeros_like(drawn[0])]))
    assert drawn[6:].abs().max() == 0  # no colour was said


def test_things_add_up_and_those_that_are_not_there_do_not() -> None:
    left, right = (0, 1, (0.0, 0.0, 0.5, 1.0)), (2, NONE, (0.5, 0.0, 1.0, 1.0))
    both = MAP(plan(left, right), 8, 8)
    assert torch.allclose(both, MAP(plan(left), 8, 8) + MAP(plan(right), 8, 8))
    assert torch.equal(both[:, 0], torch.ones(1, 8, 8, dtype=torch.float64))
    assert torch.equal(both[0, 6:], torch.stack([torch.zeros_like(both[0, 0]), both[0, 3]]))  # of colour 1 is the left
    assert MAP(plan((NONE, 0, (0.0, 0.0, 1.0, 1.0))), 8, 8).abs().max() == 0


def test_neighbours_of_one_kind_stay_two() -> None:
    """Two things side by side cover what one wide thing covers; where places lie in them tells the two apart."""
    two = MAP(plan((0, NONE, (0.0, 0.0, 0.5, 1.0)), (0, NONE, (0.5, 0.0, 1.0, 1.0))), 4, 4)[0]
    one = MAP(plan((0, NONE, (0.0, 0.0, 1.0, 1.0))), 4, 4)[0]
    assert torch.equal(two[0], one[0]) and torch.equal(two[3:], one[3:])
    assert two[1, 0].tolist() == [-0.5, 0.5, -0.5, 0.5] and one[1, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert two[2, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_plan_keeps_boxes_to_the_pixel() -> None:
    boxes = torch.tensor([[[0.125, 0.25, 0.5, 0.875], [0.3, 0.1, 0.7, 0.9]]])
    codes = codes_of(Plan(torch.tensor([[4, NONE]]), torch.tensor([[NONE, NONE]]), boxes), 64)
    assert codes.tolist() == [[[8, 16, 32, 56], [0, 0, 0, 0]]]


def test_a_fresh_reader_reads_the_slots_as_they_are_and_a_trained_one_all_words() -> None:
    torch.manual_seed(0)
    reader = PlanReader(dim=8, slots=2, kinds=3, colours=2, depth=2, heads=2).double().eval()
    tokens, mask = torch.randn(1, 5, 8, dtype=torch.float64), torch.tensor([[True, True, True, True, False]])
    kind, colour = reader(tokens, mask)
    assert torch.equal(kind, reader.kind(tokens[:, :2])) and torch.equal(colour, reader.colour(tokens[:, :2]))
    for weight in reader.layers.parameters():
        torch.nn.init.normal_(weight)
    words = tokens.clone().requires_grad_()
    torch.cat(reader(words, mask), -1).sum().backward()
    assert words.grad is not None
    assert (words.grad[0, :4].abs().amax(-1) > 0).all() and not words.grad[0, 4].any()  # padding is not read


def test_the_loss_is_minus_the_log_of_a_plans_probability() -> None:
    """All plans of one thing, of two kinds, one colour, sides 0 or 1: their probabilities add up to 1."""
    torch.manual_seed(0)
    config = PlannerConfig(kinds=2, colours=1, slots=1, text_dim=16, places=1, dim=8, depth=1, heads=2)
    planner, tower = Planner(config), TextTower(TextTowerConfig(vocabulary=9, length=3, dim=16, depth=1, slots=1))
    for weight in planner.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    objective = Planning(planner.reader, planner.prior, tower)
    probabilities = []
    for kind, colour, *codes in itertools.product((-1, 0, 1), (-1, 0), *[(0, 1)] * 4):
        batch = {
            "ids": torch.tensor([[4, 2, 0]]),
            "kinds": torch.tensor([[kind]]),
            "colours": torch.tensor([[colour]]),
            "codes": torch.tensor([[codes]]),
        }
        loss = objective.loss(batch, 0, torch.Generator())
        probabilities.append(torch.exp(-(loss["kind"] + loss["colour"] + 4 * loss["boxes"])).item())
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-5) and max(probabilities) > 2 / len(probabilities)


def test_boxes_are_drawn_from_their_law() -> None:
    """Of a planner so small that every plan can be asked for its probability."""
    torch.manual_seed(0)
    planner = Planner(PlannerConfig(kinds=2, colours=1, slots=1, text_dim=4, places=1, dim=8, depth=1, heads=2)).eval()
    for name, weight in planner.prior.named_parameters():
        torch.nn.init.normal_(weight, std=0.7 if "out" in name or "vector" in name else 0.4)
    tokens, mask = torch.randn(1, 3, 4), torch.tensor([[True, True, False]])  # a slot, a word, padding
    every = torch.tensor(list(itertools.product((0, 1), repeat=4))).view(-1, 1, 4)  # [16, 1, 4]
    cond = told(tokens.expand(16, -1, -1), mask.expand(16, -1), slots=1)
    with torch.no_grad():
        law = planner.prior(every, cond).log_softmax(-1).gather(-1, every.flatten(1)[..., None]).sum((1, 2)).exp()
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5) and float(law.max()) < 0.8
    n = 20_000
    drawn = planner.plan(
        tokens.expand(n, -1, -1), mask.expand(n, -1), BatchNoise(0)
    ).boxes.long()  # [n, 1, 4] of 0 and 1
    number = (drawn[:, 0] * torch.tensor([8, 4, 2, 1])).sum(-1)
    seen = torch.bincount(number, minlength=16) / n
    assert torch.allclose(seen, law, atol=4 * (0.25 / n) ** 0.5)


def test_a_plan_is_its_seeds_whatever_the_batch() -> None:
    torch.manual_seed(1)
    planner = Planner(PlannerConfig(kinds=5, colours=2, slots=2, text_dim=6, places=8, dim=8, depth=1, heads=2)).eval()
    tokens = torch.randn(3, 4, 6)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 4])
    together = planner.plan(tokens, mask, SeedNoise([4, 5, 6]))
    alone = planner.plan(tokens[1:2, :3], mask[1:2, :3], SeedNoise([5]))  # without its padding
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1:2], one)
    assert together.kinds.min() >= NONE and together.kinds.max() < 5 and together.colours.max() < 2


def test_a_planner_of_another_model_is_refused(tiny_model: Path) -> None:
    parts = tiny.load_parts(tiny_model, torch.device("cpu"))
    stranger = Planner(PlannerConfig(kinds=2, colours=1, slots=2, text_dim=16, places=8, dim=8, depth=1, heads=2))
    spec, conditioner = Spec("x", "tiny", (32, 32)), tiny.TinyConditioner(parts.tokenizer, parts.tower)
    with pytest.raises(FileProblem, match="plans 6 channels.*sees 0"):
        tiny.assemble(spec, parts.unet, parts.codec, conditioner, stranger)


def test_a_diffusion_model_asks_its_prior_once_after_its_first_noise() -> None:
    """The condition that the prior completes reaches the denoiser; x_T is what it is without one."""
    asked: list[dict] = []
    mixture, process = standard_mixture(), CosineVP()

    def prior(cond, noise):
        return {**cond, "concat": noise.draw(torch.empty(2, 1))}

    def denoise(x: Tensor, t: Tensor, cond):
        asked.append({"x": x, **cond})
        return mixture.denoiser(process)(x, t, {})

    plain = Diffusion(denoise, process, (2,), DDIM(), Uniform(3))
    plain.sample(2, {}, noise=SeedNoise([1, 2]))
    without = asked[0]["x"]
    asked.clear()
    planned = Diffusion(denoise, process, (2,), DDIM(), Uniform(3), prior=prior)
    planned.sample(2, {}, noise=SeedNoise([1, 2]))
    assert torch.equal(asked[0]["x"], without)
    assert len(asked) == 3 and all(torch.equal(call["concat"], asked[0]["concat"]) for call in asked)
