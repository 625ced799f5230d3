"""The first latent diffusion model for text: a U-Net that reads the tokens of a BERT trained with it.

Rombach et al. 2022 (arXiv 2112.10752), Sec. 4.3.1: 1.45 billion numbers, trained on LAION-400M at 256 x 256; the
ancestor of Stable Diffusion. Book: chapter 5, "Stable Diffusion, part by part".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.checkpoints.diffusers_scheduler import read_scheduler
from huggingvis.checkpoints.text_towers import from_transformers
from huggingvis.codecs.bert_tokens import BERTTokens
from huggingvis.codecs.prompt_script import Reading
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.core.request import OWN, Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.ldm_bert import LDMBert
from huggingvis.systems.latent_diffusion import Parts, assemble
from huggingvis.systems.pipelines import How, name_of, whole
from huggingvis.systems.prompt_plan import pieces_of
from huggingvis.systems.prompt_reading import USUAL, Manner, PromptConditioner, emphasised, weight_rows
from huggingvis.systems.stable_diffusion import other_codec

SYSTEM = {
    "name": "Latent diffusion for text (LDM)",
    "chapter": 5,
    "paper": "2112.10752",
    "files": [
        "systems/latent_diffusion.py",
        "nets/unet.py",
        "nets/autoencoder_kl.py",
        "nets/ldm_bert.py",
        "codecs/bert_tokens.py",
        "checkpoints/text_towers_ldm_bert.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[ldm]",
    "exact": [
        "tests/interop/test_other_pipelines.py::test_ldm",
        "tests/interop/test_other_towers.py::test_ldm_bert",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

PIPELINES = {"LDMTextToImagePipeline": "bert"}
"""The pipeline of diffusers, and the text tower in it."""


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing or unfitting parts."""
    unet_folder, tower = whole(folder, index, "unet", "bert")
    vae = how.vae or whole(folder, index, "vqvae")[0]
    if how.text_encoders:
        raise UsageError(
            f"{folder} reads by a BERT that was trained with it, and by no other: leave out --text-encoder."
        )
    tokenizer, scheduler = whole(folder, index, "tokenizer", "scheduler")
    unet = diffusers_unet.from_diffusers(unet_folder, dtype=how.dtype).to(how.device)
    codec, own = other_codec(vae, how), read_scheduler(scheduler)
    with about(unet_folder):
        width, height = (codec.autoencoder.factor * side for side in trained_sides(read_config(unet_folder), 32))
    parts = Parts(
        net=channels_last(unet),
        codec=codec,
        conditioner=PromptConditioner(_reader(tower, tokenizer, how)),
        own=own,
        channels=unet.config.in_channels,
        multiple=1,
    )
    solver = ("dpm++2m", "karras") if own.solver is None else (OWN, OWN)
    return assemble(
        Spec(name_of(folder), "ldm_text_to_image", (width, height)), parts, how.device, Sampling(*solver, 50, 5.0)
    )


@final
@dataclass(frozen=True)
class BertReader:
    """Latent diffusion's BERT. It was trained on padding too and has no mask."""

    tokens: BERTTokens
    tower: LDMBert
    options: tuple[str, ...] = ()

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        return {"bert": self.tower}

    def overflow(self, text: str) -> str:
        return self.tokens.overflow(text)

    @torch.no_grad()
    def read(self, readings: Sequence[Reading], how: Manner = USUAL) -> dict[str, Tensor]:
        rows = [pieces_of(reading, self.tokens.pieces) for reading in readings]
        ids, _ = self.tokens.rows([pieces for pieces, _ in rows])
        read = self.tower(ids.to(self.tower.position.device))  # [B, L, D]
        weights = weight_rows([own[: self.tokens.length - 2] for _, own in rows], read.shape[1], before=1)
        return {"tokens": emphasised(read, weights, how.emphasis, restored=False)}


def _reader(tower: Path, tokenizer: Path, how: How) -> BertReader:
    net = from_transformers(tower, how.dtype).to(how.device)
    if not isinstance(net, LDMBert):
        raise FileProblem(f"{tower} holds a {type(net).__name__}; this model reads by latent diffusion's own BERT.")
    tokens = BERTTokens.load(tokenizer, net.config.length)
    if tokens.size > net.config.vocabulary:
        raise FileProblem(
            f"The tokenizer {tokenizer} has {tokens.size} tokens, but the text encoder {tower} knows "
            f"{net.config.vocabulary}. They are not of one model; fetch both again."
        )
    return BertReader(tokens, net)
