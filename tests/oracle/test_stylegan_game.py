"""Losses of style-based generators on linear players, whose slopes and path lengths are known, and what adapts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.objective import Turn
from huggingvis.nets.layer_noise import LayerNoise, NoNoise
from huggingvis.nets.stylegan import StyleGenerator, StyleMapping
from huggingvis.objectives.augment import Augment
from huggingvis.objectives.stylegan import Adaptive, Penalties, StyleGAN, path_lengths


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- losses ----------------------------------------------------------------------------------------------------------


class LinearSynthesis(nn.Module):
    """x = A w, with the mean over its layers' styles: Jacobian A / L in each layer."""

    layers = 2

    def __init__(self, a: Tensor, shape: tuple[int, int, int]):
        super().__init__()
        self.a, self.shape = nn.Parameter(a), shape

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        return (ws.mean(1) @ self.a.T).unflatten(1, self.shape)


class LinearCritic(nn.Module):
    """D(x) = <a, x> + b."""

    def __init__(self, a: Tensor, b: float):
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(torch.tensor(b, dtype=a.dtype))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.flatten(1) @ self.a + self.b


SHAPE = (1, 3, 4)


def linear(
    penalties: Penalties, b: float = 0.0, augment: Augment | None = None, adaptive: Adaptive | None = None
) -> StyleGAN:
    torch.manual_seed(0)
    pixels = math.prod(SHAPE)
    net = StyleGenerator(StyleMapping(5, 4, layers=2), LinearSynthesis(normal(pixels, 4), SHAPE), 4).double()
    critic = LinearCritic(normal(pixels, seed=3), b)
    return StyleGAN(net, critic, penalties, augment=augment, adaptive=adaptive).double()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_r1_of_a_linear_critic_is_its_squared_length() -> None:
    game = linear(Penalties(r1=3.0, r1_every=16))
    assert isinstance(game.critic, LinearCritic)
    losses = game.r1_penalty({"image": normal(5, *SHAPE)}, 0, rng())
    assert float(losses["penalty"].detach()) == pytest.approx(
        16 * 3.0 / 2 * float(game.critic.a.detach().square().sum()), rel=1e-12
    )
    losses["penalty"].backward()
    assert game.critic.a.grad is not None
    assert torch.allclose(game.critic.a.grad, 16 * 3.0 * game.critic.a, atol=1e-10)


def test_path_lengths_of_a_linear_generator_are_known() -> None:
    """x = A mean_l w_l gives J_l^T y = A^T y / L, so the length is |A^T y| / (L sqrt(H W))."""
    game = linear(Penalties())
    assert isinstance(game.generator.synthesis, LinearSynthesis)
    ws, noise = normal(6, 2, 4).requires_grad_(True), normal(6, *SHAPE, seed=5)
    lengths = path_lengths(game.generator.paint(ws, NoNoise()), ws, noise)
    known = (noise.flatten(1) @ game.generator.synthesis.a).norm(dim=1) / 2 / 12**0.5
    assert torch.allclose(lengths, known, atol=1e-12)


def test_path_penalty_is_the_distance_to_the_running_mean() -> None:
    p = Penalties(path=2.0, path_every=8, path_share=0.5, path_decay=0.1, mixing=0.0)
    game = linear(p)
    game.path_mean.fill_(1.5)
    batch = {"image": normal(4, *SHAPE)}
    first = game.path_penalty(batch, 0, rng(1))
    drawn = rng(1)
    torch.randn(2, 5, generator=drawn, dtype=torch.float64)  # z of half the batch
    assert isinstance(game.generator.synthesis, LinearSynthesis)
    y = torch.randn(2, *SHAPE, generator=drawn, dtype=torch.float64)
    known = (y.flatten(1) @ game.generator.synthesis.a).norm(dim=1) / 2 / 12**0.5
    mean = 0.9 * 1.5 + 0.1 * known.mean()
    assert float(first["penalty"].detach()) == pytest.approx(2 * 8 * float((known - mean).square().mean()), rel=1e-9)
    after(game, "path", 0, batch)
    assert float(game.path_mean) == pytest.approx(float(mean), rel=1e-9)


def after(game: StyleGAN, name: str, step: int, batch: dict[str, Tensor]) -> None:
    turn = next(turn for turn in game.turns(step) if turn.name == name)
    game.after(turn, step, params={}, batch=batch, reduce=lambda x: x)


def test_turns_are_lazy() -> None:
    turns = linear(Penalties()).turns(0)
    assert [(t.name, *t.nets, t.every) for t in turns] == [
        ("generator", "generator", 1),
        ("path", "generator", 8),
        ("critic", "critic", 1),
        ("r1", "critic", 16),
    ]
    assert [t.name for t in linear(Penalties(path=0.0, r1=0.0)).turns(0)] == ["generator", "critic"]
    assert all(isinstance(turn, Turn) for turn in turns)


def test_losses_are_the_logistic_game() -> None:
    game = linear(Penalties(mixing=0.0), b=0.3)
    batch = {"image": normal(64, *SHAPE)}
    losses = game.critic_loss(batch, 0, rng(2))
    drawn = rng(2)
    w = game.generator.mapping(torch.randn(64, 5, generator=drawn, dtype=torch.float64))
    fake = game.critic(game.generator.paint(game.generator.spread(w), NoNoise()))
    true = game.critic(batch["image"])
    assert float(losses["fake"]) == pytest.approx(-float(F.logsigmoid(-fake).mean()), rel=1e-9)
    assert float(losses["real"]) == pytest.approx(-float(F.logsigmoid(true).mean()), rel=1e-9)
    assert float(losses["_signs"]) == pytest.approx(float(true.sign().mean()), rel=1e-9)
    made = game.generator_loss(batch, 0, rng(2))["adversarial"]
    assert float(made) == pytest.approx(-float(F.logsigmoid(fake).mean()), rel=1e-9)
    before = game.generator.w_avg.clone()
    after(game, "critic", 0, batch)
    assert torch.allclose(game.generator.w_avg, before.lerp(w.mean(0), 0.002), atol=1e-12)


def test_mixing_takes_its_share_and_never_a_whole_style() -> None:
    game = linear(Penalties(mixing=0.5))
    ws, w = game.styles(4000, None, rng())
    changed = (ws != w[:, None]).any(2)  # [B, L]
    assert not changed[:, 0].any() and float(changed[:, 1].double().mean()) == pytest.approx(0.5, abs=0.03)


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_the_probability_moves_as_its_formula() -> None:
    rule = Adaptive(batch=20, target=0.6, every=4, kimg=1.0)
    p = torch.tensor(0.5)
    assert float(rule.moved(p, torch.tensor(0.7))) == pytest.approx(0.5 + 20 * 4 / 1000)
    assert float(rule.moved(p, torch.tensor(0.5))) == pytest.approx(0.5 - 20 * 4 / 1000)
    assert float(rule.moved(torch.tensor(0.01), torch.tensor(-1.0))) == 0.0
    assert float(rule.moved(torch.tensor(0.99), torch.tensor(1.0))) == 1.0


@pytest.mark.parametrize(("b", "way"), [(1e3, 1), (-1e3, -1)])
def test_the_probability_follows_the_critic_every_fourth_step(b: float, way: int) -> None:
    """A critic that calls every picture real raises it, one that calls none lowers it."""
    batch = {"image": normal(10, 1, 8, 8)}
    game = linear(Penalties(), augment=Augment(), adaptive=Adaptive(batch=10, every=4, kimg=1.0))
    game.critic = LinearCritic(normal(64, seed=3), b)
    game.generator.synthesis = LinearSynthesis(normal(64, 4), (1, 8, 8))
    game.augment_p.fill_(0.5)
    seen = []
    for step in range(8):
        game.critic_loss(batch, step, rng(step))
        after(game, "critic", step, batch)
        seen.append(float(game.augment_p))
    assert seen == pytest.approx([0.5] * 3 + [0.5 + way * 0.04] * 4 + [0.5 + way * 0.08])
