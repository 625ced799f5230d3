"""Systems written as others have them: the Stable Diffusion family as a folder of diffusers or in one file, diffusion
models of pixels and the autoencoder of a VQ-VAE as folders.

Nets go out under the names of the format they are written in; what settings a folder came with, its nets keep.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huggingvis.checkpoints import diffusers_autoencoder, diffusers_unet, text_towers, text_towers_clip
from huggingvis.checkpoints.diffusers_scheduler import write_scheduler
from huggingvis.checkpoints.json_files import write_json
from huggingvis.checkpoints.resolve import WEIGHTS
from huggingvis.checkpoints.single_file import parts_of, write_single_file
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.files import new_file, new_folder
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.nets.clip_text import CLIPText
from huggingvis.nets.encoder_layer import quick_gelu
from huggingvis.nets.unet import UNet
from huggingvis.objectives.vq_vae import VQVAE
from huggingvis.systems.pipelines import INDEX, ORIGIN
from huggingvis.systems.prompt_reading import ClipReader, PromptConditioner, readers_of
from huggingvis.systems.saving_autoencoder import save_vq
from huggingvis.systems.saving_pixels import save_pixels
from huggingvis.systems.size_conditions import SizeConditions
from huggingvis.systems.stable_diffusion import USUAL_SCALE

CLASSES = {"unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL")}
ROOTS = {"quick": "cond_stage_model.transformer.", "open": "cond_stage_model.model."}
"""Of the one tower of Stable Diffusion 1 and 2 in a file."""
ROOTS_XL = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.", "conditioner.embedders.0.model.")
"""Of XL's two towers, and of its refiner's one."""


def save(system: System, place: Path | str) -> Path:
    """Write one file where `place` ends in .safetensors, else a folder that diffusers loads; returns it.

    Raises `UsageError` for a system that has no such form, `FileProblem` for a place that cannot be written to, or
    where something is already.
    """
    place = Path(place)
    single = place.suffix == ".safetensors"
    if place.suffix in WEIGHTS and not single:
        raise UsageError(
            f"A model in one file is written as .safetensors, which cannot carry programs; found {place.name!r}. Name "
            f"{place.with_suffix('.safetensors').name!r}, or a folder."
        )
    model = system.generator(Request(sampling=system.defaults))
    if isinstance(model, VQVAE):
        if single:
            raise UsageError(f"An autoencoder with codes is written as a folder: name one in the place of {place}.")
        width, height = system.spec.size
        return new_folder(place, lambda folder: save_vq(model, (system.spec.channels, height, width), folder))
    if isinstance(model, Diffuses) and isinstance(system.codec, Pixels):
        if single:
            raise UsageError(f"A model of pixels is written as a folder: name one in the place of {place}.")
        return new_folder(place, lambda folder: save_pixels(model.diffusion, system.spec, folder))
    if not single:
        return new_folder(place, lambda folder: save_folder(system, folder))
    return new_file(place, lambda path: save_file(system, path))


def save_folder(system: System, folder: Path | str) -> Path:
    """Write a folder that diffusers loads; returns it. Raises `UsageError` for a system of another kind."""
    folder = Path(folder)
    unet, codec, readers = _parts(system)
    origin: Mapping[str, Any] = system.spec.card[ORIGIN]
    index: dict[str, Any] = {"_class_name": _pipeline(system, unet), **{k: list(v) for k, v in CLASSES.items()}}
    diffusers_unet.to_diffusers(unet, folder / "unet", origin.get("unet"))
    diffusers_autoencoder.to_diffusers(codec.autoencoder, folder / "vae", origin.get("vae") or _vae_config(codec))
    for reader in readers:
        name = reader.name
        text_towers.to_transformers(reader.tower, folder / name, origin.get(name))
        reader.tokens.save(folder / name.replace("text_encoder", "tokenizer"))
        kind = "CLIPTextModel" if reader.tower.projection is None else "CLIPTextModelWithProjection"
        index[name] = ["transformers", kind]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    scheduler = origin["scheduler"]
    write_scheduler(folder / "scheduler", scheduler)
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    index |= _settings(system, index)
    write_json(folder / INDEX, {**index, **origin.get("index", {})})
    return folder


def save_file(system: System, path: Path | str) -> Path:
    """Write one `.safetensors` file in the layout of the first programs; returns it.

    Raises as `save_folder`, and `UsageError` for an autoencoder whose scale of latents such a file cannot tell.
    """
    unet, codec, readers = _parts(system)
    towers: dict[str, dict[str, Tensor]] = {}
    for reader in readers:
        quick = reader.tower.config.activation is quick_gelu
        names = text_towers_clip.keymap if quick else text_towers_clip.open_clip_keymap
        part = "text_2" if reader.name == "text_encoder_2" else "text"
        keymap = names(reader.tower.config, _root(unet, quick, len(readers)))
        towers[part] = keymap.to_theirs(reader.tower.state_dict())
    told = system.spec.card[ORIGIN]["scheduler"].get("prediction_type", "epsilon")
    prediction = "v" if told == "v_prediction" else "epsilon"
    parts = parts_of(unet, codec.autoencoder, towers=towers, prediction=prediction)
    scale = parts.layout.member.scale if parts.layout.member else USUAL_SCALE
    if not torch.allclose(codec.std * scale, torch.ones_like(codec.std), rtol=1e-3) or bool(codec.mean.any()):
        raise UsageError(
            f"The autoencoder of {system.spec.name!r} scales its latents by {1 / float(codec.std[0]):.6g}, but of a "
            f"single file every program takes them to be scaled by {scale:g}. Save a folder instead."
        )
    return write_single_file(path, parts)


def _root(unet: UNet, quick: bool, towers: int) -> str:
    """What the names of a tower begin with."""
    if not unet.config.vector_dim:
        return ROOTS["quick" if quick else "open"]
    return ROOTS_XL[0] if quick else ROOTS_XL[1 if towers > 1 else 2]


def _parts(system: System) -> tuple[UNet, KLLatents, list[ClipReader]]:
    unet, codec, conditioner = system.parts.get("unet"), system.codec, system.conditioner
    readers = list(readers_of(conditioner.reader)) if isinstance(conditioner, PromptConditioner) else []
    clip = [reader for reader in readers if isinstance(reader, ClipReader) and isinstance(reader.tower, CLIPText)]
    if not (isinstance(unet, UNet) and isinstance(codec, KLLatents) and clip) or len(clip) != len(readers):
        raise UsageError(
            f"{system.spec.name!r} is of the family {system.spec.family}, of which other programs have no files. They "
            "have such of the Stable Diffusion family, of diffusion models of pixels (`hvis train ddpm`) and of a "
            "VQ-VAE with the networks of latent diffusion (`hvis train vq_vae --autoencoder.net latent`). Keep its own "
            "folder, which `--model` takes."
        )
    return unet, codec, clip


def _pipeline(system: System, unet: UNet) -> str:
    told = system.spec.card.get(ORIGIN, {}).get("index", {}).get("_class_name")
    if told:
        return str(told)
    wide = "XL" if unet.config.vector_dim else ""
    kinds = {0: "", unet.config.in_channels: "InstructPix2Pix", unet.config.in_channels + 1: "Inpaint"}
    return f"StableDiffusion{wide}{kinds[unet.config.concat_channels]}Pipeline"


def _settings(system: System, index: Mapping[str, Any]) -> dict[str, Any]:
    conditioner = system.conditioner
    assert isinstance(conditioner, PromptConditioner)
    if not isinstance(conditioner.telling, SizeConditions):
        return {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    absent = {name: [None, None] for name in ("text_encoder", "tokenizer") if name not in index}
    if conditioner.telling.scored:
        return {**absent, "_class_name": "StableDiffusionXLImg2ImgPipeline", "requires_aesthetics_score": True,
                "force_zeros_for_empty_prompt": False}  # fmt: skip
    return {**absent, "force_zeros_for_empty_prompt": conditioner.zeros_for_empty}


def _vae_config(codec: KLLatents) -> dict[str, Any]:
    scale = 1.0 / float(codec.std[0])
    return diffusers_autoencoder.config_to_diffusers(codec.autoencoder.config) | {"scaling_factor": round(scale, 6)}
