"""Which base model a LoRA was made for, told from names, shapes and what its maker wrote into it.

The width of the text tokens that cross-attention reads gives a Stable Diffusion away; nets of other families have
layers that these have not. Nothing here needs the numbers, so a header is enough. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Shape = tuple[int, ...]

WIDTHS: Mapping[int, str] = {
    768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL",
    1280: "the refiner of Stable Diffusion XL", 1152: "PixArt",
}  # fmt: skip
"""Models by the width of the text tokens that their cross-attention reads."""

_MARKS = (
    (re.compile(r"(^|[._])(double_blocks|single_blocks|single_transformer_blocks)[._]"), "Flux"),
    (re.compile(r"(^|[._])joint_blocks[._]"), "Stable Diffusion 3"),
    (re.compile(r"(^|[._])motion_modules[._]"), "AnimateDiff"),
    (re.compile(r"lora_prior_|(^|[._])effnet[._]"), "Stable Cascade"),
)
_READS_TEXT = re.compile(r".*attn2[._]to_[kv]")
_SAID = ("modelspec.architecture", "ss_base_model_version")


def reading_width(inputs: Iterable[tuple[str, int]]) -> int | None:
    """The width of text tokens, from (layer, its input width); None if no layer reads text."""
    return next((width for name, width in inputs if _READS_TEXT.fullmatch(name)), None)


def made_for(inputs: Mapping[str, int], metadata: Mapping[str, str]) -> str:
    """The base in words, from layer -> input width and a file's metadata; "" where nothing tells."""
    width = reading_width(inputs.items())
    if width is not None:
        return f"{WIDTHS.get(width, 'a model')} (text tokens {width} wide)"
    for name in inputs:
        for mark, family in _MARKS:
            if mark.search(name):
                return family
    return next((metadata[key][:60] for key in _SAID if metadata.get(key)), "")
