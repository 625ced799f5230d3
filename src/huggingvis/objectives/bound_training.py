r"""Training by the variational bound itself, as the first diffusion models were: its whole ledger, nothing else.

Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, arXiv 1503.03585, Eq. 13-14, for chains of numbers
(`objectives.discrete_bound`) and of classes (`objectives.categorical_bound`) alike. What a chain is made of, its
networks and a schedule that is learned with them, belongs to whoever builds it. Book: chapter 4, "The first diffusion".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Bound
from huggingvis.objectives.ledger import Bounds

Chain = Callable[[], tuple[Bounds, Bound]]
"""The chain as it is now: its bound, and the denoiser of its reverse steps."""


@final
class BoundTraining(Objective):
    """Batch: `x0` [B, ...]. Minimises the bound of `chain`, whose weights are in `nets`, in bits per datum.

    `draws`: steps of the chain that each datum is asked about; `held_out`: the same in validation.
    """

    def __init__(self, nets: Mapping[str, nn.Module], chain: Chain, *, draws: int, held_out: int):
        super().__init__()
        self.parts = nn.ModuleDict(dict(nets))
        self.chain, self.draws, self.held_out = chain, draws, held_out

    def nets(self) -> Mapping[str, nn.Module]:
        return dict(self.parts.items())

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (Turn(self.loss, tuple(self.parts)),)

    def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        return {"bits": self.bits(batch["x0"], rng, self.draws).mean()}

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        return {"bits": self.bits(batch["x0"], rng, self.held_out).mean()}

    def bits(self, x0: Tensor, rng: torch.Generator, draws: int) -> Tensor:
        """The bound on each datum, [B]."""
        bounds, denoise = self.chain()
        return torch.stack(list(bounds(denoise, x0, rng, draws).values())).sum(0) / math.log(2)
