"""The density that a probability flow tells is the exact one; its solvers have their order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import NumericalTrouble
from huggingvis.core.process import Process
from huggingvis.core.protocols import Density
from huggingvis.core.request import Request
from huggingvis.data.mixture import GaussianMixture, standard_mixture
from huggingvis.objectives.continuous_bound import ContinuousBound
from huggingvis.objectives.discretised import nearest
from huggingvis.objectives.ledger import in_bits
from huggingvis.objectives.likelihood import log_probability
from huggingvis.objectives.ode import DormandPrince, RungeKutta4
from huggingvis.objectives.probability_flow import Exact, Hutchinson, ProbabilityFlow
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.processes.sub_vp import SubVP
from huggingvis.processes.table import TableProcess
from huggingvis.processes.ve import GeometricVE, LinearVE
from huggingvis.processes.vp import CosineVP, LinearVP
from huggingvis.recipes.denoiser_likelihood import bound_of, continuous_bound, measure_likelihood
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model

F64 = torch.float64
TIGHT = DormandPrince(1e-7, 1e-7)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def points(n: int = 24) -> Tensor:
    return standard_mixture().sample(n, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "process",
    [
        LinearVP(),
        SubVP(),
        CosineVP(),
        GeometricVE(),
        LinearVE(),
        RectifiedFlow(),
        TableProcess.linear(),
        RectifiedFlow(sigma_min=0.1),
    ],
    ids=lambda p: type(p).__name__,
)
def test_density_of_the_mixture(process: Process) -> None:
    """Exact to 1e-4 from the true law of x_1. From the prior that samples start from, off by what that law differs by:
    |log p_1(x) - log N(x; 0, sigma^2)| <= r |x|/sigma + r^2/2 for data within a radius R, r = R alpha/sigma. A flow
    that leaves noise in its data has the mixture's with that noise.
    """
    mixture, x = standard_mixture(), points()
    flow = ProbabilityFlow(mixture.denoiser(process), process, Exact(), TIGHT, least=1e-7)
    exact = mixture.log_prob(x, process, number(0.0))
    end, log_det = flow.to_noise(x, {})
    off = (mixture.log_prob(end, process, number(1.0)) + log_det - exact).abs()
    assert float(off.max()) < 1e-4
    r = 2.5 * float(process.alpha(number(1.0)) / process.sigma(number(1.0)))
    differs = r * end.norm(dim=1) / float(process.sigma(number(1.0))) + r**2 / 2
    assert bool(((flow.log_prob(x) - exact).abs() < 1e-4 + differs).all())


def test_a_fixed_solver_and_other_probes_tell_the_same() -> None:
    mixture, process, x = standard_mixture(), RectifiedFlow(), points(24)
    denoise, exact = mixture.denoiser(process), mixture.log_prob(x, process, number(0.0))
    fixed = ProbabilityFlow(denoise, process, Exact(), RungeKutta4(120), least=1e-7).log_prob(x)
    assert float((fixed - exact).abs().max()) < 1e-4
    alone = ProbabilityFlow(denoise, process, Exact(), RungeKutta4(120), least=1e-7).log_prob(x[5:6])
    assert float((alone - fixed[5]).abs()) < 1e-12


@pytest.mark.parametrize("gaussian", [False, True])
def test_hutchinson_is_unbiased(gaussian: bool) -> None:
    """Over all probes of one estimate at a fixed z; random signs are exact where the Jacobian is diagonal."""
    matrix = torch.randn(6, 6, dtype=F64, generator=torch.Generator().manual_seed(3))
    z = torch.zeros(4000, 6, dtype=F64)
    divergence = Hutchinson(1, gaussian, seed=5)
    v, told = divergence(lambda y: y @ matrix.T + 1.0, z, divergence.probes(z))
    assert torch.equal(v, torch.ones_like(z))
    assert float((told.mean() - matrix.trace()).abs()) < 4 * float(told.std()) / 4000**0.5
    signs = Hutchinson(2)
    diagonal = signs(lambda y: y * torch.arange(6.0, dtype=F64), z[:3], signs.probes(z[:3]))[1]
    assert torch.equal(diagonal, torch.full((3,), 15.0, dtype=F64))
    exact = Exact()
    assert exact(lambda y: y @ matrix.T, z[:2], exact.probes(z[:2]))[1].tolist() == pytest.approx(
        [float(matrix.trace())] * 2
    )


def test_a_gaussian_in_many_dimensions_by_probes() -> None:
    """Isotropic data have a Jacobian that is a multiple of I: one probe of signs is exact, whatever the shape."""
    std, dims = 0.5, 3 * 4 * 4
    data = GaussianMixture(torch.ones(1), torch.zeros(1, dims), std**2 * torch.eye(dims)[None])
    process = RectifiedFlow()
    x = std * torch.randn(5, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(4))
    flow = ProbabilityFlow(data.denoiser(process), process, Hutchinson(), DormandPrince(1e-7, 1e-7), least=1e-7)
    exact = (-0.5 * (x / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))).flatten(1).sum(1)
    assert float((flow.log_prob(x) - exact).abs().max()) < 1e-3


def test_solvers_have_their_order() -> None:
    y = torch.tensor([[1.0, 0.0]], dtype=F64)

    def turn(u: float, y: Tensor) -> Tensor:
        return torch.stack([-y[:, 1], y[:, 0]], 1) * math.cos(u)

    angle = math.sin(2.0)
    want = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=F64)
    errors = [float((RungeKutta4(n)(turn, y, 0.0, 2.0) - want).norm()) for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.15)
    for rtol in (1e-5, 1e-8):
        assert float((DormandPrince(rtol, rtol)(turn, y, 0.0, 2.0) - want).norm()) < 20 * rtol
    with pytest.raises(NumericalTrouble, match="could not be solved"):
        DormandPrince()(lambda u, y: y**2, y, 0.0, 2.0)


def test_a_net_of_pictures_is_a_density() -> None:
    """As `hvis explore bits` asks for it; a net that believes in nothing but x_t = 0 noise has a known density."""
    torch.manual_seed(0)
    model = Model.fresh(UNetSizes((8,), 1, (0,), 0, 1), ("vp", "x0"), (1, 4, 4), classes=("a", "b"), pixels=True)
    for parameter in model.net.conv_out.parameters():
        nn.init.zeros_(parameter)
    density = model.generator(Request(), 4, 4)
    assert isinstance(density, Density) and density.dims == 16
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert bool(torch.isfinite(log_probability(density, x)).all())
    # x_0 = 0 believed everywhere: dz/dphi = z/tan(phi), so that z grows by the ratio of the sines, to N(0, 1)
    least, last = (float(model.process.sigma(number(t))) for t in (model.least, 1.0))
    want = (-0.5 * (x.double() / least) ** 2 - math.log(least * math.sqrt(2 * math.pi))).flatten(1).sum(1)
    assert last == pytest.approx(1.0, abs=1e-4)
    assert (density.log_prob(x) / want).tolist() == pytest.approx([1.0] * 3, rel=1e-3)


@pytest.mark.parametrize(("process", "prediction"), [("flow", "velocity"), ("vp", "eps"), ("edm", "edm")])
def test_a_model_s_bound_ends_where_8_bit_values_are_told(process: str, prediction: str) -> None:
    """A net that is a little wrong pays for each e-fold of less noise; below that end there is nothing left to tell."""
    model = Model.fresh(UNetSizes((8,), 1, (0,), 0, 1), (process, prediction), (1, 4, 4), classes=(), pixels=True)
    model = replace(model, least=1e-5) if process == "flow" else model
    bound = bound_of(model)
    assert isinstance(bound, ContinuousBound)
    ends = model.process.log_snr(torch.tensor([model.least, bound.least], dtype=F64))
    assert float(ends[1]) == pytest.approx(min(13.3, float(ends[0])), abs=1e-6)
    assert continuous_bound(model).least == model.least  # what a training is taught by stays
    assert bound.last == (1 - model.least if process == "flow" else 1.0)  # all noise has no log-SNR
    values = nearest(torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert float(bound.data(values, torch.Generator().manual_seed(1)).mean()) / 16 / math.log(2) < 0.25


def test_what_is_measured_is_of_8_bit_values_and_clipped_beliefs() -> None:
    """A net that believes in 3 everywhere is held to the bound of one that believes in white."""
    model = Model.fresh(UNetSizes((8,), 1, (0,), 0, 1), ("linear", "x0"), (1, 4, 4), classes=(), pixels=True)
    nn.init.zeros_(model.net.conv_out.weight)
    assert model.net.conv_out.bias is not None
    nn.init.constant_(model.net.conv_out.bias, 3.0)
    x, bound = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1, bound_of(model)
    told = measure_likelihood(model, bound, ode=False).each({"image": x}, 3, 7)
    white = bound(lambda x, t: Gaussian(torch.ones_like(x)), nearest(x), torch.Generator().manual_seed(7), 3)
    for name, bits in in_bits(white, 16).items():
        assert torch.allclose(told[name].to(bits), bits, rtol=1e-5), name
