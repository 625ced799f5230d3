"""A diffusion model of pixels written as a folder of diffusers, a `DDPMPipeline`, which draws the same pictures there.

What is written is a `UNet2DModel` and the settings of its table. A net that learnt K classes becomes one with an
embedding of K + 1, the last for no class, and their names stand in the index under `id2label`, as a `DiTPipeline` has
both. `DDPMPipeline` itself tells its net no class and so does not draw with such a one: there, call the net with
`class_labels` in a loop over the scheduler's timesteps. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_scheduler import scheduler_config, write_scheduler
from huggingvis.checkpoints.diffusers_scheduler_solvers import LEARNED
from huggingvis.checkpoints.json_files import write_json
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.system import Spec
from huggingvis.nets.unet import UNet
from huggingvis.processes.table import TableProcess
from huggingvis.systems.diffusers_pixels import LABELS
from huggingvis.systems.pipelines import INDEX, ORIGIN

KINDS = ("eps", "v", "x0")


def save_pixels(diffusion: Diffusion, spec: Spec, folder: Path) -> Path:
    """Write the folder; returns it. Raises `UsageError` for a model of which diffusers has none like it."""
    net, process, prediction = _parts(diffusion)
    origin: Mapping[str, Any] = spec.card.get(ORIGIN, {})
    index = dict(origin.get("index") or {"_class_name": "DDPMPipeline"})
    if net.config.vector_dim and net.config.vector_layers != 1:
        index[LABELS] = {str(number): name for number, name in enumerate(spec.card["classes"])}
        net = _with_table(net)
    theirs = origin.get("unet") or {
        **diffusers_unet.config_to_diffusers(net.config), "sample_size": [spec.size[1], spec.size[0]],
    }  # fmt: skip
    learned = isinstance(prediction, LearnedVariance)
    told = scheduler_config(process, prediction.inner if isinstance(prediction, LearnedVariance) else prediction)
    table = {key: value for key, value in told.items() if key != "set_alpha_to_one"}
    own = {
        "_class_name": "DDPMScheduler", "variance_type": LEARNED if learned else "fixed_small", "clip_sample": True,
        "steps_offset": 0,
    }  # fmt: skip
    settings = origin.get("scheduler") or {**table, **own}
    diffusers_unet.to_diffusers(net, folder / "unet", theirs)
    write_scheduler(folder / "scheduler", settings)
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", settings["_class_name"]]}
    write_json(folder / INDEX, index | parts)
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
    prediction = denoise.prediction
    predicted = prediction.inner if isinstance(prediction, LearnedVariance) else prediction
    if not isinstance(predicted, tuple(PREDICTIONS[name] for name in KINDS)):
        raise UsageError(
            f"diffusers' schedulers know nets that predict {', '.join(KINDS)}; this one's prediction is "
            f"{type(predicted).__name__}. Train one with such a --prediction, or keep the run."
        )
    return denoise.net, process, prediction


def _with_table(net: UNet) -> UNet:
    """The net with a table in the place of what it makes of a class: a row for each, and one for no class."""
    count, weights = net.config.vector_dim, dict(net.state_dict())
    assert net.vector is not None
    with torch.no_grad():
        told = torch.eye(count + 1, count).to(weights["conv_in.weight"])  # the last row is zeros
        table = net.vector(told)  # [K+1, E]
    plain = UNet(replace(net.config, vector_dim=count + 1, vector_layers=1))
    rest = {name: value for name, value in weights.items() if not name.startswith("vector.")}
    plain.load_state_dict({**rest, "vector.weight": table.T.contiguous()})
    return plain.eval()
