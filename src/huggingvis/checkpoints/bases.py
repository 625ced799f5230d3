"""The models that adapters are made for, and by what widths of text tokens they are told apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from huggingvis.checkpoints.lora_formats_bases import WIDTHS
from huggingvis.checkpoints.single_file_family import FAMILY


@final
@dataclass(frozen=True)
class Base:
    """A model that adapters are made for.

    Attributes:
        name: what people call it.
        tokens: the widths of text tokens that its U-Net may read; empty where nothing tells.
        foreign: a family whose adapters fit nothing here.
    """

    name: str
    tokens: tuple[int, ...] = ()
    foreign: bool = False

    def __str__(self) -> str:
        wide = f" (text tokens {' or '.join(map(str, self.tokens))} wide)" if self.tokens else ""
        return self.name + wide

    def takes(self, other: Base) -> bool | None:
        """Whether what was made for `other` fits; None where nothing tells."""
        if other.foreign:
            return False
        return bool({*self.tokens} & {*other.tokens}) if self.tokens and other.tokens else None


def base_of(tokens: int, vector: int | None = None) -> Base:
    """The base whose U-Net reads text tokens of this width, beside a vector of that one where it is known."""
    rows = [row for row in FAMILY if row.tokens_dim == tokens and vector in (None, row.vector_dim) and not row.marker]
    if vector is None or len(rows) != 1:
        return Base(WIDTHS.get(tokens, "a model"), (tokens,))
    return Base(rows[0].name, (tokens,))


BASES: Mapping[str, Base] = {
    "sd1": base_of(768), "sd2": base_of(1024), "sdxl": base_of(2048), "refiner": base_of(1280, 2560),
}  # fmt: skip
"""What people call the bases in one word."""
_SPELLED = {"sd14": "sd1", "sd15": "sd1", "sd20": "sd2", "sd21": "sd2", "xl": "sdxl", "sdxl10": "sdxl",
            "sdxlrefiner": "refiner"}  # fmt: skip


def named_base(word: str) -> Base | None:
    """The base that a word is for, in any common spelling, as SD 1.5 or stable-diffusion-v1-5; None for none."""
    key = re.sub(r"[\s._-]|v(?=\d)", "", word.lower()).replace("stablediffusion", "sd")
    return BASES.get(_SPELLED.get(key, key))
