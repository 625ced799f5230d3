"""Folders of diffusers whose model draws pixels without words: a `UNet2DModel` and a scheduler, as DDPM's own are.

Ho, Jain, Abbeel 2020 (arXiv 2006.11239): google/ddpm-cifar10-32, ddpm-celebahq-256 and what diffusers' example for
unconditional training makes. The net may know classes (`num_class_embeds`), named in the index under `id2label` as a
`DiTPipeline` names them; one class more than there are names is no class. It may tell a variance, in as many channels
again (`variance_type` "learned_range"; Nichol & Dhariwal 2021, arXiv 2102.09672). `saving_pixels` writes such folders.
Book: chapter 4, "Real weights".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.checkpoints.diffusers_scheduler import FILE, Own, read_scheduler
from huggingvis.checkpoints.diffusers_scheduler_solvers import LEARNED
from huggingvis.checkpoints.json_files import read_json
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.classes import some_class
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, Conditioner, Guidance
from huggingvis.core.request import OWN, Limits, Request, Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.nets.unet import UNetConfig
from huggingvis.samplers.names import sampler_names, schedule_names
from huggingvis.systems.by_class import ClassConditioner
from huggingvis.systems.latent_diffusion import solver
from huggingvis.systems.pipelines import INDEX, ORIGIN, How, name_of, whole
from huggingvis.systems.unconditional import Unconditional

PIPELINES = {"DDPMPipeline": "ddim", "DDIMPipeline": "own", "PNDMPipeline": "own"}
"""The pipelines of diffusers, and the sampler that they are usually drawn with: DDPM's own wants 1000 steps."""
PARTS = {"unet": "config.json", "scheduler": FILE}
FEW = ("ddim", "trailing")
LABELS = "id2label"
LARGEST = 4
"""Sides up to this many times the one that was trained."""


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing parts and for a net that is told more."""
    unet_folder, scheduler = (_place(folder, index, name, file) for name, file in PARTS.items())
    unet = diffusers_unet.from_diffusers(unet_folder, dtype=how.dtype).to(how.device)
    c, own = unet.config, read_scheduler(scheduler)
    _check(c, own, unet_folder, index)
    classes = Classes.of(index, c.vector_dim, folder)
    origin = {"unet": read_config(unet_folder), "scheduler": read_json(scheduler / FILE)}
    with about(unet_folder):
        size = trained_sides(origin["unet"])
    spec = _spec(name_of(folder), size, index, origin, c, classes)
    prediction = LearnedVariance(own.prediction) if own.learned else own.prediction
    denoise = NetDenoiser(channels_last(unet), own.process, prediction)

    def generator(request: Request) -> Diffusion:
        width, height = canvas_of(request, spec)
        sampler, schedule = solver(own, request.sampling)
        shape = (c.in_channels, height, width)
        unit = own.unit and OWN in (request.sampling.sampler, request.sampling.schedule)
        chain = (*classes.guided(request), *own.limits(sampler))
        prior = classes.by_lot if classes.names and not classes.last else None
        return Diffusion(denoise, own.process, shape, sampler, schedule, chain, how.device, prior, unit=unit)

    few = PIPELINES[index["_class_name"]] != OWN and not own.learned
    usual = FEW if few or own.solver is None else (OWN, OWN)
    return System(
        spec=spec,
        parts={"net": unet},
        conditioner=classes.conditioner(how.device),
        codec=Pixels(),
        generator=generator,
        defaults=Sampling(*usual, 50, 2.0 if classes.last else 1.0),
        limits=Limits(
            side=LARGEST * max(spec.size),
            multiple=spec.multiple,
            prompt_required=False,
            samplers=(OWN, *sampler_names()),
            schedules=(OWN, *schedule_names()),
        ),
        device=how.device,
    )


@final
@dataclass(frozen=True)
class Classes:
    """The classes that a net knows: their `names`, and whether it knows one more, the `last`, which is none of them."""

    names: tuple[str, ...]
    last: bool

    @classmethod
    def of(cls, index: Mapping[str, Any], rows: int, folder: Path) -> Classes:
        """Of a net with an embedding of `rows`, as the index of `folder` names them; else by their numbers.

        Raises `FileProblem` for names that do not fit.
        """
        told = index.get(LABELS)
        if told is None or not rows:
            return cls(tuple(map(str, range(rows))), last=False)
        if (
            not isinstance(told, Mapping)
            or len(told) not in (rows, rows - 1)
            or set(told) != set(map(str, range(len(told))))
        ):
            raise FileProblem(
                f"{folder / INDEX} should name the classes of a net that knows {rows} under {LABELS}, by their numbers "
                f"from 0 (all, or all but the last, which is no class); found {str(told)[:80]}. Correct it or leave it "
                "out."
            )
        return cls(tuple(str(told[str(number)]) for number in range(len(told))), last=len(told) < rows)

    def conditioner(self, device: torch.device) -> Conditioner:
        """Prompts are names of classes, or empty."""
        return ClassConditioner(self.names, device, last=self.last) if self.names else Unconditional()

    def guided(self, request: Request) -> tuple[Guidance, ...]:
        """The guidance that a request asks for. Raises `UsageError` where there is nothing to move away from."""
        s = request.sampling
        if not self.names or s.guidance_scale == 1.0:
            return ()
        if not self.last and not request.prompt.negative.strip():
            raise UsageError(
                f"A guidance scale of {s.guidance_scale:g} moves away from pictures of no class, and this model was "
                "taught none such. Name a class to move away from as the negative prompt, or use the scale 1."
            )
        return (ClassifierFree(s.guidance_scale, s.guidance_rescale, s.guidance_interval),)

    @staticmethod
    def by_lot(cond: Cond, noise: Noise) -> Cond:
        """`cond` with a class for every picture that names none."""
        return {**cond, "vector": some_class(cond["vector"], noise)}


def _spec(
    name: str,
    size: tuple[int, int],
    index: Mapping[str, Any],
    origin: Mapping[str, Mapping[str, Any]],
    c: UNetConfig,
    classes: Classes,
) -> Spec:
    kept = {key: index[key] for key in ("_class_name", LABELS) if key in index}
    card: dict[str, Any] = {ORIGIN: {"index": kept, **origin}}
    if classes.names:
        card["classes"] = list(classes.names)
    multiple = 2 ** (len(c.channels) - 1)
    return Spec(name, "diffusers_pixels", size, multiple, channels=c.in_channels, card=card)


def _check(c: UNetConfig, own: Own, unet: Path, index: Mapping[str, Any]) -> None:
    """Raises `FileProblem` for a net that is told, or tells, what such a pipeline does not have."""
    telling = c.out_channels == 2 * c.in_channels
    more = "words" if c.tokens_dim else "a picture" if c.concat_channels else ""
    if more or (c.out_channels != c.in_channels and not telling):
        raise FileProblem(
            f"{unet} holds a net with {more or 'other channels'} beside the noisy picture, which a "
            f"{index['_class_name']} does not have. Use a net that is given a picture and gives one of as many "
            "channels."
        )
    if telling != own.learned:
        raise FileProblem(
            f"{unet} holds a net that gives {c.out_channels} channels for a picture of {c.in_channels}, and the "
            f"scheduler says {'that' if own.learned else 'nothing of that'} half of them tell a variance. Twice as "
            f"many channels and the scheduler's variance_type {LEARNED!r} belong together: correct the one that is "
            "wrong."
        )


def _place(folder: Path, index: Mapping[str, Any], name: str, file: str) -> Path:
    """Where a part lies: in its own folder, or, as in the first models of this kind, beside the index."""
    beside = not (folder / name).is_dir() and (folder / file).is_file()
    return folder if beside else whole(folder, index, name)[0]
