"""Stable Diffusion 1, 2 and XL, refiner, Turbo, Lightning, LCM, inpainting and instruct-pix2pix: one assembly.

Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (arXiv 2307.01952), Sauer et al. 2023 (arXiv 2311.17042), Luo
et al. 2023 (arXiv 2310.04378), Brooks, Holynski & Efros 2022 (arXiv 2211.09800). They differ in the sizes of their
parts, in which text towers read the prompt and from which layer, and in what the net sees beside x_t: all of it is in
their files. Book: chapter 5, "Stable Diffusion, part by part".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet
from huggingvis.checkpoints.diffusers_common import read_config, read_json
from huggingvis.checkpoints.diffusers_scheduler import FILE as SCHEDULER
from huggingvis.checkpoints.diffusers_scheduler import Own, read_scheduler
from huggingvis.checkpoints.text_towers import from_transformers
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.errors import FileProblem
from huggingvis.core.request import Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.clip_text import CLIPText
from huggingvis.nets.unet import UNet
from huggingvis.samplers.consistency import Consistency
from huggingvis.systems.latent_diffusion import OWN, Parts, assemble
from huggingvis.systems.pipelines import ORIGIN, How, part
from huggingvis.systems.prompt_reading import BothReaders, ClipReader, PromptConditioner, Reader, Telling, TokensOnly
from huggingvis.systems.size_conditions import SizeConditions


@dataclass(frozen=True)
class Reads:
    """How a pipeline reads prompts: the layer from the end, and whether through the final norm; its usual scale."""

    skip: int = 1
    normed: bool = True
    sizes: bool = False
    scale: float = 7.5


PIPELINES = {
    "StableDiffusionPipeline": "prompt",
    "StableDiffusionImg2ImgPipeline": "prompt",
    "StableDiffusionInpaintPipeline": "prompt",
    "StableDiffusionInstructPix2PixPipeline": "prompt",
    "LatentConsistencyModelPipeline": "prompt",
    "LatentConsistencyModelImg2ImgPipeline": "prompt",
    "StableDiffusionXLPipeline": "sizes",
    "StableDiffusionXLImg2ImgPipeline": "sizes",
    "StableDiffusionXLInpaintPipeline": "sizes",
}
"""Pipelines of diffusers, and what their nets are told."""

READS = {"prompt": Reads(), "sizes": Reads(skip=2, normed=False, sizes=True, scale=5.0)}
TOWERS = ("text_encoder", "text_encoder_2")
EXAMPLE = "a photograph of an astronaut riding a horse"


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing or unfitting parts."""
    reads = READS[PIPELINES[str(index["_class_name"])]]
    places = {name: part(folder, index, name) for name in ("unet", "vae", "scheduler")}
    lacking = [name for name, place in places.items() if place is None]
    if lacking:
        raise FileProblem(f"{folder} has no {lacking[0]!r}, without which no picture can be made. Use a whole model.")
    unet_folder, vae_folder, scheduler_folder = (Path(str(place)) for place in places.values())
    unet = diffusers_unet.from_diffusers(unet_folder, dtype=how.dtype).to(how.device)
    codec = read_codec(vae_folder, how)
    readers = [_reader(folder, index, name, reads, how) for name in TOWERS]
    sample = read_config(unet_folder).get("sample_size")
    side = codec.autoencoder.factor * (sample if isinstance(sample, int) else 64)
    origin = {name: read_config(place) for name, place in _folders(folder, index).items()}
    origin |= {"scheduler": read_json(scheduler_folder / SCHEDULER), "index": _kept(index)}
    spec = Spec(folder.resolve().name, "stable_diffusion", (side, side), card={ORIGIN: origin})
    scored = bool(index.get("requires_aesthetics_score", False))
    conditioner = PromptConditioner(
        together([reader for reader in readers if reader is not None]),
        telling_of(spec, unet, reads, scored),
        zeros_for_empty=reads.sizes and bool(index.get("force_zeros_for_empty_prompt", True)),
    )
    own = read_scheduler(scheduler_folder)
    return made(spec, unet, codec, conditioner, own, reads, how)


def made(
    spec: Spec, unet: UNet, codec: KLLatents, conditioner: PromptConditioner, own: Own, reads: Reads, how: How
) -> System:
    """The parts as a system, in the memory layout that convolutions like."""
    c = unet.config
    parts = Parts(
        net=channels_last(unet),
        codec=codec,
        conditioner=conditioner,
        own=own,
        channels=c.in_channels,
        concat=c.concat_channels,
        multiple=2 ** (len(c.channels) - 1),
        told_scale=c.guidance_dim > 0,
    )
    return assemble(spec, parts, how.device, usual(own, reads, c.guidance_dim > 0))


def usual(own: Own, reads: Reads, distilled: bool) -> Sampling:
    """The numbers that a model is best used with, told from its solver."""
    if own.solver is None:
        return Sampling("dpm++2m", "karras", 20, reads.scale)
    few = distilled or isinstance(own.solver(1, 0.0)[0], Consistency)
    return Sampling(OWN, OWN, 4 if few else 20, reads.scale)


def read_codec(folder: Path, how: How) -> KLLatents:
    """The autoencoder of a folder, with its scale of latents."""
    autoencoder = diffusers_autoencoder.from_diffusers(folder, dtype=how.of_codec)
    mean, std = diffusers_autoencoder.latent_statistics(read_config(folder))
    codec = KLLatents(channels_last(autoencoder), torch.tensor(mean), torch.tensor(std))
    return codec.to(how.device).eval()


def together(readers: list[Reader]) -> Reader:
    """One reader of all; two are read side by side. Raises `FileProblem` for none."""
    if not readers:
        raise FileProblem("The model has no text encoder, so it cannot read a prompt. Use a whole model.")
    return readers[0] if len(readers) == 1 else BothReaders(*readers)


def telling_of(spec: Spec, unet: UNet, reads: Reads, scored: bool) -> Telling:
    """What the net is told beside the tokens."""
    return SizeConditions(spec, scored=scored) if reads.sizes and unet.config.vector_dim else TokensOnly()


def _folders(folder: Path, index: Mapping[str, Any]) -> dict[str, Path]:
    """Where the nets lie, by their names."""
    places = {name: part(folder, index, name) for name in ("unet", "vae", *TOWERS)}
    return {name: place for name, place in places.items() if place is not None}


def _kept(index: Mapping[str, Any]) -> dict[str, Any]:
    """What the index says beside its parts: the pipeline and its settings."""
    return {key: value for key, value in index.items() if not isinstance(value, list) and key != "_diffusers_version"}


def _reader(folder: Path, index: Mapping[str, Any], name: str, reads: Reads, how: How) -> ClipReader | None:
    place = part(folder, index, name)
    if place is None:
        return None
    tower = from_transformers(place, how.dtype).to(how.device)
    if not isinstance(tower, CLIPText):
        raise FileProblem(f"{place} holds a {type(tower).__name__}; Stable Diffusion reads by CLIP's text towers.")
    tokens = part(folder, index, name.replace("text_encoder", "tokenizer"))
    tokenizer = CLIPTokens.bundled() if tokens is None else CLIPTokens.load(tokens)
    return ClipReader(name, tokenizer, tower, reads.skip, reads.normed)
