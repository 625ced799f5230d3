"""RePaint beside diffusers' scheduler: the same calls and the same end, with its own noise replayed.

Like for like is a table walked knot by knot: where it skips knots, theirs noises by the betas after the knot that it
jumps from, and its level is another than the one it tells the network. Theirs jumps from the end of the way too, uses
one draw for what is known and for the step, and goes back knot by knot, which in one draw is the sum of theirs.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from scheduler_twins import F64, Net, begin
from torch import Tensor

from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.grid import Grid
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.sample import sample
from huggingvis.edits.repaint import Replaced, jumping
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.ddim import DDIM

STEPS, JUMP, RESAMPLES = 20, 3, 3
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def known() -> tuple[Tensor, Tensor]:
    """The picture, and where it is known (1)."""
    g = torch.Generator().manual_seed(9)
    kept = (torch.rand(2, 1, 4, 4, generator=g) > 0.4).to(F64)
    return torch.randn(2, 3, 4, 4, dtype=F64, generator=g), kept


def whole(draws: list[Tensor], betas: Tensor) -> Tensor:
    """One draw that noises over all `betas` as `draws` do one after the other."""
    x = torch.zeros_like(draws[0])
    for draw, beta in zip(draws, betas, strict=True):
        x = (1 - beta).sqrt() * x + beta.sqrt() * draw
    return x / (1 - (1 - betas).prod()).sqrt()


@torch.no_grad()
def theirs(scheduler: Any, eta: float) -> tuple[Net, Tensor, list[Tensor]]:
    """Their loop, and its draws as ours uses them."""
    net, x = Net(), begin()
    picture, kept = known()
    g, shadow = (torch.Generator().manual_seed(3) for _ in range(2))
    ours, rise, before = [torch.empty(0)] * 0, [torch.empty(0)] * 0, int(scheduler.timesteps[0]) + 1
    for t in scheduler.timesteps.tolist():
        draw = torch.randn(x.shape, dtype=F64, generator=shadow)
        if t < before:
            if rise:
                ours.append(whole(rise, scheduler.betas[before - len(rise) : before].to(F64)))
                rise = []
            x = scheduler.step(net(x, torch.tensor(t), {}), t, x, picture, kept, g).prev_sample
            ours += [draw, draw] if eta > 0 and t > 0 else [draw]
        else:
            x = scheduler.undo_step(x, before, g)
            rise.append(draw)
        before = t
    return net, x, ours


@pytest.mark.parametrize("eta", [0.0, 1.0])
@torch.no_grad()
def test_equal_to_diffusers(eta: float) -> None:
    scheduler = diffusers.RePaintScheduler(STEPS, beta_end=0.2, eta=eta, clip_sample=False)
    scheduler.set_timesteps(STEPS, JUMP, RESAMPLES)
    twin, end, draws = theirs(scheduler, eta)
    net, process = Net(), TableProcess(scheduler.alphas_cumprod)
    picture, kept = known()
    grid = jumping(Grid(torch.linspace(1, 0, STEPS + 1, dtype=F64)), JUMP, RESAMPLES, last=0)
    noise, walker = ReplayNoise(draws), Replaced(DDIM(eta), 1 - kept, picture)
    out = sample(NetDenoiser(net, process, PREDICTIONS["eps"]()), process, walker, begin(), grid, {}, noise=noise)
    assert noise.used == len(draws) and len(net.asked) == len(twin.asked) == STEPS + 6 * (RESAMPLES - 1) * JUMP
    for (x, clock), (their_x, their_clock) in zip(net.asked, twin.asked, strict=True):
        assert clock == pytest.approx(their_clock, abs=1e-4)
        assert float((x - their_x).abs().max()) < 1e-5 * float(their_x.abs().max())
    assert float((out - end).abs().max()) < 1e-5 * float(end.abs().max())
    assert torch.equal((out * kept), picture * kept)
