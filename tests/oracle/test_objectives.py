"""Objectives against closed forms: what the optimum is, and what each term counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.process import PREDICTIONS, Prediction, Process
from huggingvis.core.shapes import double, widest
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL, Posterior
from huggingvis.nets.patch_discriminator import PatchDiscriminator
from huggingvis.objectives.denoise import (
    CosineTimes,
    Denoising,
    Knots,
    LogitNormal,
    ModeTimes,
    Squares,
    UniformTimes,
)
from huggingvis.objectives.detection import focal, targets
from huggingvis.objectives.latent_autoencoder import LatentAutoencoder, Weights
from huggingvis.objectives.reading import in_order
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.vp import CosineVP


class Knows(nn.Module):
    """The exact network for data that is always `x0`: its output is the target of every draw."""

    def __init__(self, x0: Tensor, process: Process, prediction: Prediction, off: float | Tensor = 0.0):
        super().__init__()
        self.x0, self.process, self.prediction, self.off = x0, process, prediction, off

    def forward(self, x: Tensor, clock: Tensor, cond: object) -> Tensor:
        t = clock.double()
        eps = self.process.eps(x, self.x0.expand_as(x), t)
        return self.prediction.target(self.process, self.x0.expand_as(x), eps, t) + self.off


@pytest.mark.parametrize("name", sorted(PREDICTIONS))
@pytest.mark.parametrize("process", [CosineVP(), RectifiedFlow()], ids=["vp", "flow"])
def test_the_exact_network_has_no_loss_and_an_error_counts_squared(name: str, process: Process) -> None:
    prediction = PREDICTIONS[name]()
    x0 = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for off, expected in ((0.0, 0.0), (0.3, 0.09)):
        objective = Denoising(Knows(x0, process, prediction, off), process, prediction, LogitNormal())
        losses = objective.loss({"x0": x0.expand(64, -1, -1, -1)}, 0, torch.Generator().manual_seed(1))
        assert float(losses["mse"]) == pytest.approx(expected, abs=1e-4)


def test_channels_count_by_their_importance() -> None:
    process, prediction, x0 = RectifiedFlow(), PREDICTIONS["x0"](), torch.zeros(8, 2, 4, 4)
    net = Knows(torch.zeros(1, 2, 1, 1), process, prediction, torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1))
    objective = Denoising(net, process, prediction, LogitNormal(), error=Squares(torch.tensor([3.0, 1.0])))
    loss = objective.loss({"x0": x0}, 0, torch.Generator().manual_seed(0))["mse"]
    assert float(loss) == pytest.approx((1.5 * 1 + 0.5 * 9) / 2)


def test_time_laws_cover_what_they_say() -> None:
    rng = torch.Generator().manual_seed(0)
    even = UniformTimes(0.0).draw(1000, rng)
    assert torch.histc(even, 10, 0, 1).tolist() == pytest.approx([100] * 10, abs=1)  # stratified: one each 1/1000
    knots = Knots(10).draw(20_000, rng)
    assert set((knots * 10).round().int().tolist()) == set(range(1, 11))
    z = torch.logit(LogitNormal(0.5, 2.0).draw(50_000, rng))
    assert float(z.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(z.std()) == pytest.approx(2.0, abs=0.05)


def test_times_of_the_middle_have_the_densities_that_were_published() -> None:
    """Esser et al. 2024 (arXiv 2403.03206), sec. 3.1: the mode by quantiles, the cosine in closed form."""
    rng, grid = torch.Generator().manual_seed(0), torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    t = CosineTimes().draw(20_000, rng)
    density = 2 / (math.pi - 2 * math.pi * grid + 2 * math.pi * grid**2)  # their pi_CosMap
    share = torch.stack([((t > g - 0.025) & (t <= g + 0.025)).double().mean() for g in grid])
    torch.testing.assert_close(share / 0.05, density, rtol=0.02, atol=0)
    u = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    quantiles = 1 - u - 1.29 * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
    torch.testing.assert_close(torch.quantile(ModeTimes().draw(20_000, rng), 1 - u), quantiles, rtol=0, atol=1e-3)
    assert torch.quantile(ModeTimes(0.0).draw(1000, rng), u).tolist() == pytest.approx(u.tolist(), abs=2e-3)


def test_heat_is_one_at_each_centre_in_its_slot() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    slot, present = torch.tensor([[0, 1, 0]]), torch.tensor([[True, True, False]])
    t = targets(boxes, slot, present, (8, 8), slots=2)
    assert (t.heat == 1).nonzero().tolist() == [[0, 0, 2, 2], [0, 1, 5, 5]]  # [b, s, y, x]
    assert t.owner[0, 0, 2, 2] == 0 and t.owner[0, 1, 5, 5] == 1
    far = math.exp(-1 / (2 * max(0.6, 0.15 * 4) ** 2))  # one cell from the centre of a box of four cells
    assert float(t.heat[0, 0, 2, 3]) == pytest.approx(far, rel=1e-5)


def test_focal_loss_is_the_formula() -> None:
    logits, target = torch.tensor([[0.7, -0.4]]), torch.tensor([[1.0, 0.6]])
    p = logits.sigmoid()
    at = -((1 - p[0, 0]) ** 2) * p[0, 0].log()
    off = -((1 - 0.6) ** 4) * p[0, 1] ** 2 * (1 - p[0, 1]).log()
    assert float(focal(logits, target)) == pytest.approx(float(at + off), rel=1e-6)


def test_float64_is_reckoned_where_there_is_some() -> None:
    assert widest(torch.device("mps")) == torch.float32 and widest(torch.device("cpu")) == torch.float64
    assert torch.equal(double(torch.tensor([0.1])), torch.tensor([0.1]).double())


def test_things_are_read_in_order_of_kind_then_from_left() -> None:
    kinds = torch.tensor([[5, 2, -1, 2]])
    boxes = torch.zeros(1, 4, 4)
    boxes[0, :, 0] = torch.tensor([0.1, 0.8, 0.0, 0.3])
    assert in_order(boxes, kinds, kinds < 0).tolist() == [[3, 1, 0, 2]]


def test_kl_is_the_closed_form() -> None:
    g = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(2, 3, 2, 2, generator=g).double(), torch.randn(2, 3, 2, 2, generator=g).double()
    p = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    q = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(p, q).flatten(1).sum(1)
    assert torch.allclose(Posterior(mean, logvar).kl(), expected, rtol=1e-12)


@pytest.fixture(scope="module")
def autoencoding() -> tuple[LatentAutoencoder, Tensor]:
    torch.manual_seed(0)
    net = AutoencoderKL(AutoencoderConfig(channels=(8, 8), latent_channels=2, blocks=1, groups=4, patch=2))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    return LatentAutoencoder(net, PatchDiscriminator(width=8), Weights(adversary_from=5)), x


def test_each_player_learns_from_its_own_turn_only(autoencoding: tuple[LatentAutoencoder, Tensor]) -> None:
    objective, x = autoencoding
    assert [t.name for t in objective.turns(4)] == ["build"]
    assert [t.name for t in objective.turns(5)] == ["build", "judge"]
    objective.zero_grad(set_to_none=True)
    objective.judge({"image": x}, 5, torch.Generator())["hinge"].backward()
    assert all(p.grad is None for p in objective.autoencoder.parameters())
    assert all(p.grad is not None for p in objective.critic.parameters())


def test_pixel_weights_shift_the_loss_to_what_matters(autoencoding: tuple[LatentAutoencoder, Tensor]) -> None:
    objective, x = autoencoding
    weight = torch.zeros(2, 1, 16, 16)
    weight[:, :, :, :8] = 1.0
    rng = torch.Generator()
    with torch.no_grad():
        y, _ = objective._rebuilt(x, rng.manual_seed(3))
    losses = objective.build({"image": x, "weight": weight}, 0, rng.manual_seed(3))
    assert float(losses["l1"].detach()) == pytest.approx(float((y - x).abs()[..., :8].mean()), rel=1e-5)
    even = objective.build({"image": x}, 0, rng.manual_seed(3))
    assert float(even["l2"].detach()) == pytest.approx(float((y - x).square().mean()), rel=1e-5)


def test_a_decoder_may_learn_alone_in_a_space_that_stays(autoencoding: tuple[LatentAutoencoder, Tensor]) -> None:
    whole, x = autoencoding
    objective = LatentAutoencoder(whole.autoencoder, whole.critic, Weights(adversary_from=5, latent_noise=0.1))
    objective.zero_grad(set_to_none=True)
    losses = objective.build({"image": x}, 0, torch.Generator().manual_seed(0))
    (losses["l1"] + losses["l2"] + losses["kl"]).backward()
    assert all(p.grad is None for p in objective.autoencoder.encoder.parameters())
    assert all(p.grad is not None for p in objective.autoencoder.decoder.parameters())
    exact = LatentAutoencoder(whole.autoencoder, whole.critic, Weights(latent_noise=0.0))
    with torch.no_grad():
        y, _ = exact._rebuilt(x, torch.Generator())
        assert torch.equal(y, whole.autoencoder.decode(whole.autoencoder.encode(x)))


def test_folding_pixels_into_channels_keeps_size_and_factor(autoencoding: tuple[LatentAutoencoder, Tensor]) -> None:
    net = autoencoding[0].autoencoder
    z = net.encode(autoencoding[1])
    assert net.factor == 4 and tuple(z.shape) == (2, 2, 4, 4)
    assert net.decode(z).shape == (2, 3, 16, 16)
