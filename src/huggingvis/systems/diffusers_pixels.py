"""Folders of diffusers whose model draws pixels without words: a `UNet2DModel` and a scheduler, as DDPM's own are.

Ho, Jain, Abbeel 2020 (arXiv 2006.11239): google/ddpm-cifar10-32, ddpm-celebahq-256 and what diffusers' example for
unconditional training makes. `saving_pixels` writes such folders. Book: chapter 4, "Real weights".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.checkpoints.diffusers_scheduler import FILE, read_scheduler
from huggingvis.checkpoints.json_files import read_json
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import FileProblem, about
from huggingvis.core.request import OWN, Limits, Request, Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.samplers.names import sampler_names, schedule_names
from huggingvis.systems.latent_diffusion import solver
from huggingvis.systems.pipelines import ORIGIN, How, name_of, whole
from huggingvis.systems.unconditional import Unconditional

PIPELINES = {"DDPMPipeline": "ddim", "DDIMPipeline": "own", "PNDMPipeline": "own"}
"""The pipelines of diffusers, and the sampler that they are usually drawn with: DDPM's own wants 1000 steps."""
PARTS = {"unet": "config.json", "scheduler": FILE}
FEW = ("ddim", "trailing")
LARGEST = 4
"""Sides up to this many times the one that was trained."""


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing parts and for a net that is told more."""
    unet_folder, scheduler = (_place(folder, index, name, file) for name, file in PARTS.items())
    unet = diffusers_unet.from_diffusers(unet_folder, dtype=how.dtype).to(how.device)
    c, theirs, own = unet.config, read_config(unet_folder), read_scheduler(scheduler)
    told = [name for name, width in (("a class", c.vector_dim), ("a picture", c.concat_channels)) if width]
    if told or c.tokens_dim or c.out_channels != c.in_channels:
        more = told[0] if told else "words" if c.tokens_dim else "a variance to tell"
        raise FileProblem(
            f"{unet_folder} holds a net with {more} beside the noisy picture, which a {index['_class_name']} does not "
            "have. Use a net that is given a picture and gives one of as many channels."
        )
    with about(unet_folder):
        width, height = trained_sides(theirs)
    multiple = 2 ** (len(c.channels) - 1)
    spec = Spec(
        name_of(folder), "diffusers_pixels", (width, height), multiple, channels=c.in_channels,
        card={ORIGIN: {"unet": theirs, "scheduler": read_json(scheduler / FILE)}},
    )  # fmt: skip
    denoise = NetDenoiser(channels_last(unet), own.process, own.prediction)

    def generator(request: Request) -> Diffusion:
        width, height = canvas_of(request, spec)
        sampler, schedule = solver(own, request.sampling)
        shape = (c.in_channels, height, width)
        unit = own.unit and OWN in (request.sampling.sampler, request.sampling.schedule)
        return Diffusion(denoise, own.process, shape, sampler, schedule, own.clip, how.device, unit=unit)

    usual = FEW if PIPELINES[index["_class_name"]] != OWN or own.solver is None else (OWN, OWN)
    return System(
        spec=spec,
        parts={"net": unet},
        conditioner=Unconditional(),
        codec=Pixels(),
        generator=generator,
        defaults=Sampling(*usual, 50, 1.0),
        limits=Limits(
            side=LARGEST * max(width, height),
            multiple=multiple,
            prompt_required=False,
            samplers=(OWN, *sampler_names()),
            schedules=(OWN, *schedule_names()),
        ),
        device=how.device,
    )


def _place(folder: Path, index: Mapping[str, Any], name: str, file: str) -> Path:
    """Where a part lies: in its own folder, or, as in the first models of this kind, beside the index."""
    beside = not (folder / name).is_dir() and (folder / file).is_file()
    return folder if beside else whole(folder, index, name)[0]
