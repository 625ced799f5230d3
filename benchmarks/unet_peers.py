"""Our pixel U-Net and those of two peers, equal in parameters and in arithmetic, each with its training step.

Every net predicts the noise of DDPM's 1,000 linear levels from 32x32 colour pictures in [-1, 1]. "As it comes": float32
and the optimiser of the peer's own training script, which is `Trainer` of denoising-diffusion-pytorch (P. Wang) and
diffusers' example of unconditional training. "Tuned like ours": the precision that ours chooses on this machine, fused
attention where there is a choice, fused AdamW.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from huggingvis.recipes import setting
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model
from huggingvis.runtime.attention import for_training
from huggingvis.train.optim import Optim
from huggingvis.train.parallel import Parallel
from huggingvis.train.players import players
from huggingvis.train.settings import FLOAT32, Precision

SIDE, LEVELS = 32, 1000
PACKAGES = ("denoising-diffusion-pytorch", "diffusers")
OURS = ("huggingvis", "huggingvis, float32")
WANG, WANG_TUNED = "denoising-diffusion-pytorch as it comes", "denoising-diffusion-pytorch tuned like ours"
DIFFUSERS, DIFFUSERS_TUNED = "diffusers as it comes", "diffusers tuned like ours"


@dataclass(frozen=True)
class Size:
    """`dim` of `Unet` in denoising-diffusion-pytorch, and the widths of ours that come nearest in both counts.

    diffusers' `UNet2DModel` of our widths has our counts.
    """

    dim: int
    widths: tuple[int, ...]


LARGE = Size(32, (32, 72, 136, 224))
SMALL = Size(16, (24, 40, 64, 112))


@dataclass(frozen=True)
class Contender:
    """A net in training: the mean square of a batch [B, 3, S, S], with a gradient, and a step of the optimiser."""

    net: nn.Module
    loss: Callable[[Tensor], Tensor]
    step: Callable[[Tensor], None]
    call: Callable[[Tensor, Tensor], object]

    def facts(self, batch: int) -> dict[str, float]:
        """Parameters in millions and the arithmetic of one forward pass of a batch, in GFLOP."""
        x, t = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.call(x, t)
        params = sum(p.numel() for p in self.net.parameters())
        gflop = counter.get_total_flops() * batch / 1e9
        return {"million_parameters": round(params / 1e6, 3), "gflop_forward": round(gflop, 1)}


def contenders(size: Size, rate: float, seed: int) -> Mapping[str, Callable[[], Contender]]:
    """How each is made, by its name; ours in float32 too, where it does not choose that anyway."""
    found = {
        OURS[0]: lambda: ours(size, chosen(), rate, seed),
        WANG: lambda: wang(size, False, rate, seed),
        DIFFUSERS: lambda: diffusers(size, False, rate, seed),
        WANG_TUNED: lambda: wang(size, True, rate, seed),
        DIFFUSERS_TUNED: lambda: diffusers(size, True, rate, seed),
    }
    return found if chosen() == FLOAT32 else found | {OURS[1]: lambda: ours(size, FLOAT32, rate, seed)}


def chosen() -> Precision:
    """The precision of a training that does not name one."""
    return setting.precision("auto", torch.device("cpu"))


def ours(size: Size, precision: Precision, rate: float, seed: int) -> Contender:
    """Our net, and one step as `train.fit` makes it."""
    torch.manual_seed(seed)
    cpu = torch.device("cpu")
    sizes = UNetSizes(channels=size.widths, blocks=1, attention=(0, 0, 0, 1), middle=1, heads=4)
    model = Model.fresh(sizes, ("linear", "eps"), (3, SIDE, SIDE), classes=(), pixels=True)
    objective = model.objective().train()
    player = players(objective.nets(), Optim(rate))["net"]
    rng, alone = torch.Generator().manual_seed(seed), Parallel()

    def loss(pictures: Tensor) -> Tensor:
        with for_training(cpu, precision.autocast or torch.float32), precision.context(cpu):
            return objective.loss({"x0": pictures}, 0, rng)["mse"]

    def step(pictures: Tensor) -> None:
        player.forget()
        loss(pictures).backward()
        player.update(10_000, alone)

    return Contender(model.net, loss, step, lambda x, t: model.net(x, t, cond={}))


def wang(size: Size, tuned: bool, rate: float, seed: int) -> Contender:
    """The net of denoising-diffusion-pytorch."""
    torch.manual_seed(seed)
    peer = import_wang()
    net = peer.Unet(dim=size.dim, flash_attn=tuned)
    how = {"timesteps": LEVELS, "objective": "pred_noise", "beta_schedule": "linear"}
    diffusion = peer.GaussianDiffusion(net, image_size=SIDE, **how).train()
    adam = _tuned(net, rate) if tuned else torch.optim.Adam(net.parameters(), rate, (0.9, 0.99))
    return _peer(net, lambda pictures: diffusion((pictures + 1) / 2), adam, tuned, net)  # theirs come in [0, 1]


def diffusers(size: Size, tuned: bool, rate: float, seed: int) -> Contender:
    """The net of diffusers."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(seed)
    levels = len(size.widths) - 1
    net = UNet2DModel(
        sample_size=SIDE,
        block_out_channels=size.widths,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=size.widths[-1] // 4,
        down_block_types=("DownBlock2D",) * levels + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * levels,
    ).train()
    scheduler = DDPMScheduler(LEVELS)

    def loss(pictures: Tensor) -> Tensor:
        noise, t = torch.randn_like(pictures), torch.randint(LEVELS, (len(pictures),))
        return F.mse_loss(net(scheduler.add_noise(pictures, noise, t), t).sample.float(), noise)

    usual = torch.optim.AdamW(net.parameters(), rate, (0.95, 0.999), weight_decay=1e-6)
    return _peer(net, loss, _tuned(net, rate) if tuned else usual, tuned, net)


def _tuned(net: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), rate, fused=True)


def _peer(
    net: nn.Module,
    error: Callable[[Tensor], Tensor],
    adam: torch.optim.Optimizer,
    tuned: bool,
    call: Callable[[Tensor, Tensor], object],
) -> Contender:
    params, precision = list(net.parameters()), chosen() if tuned else FLOAT32

    def loss(pictures: Tensor) -> Tensor:
        with precision.context(torch.device("cpu")):
            return error(pictures)

    def step(pictures: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        loss(pictures).backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()

    return Contender(net, loss, step, call)


def import_wang() -> Any:
    """denoising-diffusion-pytorch, where need be without torchvision.

    It reads picture files by torchvision, which is not needed here; the build of it that package indexes carry wants
    CUDA, and does not load beside a torch without it.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        empty = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")}
        vars(empty["torchvision"]).update(transforms=empty["torchvision.transforms"], utils=empty["torchvision.utils"])
        sys.modules.update(empty)
        try:
            from denoising_diffusion_pytorch import denoising_diffusion_pytorch as peer
        finally:
            for name in empty:  # diffusers looks for it too, and does without it
                del sys.modules[name]
    else:
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as peer
    return peer
