"""A text-to-image model of latents, from its parts: what the Stable Diffusion family and its kin have in common.

Rombach et al. 2022 (arXiv 2112.10752): a net denoises latents on a table of noise levels, under what a reader made of
the prompt; a KL autoencoder turns them into pictures. Which of these parts a model has, and their sizes, is all that
tells its members apart. Book: chapter 5, "Stable Diffusion, part by part".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.diffusers_scheduler import Own
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Prediction
from huggingvis.core.protocols import Guidance
from huggingvis.core.request import OWN, Limits, Request, Sampling
from huggingvis.core.sampler import Sampler
from huggingvis.core.system import Adapts, Spec, System, canvas_of
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.picture_and_text import PictureAndText
from huggingvis.guidance.told_scale import ToldScale
from huggingvis.samplers.grids import Schedule, WithoutPenultimate
from huggingvis.samplers.names import sampler_names, sampler_of, schedule_asked, schedule_names
from huggingvis.systems.options import number
from huggingvis.systems.prompt_plan import guided as conjoined
from huggingvis.systems.prompt_plan import plan_of, stepwise
from huggingvis.systems.prompt_reading import PromptConditioner

PICTURE_SCALE = "image_guidance_scale"
USUAL_PICTURE_SCALE = 1.5
LARGEST = 4
"""Pictures may have so many times the sides that a model was trained on."""


@final
@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        net: denoises; a `UNet` or a transformer, `net(x, clock, cond)`.
        codec: latents.
        conditioner: reads requests.
        own: noise table, prediction and solver it came with.
        channels: of latents.
        concat: channels that the net sees beside x_t.
        multiple: sides of latents that the net takes are multiples of this.
        told_scale: the net is told the guidance scale and needs no second call (distilled guidance).
        prediction: how its output is read, where not as `own` says.
        called: what files call the net.
    """

    net: nn.Module
    codec: KLLatents
    conditioner: PromptConditioner
    own: Own
    channels: int = 4
    concat: int = 0
    multiple: int = 8
    told_scale: bool = False
    prediction: Prediction | None = None
    called: str = "unet"


def assemble(
    spec: Spec, parts: Parts, device: torch.device, defaults: Sampling, adapts: Adapts | None = None
) -> System:
    """The parts as a system."""
    own, codec = parts.own, parts.codec
    denoise = NetDenoiser(parts.net, own.process, parts.prediction or own.prediction)
    factor = codec.autoencoder.factor
    shows = shows_of(parts)

    def generator(request: Request) -> Diffusion:
        if shows is not None and request.source is None:
            raise UsageError(
                f"{spec.name!r} was trained to change pictures and sees one beside its noise. Give it {shows.asks}."
            )
        width, height = canvas_of(request, spec)
        sampler, schedule = solver(own, request.sampling)
        shape = (parts.channels, height // factor, width // factor)
        guidance = (guided(request, parts), *own.limits(sampler), *stepwise(plan_of(request)))
        prior = ToldScale(request.sampling.guidance_scale) if parts.told_scale else None
        return Diffusion(denoise, own.process, shape, sampler, schedule, guidance, device, prior, unit=own.unit)

    limits = Limits(
        side=LARGEST * max(spec.size),
        multiple=factor * parts.multiple,
        prompt_required=False,
        samplers=(OWN, *sampler_names()),
        schedules=(OWN, *schedule_names()),
        options=(*parts.conditioner.options, *((PICTURE_SCALE,) if parts.concat == parts.channels else ())),
    )
    return System(
        spec=replace(spec, multiple=limits.multiple),
        parts={parts.called: parts.net, "vae": codec.autoencoder, **parts.conditioner.reader.towers},
        conditioner=parts.conditioner,
        codec=codec,
        generator=generator,
        defaults=defaults,
        limits=limits,
        device=device,
        shows=shows,
        adapts=adapts,
    )


def solver(own: Own, asked: Sampling) -> tuple[Sampler, Schedule]:
    """Sampler and grid that a request asks for; "own" is the model's. Raises `UsageError` where it has none."""
    if OWN not in (asked.sampler, asked.schedule):
        return sampler_of(asked.sampler, asked.eta), schedule_asked(asked)
    if own.solver is None:
        raise UsageError(
            f"This model says no sampler of its own that we know ({own.name or 'none'}). Name one: --sampler dpm++2m "
            "--schedule karras."
        )
    sampler, schedule = own.solver(asked.steps + asked.discard_penultimate, asked.eta)
    schedule = WithoutPenultimate(schedule) if asked.discard_penultimate else schedule
    return (
        sampler if asked.sampler == OWN else sampler_of(asked.sampler, asked.eta),
        schedule if asked.schedule == OWN else schedule_asked(asked),
    )


def guided(request: Request, parts: Parts) -> Guidance:
    """The guidance that a request asks for. Raises `UsageError` for what this model's guidance does not have."""
    s = request.sampling
    by_picture = parts.concat == parts.channels
    if (by_picture or parts.told_scale) and (s.guidance_rescale > 0.0 or s.guidance_interval != (0.0, 1.0)):
        why = "is guided by a picture and a text at once" if by_picture else "is told its guidance as a number"
        raise UsageError(
            f"This model {why}, so guidance_rescale and guidance_interval do nothing. Leave them as they are."
        )
    plan = plan_of(request)
    if by_picture and plan.weights != (1.0,):
        raise UsageError(
            "This model is guided by a picture and a text at once, so its prompt is one: AND, and a weight such as "
            "':1.2' at its end, have no meaning here. Leave them out."
        )
    if by_picture:
        return PictureAndText(s.guidance_scale, number(request, PICTURE_SCALE, USUAL_PICTURE_SCALE))
    scale = 1.0 if parts.told_scale else s.guidance_scale
    return conjoined(plan, ClassifierFree(scale, s.guidance_rescale, s.guidance_interval))


# ---- what nets are shown beside x_t ----------------------------------------------------------------------------------


def shows_of(parts: Parts) -> MaskedPicture | WholePicture | None:
    """What the net sees of a picture that a request starts from; None: nothing. Raises `UsageError` for other nets."""
    if not parts.concat:
        return None
    if parts.concat == parts.channels:
        return WholePicture(parts.codec)
    if parts.concat == parts.channels + 1:
        return MaskedPicture(parts.codec)
    raise UsageError(
        f"This model's net sees {parts.concat} channels beside its {parts.channels}. Known are {parts.channels} (a "
        f"picture to be changed) and {parts.channels + 1} (a mask and a masked picture); depth maps and others are not."
    )


@final
@dataclass(frozen=True)
class MaskedPicture:
    """A mask, 1 where the picture is made anew, and the latents of the rest (nine channels in all)."""

    codec: KLLatents
    asks: ClassVar[str] = "a picture and a mask (--image FILE, --mask FILE)"

    def __call__(self, x: Tensor, hole: Tensor | None, noise: Noise) -> Mapping[str, Tensor]:
        if hole is None:
            raise UsageError("This model fills holes: give it a mask, white where the picture is made anew (--mask).")
        z = self.codec.encode(x * (hole < 0.5), noise)  # [B, C, h, w]
        small = nn.functional.interpolate(hole, z.shape[-2:]).to(z.dtype)
        return {"concat": torch.cat([small, z], dim=1)}


@final
@dataclass(frozen=True)
class WholePicture:
    """The latents of a picture that is to be changed, the likeliest and as the encoder gives them: not scaled."""

    codec: KLLatents
    asks: ClassVar[str] = "a picture (--image FILE)"

    def __call__(self, x: Tensor, hole: Tensor | None, noise: Noise) -> Mapping[str, Tensor]:
        if hole is not None:
            raise UsageError(
                "This model changes pictures as a whole and sees no mask. Leave the mask out (--mask), or use a model "
                "for inpainting."
            )
        return {"concat": self.codec.posterior(x).mean}
