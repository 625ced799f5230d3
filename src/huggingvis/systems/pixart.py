"""PixArt-alpha and PixArt-Sigma: a diffusion transformer that reads T5's tokens.

Chen et al. 2023 (arXiv 2310.00426) and Chen et al. 2024 (arXiv 2403.04692, a better autoencoder and longer texts).
Prompts are lower-cased and their ends stripped, as the nets' training captions were. Those had also been cleaned of
what captions from the web are full of (addresses, tags, file names); a prompt as typed is not searched for such things,
nor does diffusers where bs4 and ftfy are missing. Book: chapter 5, "Diffusion transformers".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.checkpoints import diffusers_pixart, original_pixart
from huggingvis.checkpoints.diffusers_scheduler import read_scheduler
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.request import OWN, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.nets.pixart import PixArtConfig
from huggingvis.systems.attachments import Attachments, Bench
from huggingvis.systems.latent_diffusion import Parts, assemble
from huggingvis.systems.pipelines import How, name_of, whole
from huggingvis.systems.prompt_reading import PromptConditioner, Telling, TokensOnly
from huggingvis.systems.stable_diffusion import other_codec
from huggingvis.systems.t5_reader import T5Reader
from huggingvis.systems.text_encoders import only_folder

SYSTEM = {
    "name": "PixArt-alpha",
    "chapter": 5,
    "paper": "2310.00426",
    "files": [
        "nets/pixart.py",
        "nets/dit_blocks.py",
        "nets/t5.py",
        "codecs/t5_tokens.py",
        "systems/t5_reader.py",
        "core/learned_variance.py",
        "checkpoints/diffusers_pixart.py",
        "checkpoints/original_pixart.py",
    ],
    "built": "tests/walks/test_diffusers_folders.py::test_a_folder_makes_pictures[pixart]",
    "exact": [
        "tests/interop/test_pixart.py::test_output_is_theirs",
        "tests/interop/test_pixart.py::test_the_authors_files",
        "tests/interop/test_other_pipelines.py::test_pixart",
        "tests/interop/test_other_pipelines.py::test_pixart_of_many_sizes_is_told_which",
        "tests/interop/test_other_pipelines.py::test_pixart_from_a_picture",
        "tests/interop/test_pixart_lora.py::test_a_folder_of_peft",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

PIPELINES = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Pipelines of diffusers, and how many tokens of a prompt their nets read."""

SHAPES = (
    (8, 32), (8, 29), (9, 28), (9, 27), (9, 26), (10, 25), (10, 24), (11, 23), (11, 22), (11, 21), (12, 21), (12, 20),
    (13, 19), (13, 18), (14, 18), (14, 17), (15, 17), (15, 16), (16, 16), (16, 15), (17, 15), (17, 14), (18, 14),
    (18, 13), (19, 13), (20, 12), (21, 12), (22, 11), (23, 11), (24, 10), (25, 10), (27, 9), (32, 8),
)  # fmt: skip
"""Heights and widths that the nets of many sizes were trained on, in sixteenths of the side of their square."""

MAPS = (diffusers_pixart.keymap(), original_pixart.keymap())
"""Of the formats in which LoRAs name its layers."""


def bind_pipeline(folder: Path, index: Mapping[str, Any], how: How) -> System:
    """The system in a folder of diffusers. Raises `FileProblem` for missing or unfitting parts."""
    name = str(index["_class_name"])
    net_folder, tokenizer, scheduler = whole(folder, index, "transformer", "tokenizer", "scheduler")
    vae = how.vae or whole(folder, index, "vae")[0]
    tower = only_folder(how, "T5") or whole(folder, index, "text_encoder")[0]
    net = diffusers_pixart.from_diffusers(net_folder, dtype=how.dtype).to(how.device)
    codec, own, c = other_codec(vae, how), read_scheduler(scheduler), net.config
    reader = T5Reader.load(tower, tokenizer, PIPELINES[name], how.dtype, plain)
    reader.tower.to(how.device)
    side = codec.autoencoder.factor * c.size
    many = c.sizes or (name == "PixArtSigmaPipeline" and c.size >= 64)
    spec = Spec(name_of(folder), "pixart", (side, side), trained=trained_sizes(side) if many else ())
    parts = Parts(
        net=net,
        codec=codec,
        conditioner=PromptConditioner(reader, telling_of(c, spec)),
        own=own,
        channels=c.in_channels,
        multiple=c.patch,
        prediction=LearnedVariance(own.prediction) if c.out_channels == 2 * c.in_channels else None,
        called="transformer",
    )
    solver = ("dpm++2m", "uniform") if own.solver is None else (OWN, OWN)
    bench = Bench(spec, {"transformer": net}, {"transformer": MAPS}, (), how.device, next(net.parameters()).dtype)
    return assemble(spec, parts, how.device, Sampling(*solver, 20, 4.5), Attachments(bench))


def plain(text: str) -> str:
    """A prompt as the net's captions were spelt."""
    return text.lower().strip()


def trained_sizes(side: int) -> tuple[tuple[int, int], ...]:
    """(width, height) in pixels of every shape, for a net whose square has this side."""
    return tuple((width * side // 16, height * side // 16) for height, width in SHAPES)


def telling_of(config: PixArtConfig, spec: Spec) -> Telling:
    """What the net is told beside the tokens."""
    return PictureSize(spec) if config.sizes else TokensOnly()


@final
@dataclass(frozen=True)
class PictureSize:
    """`vector` [B, 3]: height and width of the picture asked for in pixels, and height / width."""

    spec: Spec
    options: tuple[str, ...] = ()

    def __call__(self, read: Mapping[str, Tensor], requests: Sequence[Request], negative: bool) -> dict[str, Tensor]:
        sizes = [canvas_of(request, self.spec) for request in requests]
        told = torch.tensor([[height, width, height / width] for width, height in sizes])  # [B, 3]
        return {**read, "vector": told.to(read["tokens"].device)}
