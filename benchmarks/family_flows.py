"""Real NVP and Glow of `families.py`: ours by their recipes, normflows' in the plain loop that its examples have.

Glow: the same steps of flow with the same convolutions on both sides; ours has a small network more, which says where
latents that leave early lie, where normflows learns a mean and a deviation for each. Real NVP: the same couplings in
the same order with residual networks of the same width and depth; ours have group norm and a 3 x 3 first convolution,
theirs a 1 x 1. Counts of parameters are told beside the times. normflows cuts a chessboard into halves of full height,
so its networks run at twice as many places as ours, which squeezes first. The score is bits per dimension with one draw
of the dequantisation.
"""

from __future__ import annotations

import math
from typing import Any

import normflows as nf
import torch
from family_task import Clock, Contender, Task, Trained, logged_rate, seeded
from torch import Tensor, nn

import huggingvis as hv
from huggingvis.metrics.bits import bits_per_dim
from huggingvis.nets.flows.model import Flow
from huggingvis.objectives.likelihood import dequantise, log_probability

WIDTH, BLOCKS, DEPTH, MARGIN = 32, 2, 4, 1e-5
DIMS = 784
SIZES: dict[str, dict[str, Any]] = {
    "realnvp": {"levels": 2, "width": WIDTH, "blocks": BLOCKS, "doubling": False, "alpha": MARGIN},
    "glow": {"levels": 2, "width": 2 * WIDTH, "depth": DEPTH, "scale": "sigmoid"},
}


class Density(nn.Module):
    """Theirs as a density over pictures in [-1, 1], which are [0, 1] to them."""

    def __init__(self, net: Any):
        super().__init__()
        self.net = net

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats, [B]."""
        told: Tensor = self.net.log_prob((x + 1) / 2, None)
        return told - x[0].numel() * math.log(2)


def recipe(name: str) -> Contender:
    """Ours, as `hvis train` does it."""

    def contender(task: Task, steps: int) -> Trained:
        numbers = {
            "data": task.data, "steps": steps, "batch": task.batch, "lr": task.lr, "seed": task.seed,
            "net": SIZES[name], "warmup": min(200, steps // 5), "sample_every": 1_000_000,
        }  # fmt: skip
        run = hv.train(name, task.folder / name, numbers, device="cpu")
        net = hv.load(run.path).parts["flow"]
        assert isinstance(net, Flow)
        return Trained(logged_rate(run, task.batch), net, lambda x: _bits(net, x))

    return contender


def normflows(name: str) -> Contender:
    """Theirs. Steps whose loss is not finite are left out, as in its examples."""

    def contender(task: Task, steps: int) -> Trained:
        pictures, rng, clock = 2 * task.unit() - 1, seeded(task), Clock()
        net: Any = (_glow if name == "glow" else _realnvp)()
        optimizer = torch.optim.Adam(net.parameters(), lr=task.lr)
        for _ in range(steps):
            x = dequantise(pictures[torch.randint(len(pictures), (task.batch,), generator=rng)], rng)
            optimizer.zero_grad()
            loss = net.forward_kld((x + 1) / 2)
            if torch.isfinite(loss):
                loss.backward()
                optimizer.step()
            clock.tick()
        net.eval().requires_grad_(False)
        density = Density(net)
        return Trained(clock.rate(task.batch), net, lambda x: _bits(density, x))

    return contender


@torch.no_grad()
def _bits(net: Any, x: Tensor) -> Tensor:
    return bits_per_dim(log_probability(net, x), DIMS, levels=None)


def _multiscale(fine: list[Any], coarse: list[Any], pixels: Any = None) -> Any:
    """Two scales, their layers from latents to pictures; half of the channels leave between them."""
    priors = [nf.distributions.DiagGaussian(shape) for shape in ((8, 7, 7), (2, 14, 14))]
    return nf.MultiscaleFlow(priors, [coarse, fine], [nf.flows.Merge()], transform=pixels, class_cond=False)


def _glow() -> Any:
    def steps(channels: int) -> list[Any]:
        blocks = [nf.flows.GlowBlock(channels, 2 * WIDTH, scale_map="sigmoid") for _ in range(DEPTH)]
        return [*blocks, nf.flows.Squeeze()]

    return _multiscale(steps(4), steps(8))


def _realnvp() -> Any:
    def couplings(channels: int, mode: str, count: int) -> list[Any]:
        made: list[Any] = []
        for i in range(count):
            passes = channels if mode == "checkerboard" else channels // 2
            net = nf.nets.ConvResidualNet(passes, 2 * passes, WIDTH, num_blocks=BLOCKS)
            nn.init.zeros_(net.final_layer.weight)
            nn.init.zeros_(net.final_layer.bias)
            cut = mode if i % 2 == 0 else f"{mode}_inv"
            made += [nf.flows.ActNorm((channels, 1, 1)), nf.flows.AffineCouplingBlock(net, True, "sigmoid", cut)]
        return made

    fine = [*couplings(4, "channel", 3), nf.flows.Squeeze(), *couplings(1, "checkerboard", 3)]
    coarse = [nf.flows.Squeeze(), *couplings(2, "checkerboard", 4)]
    return _multiscale(fine, coarse, nf.transforms.Logit(MARGIN))


RECIPE, PEER = "huggingvis, its recipe", "normflows, plain loop"
REALNVPS: dict[str, Contender] = {RECIPE: recipe("realnvp"), PEER: normflows("realnvp")}
GLOWS: dict[str, Contender] = {RECIPE: recipe("glow"), PEER: normflows("glow")}
