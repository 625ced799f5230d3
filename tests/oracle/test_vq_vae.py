"""VQ-VAE and its prior: probabilities that sum to one, exact draws, causality to the last bit, a bound that bounds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import BatchNoise, ReplayNoise, SeedNoise
from huggingvis.core.protocols import Decodes, Encodes, Generative, Likelihood, Step
from huggingvis.nets.code_prior import CodePrior, CodePriorConfig, Past
from huggingvis.nets.lookup_free import FiniteScalarQuantiser, LookupFreeQuantiser
from huggingvis.nets.quantisers import AveragedQuantiser, Quantised, Quantiser, VectorQuantiser
from huggingvis.nets.vq_autoencoder import VQAutoencoder, grid_of, residual_vq
from huggingvis.objectives.code_prior import AutoregressiveCodes, CodeLikelihood, UniformCodes, quantile
from huggingvis.objectives.discretised import DiscretisedLogistic
from huggingvis.objectives.vae import Bernoulli, Gaussian
from huggingvis.objectives.vq_vae import VQVAE, VectorQuantised

SIZE, GRID = 3, (2, 2)


def prior(vector_dim: int = 0, size: int = SIZE, grid: tuple[int, int] = GRID, seed: int = 0) -> CodePrior:
    """With weights far from their initial ones, so that codes depend on each other."""
    torch.manual_seed(seed)
    net = CodePrior(CodePriorConfig(size, *grid, dim=8, depth=2, heads=2, vector_dim=vector_dim)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return net


def every_grid(size: int = SIZE, grid: tuple[int, int] = GRID) -> Tensor:
    """[size^(h w), h, w]."""
    rows = list(itertools.product(range(size), repeat=grid[0] * grid[1]))
    return torch.tensor(rows).reshape(-1, *grid)


# ---- the prior -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_probabilities_of_all_grids_sum_to_one() -> None:
    grids = every_grid()
    for codes in (AutoregressiveCodes(prior()), UniformCodes(SIZE, GRID).double()):
        chances = codes.log_prob(grids, {}).exp()
        assert len(grids) == 81 and float(chances.sum()) == pytest.approx(1, abs=1e-12)
    assert float(AutoregressiveCodes(prior()).log_prob(grids, {}).exp().max()) > 4 / 81
    told = AutoregressiveCodes(prior(vector_dim=2))
    sums = [told.log_prob(grids, {"vector": v.expand(81, 2)}).exp() for v in torch.eye(2).double()]
    assert all(float(s.sum()) == pytest.approx(1, abs=1e-12) for s in sums)
    assert float((sums[0] - sums[1]).abs().max()) > 1e-3


@torch.no_grad()
def test_a_later_code_leaves_earlier_logits_as_they_are() -> None:
    net = prior(size=7, grid=(4, 3)).float()
    codes = torch.randint(7, (2, 4, 3), generator=torch.Generator().manual_seed(0))
    before = net(codes)
    for place in range(12):
        changed = codes.clone().flatten(1)
        changed[:, place] = (changed[:, place] + 1) % 7
        after = net(changed.view(2, 4, 3))
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        if place < 11:
            assert not torch.equal(after[:, place + 1], before[:, place + 1])


@torch.no_grad()
def test_growing_code_by_code_gives_the_same_logits() -> None:
    net = prior(vector_dim=3, size=7, grid=(4, 3))
    codes = torch.randint(7, (2, 4, 3), generator=torch.Generator().manual_seed(0))
    cond = {"vector": BatchNoise(0).draw(torch.empty(2, 3).double())}
    whole, past = net(codes, cond), Past()
    for i in range(12):
        logits, past = net.grow(codes.flatten(1)[:, max(i - 1, 0)], past, i, cond)
        assert torch.allclose(logits, whole[:, i], atol=1e-12)


def test_quantile_is_the_inverse_of_the_cumulated_probabilities() -> None:
    logits = torch.tensor([0.2, 0.0, 0.5, 0.3]).double().log()
    u = torch.tensor([0.0, 0.1999, 0.2001, 0.6999, 0.7001, 0.9999, 1.0]).double()
    assert quantile(logits.expand(7, 4), u).tolist() == [0, 0, 2, 2, 3, 3, 3]
    certain = torch.tensor([-math.inf, 0.0, -math.inf])
    assert quantile(certain.expand(2, 3), torch.tensor([0.3, 1.0])).tolist() == [1, 1]
    thirds = quantile(torch.randn(512, generator=torch.Generator().manual_seed(0)).expand(3, -1), torch.ones(3))
    assert int(thirds.max()) < 512


@torch.no_grad()
def test_draws_follow_the_probabilities() -> None:
    codes, n = AutoregressiveCodes(prior().float()), 40_000
    drawn = codes.sample(n, {}, noise=BatchNoise(0))
    places = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    seen = torch.bincount(places, minlength=81).double()
    want = n * codes.log_prob(every_grid(), {}).exp().double()
    chi2 = float(((seen - want).square() / want.clamp(min=1e-9))[want > 1].sum())
    free = int((want > 1).sum()) - 1
    assert free > 20 and chi2 < free + 4 * math.sqrt(2 * free)


@torch.no_grad()
def test_a_draw_has_its_own_seed_and_its_own_condition() -> None:
    codes = AutoregressiveCodes(prior(vector_dim=2, size=16).float())
    cond = {"vector": torch.eye(2)}
    both = codes.sample(2, cond, noise=SeedNoise([4, 5]))
    one = codes.sample(1, {"vector": cond["vector"][1:]}, noise=SeedNoise([5]))
    assert torch.equal(both[1:], one)
    heard: list[Step] = []
    codes.sample(2, cond, noise=SeedNoise([4, 5]), on_step=heard.append)
    assert [(step.index, step.total) for step in heard] == [(i, 4) for i in range(4)] and heard[-1].s == 0
    flat = UniformCodes(1000, (8, 8)).sample(50, {}, noise=BatchNoise(0))
    assert flat.shape == (50, 8, 8) and int(flat.min()) < 5 and int(flat.max()) > 994
    assert float(flat.double().mean()) == pytest.approx(499.5, abs=15)
    middle = UniformCodes(4, GRID).sample(1, {}, noise=ReplayNoise([torch.tensor([[[-2.0, -0.1], [0.1, 2.0]]])]))
    assert middle.flatten().tolist() == [0, 1, 2, 3]


def test_training_the_prior_lowers_what_is_reported() -> None:
    net = CodePrior(CodePriorConfig(4, 2, 3, dim=16, depth=1, heads=2))
    objective = CodeLikelihood(net, lambda batch: {}, dims=10)
    codes = torch.arange(6).reshape(1, 2, 3).expand(8, 2, 3) % 4
    batch, rng = {"codes": codes, "given": torch.full((8,), -3.0)}, torch.Generator()
    first = {key: value.detach() for key, value in objective.loss(batch, 0, rng).items()}
    assert float(first["surprise"]) == pytest.approx(math.log(4)) and float(first["_nats"]) == pytest.approx(
        6 * math.log(4)
    )
    held = objective.validate(batch, rng)
    assert float(held["_bits_per_dim"]) == pytest.approx((6 * math.log(4) + 3) / (10 * math.log(2)), rel=1e-6)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        objective.loss(batch, 0, rng)["surprise"].backward()
        optimiser.step()
    assert float(objective.loss(batch, 0, rng)["surprise"].detach()) < 0.05
    with pytest.raises(UsageError, match="multiple of its heads"):
        CodePriorConfig(4, 2, 2, dim=10, heads=4)


# ---- pixels ----------------------------------------------------------------------------------------------------------


def test_probabilities_of_all_values_sum_to_one() -> None:
    values = (torch.arange(256).double() / 127.5 - 1).reshape(256, 1, 1, 1)
    for mu, log_s in ((0.0, 0.0), (0.3, -4.0), (-1.2, 1.0), (1.5, -9.0), (7 / 127.5 - 1, -9.0)):
        out = torch.tensor([mu, log_s]).double().reshape(1, 2, 1, 1).expand(256, 2, 1, 1)
        chances = DiscretisedLogistic().log_prob(out, values).exp()
        assert float(chances.sum()) == pytest.approx(1, abs=1e-12)
    scale = math.exp(0.5 - 2)
    law = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(torch.zeros(1).double(), 1.0),
        [torch.distributions.SigmoidTransform().inv, torch.distributions.AffineTransform(0.2, scale)],
    )
    out = torch.tensor([0.2, 0.5]).double().reshape(1, 2, 1, 1).expand(254, 2, 1, 1)
    inner = values[1:-1]
    want = (law.cdf(inner + 1 / 255) - law.cdf(inner - 1 / 255)).log().flatten()
    assert torch.allclose(DiscretisedLogistic().log_prob(out, inner), want, atol=1e-9)


def test_likelihood_of_far_pixels_is_finite_and_learns() -> None:
    out = torch.tensor([5.0, -9.0]).reshape(1, 2, 1, 1).repeat(3, 1, 1, 1).requires_grad_()
    x = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    loss = -DiscretisedLogistic().log_prob(out, x).sum()
    loss.backward()
    assert bool(loss.isfinite()) and out.grad is not None and bool(out.grad.isfinite().all())
    between = torch.tensor([-1.0, -0.9999, 0.00391, 0.5, 1.0]).reshape(5, 1, 1, 1)
    seen = DiscretisedLogistic().observe(between, torch.Generator())
    assert (
        torch.equal(((seen + 1) * 127.5).round(), (seen + 1) * 127.5) and float((seen - between).abs().max()) < 1 / 254
    )


# ---- the whole -------------------------------------------------------------------------------------------------------


class Toy(nn.Module):
    """x [B, 1, 1, 2] -> one number for each of two code places, and back."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def toy() -> VQVAE:
    """Pictures of two binary pixels, a codebook of three numbers, an autoregressive p(c) of two codes."""
    torch.manual_seed(0)
    quantiser = VectorQuantiser(3, 1)
    quantiser.codebook.data.copy_(torch.tensor([[-1.0], [0.1], [0.9]]))
    autoencoder = VQAutoencoder(Toy(1.0), quantiser, Toy(2.0), (1, 1))
    for conv in (autoencoder.quant_conv, autoencoder.post_quant_conv):
        nn.init.ones_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return VQVAE(autoencoder.double(), Bernoulli(), AutoregressiveCodes(prior(grid=(1, 2))))


@torch.no_grad()
def test_the_bound_is_below_the_likelihood() -> None:
    """log p(x) = log sum_c p(x|c) p(c) by enumeration of all pictures and all grids."""
    vae = toy()
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2))).double().reshape(4, 1, 1, 2)
    grids = every_grid(3, (1, 2))  # [9, 1, 2]
    out = vae.autoencoder.decode(grids)
    joint = torch.stack([vae.likelihood.log_prob(out, row.expand(9, 1, 1, 2)) for row in x])  # [4, 9]
    truth = torch.logsumexp(joint + vae.codes.log_prob(grids, {}), dim=1)
    assert float(truth.exp().sum()) == pytest.approx(1, abs=1e-12)
    bound = vae.log_prob(x)
    assert bool((bound < truth - 1e-6).all())
    codes = vae.encode(x)
    assert codes.flatten(1).tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    assert torch.allclose(
        bound, vae.likelihood.log_prob(vae.autoencoder.decode(codes), x) + vae.codes.log_prob(codes, {})
    )


def test_loss_is_equation_3() -> None:
    vae = toy()
    x = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).double().reshape(2, 1, 1, 2)
    objective = VectorQuantised(vae.autoencoder, Bernoulli(), discrete=True)
    losses = objective.loss({"image": x}, 0, torch.Generator())
    given = vae.likelihood.log_prob(vae.autoencoder(x)[0], x).mean()
    assert float(losses["reconstruction"].detach()) == pytest.approx(-float(given.detach()) / 2)
    assert losses["codebook"].item() == pytest.approx(0.75 * 0.1**2)
    assert losses["commitment"].item() == pytest.approx(0.25 * 0.75 * 0.1**2)
    assert losses["_elbo"].item() == pytest.approx(given.item() - 2 * math.log(3))
    assert float(losses["_bits_per_dim"]) == pytest.approx(-float(losses["_elbo"]) / (2 * math.log(2)))
    assert float(losses["_perplexity"]) == pytest.approx(math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))


QUANTISERS: list[Quantiser] = [
    VectorQuantiser(20, 6), AveragedQuantiser(20, 6), FiniteScalarQuantiser((5, 5)), LookupFreeQuantiser(5),
]  # fmt: skip


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda q: type(q).__name__)
@pytest.mark.parametrize(("channels", "side", "levels"), [(1, 12, 2), (3, 8, 3), (3, 6, 1)])
def test_networks_of_any_size(quantiser: Quantiser, channels: int, side: int, levels: int) -> None:
    torch.manual_seed(0)
    net = residual_vq(quantiser, (channels, 2 * channels), width=8, levels=levels, blocks=1)
    shape = (channels, side, side)
    assert grid_of(net, shape) == (side // 2**levels,) * 2
    vae = VQVAE(net, DiscretisedLogistic(), UniformCodes(quantiser.size, grid_of(net, shape)))
    assert all(isinstance(vae, kind) for kind in (Encodes, Decodes, Generative, Likelihood))
    x = torch.rand(2, *shape) * 2 - 1
    objective, rng = VectorQuantised(net, DiscretisedLogistic(), discrete=True), torch.Generator().manual_seed(0)
    losses = objective.loss({"image": x}, 0, rng)
    sum(value for key, value in losses.items() if not key.startswith("_")).backward()
    assert all(p.grad is not None and math.isfinite(float(p.grad.sum())) for p in net.parameters())
    (turn,) = objective.turns(0)
    before = net.state_dict()["quantiser.codebook"].clone() if "quantiser.codebook" in net.state_dict() else None
    objective.after(turn, 0, params={}, batch={}, reduce=lambda t: t)
    if isinstance(quantiser, AveragedQuantiser):
        assert before is not None and not torch.equal(before, quantiser.codebook)
        kept = quantiser.codebook.clone()
        objective.validate({"image": x}, rng)
        objective.after(turn, 1, params={}, batch={}, reduce=lambda t: t)
        assert bool(quantiser.codebook.isfinite().all()) and kept.shape == quantiser.codebook.shape
    with torch.no_grad():
        x = DiscretisedLogistic().observe(x, rng)
        found: Quantised = net(x)[1]
        assert torch.equal(vae.encode(x), found.codes)
        assert torch.allclose(vae.decode(found.codes), vae.likelihood.mean(net(x)[0]), atol=1e-6)
        assert vae.sample(2, {}, noise=SeedNoise([4, 5])).shape == x.shape
        uniform = found.codes[0].numel() * math.log(quantiser.size)
        given = vae.likelihood.log_prob(net(x)[0], x)
        assert torch.allclose(vae.log_prob(x), given - uniform, rtol=1e-5)
        assert math.isfinite(float(VQVAE(net, Gaussian(), vae.codes).likelihood.mean(x).sum()))


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda q: type(q).__name__)
def test_codes_that_the_codebook_has_not_are_refused(quantiser: Quantiser) -> None:
    net, size = residual_vq(quantiser, (1, 1), width=8, levels=1, blocks=1), quantiser.size
    codes = torch.tensor([[[0, size - 1], [1, 2]]], dtype=torch.uint8)
    assert net.decode(codes).shape == (1, 1, 4, 4)
    for wrong in (size, -1, 10**9):
        codes = torch.tensor([[[0, size - 1], [wrong, 2]]])
        with pytest.raises(UsageError, match=f"no code {wrong} in this .* whose {size} codes are .* 0 to {size - 1}"):
            net.decode(codes)
