"""A diffusion model of pixels written as a folder of diffusers, a `DDPMPipeline`, which draws the same pictures there.

What is written is a `UNet2DModel` and the settings of its table. That pipeline tells no class: a net that learnt
classes is written as the one that it is when none is asked for, its answer to no class added to that to the time.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_scheduler import scheduler_config, write_scheduler
from huggingvis.checkpoints.json_files import write_json
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.system import Spec
from huggingvis.nets.unet import UNet
from huggingvis.processes.table import TableProcess
from huggingvis.systems.pipelines import INDEX, ORIGIN

KINDS = ("eps", "v", "x0")


def save_pixels(diffusion: Diffusion, spec: Spec, folder: Path) -> Path:
    """Write the folder; returns it. Raises `UsageError` for a model of which diffusers has none like it."""
    net, process, prediction = _parts(diffusion)
    origin: Mapping[str, Any] = spec.card.get(ORIGIN, {})
    net = _without_classes(net)
    theirs = origin.get("unet") or {
        **diffusers_unet.config_to_diffusers(net.config), "sample_size": [spec.size[1], spec.size[0]],
    }  # fmt: skip
    table = {key: value for key, value in scheduler_config(process, prediction).items() if key != "set_alpha_to_one"}
    own = {"_class_name": "DDPMScheduler", "variance_type": "fixed_small", "clip_sample": True, "steps_offset": 0}
    settings = origin.get("scheduler") or {**table, **own}
    diffusers_unet.to_diffusers(net, folder / "unet", theirs)
    write_scheduler(folder / "scheduler", settings)
    classes = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", settings["_class_name"]]}
    write_json(folder / INDEX, {"_class_name": "DDPMPipeline", **classes})
    return folder


def _parts(diffusion: Diffusion) -> tuple[UNet, TableProcess, Any]:
    """The net, its table and what it predicts, where diffusers has all three."""
    denoise, process = diffusion.denoise, diffusion.process
    if not isinstance(process, TableProcess):
        raise UsageError(
            f"diffusers' DDPM walks a table of noise levels, and this model's process ({type(process).__name__}) runs "
            "in continuous time. Train one with --process linear or cosine, or keep the run, which --model takes."
        )
    if not isinstance(denoise, NetDenoiser) or not isinstance(denoise.net, UNet):
        raise UsageError(
            "diffusers' UNet2DModel is given a noisy picture alone, and this model's net more than that. Keep the "
            "run, which --model takes."
        )
    if not isinstance(denoise.prediction, tuple(PREDICTIONS[name] for name in KINDS)):
        raise UsageError(
            f"diffusers' schedulers know nets that predict {', '.join(KINDS)}; this one's prediction is "
            f"{type(denoise.prediction).__name__}. Train one with such a --prediction, or keep the run."
        )
    return denoise.net, process, denoise.prediction


def _without_classes(net: UNet) -> UNet:
    """The net as it is where no class is asked for: its `vector` port, told zeros, gives a constant."""
    if not net.config.vector_dim:
        return net
    weights = dict(net.state_dict())
    assert net.vector is not None
    with torch.no_grad():
        none = net.vector(weights["conv_in.weight"].new_zeros(1, net.config.vector_dim))[0]  # [E]
    weights["time.fc2.bias"] = weights["time.fc2.bias"] + none
    plain = UNet(replace(net.config, vector_dim=0))
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("vector.")})
    return plain.eval()
