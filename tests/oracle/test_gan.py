"""Adversarial nets against closed forms: the best critic, the value of the game, gradients, collapse, labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from huggingvis.core.noise import BatchNoise, SeedNoise
from huggingvis.core.protocols import Cond
from huggingvis.nets.cgan import CGANCritic, CGANGenerator, CGANSizes
from huggingvis.nets.mlp_gan import MLPCritic, MLPGenerator
from huggingvis.objectives.adversarial import (
    R1,
    Game,
    GradientPenalty,
    Hinge,
    Judge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Wasserstein,
    slopes,
)
from huggingvis.objectives.gan import GAN, Adversarial, Rules, normal, some_class, uniform
from huggingvis.objectives.mode_collapse import effective_rank, spread
from huggingvis.recipes.classes import LabelCondition

P, Q = Normal(0.0, 1.0), Normal(1.0, 0.7)  # data and generator


class Shift(nn.Module):
    """The generator z -> mean + std z: its density is known."""

    def __init__(self, law: Normal):
        super().__init__()
        self.mean, self.std = nn.Parameter(law.mean.clone()), nn.Parameter(law.stddev.clone())

    def forward(self, z: Tensor, cond: Cond) -> Tensor:
        return (self.mean + self.std * z)[:, :, None, None]


class Plane(nn.Module):
    """s(x) = w . x + b: a critic of constant slope."""

    def __init__(self, weight: Tensor, bias: float = 0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        return x.flatten(1) @ self.weight + self.bias


def plane(weight: Tensor, bias: float = 0.0) -> Judge:
    """The same as a function of pictures alone."""
    return lambda x: x.flatten(1) @ weight + bias


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_batch(n: int = 8, shape: tuple[int, ...] = (1, 4, 4), seed: int = 0) -> dict[str, Tensor]:
    return {"image": torch.rand(n, *shape, generator=seeded(seed)) * 2 - 1, "label": torch.arange(n) % 3}


# ---- the game --------------------------------------------------------------------------------------------------------


def divergence() -> float:
    """JSD(P, Q) in nats, by quadrature."""
    x = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    p, q = P.log_prob(x).exp(), Q.log_prob(x).exp()
    m = (p + q) / 2
    return float(torch.trapezoid(p * (p / m).clamp(min=1e-300).log() + q * (q / m).clamp(min=1e-300).log(), x) / 2)


def test_best_critic_is_the_density_ratio() -> None:
    """Prop. 1 and Thm. 1: D = p / (p + q), and the value at it is -log 4 + 2 JSD."""
    torch.manual_seed(0)
    critic = MLPCritic((1, 1, 1), (24, 24))
    objective = Adversarial(GAN(Shift(Q), 1), critic)
    adam = torch.optim.Adam(critic.parameters(), lr=2e-2)
    steps, rng = 250, seeded(1)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = 2e-2 * (1 - step / steps)
        batch = {"image": torch.randn(1024, 1, 1, 1, generator=rng)}
        losses = objective.critic_loss(batch, 0, rng)
        adam.zero_grad()
        (losses["real"] + losses["fake"]).backward()
        adam.step()
    x = torch.linspace(-3, 3, 301)
    p, q = P.log_prob(x).exp(), Q.log_prob(x).exp()
    with torch.no_grad():
        d = torch.sigmoid(critic(x[:, None, None, None], {}))
        assert float((d - p / (p + q)).abs().max()) < 0.05
        large = {"image": torch.randn(200_000, 1, 1, 1, generator=rng)}
        real, fake = objective._pair(objective.players(0), large, {}, rng)
        value = -sum(float(v) for v in NonSaturating().critic(critic(real, {}), critic(fake, {})).values())
    assert value == pytest.approx(-math.log(4) + 2 * divergence(), abs=0.01)
    assert 0.1 < divergence() < math.log(2)


def test_gradients_of_both_generator_losses_by_hand() -> None:
    """d/ds log(1 - sigmoid(s)) = -sigmoid(s); d/ds -log sigmoid(s) = sigmoid(s) - 1."""
    s = torch.tensor([-6.0, -1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    d = torch.sigmoid(s.detach())
    (saturating,) = torch.autograd.grad(Minimax().generator(s), s)
    (non_saturating,) = torch.autograd.grad(NonSaturating().generator(s), s)
    assert torch.allclose(saturating, -d / 4, atol=1e-15) and torch.allclose(non_saturating, (d - 1) / 4, atol=1e-15)
    assert float(saturating[0].abs()) < 0.001 < 0.24 < float(non_saturating[0].abs())  # a sure critic: only one learns
    # through the whole objective: s = w x + b at x = mean + std z, so that d/d mean = E[w dL/ds]
    w, shift = torch.tensor([0.8]), Shift(Q)
    for game, slope in ((Minimax(), lambda d: -d), (NonSaturating(), lambda d: d - 1)):
        objective = Adversarial(GAN(shift, 1), Plane(w, -0.3), Rules(game))
        z = torch.randn(8, 1, generator=seeded(5))
        loss = objective.generator_loss({"image": torch.zeros(8, 1, 1, 1)}, 0, seeded(5))["adversarial"]
        (got,) = torch.autograd.grad(loss, shift.mean)
        d = torch.sigmoid(0.8 * (Q.mean + Q.stddev * z) - 0.3)
        assert float(got) == pytest.approx(float((0.8 * slope(d)).mean()), rel=1e-5)


def test_games_by_hand() -> None:
    real, fake = torch.tensor([2.0, -0.5]), torch.tensor([0.5, -3.0])
    log = lambda values: sum(math.log(v) for v in values) / 2  # noqa: E731
    sigmoid = lambda v: 1 / (1 + math.exp(-v))  # noqa: E731
    expected: list[tuple[Game, list[float], float]] = [
        (
            Minimax(),
            [-log([sigmoid(2), sigmoid(-0.5)]), -log([sigmoid(-0.5), sigmoid(3)])],
            log([sigmoid(-0.5), sigmoid(3)]),
        ),
        (
            NonSaturating(),
            [-log([sigmoid(2), sigmoid(-0.5)]), -log([sigmoid(-0.5), sigmoid(3)])],
            -log([sigmoid(0.5), sigmoid(-3)]),
        ),
        (LeastSquares(), [(1 + 2.25) / 4, (0.25 + 9) / 4], (0.25 + 16) / 4),
        (Hinge(), [0.75, 0.75], 1.25),
        (Wasserstein(), [-0.75, -1.25], 1.25),
        (Wasserstein(drift=0.1), [-0.75, -1.25, 0.1 * 4.25 / 2], 1.25),
    ]
    for game, critic, generator in expected:
        assert [float(v) for v in game.critic(real, fake).values()] == pytest.approx(critic, rel=1e-6), game
        assert float(game.generator(fake)) == pytest.approx(generator, rel=1e-6), game


# ---- penalties and turns ---------------------------------------------------------------------------------------------


def test_penalties_of_a_plane() -> None:
    """A critic of slope 1 pays nothing, one of slope 3 pays 10 (3 - 1)^2; R1 pays gamma / 2 slope^2."""
    unit = torch.ones(16, dtype=torch.float64) / 4
    real, fake = (torch.randn(5, 1, 4, 4, generator=seeded(i), dtype=torch.float64) for i in (0, 1))
    for scale, expected in ((1.0, 0.0), (3.0, 40.0), (0.0, 10.0)):
        judge = plane(scale * unit, 0.7)
        assert float(GradientPenalty()(judge, real, fake, seeded())) == pytest.approx(expected, abs=1e-12)
        assert float(R1(gamma=4.0)(judge, real, fake, seeded())) == pytest.approx(2 * scale**2, abs=1e-12)
    wide = GradientPenalty(weight=10.0, target=3.0)
    assert float(wide(plane(3 * unit), real, fake, seeded())) == pytest.approx(0.0, abs=1e-12)


def test_penalty_is_taken_between_real_and_made_pictures() -> None:
    """For s(x) = x^2 / 2 the slope at x is |x|, here the place between the two."""
    real, fake = torch.full((400, 1, 1, 1), 2.0), torch.full((400, 1, 1, 1), 5.0)
    seen: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten() ** 2 / 2

    got = float(GradientPenalty()(judge, real, fake, seeded()).detach())
    assert 2 <= float(seen[0].min()) < 2.2 and 4.8 < float(seen[0].max()) <= 5
    assert got == pytest.approx(10 * float((seen[0] - 1).square().mean()), rel=1e-5)
    assert torch.allclose(slopes(judge, real), real)


def test_lazy_penalties_are_the_eager_ones_on_average() -> None:
    gan, critic = GAN(MLPGenerator((1, 4, 4), 3, (8,)), 3), MLPCritic((1, 4, 4), (8,))
    eager = Adversarial(gan, critic, Rules(penalty=R1(2.0)))
    lazy = Adversarial(gan, critic, Rules(penalty=R1(2.0), every=16, critic_steps=3))
    assert [(t.name, t.nets, t.every, t.repeat) for t in eager.turns(0)] == [
        ("critic", ("critic",), 1, 1),
        ("generator", ("generator",), 1, 1),
    ]
    assert [(t.name, t.every, t.repeat) for t in lazy.turns(0)] == [
        ("critic", 1, 3), ("penalty", 16, 1), ("generator", 1, 1)
    ]  # fmt: skip
    batch = one_batch()
    at_once = eager.critic_loss(batch, 0, seeded())
    apart = lazy.critic_loss(batch, 0, seeded()), lazy.penalty_loss(batch, 0, seeded())
    assert "penalty" not in apart[0] and apart[0]["real"].equal(at_once["real"])
    assert torch.allclose(apart[1]["penalty"], 16 * at_once["penalty"])


def test_each_turn_moves_its_own_net() -> None:
    gan, critic = GAN(MLPGenerator((1, 4, 4), 3, (8,)), 3), MLPCritic((1, 4, 4), (8,))
    objective, batch = Adversarial(gan, critic, Rules(Wasserstein(), GradientPenalty())), one_batch()
    losses = objective.critic_loss(batch, 0, seeded())
    sum(v for k, v in losses.items() if not k.startswith("_")).backward()
    assert all(p.grad is None for p in gan.parameters()) and all(p.grad is not None for p in critic.parameters())
    objective.generator_loss(batch, 0, seeded())["adversarial"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in gan.parameters())
    with torch.no_grad():
        held_out = objective.validate(batch, seeded())
    assert set(held_out) == {"critic", "generator", "_spread", "_rank", "_told_apart"}
    assert torch.allclose(held_out["critic"], losses["real"] + losses["fake"])


def test_a_sure_critic_is_seen() -> None:
    gan = GAN(Shift(Normal(-4.0, 0.1)), 1)
    batch = {"image": torch.full((8, 1, 1, 1), 0.5)}
    for weight, expected in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)):
        objective = Adversarial(gan, Plane(torch.tensor([weight])))
        assert float(objective.critic_loss(batch, 0, seeded())["_told_apart"]) == expected


# ---- mode collapse ---------------------------------------------------------------------------------------------------


def test_spread_and_rank_see_collapse() -> None:
    real = torch.randn(240, 1, 4, 4, generator=seeded())
    again = torch.randn(240, 1, 4, 4, generator=seeded(1))
    one = real[:1].expand(240, -1, -1, -1)
    three = real[:3].repeat(80, 1, 1, 1)
    assert float(spread(again, real, {})) == pytest.approx(1, abs=0.05)
    assert float(effective_rank(again, real, {})) == pytest.approx(1, abs=0.05)
    assert float(spread(one, real, {})) < 1e-5
    assert float(spread(one + 0.1 * again, real, {})) == pytest.approx(0.1, abs=0.01)
    assert float(spread(three, real, {})) > 0.5 and float(effective_rank(three, real, {})) < 0.2
    classes: Cond = {"vector": torch.eye(3).repeat(80, 1)}
    assert float(spread(three, real, classes)) < 1e-5  # varied, but one picture of each class
    assert float(spread(again, real, classes)) == pytest.approx(1, abs=0.05)


# ---- latents and labels ----------------------------------------------------------------------------------------------


def test_priors() -> None:
    eps = BatchNoise(0).draw(torch.empty(200_000, 1, dtype=torch.float64))
    u = uniform(eps)
    assert normal(eps) is eps and float(u.abs().max()) < 1
    assert float(u.mean()) == pytest.approx(0, abs=0.01) and float(u.var()) == pytest.approx(1 / 3, abs=0.005)
    ranks = u.flatten().sort().values
    assert (
        float((ranks - torch.linspace(-1, 1, len(ranks), dtype=torch.float64)).abs().max()) < 0.01
    )  # Kolmogorov-Smirnov


def conditional() -> GAN:
    torch.manual_seed(1)
    net = CGANGenerator((1, 4, 4), 6, 5, CGANSizes(8, 8, 16))
    return GAN(net, net.latents, uniform).eval()


@torch.no_grad()
def test_permuted_labels_permute_pictures() -> None:
    gan, order = conditional(), torch.tensor([3, 0, 4, 1, 2])
    z = uniform(BatchNoise(0).draw(torch.empty(1, gan.latent_dim))).expand(5, -1)
    labels = torch.eye(5)
    pictures = gan.decode(z, {"vector": labels})
    assert torch.allclose(gan.decode(z, {"vector": labels[order]}), pictures[order], atol=1e-6)
    assert float((pictures[0] - pictures[1]).abs().max()) > 1e-3
    torch.manual_seed(2)
    critic, x = CGANCritic((1, 4, 4), 5, CGANSizes(picture=8, critic_label=4, critic_joint=8)).eval(), pictures[:1]
    scores = critic(x.expand(5, -1, -1, -1), {"vector": labels})
    assert torch.allclose(critic(x.expand(5, -1, -1, -1), {"vector": labels[order]}), scores[order], atol=1e-6)
    assert float(scores.std()) > 1e-4


@torch.no_grad()
def test_no_class_is_any_class() -> None:
    gan, noise = conditional(), SeedNoise(range(2000))
    drawn = some_class(torch.zeros(2000, 5), noise)
    assert drawn.sum(1).eq(1).all()
    assert float((drawn.mean(0) - 0.2).abs().max()) < 0.03
    asked = torch.eye(5)
    assert some_class(asked, SeedNoise(range(5))).equal(asked)
    some = gan.sample(3, {"vector": torch.zeros(3, 5)}, noise=SeedNoise([4, 5, 6]))
    alone = gan.sample(1, {"vector": torch.zeros(1, 5)}, noise=SeedNoise([5]))
    assert torch.allclose(some[1:2], alone, atol=1e-6)


def test_a_conditional_pair_trains_on_labels() -> None:
    critic = CGANCritic((1, 4, 4), 5, CGANSizes(picture=8, critic_label=4, critic_joint=8))
    objective = Adversarial(conditional().train(), critic, condition=LabelCondition(5))
    for loss in (objective.critic_loss, objective.generator_loss):
        losses = loss(one_batch(), 0, seeded())
        sum(v for k, v in losses.items() if not k.startswith("_")).backward()
    assert all(p.grad is not None for p in [*objective.generator.parameters(), *critic.parameters()])
