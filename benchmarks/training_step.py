"""One training step of a pixel U-Net beside denoising-diffusion-pytorch's, equal in parameters and in arithmetic.

    python benchmarks/training_step.py

Theirs is `Unet(dim=32)` for 32x32 RGB in `GaussianDiffusion` (P. Wang). Ours has the widths, of all multiples of 8
near theirs, that come closest to it in both counts at once (1% apart). A step is loss, backward, clipping of the
gradient to norm 1 and the optimiser's step on 64 pictures in memory, without loading and averaging of weights on either
side. Theirs runs as it comes (float32, Adam, as its Trainer does) and tuned like ours (bfloat16 autocast, channels
last, fused attention, fused AdamW). How well either learns is not measured here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from common import Report, clock, interleaved, parser, row
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model
from huggingvis.runtime.attention import choose
from huggingvis.train.optim import Optim
from huggingvis.train.parallel import Parallel
from huggingvis.train.players import players
from huggingvis.train.settings import BFLOAT16, FLOAT32, Precision

SIDE, BATCH = 32, 64
SIZES = UNetSizes(channels=(32, 72, 136, 224), blocks=1, attention=(0, 0, 0, 1), middle=1, heads=4)
PLAIN, TUNED = "denoising-diffusion-pytorch as it comes", "denoising-diffusion-pytorch tuned like ours"
Step = Callable[[], object]


def ours(precision: Precision, pictures: Tensor, seed: int) -> tuple[nn.Module, Step]:
    """Our net, and one step as `train.fit` makes it."""
    torch.manual_seed(seed)
    cpu = torch.device("cpu")
    model = Model.fresh(SIZES, ("linear", "eps"), (3, SIDE, SIDE), classes=(), pixels=True)
    objective = model.objective().train()
    player = players(objective.nets(), Optim())["net"]
    rng, alone = torch.Generator().manual_seed(seed), Parallel()
    batch = {"x0": pictures}

    def step() -> None:
        player.forget()
        with choose(cpu, precision.autocast or torch.float32, training=True):
            with precision.context(cpu):
                loss = objective.loss(batch, 0, rng)["mse"]
            loss.backward()
        player.update(10_000, alone)

    return model.net, step


def theirs(tuned: bool, pictures: Tensor, seed: int) -> tuple[nn.Module, Step]:
    """Their net, and one step as their Trainer makes it."""
    torch.manual_seed(seed)
    peer = import_peer()
    net = peer.Unet(dim=32, flash_attn=tuned)
    images = (pictures + 1) / 2  # theirs come in [0, 1]
    if tuned:
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    diffusion = peer.GaussianDiffusion(net, image_size=SIDE, timesteps=1000).train()
    params = list(net.parameters())
    adam = torch.optim.AdamW(params, lr=1e-4, fused=True) if tuned else torch.optim.Adam(params, 1e-4, (0.9, 0.99))
    precision = BFLOAT16 if tuned else FLOAT32

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with precision.context(torch.device("cpu")):
            loss = diffusion(images)
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()

    return net, step


def import_peer() -> Any:
    """The peer, where need be without torchvision.

    It reads picture files by torchvision, which is not needed here; the build of it that package indexes carry wants
    CUDA, and does not load beside a torch without it.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        empty = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")}
        vars(empty["torchvision"]).update(transforms=empty["torchvision.transforms"], utils=empty["torchvision.utils"])
        sys.modules.update(empty)
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as peer

    return peer


def facts(net: nn.Module, call: Callable[[Tensor, Tensor], object]) -> dict[str, float]:
    """Parameters in millions and the arithmetic of one forward pass of a batch, in GFLOP."""
    x, t = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(x, t)
    params = sum(p.numel() for p in net.parameters())
    gflop = counter.get_total_flops() * BATCH / 1e9
    return {"million_parameters": round(params / 1e6, 3), "gflop_forward": round(gflop, 1)}


def main() -> None:
    options = parser(__doc__, repeats=12, threads=0).parse_args()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, ("denoising-diffusion-pytorch",))
    rng = torch.Generator().manual_seed(options.seed)
    pictures = torch.rand(BATCH, 3, SIDE, SIDE, generator=rng) * 2 - 1  # [B, 3, S, S]
    seed = options.seed
    contenders = {
        "huggingvis, bfloat16": ours(BFLOAT16, pictures, seed),
        PLAIN: theirs(False, pictures, seed),
        TUNED: theirs(True, pictures, seed),
        "huggingvis, float32": ours(FLOAT32, pictures, seed),
    }
    steps = {name: partial(clock, step) for name, (_, step) in contenders.items()}
    seconds = interleaved(steps, options.repeats, warm=2)
    for name, values in seconds.items():
        net = contenders[name][0]
        mine = name.startswith("huggingvis")
        sizes = facts(net, partial(net, cond={}) if mine else net)
        peers = {peer: seconds[peer] for peer in (PLAIN, TUNED)} if mine else None
        report.add(row(f"step of {BATCH} pictures", name, "s", values, beside=peers, facts=sizes))
    report.write()


if __name__ == "__main__":
    main()
