r"""DDIM's whole chain as one fixed point: all steps at once instead of one after another.

Pokle, Geng, Kolter 2022, "Deep Equilibrium Approaches to Diffusion Models" (arXiv 2210.12867), Eq. 11-12. DDIM with
eta = 0 is a recursion, x_{n+1} = a_n x_n + b_n x_0(x_n). Given guesses of all x_n, one call of the model on the N B
noisy samples together gives all beliefs, and the recursion, which costs nothing beside it, new x_n; DDIM's chain is
the only guess that stays as it is. Plain repetition (Picard) ends after N calls at the latest, since each makes one
more x_n exact; Anderson's acceleration (Walker & Ni 2011), which mixes the last few guesses so that their changes
cancel, ends far earlier. It trades arithmetic for latency: for machines that a batch of B does not fill.
Book: chapter 4, "In parallel over time".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import NumericalTrouble, UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.process import Process
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.core.shapes import per_sample
from huggingvis.samplers._levels import Levels, clean, levels

SYSTEM = {
    "name": "DEQ-DDIM",
    "chapter": 4,
    "paper": "2210.12867",
    "files": ["samplers/deq_ddim.py"],
    "built": "tests/walks/test_samplers.py::test_a_whole_chain_at_once_is_ddim",
    "exact": "tests/oracle/test_deq_ddim.py::test_it_is_sequential_ddim_in_fewer_calls",
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class JointDDIM:
    """Solves DDIM's chain to `tolerance`, the largest change of x_N relative to its size.

    `memory`: guesses that are mixed (1: none, Picard's iteration); `ridge`: what keeps their mixture tame; `most`:
    iterations, none: as many as there are steps times `memory`, which is always enough.
    """

    tolerance: float = 1e-5
    memory: int = 4
    ridge: float = 1e-10
    most: int | None = None

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise UsageError(f"At least one guess is remembered, found memory {self.memory}.")

    def __call__(self, denoise: Denoiser, process: Process, x: Tensor, grid: Grid, cond: Cond) -> tuple[Tensor, int]:
        """(x at the end of the falling `grid`, how many calls it took) from `x` [B, ...] at its beginning.

        Raises `NumericalTrouble` where `most` calls were not enough.
        """
        steps = [levels(process, t, s) for t, s in grid.pairs()]
        times = grid.times[:-1].repeat_interleave(len(x))  # [N B]
        conds = {k: v.repeat(len(steps), *[1] * (v.ndim - 1)) for k, v in cond.items()}
        if grid.clocks is not None:
            conds["clock"] = torch.cat([per_sample(c.float(), x) for c in grid.clocks])

        def better(guess: Tensor) -> Tensor:  # [N, B, ...]: x_1 ... x_N
            noisy = torch.cat([x[None], guess[:-1]])
            x0 = clean(denoise(noisy.flatten(0, 1), times, conds)).view_as(noisy)
            return chain(x, x0, steps)

        guess = chain(x, torch.zeros_like(x).expand(len(steps), *x.shape), steps)
        past: list[tuple[Tensor, Tensor]] = []  # guesses and what came of them
        most = self.most or len(steps) * self.memory
        for calls in range(1, most + 1):
            new = better(guess)
            if float((new - guess).abs().max()) <= self.tolerance * float(new[-1].abs().max()):
                return new[-1], calls
            past = [*past[1 - self.memory :], (guess, new)] if self.memory > 1 else [(guess, new)]
            guess = mixed(past, self.ridge)
        raise NumericalTrouble(
            f"DDIM's chain of {len(steps)} steps still moved by more than {self.tolerance:g} after {most} calls. Allow "
            "more of them, ask for a larger tolerance, or sample step by step."
        )


def chain(x: Tensor, x0: Tensor, steps: list[Levels]) -> Tensor:
    """x_1 ... x_N [N, B, ...] from x_0 = `x` by DDIM, if the beliefs were `x0` [N, B, ...]."""
    out = []
    for c, belief in zip(steps, x0, strict=True):
        old = c.s_s / c.s_t
        x = (c.a_s - c.a_t * old) * belief + old * x
        out.append(x)
    return torch.stack(out)


def mixed(past: list[tuple[Tensor, Tensor]], ridge: float) -> Tensor:
    """Anderson's next guess: results weighted, to a sum of 1, so that the weighted changes are least, per sample."""
    guesses, results = (torch.stack(part) for part in zip(*past, strict=True))  # [M, N, B, ...]
    change = (results - guesses).transpose(1, 2).transpose(0, 1).flatten(2)  # [B, M, N D]
    gram = change @ change.transpose(1, 2)  # [B, M, M]
    gram = gram / gram.diagonal(dim1=1, dim2=2).amax(1)[:, None, None].clamp(min=1e-300)
    eye = torch.eye(len(past), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram + ridge * eye, torch.ones_like(gram[..., :1]))  # [B, M, 1]
    weights = (weights / weights.sum(1, keepdim=True))[..., 0]  # [B, M]
    return torch.einsum("bm,mnb...->nb...", weights, results)
