"""Stable Diffusion 1, 2 and XL, refiner, Turbo, Lightning, LCM, inpainting and instruct-pix2pix: one assembly.

Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (arXiv 2307.01952), Sauer et al. 2023 (arXiv 2311.17042), Luo
et al. 2023 (arXiv 2310.04378), Brooks, Holynski & Efros 2022 (arXiv 2211.09800). They differ in the sizes of their
parts, in which text towers read the prompt and from which layer, and in what the net sees beside x_t: all of it is in
their files. Book: chapter 5, "Stable Diffusion, part by part".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet, ldm_unet, text_towers_clip
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.checkpoints.diffusers_scheduler import FILE as SCHEDULER
from huggingvis.checkpoints.diffusers_scheduler import Own, read_scheduler
from huggingvis.checkpoints.json_files import read_json
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.checkpoints.single_file import read_parts
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.errors import FileProblem, about
from huggingvis.core.preconditioning import Preconditioned
from huggingvis.core.request import OWN, Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.clip_text import CLIPText
from huggingvis.nets.unet import UNet
from huggingvis.samplers.consistency import Consistency
from huggingvis.samplers.grids import Trailing
from huggingvis.systems.attachments import Attachments, Bench
from huggingvis.systems.latent_diffusion import Parts, assemble
from huggingvis.systems.pipelines import ORIGIN, How, name_of, part, whole
from huggingvis.systems.prompt_reading import (
    BothReaders,
    ClipReader,
    PromptConditioner,
    Reader,
    Telling,
    TokensOnly,
    readers_of,
)
from huggingvis.systems.size_conditions import SizeConditions
from huggingvis.systems.text_encoders import TOWERS, clip_tower, with_given

SYSTEM = [
    {
        "name": "Stable Diffusion 1",
        "chapter": 5,
        "paper": "2112.10752",
        "files": [
            "systems/latent_diffusion.py",
            "systems/prompt_reading.py",
            "nets/unet.py",
            "nets/autoencoder_kl.py",
            "nets/clip_text.py",
            "codecs/clip_tokens.py",
            "checkpoints/diffusers_scheduler.py",
        ],
        "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[sd1]",
        "exact": [
            "tests/interop/test_pipelines.py::test_text_to_image",
            "tests/interop/test_pipelines.py::test_image_to_image",
            "tests/interop/test_pipelines.py::test_sides_that_two_does_not_divide",
        ],
        "trained": None,
        "explained": None,
        "usable": None,
    },
    {
        "name": "Stable Diffusion 2",
        "chapter": 5,
        "paper": "2112.10752",
        "files": [
            "systems/latent_diffusion.py",
            "systems/prompt_reading.py",
            "nets/unet.py",
            "nets/autoencoder_kl.py",
            "nets/clip_text.py",
            "codecs/clip_tokens.py",
            "checkpoints/diffusers_scheduler.py",
        ],
        "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[sd2]",
        "exact": [
            "tests/interop/test_pipelines.py::test_v_prediction_and_another_layer",
            "tests/interop/test_tokens.py::test_openclip_pads_with_zero_and_reads_an_exclamation_mark",
            "tests/interop/test_scheduler_configs.py::test_the_solver_of_every_class",
        ],
        "trained": None,
        "explained": None,
        "usable": None,
    },
]


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

USUAL_SCALE = 0.18215
"""What latents are multiplied by where nothing says otherwise."""
READS = {"prompt": Reads(), "sizes": Reads(skip=2, normed=False, sizes=True, scale=5.0)}
EXAMPLE = "a photograph of an astronaut riding a horse"


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing or unfitting parts."""
    reads = READS[PIPELINES[str(index["_class_name"])]]
    unet_folder, scheduler_folder = whole(folder, index, "unet", "scheduler")
    unet = diffusers_unet.from_diffusers(unet_folder, dtype=how.dtype, channels_last=True).to(how.device)
    vae = how.vae or whole(folder, index, "vae")[0]
    codec = other_codec(vae, how)
    readers = with_given(_own_readers(folder, index, reads, how), unet, how)
    with about(unet_folder):
        width, height = (codec.autoencoder.factor * side for side in trained_sides(read_config(unet_folder), 64))
    places = {**_folders(folder, index, how), "vae": _vae_folder(vae)}
    origin = {name: read_config(place) for name, place in places.items() if place.is_dir()}
    origin |= {"scheduler": read_json(scheduler_folder / SCHEDULER), "index": _kept(index)}
    spec = Spec(name_of(folder), "stable_diffusion", (width, height), card={ORIGIN: origin})
    scored = bool(index.get("requires_aesthetics_score", False))
    conditioner = PromptConditioner(
        together(readers),
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
        multiple=1,
        told_scale=c.guidance_dim > 0,
    )
    bench = Bench(
        spec=spec,
        nets={"unet": unet, **conditioner.reader.towers},
        maps=key_maps(unet, conditioner.reader),
        readers=[reader for reader in readers_of(conditioner.reader) if isinstance(reader, ClipReader)],
        device=how.device,
        dtype=next(unet.parameters()).dtype,
    )
    return assemble(spec, parts, how.device, usual(own, reads, c.guidance_dim > 0), Attachments(bench))


def key_maps(unet: UNet, reader: Reader) -> dict[str, tuple[KeyMap, ...]]:
    """By net, the maps of the formats in which adapters name its layers."""
    theirs = diffusers_unet.config_to_diffusers(unet.config)
    maps: dict[str, tuple[KeyMap, ...]] = {
        "unet": (diffusers_unet.keymap(theirs), ldm_unet.keymap(unet.config, linear=True))
    }
    for name, tower in reader.towers.items():
        if isinstance(tower, CLIPText):
            config = tower.config
            maps[name] = text_towers_clip.keymap(config), text_towers_clip.open_clip_keymap(config)
    return maps


def usual(own: Own, reads: Reads, distilled: bool) -> Sampling:
    """The numbers that a model is best used with, told from its solver."""
    if own.solver is None:
        return Sampling("dpm++2m", "karras", 20, reads.scale)
    sampler, schedule = own.solver(1, 0.0)
    if isinstance(own.prediction, Preconditioned):
        return Sampling(OWN, OWN, 25, 3.0)  # as Playground v2.5's makers use it
    if distilled or isinstance(sampler, Consistency):
        return Sampling(OWN, OWN, 4, reads.scale)
    if isinstance(schedule, Trailing) and own.name.startswith("Euler"):
        return Sampling(OWN, OWN, 4, 1.0)  # the setting of Turbo and Lightning, distilled without guidance
    return Sampling(OWN, OWN, 20, reads.scale)


def read_codec(folder: Path, how: How) -> KLLatents:
    """The autoencoder of a folder, with its scale of latents."""
    autoencoder = diffusers_autoencoder.from_diffusers(folder, dtype=how.of_codec, channels_last=True)
    mean, std = diffusers_autoencoder.latent_statistics(read_config(folder))
    codec = KLLatents(channels_last(autoencoder), torch.tensor(mean), torch.tensor(std))
    return codec.to(how.device).eval()


def other_codec(path: Path, how: How, scale: float | None = None) -> KLLatents:
    """An autoencoder given beside the model: a folder of diffusers or a file. `scale` of a file's latents, if known."""
    if path.is_dir():
        return read_codec(_vae_folder(path), how)
    parts = read_parts(path, dtype=how.of_codec, device=how.device, channels_last=True, autoencoder_alone=True)
    if parts.autoencoder is None:
        raise FileProblem(f"{path} is {parts.layout.title}; --vae takes an autoencoder's file or folder.")
    return KLLatents(channels_last(parts.autoencoder), 0.0, 1.0 / (scale or USUAL_SCALE)).to(how.device).eval()


def _vae_folder(path: Path) -> Path:
    """The autoencoder's part of a model's folder, else the path itself."""
    return path / "vae" if (path / "vae").is_dir() else path


def together(readers: Sequence[Reader]) -> Reader:
    """One reader of all; two are read side by side. Raises `FileProblem` for none."""
    if not readers:
        raise FileProblem(
            "The model has no text encoder, so it cannot read a prompt. Use a whole model, or give it with "
            "--text-encoder."
        )
    return readers[0] if len(readers) == 1 else BothReaders(*readers)


def telling_of(spec: Spec, unet: UNet, reads: Reads, scored: bool) -> Telling:
    """What the net is told beside the tokens."""
    return SizeConditions(spec, scored=scored) if reads.sizes and unet.config.vector_dim else TokensOnly()


def _folders(folder: Path, index: Mapping[str, Any], how: How) -> dict[str, Path]:
    """Where the model's own nets lie, by their names; of text encoders where no others take their place."""
    places = {name: part(folder, index, name) for name in ("unet", *([] if how.text_encoders else TOWERS))}
    return {name: place for name, place in places.items() if place is not None}


def _kept(index: Mapping[str, Any]) -> dict[str, Any]:
    """What the index says beside its parts: the pipeline and its settings."""
    return {key: value for key, value in index.items() if not isinstance(value, list) and key != "_diffusers_version"}


def _own_readers(folder: Path, index: Mapping[str, Any], reads: Reads, how: How) -> list[ClipReader]:
    """Those of the folder; where others are given, some may be missing."""
    there = [name for name in TOWERS if (folder / name).is_dir() or not how.text_encoders]
    places = {name: part(folder, index, name) for name in there}
    return [_reader(folder, index, name, reads, how) for name in there if places[name] is not None]


def _reader(folder: Path, index: Mapping[str, Any], name: str, reads: Reads, how: How) -> ClipReader:
    tokens = part(folder, index, name.replace("text_encoder", "tokenizer"))
    tokenizer = CLIPTokens.bundled() if tokens is None else CLIPTokens.load(tokens)
    return ClipReader(name, tokenizer, clip_tower(folder / name, how), reads.skip, reads.normed)
