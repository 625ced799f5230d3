"""What a single-file checkpoint holds: its parts, and what about them the file does not tell.

Made by `single_file_detect` from a file's header, and by `single_file` for nets that are to be written.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from huggingvis.checkpoints.single_file_family import OPENAI_DEPTH, Member
from huggingvis.core.errors import UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig
from huggingvis.nets.unet import UNetConfig

_MOST = 4096  # heads, channels of a head, groups
PREDICTIONS = ("epsilon", "v", "edm", "edm_v")
DROPPED = re.compile(r"model_ema\.|(first_stage_model\.)?(model_ema|loss)\.")
"""Tensors that no one needs who only uses a model: running averages, the losses of the autoencoder's training."""

_UNET_ROOTS = ("input_blocks.", "middle_block.", "output_blocks.", "out.", "time_embed.", "label_emb.")
_AUTOENCODER_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


@dataclass(frozen=True)
class Said:
    """What somebody knows that a file does not tell; None: not said. `prediction`: `epsilon`, `v`, `edm` or `edm_v`."""

    prediction: str | None = None
    heads: int | None = None
    head_dim: int | None = None
    groups: int | None = None
    autoencoder_groups: int | None = None

    def __post_init__(self) -> None:
        if self.prediction not in (None, *PREDICTIONS):
            raise UsageError(f"A prediction is one of {', '.join(PREDICTIONS)}; found {self.prediction!r}.")
        for key, count in asdict(self).items():
            if key != "prediction" and count is not None and not (type(count) is int and 1 <= count <= _MOST):
                raise UsageError(f"{key} is a count from 1 to {_MOST}; found {count!r}.")

    def over(self, other: Said) -> Said:
        """These, completed by `other`."""
        own = {key: value for key, value in asdict(self).items() if value is not None}
        if "heads" in own or "head_dim" in own:  # one choice, not two
            own = {"heads": None, "head_dim": None} | own
        return Said(**{**asdict(other), **own})


NOTHING = Said()
"""Nobody said anything."""


@dataclass(frozen=True)
class UNetLayout:
    """A U-Net in a file: what its names begin with, its sizes, and whether its projections are linear layers."""

    prefix: str
    config: UNetConfig
    linear: bool


@dataclass(frozen=True)
class AutoencoderLayout:
    """An autoencoder in a file; `linear`: the middle's attention is of linear layers."""

    prefix: str
    config: AutoencoderConfig
    linear: bool


@dataclass(frozen=True)
class TowerLayout:
    """A text tower in a file.

    Attributes:
        root: what all its names begin with.
        inner: what those below its projection go on with.
        spelling: `transformers` (CLIP), `open_clip` (fused query, key and value), or `ldm` (latent diffusion's BERT).
        vocabulary, dim, length, depth: tokens, width, positions, layers.
        hidden: width of the feed-forward part, 0 where the spelling has none of its own.
        projection: width of the pooled state's projection, None for none.
    """

    root: str
    inner: str
    spelling: str
    vocabulary: int
    dim: int
    length: int
    depth: int
    hidden: int
    projection: int | None

    @property
    def openai(self) -> bool:
        """Whether it is OpenAI's CLIP, with the quick GELU and rows filled up with their end, and not OpenCLIP's."""
        return self.spelling == "transformers" and self.depth <= OPENAI_DEPTH


@dataclass(frozen=True)
class Layout:
    """What is in a file.

    Attributes:
        title: the member of the family and its variant, or what the file is in plain words.
        member: the row of the table, None for a net in sizes of its own or a file without one.
        unet, autoencoder, towers: the parts; towers by the names `text` and `text_2`.
        prediction: what the net predicts; empty without a net.
        predicted: whether that was said, and not assumed.
        zero_snr: the file says that its training ended in pure noise.
        eight_bit: some weights are 8-bit floats, which are stored and not computed with.
        extra: other tensors, kept under their names (noise schedules, statistics of latents).
        dropped: tensors that are not read: running averages, losses.
        assumed: what nothing in the file says, a sentence each.
    """

    title: str
    member: Member | None = None
    unet: UNetLayout | None = None
    autoencoder: AutoencoderLayout | None = None
    towers: Mapping[str, TowerLayout] = field(default_factory=dict)
    prediction: str = ""
    predicted: bool = False
    zero_snr: bool = False
    eight_bit: bool = False
    extra: tuple[str, ...] = ()
    dropped: int = 0
    assumed: tuple[str, ...] = ()

    def part_of(self, name: str) -> str:
        """Which part a tensor belongs to: `unet`, `autoencoder`, a tower's name, or empty for none."""
        if self.unet and _below(name, self.unet.prefix, _UNET_ROOTS):
            return "unet"
        if self.autoencoder and _below(name, self.autoencoder.prefix, _AUTOENCODER_ROOTS):
            return "autoencoder" if not DROPPED.match(name) else ""
        return next((part for part, tower in self.towers.items() if name.startswith(tower.root)), "")


def _below(name: str, prefix: str, roots: tuple[str, ...]) -> bool:
    return name.startswith(prefix) and name.startswith(roots, len(prefix))
