"""Our `ControlNet` and the community's files of it, both ways: diffusers' folders, and single files of two layouts.

The first kind is diffusers' `ControlNetModel`, the second that of the authors (github.com/lllyasviel/ControlNet), whose
names below `control_model.` are those of single-file U-Nets. What a ControlNet shares with a U-Net is named by the maps
of the U-Net; here are only the hint's encoder and the convolutions that begin at zero. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch

from huggingvis.adapters.bases import same_tokens, same_widths
from huggingvis.checkpoints import diffusers_common as common
from huggingvis.checkpoints import diffusers_unet, diffusers_unet_config, ldm_unet
from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import Json, settings, unsupported
from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import load as load_tensors
from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.nets.controlnet import ControlNet, HintConfig
from huggingvis.nets.unet import UNetConfig

CLASS, PREFIX = "ControlNetModel", "control_model."

_ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": (CLASS,), "controlnet_conditioning_channel_order": ("rgb",), "encoder_hid_dim": (None,),
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "conditioning_channels": 3, "conditioning_embedding_out_channels": (16, 32, 96, 256),
    "global_pool_conditions": False, "in_channels": 4,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
}  # fmt: skip
_NOT_THEIRS = ("up_block_types", "out_channels", "dropout", "time_cond_proj_dim")


def config_from_diffusers(theirs: Json) -> tuple[UNetConfig, HintConfig]:
    """Our sizes from their `config.json`. Raises `FileProblem` naming the first setting that we cannot express."""
    full = settings(theirs, _DEFAULTS, _ONLY)
    widths = full["conditioning_embedding_out_channels"]
    if not widths or min(widths) < 1:
        raise unsupported("conditioning_embedding_out_channels", widths, "one width or more")
    hint = HintConfig(full["conditioning_channels"], widths, full["global_pool_conditions"])
    return diffusers_unet_config.config_from_diffusers(_as_unet(full)), hint


def _as_unet(theirs: Json) -> dict[str, Any]:
    """The `config.json` of the U-Net whose way down this is."""
    types = theirs.get("down_block_types", _DEFAULTS["down_block_types"])
    return {
        **theirs, "_class_name": diffusers_unet_config.TEXT, "out_channels": theirs.get("in_channels", 4),
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(types)),
    }  # fmt: skip


def config_to_diffusers(net: ControlNet) -> dict[str, Any]:
    """A `config.json` for the net's sizes. Raises `UsageError` for what diffusers' class does not compute."""
    if not net.config.tokens_dim or net.config.guidance_dim:
        raise UsageError(
            "diffusers' ControlNets read text tokens and no guidance scale; this one has "
            f"tokens_dim = {net.config.tokens_dim} and guidance_dim = {net.config.guidance_dim}."
        )
    unet = diffusers_unet_config.config_to_diffusers(net.config)
    return {key: value for key, value in unet.items() if key not in _NOT_THEIRS} | {
        "_class_name": CLASS, "conditioning_channels": net.reads.channels,
        "conditioning_embedding_out_channels": list(net.reads.widths), "global_pool_conditions": net.reads.pooled,
    }  # fmt: skip


def keymap(theirs: Json) -> KeyMap:
    """Names of the net that `config.json` describes."""
    config, hint = config_from_diffusers(theirs)
    return KeyMap((*diffusers_unet.keymap(_as_unet(theirs)).rules, *_own_rules(config, hint)))


def _own_rules(config: UNetConfig, hint: HintConfig) -> list[Rule]:
    encoder, last = "controlnet_cond_embedding", 2 * len(hint.widths) - 1
    names = [f"{encoder}.conv_in", *(f"{encoder}.blocks.{n}" for n in range(last - 1)), f"{encoder}.conv_out"]
    pairs = [(f"hint.convs.{n}", name) for n, name in enumerate(names)]
    pairs += [(f"zeros.{n}", f"controlnet_down_blocks.{n}") for n in range(_skips(config))]
    return _rules([*pairs, (f"zeros.{_skips(config)}", "controlnet_mid_block")])


def ldm_keymap(config: UNetConfig, hint: HintConfig, *, linear: bool, prefix: str = PREFIX) -> KeyMap:
    """Names of the net in the authors' layout. `linear` as in `ldm_unet.keymap`."""
    pairs = [(f"hint.convs.{n}", f"{prefix}input_hint_block.{2 * n}") for n in range(2 * len(hint.widths))]
    pairs += [(f"zeros.{n}", f"{prefix}zero_convs.{n}.0") for n in range(_skips(config))]
    pairs += [(f"zeros.{_skips(config)}", f"{prefix}middle_block_out.0")]
    return KeyMap((*ldm_unet.keymap(config, linear=linear, prefix=prefix).rules, *_rules(pairs)))


def _skips(config: UNetConfig) -> int:
    return len(config.channels) * (config.blocks + 1)


def _rules(pairs: list[tuple[str, str]]) -> list[Rule]:
    return [Rule(f"{ours}.{{leaf:word}}", f"{theirs}.{{leaf:word}}") for ours, theirs in pairs]


def from_diffusers(
    folder: Path | str, *, dtype: torch.dtype | None = None, base: UNetConfig | None = None
) -> ControlNet:
    """The net in a diffusers folder, in evaluation mode; `dtype` None keeps the file's.

    Raises `FileProblem`, and `UsageError` where it was made for another base than `base`.
    """
    with about(folder):
        theirs = common.read_config(folder)
        (config, hint), names = config_from_diffusers(theirs), keymap(theirs)
    if base is not None:
        same_tokens("ControlNet", config.tokens_dim, base.tokens_dim)
        config = _beside(config, base, config.in_channels)
    with about(folder):
        return _built(config, hint, names.consume(common.read_weights(folder, dtype)))


def to_diffusers(net: ControlNet, folder: Path | str, theirs: Json | None = None) -> Path:
    """Write `net` as a folder that diffusers loads; returns it.

    `theirs`: a `config.json` to keep, as of the checkpoint that `net` came from. Raises `UsageError` if it describes
    another net, or if diffusers has none like ours.
    """
    theirs = config_to_diffusers(net) if theirs is None else theirs
    config, hint = config_from_diffusers(theirs)
    if not diffusers_unet_config.same_net(config, _plain(net.config)) or hint != net.reads:
        raise UsageError("The config.json given describes a ControlNet of other sizes than the one to be written.")
    return common.write_folder(folder, theirs, keymap(theirs).to_theirs(net.state_dict()))


def _plain(config: UNetConfig) -> UNetConfig:
    """A ControlNet predicts nothing, so what its U-Net would have predicted does not count."""
    return replace(config, out_channels=config.in_channels + config.concat_channels)


@dataclass(frozen=True)
class SingleFile:
    """A ControlNet in one file, known by its tensors' names and shapes alone; `tokens` is the width of the text's."""

    path: Path
    tensors: Mapping[str, TensorFact]
    ldm: bool
    prefix: str
    tokens: int

    @property
    def linear(self) -> bool:
        """Whether its transformers' projections are linear layers, not 1x1 convolutions."""
        return all(len(fact.shape) == 2 for name, fact in self.tensors.items() if name.endswith("proj_in.weight"))

    def depth(self, where: str) -> int:
        """Transformer blocks below a name."""
        above = f"{self.prefix}{where}.transformer_blocks."
        return len({name.removeprefix(above).split(".")[0] for name in self.tensors if name.startswith(above)})

    def has(self, name: str) -> bool:
        return f"{self.prefix}{name}" in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a convolution's weight. Raises `FileProblem` where it is missing."""
        if not self.has(name) or len(self.tensors[f"{self.prefix}{name}"].shape) != 4:
            raise FileProblem(f"{self.path} is no complete ControlNet: it lacks {self.prefix}{name}. Get it again.")
        return self.tensors[f"{self.prefix}{name}"].shape


def single_file(path: Path | str) -> SingleFile:
    """What ControlNet the file is, without its numbers. Raises `FileProblem` for every other kind of file."""
    path, tensors = Path(path), inspect(path).tensors
    others = {
        "lora_controlnet": "a ControlLoRA, which is a difference to its base and no net of its own",
        "lllite_unet": "a ControlNet-LLLite, which changes single layers of its base",
        "control_add_embedding.": "a ControlNet-Union, which has a switch for the kind of picture",
    }
    for name, what in others.items():
        if any(known.startswith(name) for known in tensors):
            raise FileProblem(f"{path} is {what}; it is not read here. Use a plain ControlNet for the same base.")
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    ldm = f"{prefix}input_hint_block.0.weight" in tensors
    if not ldm and f"{prefix}controlnet_cond_embedding.conv_in.weight" not in tensors:
        raise FileProblem(
            f"{path} is no ControlNet: it has neither {PREFIX}input_hint_block.0.weight nor "
            "controlnet_cond_embedding.conv_in.weight. `hvis inspect` says what it is."
        )
    words = [
        fact.shape[-1] for name, fact in tensors.items() if name.startswith(prefix) and "attn2.to_k.weight" in name
    ]
    return SingleFile(path, tensors, ldm, prefix, words[0] if words else 0)


def load(path: Path | str, base: UNetConfig, *, dtype: torch.dtype | None = None, pooled: bool = False) -> ControlNet:
    """The net in a single file, made for `base`, in evaluation mode; `dtype` None keeps the file's.

    Such a file tells no settings: it is a copy of its base's way down, with transformers as deep as its tensors say.
    `pooled`: it is a "shuffle" ControlNet (`HintConfig`). Raises `FileProblem`, and `UsageError` for another base's.
    """
    file = single_file(path)
    same_tokens("ControlNet", file.tokens, base.tokens_dim)
    config, hint = _sizes(file, base, pooled)
    tensors = load_tensors(path, dtype=dtype, wanted=lambda name: name.startswith(file.prefix))
    return _built(config, hint, _map_of(file, config, hint).consume(tensors))


def _sizes(file: SingleFile, base: UNetConfig, pooled: bool) -> tuple[UNetConfig, HintConfig]:
    levels = range(len(base.channels))
    if file.ldm:
        first, encoder = "input_blocks.0.0", (f"input_hint_block.{2 * n}" for n in count())
        attention = [file.depth(f"input_blocks.{1 + level * (base.blocks + 1)}.1") for level in levels]
        middle = file.depth("middle_block.1")
    else:
        hint = "controlnet_cond_embedding"
        first, encoder = "conv_in", (f"{hint}.blocks.{n - 1}" if n else f"{hint}.conv_in" for n in count())
        attention = [file.depth(f"down_blocks.{level}.attentions.0") for level in levels]
        middle = file.depth("mid_block.attentions.0")
    shapes = [file.shape(f"{name}.weight") for name in takewhile(lambda name: file.has(f"{name}.weight"), encoder)]
    widths = (shapes[0][0], *(shape[0] for shape in shapes[2::2]))  # each level's second convolution makes it wider
    config = replace(base, attention=tuple(attention), middle=middle, guidance_dim=0)
    return _beside(config, base, file.shape(f"{first}.weight")[1]), HintConfig(shapes[0][1], widths, pooled)


def _beside(config: UNetConfig, base: UNetConfig, channels: int) -> UNetConfig:
    """`config`, which sees `channels`: first those that the base predicts, then its `concat`."""
    if channels < base.in_channels:
        same_widths("ControlNet", [channels], [base.in_channels])
    more = channels - base.in_channels
    return replace(config, in_channels=base.in_channels, concat_channels=more, out_channels=channels)


def _map_of(file: SingleFile, config: UNetConfig, hint: HintConfig) -> KeyMap:
    if file.ldm:
        return ldm_keymap(config, hint, linear=file.linear, prefix=file.prefix)
    added = "add_embedding.linear_1.weight" in file.tensors
    rules = diffusers_unet.keymap({
        "_class_name": diffusers_unet_config.TEXT, "use_linear_projection": file.linear,
        "addition_embed_type": "text_time" if added else None,
    }).rules  # fmt: skip
    return KeyMap((*rules, *_own_rules(config, hint)))


def save(net: ControlNet, path: Path | str, *, linear: bool, prefix: str = PREFIX) -> Path:
    """Write `net` as one file in the authors' layout; returns its path.

    `linear`: with linear projections, as SD 2 and XL have them, not 1x1 convolutions, as SD 1.
    """
    names = ldm_keymap(net.config, net.reads, linear=linear, prefix=prefix)
    return save_tensors(path, names.to_theirs(net.state_dict()), {"format": "pt"})


def _built(config: UNetConfig, hint: HintConfig, tensors: dict[str, torch.Tensor]) -> ControlNet:
    return filled(lambda: ControlNet(config, hint), tensors)
