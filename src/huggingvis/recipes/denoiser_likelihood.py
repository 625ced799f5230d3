"""What diffusion models of pictures are compared by: their loss, the ledger of their bound, and their exact density.

All in bits per dimension of the same 8-bit pictures as flows tell them (`objectives.likelihood`), so that they stand in
one table. Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.diffusion import compose
from huggingvis.core.protocols import Batch, Cond, Measure
from huggingvis.guidance.threshold import Clip
from huggingvis.metrics.bits import bits_per_dim
from huggingvis.objectives.continuous_bound import ContinuousBound
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.objectives.discretised import nearest
from huggingvis.objectives.ledger import Bounds, in_bits
from huggingvis.objectives.likelihood import BITS, log_probability
from huggingvis.objectives.probability_flow import ProbabilityFlow
from huggingvis.processes.gamma import GAMMA_0
from huggingvis.processes.table import TableProcess
from huggingvis.recipes.denoisers import Model

BOUND = (
    f"{BITS}. bits_per_dim: the variational bound, which needs no dequantisation, the sum of its parts prior, steps "
    "and data (of DDPM's chain on a table, with the variance beta unless the net tells one, else of continuous time, "
    "up to a log-SNR of 13.3; beliefs clipped), given the class where the model knows it; mse: the mean squared error "
    "of the network's prediction, over times as in training"
)
FLOW = (
    "; flow_bits_per_dim: by the density of the probability-flow ODE, one draw. That ODE asks the net a hundred times "
    "or more with a backward pass each: measure on some of the pictures (--limit) where that is long"
)


@final
@dataclass(frozen=True, eq=False)
class Conditioned:
    """A density under one condition for the batch that is asked about."""

    flow: ProbabilityFlow
    cond: Cond

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x, self.cond)


@torch.no_grad()
def bound_of(model: Model) -> Bounds:
    """The bound that a model's process has: discrete on a table, else continuous.

    That ends at a log-SNR of 13.3 at most, as that of Kingma et al. 2021 does: noise a sixth of the gap between two
    8-bit values hides none of them, and with still less of it a net that is a little wrong pays for what x_t shows.
    """
    process = model.process
    if isinstance(process, TableProcess):
        return DiscreteBound(process, torch.arange(process.steps + 1, dtype=torch.float64) / process.steps)
    bound = continuous_bound(model)
    if float(process.log_snr(torch.tensor(bound.least, dtype=torch.float64))) <= -GAMMA_0:
        return bound
    return replace(bound, least=float(process.t_of_logsnr(torch.tensor(-GAMMA_0, dtype=torch.float64))))


@torch.no_grad()
def continuous_bound(model: Model, depth: int | None = None) -> ContinuousBound:
    """The bound between the times that a model is trained at, in continuous time or in `depth` steps."""
    one = torch.tensor(1.0, dtype=torch.float64)
    blind = float(model.process.alpha(one)) < 1e-4 * float(model.process.sigma(one))
    return ContinuousBound(model.process, least=model.least, last=1 - model.least if blind else 1.0, depth=depth)


def measure_likelihood(model: Model, bound: Bounds, ode: bool) -> Measure:
    """The mean squared error of a trained model of pictures and its bound; with `ode`, its exact density too."""
    objective = model.objective()
    clipped = compose(model.denoiser, (Clip(),))

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        x, cond = nearest(batch["image"]), objective.condition(batch)

        def bound_to(x: Tensor, t: Tensor) -> Belief:
            return clipped(x, t, cond)

        dims, rng = x[0].numel(), torch.Generator(x.device).manual_seed(seed)
        told = in_bits(bound(bound_to, x, rng, draws), dims)
        if ode:
            nats = log_probability(Conditioned(model.flow, cond), x, seed=seed)
            told["flow_bits_per_dim"] = bits_per_dim(nats, dims, levels=None)
        return {**told, **objective.measure({**batch, "x0": x}, draws, seed)}

    return Measure(each, BOUND + FLOW if ode else BOUND, draws=10)
