"""A small public DDPM of handwritten digits: the real weights on which samplers and tables are checked.

Binds `ddpm_mnist_starter.pth` of github.com/Yichizz/hot_vs_cold_diffusion (MIT): 293 thousand numbers, trained with
1000 noise levels, beta linear from 1e-4 to 0.02 (Ho, Jain, Abbeel 2020, arXiv 2006.11239), to predict the noise in
pictures in [-1/2, 1/2]. The file's table has 1001 entries, so that its entry k is knot k and the clock shows k.
Book: chapter 4, "Real weights".
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import FileProblem
from huggingvis.core.hollow import hollow
from huggingvis.core.process import Eps
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System
from huggingvis.nets.isotropic_conv import IsotropicConv, IsotropicConvConfig
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.names import sampler_names, sampler_of, schedule_asked, schedule_names
from huggingvis.systems.unconditional import Unconditional

CONFIG = IsotropicConvConfig()

FAMILY = Family("ddpm_mnist", {"alpha_t": (None,), "gt.frequencies": (16,), "gt.blocks.0.net.0.weight": (16, 1, 7, 7)})


def keymap() -> KeyMap:
    """Names of the net inside the public file; the two tables beside it are left over."""
    depth = len(CONFIG.widths)
    return KeyMap(
        [
            Rule("time.frequencies", "gt.frequencies"),
            *(Rule(f"time.layers.{i}.{{leaf:word}}", f"gt.time_embed.{2 * i}.{{leaf:word}}") for i in range(4)),
            Rule("layers.{i}.conv.{leaf:word}", "gt.blocks.{i}.net.0.{leaf:word}"),
            Rule("layers.{i}.norm.{leaf:word}", "gt.blocks.{i}.net.1.{leaf:word}"),
            Rule("out.{leaf:word}", f"gt.blocks.{depth}.{{leaf:word}}"),
        ]
    )


@final
class HalfRange:
    """Model space is half the usual: pictures [B, 1, H, W] in [-1, 1] outside, [-1/2, 1/2] inside."""

    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    def decode(self, z: Tensor) -> Tensor:
        return z * 2


def bind(path: Path | str, device: torch.device | None = None, *, dtype: torch.dtype = torch.float32) -> System:
    """The system from its weights file, its net running in `dtype`. Raises `FileProblem` for another file."""
    ours, left = keymap().take(load(path, dtype=dtype, check=True, wanted=lambda name: name.startswith("gt.")))
    tables = load(path, check=True, wanted=lambda name: not name.startswith("gt."))
    if left or set(tables) != {"alpha_t", "beta_t"}:
        strange = sorted(left) or sorted(set(tables) ^ {"alpha_t", "beta_t"})
        raise FileProblem(
            f"{path} should hold a net under 'gt.' and its tables alpha_t and beta_t, but differs in {len(strange)} "
            f"names, {strange[0]!r} for one. Use the file ddpm_mnist_starter.pth."
        )
    with hollow():
        net = IsotropicConv(CONFIG)
    assign(net, ours)
    device = device or torch.device("cpu")
    net.to(device).eval().requires_grad_(False)
    process = TableProcess(tables["alpha_t"])
    denoise = NetDenoiser(net, process, Eps())

    def generator(request: Request) -> Diffusion:
        """Samples [1, 28, 28] in model space, by the sampler, schedule and steps of the request."""
        asked = request.sampling
        shape = (CONFIG.channels, CONFIG.size, CONFIG.size)
        schedule = schedule_asked(asked)
        return Diffusion(denoise, process, shape, sampler_of(asked.sampler, asked.eta), schedule, device=device)

    spec = Spec("ddpm-mnist", "ddpm_mnist", (CONFIG.size, CONFIG.size), multiple=CONFIG.size, licence="MIT")
    limits = Limits(
        side=CONFIG.size,
        multiple=CONFIG.size,
        prompt_required=False,
        samplers=sampler_names(),
        schedules=schedule_names(),
    )
    usual = Sampling(sampler="ddim", schedule="trailing", steps=50, guidance_scale=1.0)
    return System(spec, {"net": net}, Unconditional(), HalfRange(), generator, usual, limits, device=device)
