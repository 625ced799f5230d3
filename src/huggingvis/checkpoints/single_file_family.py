"""The family of Stable Diffusion as a table: what names and shapes tell its members apart, and what is not of it.

Sizes: Rombach et al. 2022 (arXiv 2112.10752) for latent diffusion and Stable Diffusion 1, the model cards of Stability
AI for 2.0 and 2.1, Podell et al. 2023 (arXiv 2307.01952) for XL and its refiner, Li et al. 2024 (arXiv 2402.17245) for
Playground v2.5. Turbo, Lightning, LCM and most fine-tunes have the shapes of what they come from: they are the same
rows. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One row of the family.

    Attributes:
        name: what people call it.
        architecture: its id in `modelspec.architecture`; empty where there is none.
        tokens_dim: width of the text tokens it looks at.
        vector_dim: width of the vector beside the clock, 0 for none.
        linear: its transformers' projections are linear layers, not convolutions of size 1.
        scale: latents times this are what it works on.
        prediction: what it predicts where nothing says otherwise: `epsilon`, `v`, `edm` or `edm_v`.
        marker: a tensor that its files have and those of like shapes have not.
        unsure: what shapes do not tell of it, and how to say it.
        refused: why it is not run here, and what to do; empty for all that are.
    """

    name: str
    architecture: str
    tokens_dim: int
    vector_dim: int
    linear: bool
    scale: float = 0.18215
    prediction: str = "epsilon"
    marker: str = ""
    unsure: str = ""
    refused: str = ""


UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
AUTOENCODER_PREFIXES = ("first_stage_model.", "vae.", "")
"""What stands before the names of a net: in a whole checkpoint, in files of other programs, in a file of it alone."""


def unet_prefix(names: Container[str]) -> str | None:
    """What the names of a U-Net with text attention begin with, None where there is none."""
    signs = ("input_blocks.0.0.weight", "middle_block.1.proj_in.weight")
    return next((prefix for prefix in UNET_PREFIXES if all(prefix + sign in names for sign in signs)), None)


def autoencoder_prefix(names: Container[str]) -> str | None:
    """As `unet_prefix`, of an autoencoder."""
    signs = ("encoder.down.0.block.0.conv1.weight", "encoder.conv_in.weight")
    return next((prefix for prefix in AUTOENCODER_PREFIXES if all(prefix + sign in names for sign in signs)), None)


def diffusers_unet_prefix(names: Container[str]) -> str | None:
    """As `unet_prefix`, of a U-Net in diffusers' names."""
    signs = ("time_embedding.linear_1.weight", "conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")
    return next((prefix for prefix in ("", "unet.") if all(prefix + sign in names for sign in signs)), None)


CONV_HEADS, LINEAR_HEAD_DIM = 8, 64
"""No shape tells the heads of attention: nets with convolutional projections have 8, later ones heads of width 64."""
GROUPS = 32
"""Nor of group norm."""

_V = "2.0 and 2.1 at 768 pixels predict v, the `base` ones at 512 epsilon, and have the same shapes: say which with `v`"
_UNCLIP = "it varies a picture given as a CLIP embedding, which is not bound here yet: use Stable Diffusion 2.1"

FAMILY: tuple[Member, ...] = (
    Member("Playground v2.5", "playground-v2-5", 2048, 2816, True, 0.5, "edm", marker="edm_mean"),
    Member("CosXL", "", 2048, 2816, True, 0.13025, "edm_v", marker="edm_vpred.sigma_max"),
    Member("Stable Diffusion 1", "stable-diffusion-v1", 768, 0, False),
    Member("latent diffusion with BERT", "", 1280, 0, False),
    Member("Stable Diffusion 2", "stable-diffusion-v2", 1024, 0, True, unsure=_V),
    Member("Stable Diffusion 2.1 unCLIP (L)", "", 1024, 1536, True, refused=_UNCLIP),
    Member("Stable Diffusion 2.1 unCLIP (H)", "", 1024, 2048, True, refused=_UNCLIP),
    Member("Stable Diffusion XL", "stable-diffusion-xl-v1-base", 2048, 2816, True, 0.13025),
    Member("Stable Diffusion XL refiner", "stable-diffusion-xl-v1-refiner", 1280, 2560, True, 0.13025),
)  # fmt: skip

VARIANTS: Mapping[int, str] = {0: "", 1: "depth", 4: "instruct-pix2pix", 5: "inpainting"}
"""What a net is, by the channels it sees beside the latents it predicts."""


def member_of(tokens_dim: int, vector_dim: int, linear: bool, names: Iterable[str]) -> Member | None:
    """The first row that fits, or None: a net of the family's build, in sizes of its own."""
    there = set(names)
    for row in FAMILY:
        sizes = (row.tokens_dim, row.vector_dim, row.linear) == (tokens_dim, vector_dim, linear)
        if sizes and (not row.marker or row.marker in there):
            return row
    return None


@dataclass(frozen=True)
class Foreign:
    """Something else that comes in one file.

    Attributes:
        what: its name.
        sign: a regular expression that one of its tensors' names matches.
        advice: what to do with it.
        spoils: it makes a file unusable that has a U-Net of the family too; the others are then mere baggage.
    """

    what: str
    sign: str
    advice: str
    spoils: bool = False

    def found_in(self, names: Iterable[str]) -> bool:
        """Whether one of `names` gives it away."""
        sign = re.compile(self.sign)
        return any(sign.search(name) is not None for name in names)


_NOT_YET = "This family is not read here yet: choose a Stable Diffusion 1, 2 or XL checkpoint"
_ADAPTER = "It changes a model and is none: give it beside the checkpoint it was trained for, as"
_NET = r"^(model\.diffusion_model\.)?"

FOREIGN: tuple[Foreign, ...] = (
    Foreign("a Control-LoRA", r"^lora_controlnet$", "Get the whole ControlNet it was made from", True),
    Foreign("a LoRA", r"lora_(unet|te\d?|prior)_|\.lora_(down|up|A|B)\b|_lora\.(down|up)\.|\.(hada_w1_a|lokr_w1(_a)?|"
            r"lokr_w2|oft_blocks|dora_scale|lora_linear_layer\..*)$", f"{_ADAPTER} a LoRA (--lora)"),
    Foreign("an IP-Adapter", r"^ip_adapter\.|^image_proj\.", f"{_ADAPTER} an image prompt adapter (--control)"),
    Foreign("a ControlNet", r"^control_model\.|^controlnet_cond_embedding\.|(^|\.)input_hint_block\.0\.",
            f"{_ADAPTER} a ControlNet (--control)", True),
    Foreign("a T2I-Adapter", r"^(adapter\.)?body\.0\.(resnets|in_conv|block1)|^adapter\.conv_in\.",
            f"{_ADAPTER} a T2I-Adapter (--control)"),
    Foreign("an AnimateDiff motion module", r"\.motion_modules\.0\.temporal_transformer\.",
            "It makes a video model of a checkpoint, which is not bound here yet"),
    Foreign("a textual inversion", r"^(emb_params|clip_l|clip_g|\*)$", f"{_ADAPTER} an embedding (--embedding)"),
    Foreign("Flux", _NET + r"double_blocks\.0\.img_attn\.", _NOT_YET),
    Foreign("Stable Diffusion 3", _NET + r"joint_blocks\.0\.(context|x)_block\.", _NOT_YET),
    Foreign("Stable Cascade", r"^clip_txt_mapper\.|^down_blocks\.\d+\.\d+\.channelwise\.", _NOT_YET),
    Foreign("AuraFlow", _NET + r"double_layers\.0\.attn\.", _NOT_YET),
    Foreign("PixArt", _NET + r"(adaln_single\.|y_embedder\.y_proj\.|t_block\.1\.)",
            "PixArt is read from its diffusers folder: name the folder"),
    Foreign("a diffusion transformer", _NET + r"(blocks|layers|transformer_blocks|single_blocks)\.0\.", _NOT_YET),
    Foreign("an 8-bit checkpoint with scales (`scaled_fp8`)", r"(^|\.)scaled_fp8$|\.scale_weight$",
            "Its weights need their scales multiplied in: get the version in 16 bits", True),
    Foreign("a VQ autoencoder", r"(^|\.)quantize\.embedding\.weight$", "Stable Diffusion's have no codebook", True),
    Foreign("an unconditional latent diffusion net", r"(input_blocks|middle_block)\.\d+(\.1)?\.qkv\.", _NOT_YET),
    Foreign("a component of a diffusers folder", r"^(unet\.|vae\.)?(encoder\.|decoder\.)?(down|up)_blocks\.0\.",
            "Put it back beside its `config.json` and name the folder"),
    Foreign("a text tower", r"(^|\.)text_model\.encoder\.layers\.0\.|^(transformer\.)?resblocks\.0\.|"
            r"^encoder\.block\.0\.layer\.|^embeddings\.token_embedding\.",
            "It reads the prompt and paints nothing: give it with --text-encoder beside a U-Net"),
    Foreign("an upscaler", r"^(model\.)?(conv_first|model\.0)\.weight$|^body\.0\.rdb1\.",
            "It enlarges finished pictures: name a checkpoint that makes them"),
    Foreign("a tiny preview decoder (TAESD)", r"^(taesd_)?(de|en)coder\.(layers\.)?[01]\.(weight|conv)",
            "It belongs to a checkpoint as its preview: name the checkpoint"),
)  # fmt: skip
"""The specific before the general."""


def foreign(names: Iterable[str], whole: bool) -> Foreign | None:
    """The first row that `names` give away, or None; for a file with a U-Net (`whole`), of those that spoil it."""
    listed = list(names)
    return next((row for row in FOREIGN if (row.spoils or not whole) and row.found_in(listed)), None)


@dataclass(frozen=True)
class TowerRow:
    """Where a text tower lies in a checkpoint.

    Attributes:
        part: what it becomes.
        root: what all its names begin with.
        inner: what those below its projection go on with.
        spelling: the program whose names follow.
        tokens, positions, layer, feed: the names of these tensors, below root and inner.
        projection: that of the pooled state, below the root.
    """

    part: str
    root: str
    inner: str
    spelling: str
    tokens: str
    positions: str
    layer: str
    feed: str = ""
    projection: str = ""


_HF = ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "encoder.layers.", "mlp.fc1.weight")
_OPEN = (
    "token_embedding.weight",
    "positional_embedding",
    "transformer.resblocks.",
    "mlp.c_fc.weight",
    "text_projection",
)
_LDM = ("token_emb.weight", "pos_emb.emb.weight", "attn_layers.layers.")

TOWERS: tuple[TowerRow, ...] = (
    TowerRow("text", "cond_stage_model.transformer.", "text_model.", "transformers", *_HF),
    TowerRow("text", "cond_stage_model.transformer.", "", "transformers", *_HF),  # of very early files
    TowerRow("text", "cond_stage_model.clip_l.transformer.", "text_model.", "transformers", *_HF),  # of some merges
    TowerRow("text", "cond_stage_model.transformer.", "", "ldm", *_LDM),
    TowerRow("text", "cond_stage_model.model.", "", "open_clip", *_OPEN),
    TowerRow("text", "conditioner.embedders.0.transformer.", "text_model.", "transformers", *_HF),
    TowerRow("text_2", "conditioner.embedders.1.model.", "", "open_clip", *_OPEN),
    TowerRow("text_2", "conditioner.embedders.0.model.", "", "open_clip", *_OPEN),  # the refiner has this one alone
)
"""Of whole checkpoints. Spellings: `transformers` (CLIP), `open_clip` (fused query, key and value), `ldm` (the BERT of
latent diffusion)."""

_ALONE = (*_HF, "text_projection.weight")
TOWERS_ALONE: tuple[TowerRow, ...] = (
    TowerRow("text", "text_encoders.clip_l.transformer.", "text_model.", "transformers", *_ALONE),
    TowerRow("text_2", "text_encoders.clip_g.transformer.", "text_model.", "transformers", *_ALONE),
    TowerRow("text", "", "text_model.", "transformers", *_ALONE),
    TowerRow("text", "", "", "transformers", *_ALONE),
    TowerRow("text", "", "", "open_clip", *_OPEN),
)
"""Of files of text towers, as `models/text_encoders` of ComfyUI holds them, and of the checkpoints of other families
that have the same towers."""
OPENAI_DEPTH = 12
"""Names do not tell whose a tower in transformers' spelling is: OpenAI's have 12 layers, those of OpenCLIP 23 to 32."""
