"""How LoRA files name things: which tensor of a change a name stands for, and which layer of which net it changes.

A name is a layer's path, as the training program spelt it, and an ending that says which factor the tensor is:

    lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight                             kohya, LyCORIS
    base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.default.weight                 peft
    unet.down_blocks.0.attentions.0.proj_in.lora_A.weight                                     diffusers
    unet.down_blocks.0. ... .attn1.processor.to_q_lora.down.weight                            diffusers until 0.21
    text_encoder.text_model. ... .self_attn.q_proj.lora_linear_layer.down.weight              diffusers, text towers

Whether a path is that of a diffusers or of an original net is not asked here: `lora_formats_fit` looks it up.
Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import final

from huggingvis.core.errors import FileProblem

WEIGHTS = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.bin",
           "pytorch_lora_weights.bin")  # fmt: skip
"""The names under which peft and diffusers keep an adapter in a folder, the preferred first."""
PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
"""Its folders, where it has one for each part."""

_STEM, _ADAPTER = r"(?P<stem>.+?)", r"(?:\.[^.]+)?"  # peft may put the name of the adapter into the ending
_ENDINGS = tuple(
    re.compile(_STEM + ending)
    for ending in (
        r"\.(?P<role>lora_down|lora_up|lora_mid)\.weight",
        rf"\.(?P<role>lora_A|lora_B){_ADAPTER}\.weight",
        rf"\.(?P<role>lora_B){_ADAPTER}\.(?P<bias>bias)",
        r"(?P<processor>\.processor)?\.to_(?P<side>q|k|v|out)_lora\.(?P<role>down|up|alpha)(?:\.weight)?",
        r"(?:\.lora_linear_layer|\.lora)\.(?P<role>down|up|alpha)(?:\.weight)?",
        rf"\.(?P<role>lora_magnitude_vector){_ADAPTER}(?:\.weight)?",
        rf"\.(?P<role>hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2){_ADAPTER}",
        r"\.(?P<role>alpha|dora_scale|diff|diff_b|w_norm|b_norm)",
    )
)
_ROLES = {
    "lora_down": "down", "lora_up": "up", "lora_mid": "mid", "lora_A": "down", "lora_B": "up", "w_norm": "diff",
    "b_norm": "diff_b", "dora_scale": "magnitude", "lora_magnitude_vector": "lengths",
}  # fmt: skip
_PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}  # of a text tower

_STRANGERS = (
    (re.compile(r".+\.oft_(blocks|diag|[rR])(\..+)?|.+\.boft_[Rs](\..+)?"), "OFT, which rotates weights"),
    (re.compile(r".+\.on_input"), "IA3, which rescales inputs"),
    (re.compile(r".+\.[ab][12]\.weight"), "GLoRA, which multiplies weights"),
    (re.compile(r".+\.(vera_lambda_[bd]|hra_u|ln_tuning_layers|ia3_l)(\..+)?"), "another method of peft"),
    (re.compile(r"lora_controlnet"), "a ControlLoRA, a ControlNet cut down by LoRA"),
)

ORIGINAL = "model.diffusion_model."
"""What stands before the U-Net's names in a single-file checkpoint."""
_PREFIXES = (
    ("lora_unet_", "unet"), ("lora_te_", "text_encoder"), ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"), ("lora_te3_", "text_encoder_3"), ("lora_transformer_", "transformer"),
    ("lycoris_", None),
    ("unet.", "unet"), ("text_encoder.", "text_encoder"), ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder_3.", "text_encoder_3"), ("transformer.", "transformer"), (ORIGINAL, None),
    ("diffusion_model.", None), ("base_model.model.", None),
)  # fmt: skip


class Spelling(Enum):
    """Whose way of naming a file follows; the value is what people call it."""

    KOHYA = "kohya"
    PEFT = "peft"
    DIFFUSERS = "diffusers"
    DIFFUSERS_OLD = "diffusers (attention processors)"


@final
@dataclass(frozen=True)
class Address:
    """A layer as a file names it: the part of the system if the name says so, and the path, maybe with `_` for `.`."""

    part: str | None
    path: str
    dotted: bool


def factor_of(name: str) -> tuple[str, str] | None:
    """(the layer's path as the file spells it, which factor of its change), or None for a name of another kind.

    >>> factor_of("unet.mid_block.x.attn1.processor.to_out_lora.down.weight")
    ('unet.mid_block.x.attn1.to_out.0', 'down')
    """
    for ending in _ENDINGS:
        found = ending.fullmatch(name)
        if found:
            said = found.groupdict()
            role = _ROLES.get(said["role"], said["role"])
            return _whole_path(said), "up_bias" if said.get("bias") else role
    return None


def _whole_path(said: dict[str, str | None]) -> str:
    stem, side = str(said["stem"]), said.get("side")
    if side is None:
        return stem
    if not said["processor"] and stem.endswith("self_attn"):
        return f"{stem}.{_PROJECTIONS[side]}"
    return f"{stem}.to_{side}" + (".0" if side == "out" else "")


def address(path: str) -> Address:
    """The part and path that a layer's name in a file stands for."""
    part, dotted, found = None, True, True
    while found:
        found = False
        for prefix, of in _PREFIXES:
            named_twice = part is not None and of is not None  # OpenCLIP's layers begin with `transformer.` themselves
            if path.startswith(prefix) and len(path) > len(prefix) and not named_twice:
                path, part, dotted = path.removeprefix(prefix), part or of, dotted and prefix.endswith(".")
                found = True
    return Address(part, path, dotted)


def spelling_of(names: Iterable[str]) -> Spelling:
    """The spelling of a LoRA's tensor names."""
    names = list(names)
    if any(name.startswith(("lora_", "lycoris_")) for name in names):
        return Spelling.KOHYA
    if any("base_model.model." in name for name in names):
        return Spelling.PEFT
    old = any(re.search(r"\.to_(q|k|v|out)_lora\.", name) for name in names)
    return Spelling.DIFFUSERS_OLD if old else Spelling.DIFFUSERS


def refuse_strangers(names: Iterable[str], where: str) -> None:
    """Raises `FileProblem` for adapters that are no sum with the weights, by the name of the method."""
    for name in names:
        if what := stranger(name):
            raise FileProblem(
                f"{where} should be a LoRA, LoHa, LoKr, DoRA or full difference, but it is {what} ({name!r}). This "
                "is not computed here: merge it where it was trained, and use the merged model."
            )


def stranger(name: str) -> str:
    """The method of an adapter that is no sum with the weights, told from a tensor's name; "" for all others."""
    return next((what for pattern, what in _STRANGERS if pattern.fullmatch(name)), "")
