"""What diffusion models of pictures are compared by: their loss, the ledger of their bound, and their exact density.

All in bits per dimension of 8-bit pictures, as flows tell them (`objectives.likelihood`), so that they stand in one
table. Book: chapter 4, "Likelihood".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.diffusion import compose
from huggingvis.core.protocols import Batch, Cond, Measure
from huggingvis.guidance.threshold import Clip
from huggingvis.metrics.bits import bits_per_dim
from huggingvis.objectives.bound import Bounds, ContinuousBound, DiscreteBound, in_bits
from huggingvis.objectives.likelihood import log_probability
from huggingvis.objectives.probability_flow import ProbabilityFlow
from huggingvis.processes.table import TableProcess
from huggingvis.recipes.denoisers import Model

MEANING = (
    "mse: the mean squared error of the network's prediction, over times as in training. In bits per dimension of "
    "8-bit pictures: vlb, the variational bound, and its ledger of vlb_prior, vlb_steps and vlb_data (of DDPM's chain "
    "with the variance beta on a table, of continuous time elsewhere; beliefs clipped); flow_bits, by the density of "
    "the probability-flow ODE for pictures dequantised once. That ODE asks the net a hundred times or more with a "
    "backward pass each: measure on some of the pictures (--limit) where that is long"
)


@final
@dataclass(frozen=True, eq=False)
class Conditioned:
    """A density under one condition for the batch that is asked about."""

    flow: ProbabilityFlow
    cond: Cond

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x, self.cond)


def bound_of(model: Model) -> Bounds:
    """The bound that a model's process has: discrete on a table, else continuous."""
    process = model.process
    if isinstance(process, TableProcess):
        return DiscreteBound(process, torch.arange(process.steps + 1, dtype=torch.float64) / process.steps)
    one = torch.tensor(1.0, dtype=torch.float64)
    blind = float(process.alpha(one)) < 1e-4 * float(process.sigma(one))
    return ContinuousBound(process, least=model.least, last=1 - model.least if blind else 1.0)


def measure_likelihood(model: Model) -> Measure:
    """The training loss of a trained model of pictures, its bound and its density."""
    objective, bound = model.objective(), bound_of(model)
    clipped = compose(model.denoiser, (Clip(),))

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        x = batch["image"]
        whole = ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1  # resized pictures lie between the 256 values
        cond = objective.condition(batch)

        def bound_to(x: Tensor, t: Tensor) -> Belief:
            return clipped(x, t, cond)

        rng = torch.Generator(x.device).manual_seed(seed)
        ledger = in_bits(bound(bound_to, whole, rng, draws), x[0].numel())
        told = {"vlb" if name == "bound" else f"vlb_{name}": bits for name, bits in ledger.items()}
        nats = log_probability(Conditioned(model.flow, cond), x, seed=seed)
        flow_bits = bits_per_dim(nats, x[0].numel(), levels=None)
        return {**objective.measure({**batch, "x0": x}, draws, seed), **told, "flow_bits": flow_bits}

    return Measure(each, MEANING, draws=10)
