"""Sizes of a U-Net and of an autoencoder from the names and shapes of their tensors in a single file.

Layout: `ldm_unet`, `ldm_autoencoder`. Three facts have no shape: the heads of attention, the groups of group norm, and
what is predicted; they are told in. Nothing is allocated here: a header is enough, and one that makes no sense is
refused with what was expected. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from huggingvis.checkpoints.formats import TensorFact
from huggingvis.core.errors import FileProblem
from huggingvis.nets.autoencoder_kl import AutoencoderConfig
from huggingvis.nets.unet import UNetConfig

Shape = tuple[int, ...]
MOST = 100
"""No net of the family has more levels, blocks of a level, or transformer blocks in a row."""


@dataclass(frozen=True)
class Heads:
    """What no shape of a U-Net tells: `heads` at every level, or the width of each, and the groups of its norms."""

    heads: int
    head_dim: int
    groups: int


class Names:
    """The tensors under one prefix."""

    def __init__(self, tensors: Mapping[str, TensorFact], prefix: str, what: str):
        self._shapes = {name[len(prefix) :]: fact.shape for name, fact in tensors.items() if name.startswith(prefix)}
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def of(self, name: str, dims: int) -> Shape:
        """The shape of a tensor that must be there with so many axes. Raises `FileProblem`."""
        shape = self._shapes.get(name)
        if shape is None or len(shape) != dims or 0 in shape:
            found = "is not there" if shape is None else f"has shape {list(shape)}"
            raise self.strange(f"{name!r} should have {dims} axes, but it {found}")
        return shape

    def ndim(self, name: str) -> int:
        """Its number of axes, 0 where it is not there."""
        return len(self._shapes.get(name, ()))

    def count(self, name: str) -> int:
        """How many of `name.format(0)`, `name.format(1)`, ... there are in a row. Raises `FileProblem`."""
        n = 0
        while name.format(n) in self._shapes:
            n += 1
            if n > MOST:
                raise self.strange(f"there are more than {MOST} of {name.format('N')!r}")
        return n

    def strange(self, why: str) -> FileProblem:
        """The refusal of a net that begins like one of the family and goes on differently."""
        return FileProblem(
            f"The {self._what} in this file begins like Stable Diffusion's, but {why}. It is damaged, cut short, or a "
            "variant of another build: get the checkpoint again, or another version of it."
        )


def unet_sizes(names: Names, told: Heads) -> tuple[UNetConfig, bool]:
    """(sizes, whether the transformers' projections are linear layers). Raises `FileProblem`."""
    first, out = names.of("input_blocks.0.0.weight", 4), names.of("out.2.weight", 4)
    levels = _down(names)
    widths, depths = tuple(width for width, _, _ in levels), tuple(depth for _, depth, _ in levels)
    blocks = {many for _, _, many in levels}
    if len(blocks) != 1 or first[1] < out[0]:
        raise names.strange(
            f"its levels have {sorted(blocks)} blocks and it sees {first[1]} channels to predict {out[0]}"
        )
    many = blocks.pop()
    _check_up(names, depths, many)
    middle = names.count("middle_block.1.transformer_blocks.{}.norm1.weight")
    if not middle:
        raise names.strange("its middle has no transformer")
    text = names.of("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2)
    feed = names.of("middle_block.1.transformer_blocks.0.ff.net.0.proj.weight", 2)
    vector, layers = _vector(names)
    return UNetConfig(
        in_channels=out[0],
        out_channels=out[0],
        concat_channels=first[1] - out[0],
        channels=widths,
        blocks=many,
        attention=depths,
        middle=middle,
        heads=told.heads or UNetConfig.heads,
        head_dim=told.head_dim,
        groups=told.groups,
        tokens_dim=text[1],
        vector_dim=vector,
        vector_layers=layers,
        scale_shift=names.of("input_blocks.1.0.emb_layers.1.weight", 2)[0] == 2 * widths[0],
        ff_mult=feed[0] / (2 * feed[1]),
    ), names.ndim("middle_block.1.proj_in.weight") == 2


def _down(names: Names) -> list[tuple[int, int, int]]:
    """(width, depth of attention, residual blocks) of each level on the way down."""
    levels: list[list[tuple[int, int]]] = [[]]
    number = 1
    while number <= MOST:
        at = f"input_blocks.{number}"
        if f"{at}.0.op.weight" in names:
            levels.append([])
        elif f"{at}.0.in_layers.2.weight" in names:
            width = names.of(f"{at}.0.in_layers.2.weight", 4)[0]
            levels[-1].append((width, _depth(names, at)))
        else:
            break
        number += 1
    for n, level in enumerate(levels):
        if len(set(level)) != 1:
            raise names.strange(f"the blocks of its level {n} have (width, depth) {level}, where one pair was expected")
    return [(*level[0], len(level)) for level in levels]


def _check_up(names: Names, depths: tuple[int, ...], blocks: int) -> None:
    """The way up must have the depths of the way down: pruned nets (SSD-1B, Vega) have not."""
    for level, depth in enumerate(reversed(depths)):
        found = [_depth(names, f"output_blocks.{level * (blocks + 1) + n}") for n in range(blocks + 1)]
        if set(found) != {depth}:
            raise names.strange(
                f"on the way up a level has {found} transformer blocks, expected {depth} each, as no pruned net has"
            )


def _depth(names: Names, at: str) -> int:
    return names.count(at + ".1.transformer_blocks.{}.norm1.weight")


def _vector(names: Names) -> tuple[int, int]:
    """Width and layers of the vector beside the clock."""
    if "label_emb.weight" in names:
        return names.of("label_emb.weight", 2)[0], 1
    return (names.of("label_emb.0.0.weight", 2)[1], 2) if "label_emb.0.0.weight" in names else (0, 2)


def autoencoder_sizes(names: Names, groups: int) -> tuple[AutoencoderConfig, bool]:
    """(sizes, whether the middle's attention is of linear layers). Raises `FileProblem`."""
    first, latent = names.of("encoder.conv_in.weight", 4), names.of("decoder.conv_in.weight", 4)
    levels = names.count("encoder.down.{}.block.0.conv1.weight")
    blocks = names.count("encoder.down.0.block.{}.conv1.weight")
    extra = names.count("decoder.up.0.block.{}.conv1.weight") - blocks
    if not levels or extra < 0:
        raise names.strange(f"its encoder has {levels} levels of {blocks} blocks, its decoder {extra + blocks} in each")
    return AutoencoderConfig(
        in_channels=first[1],
        latent_channels=latent[1],
        channels=tuple(names.of(f"encoder.down.{n}.block.0.conv1.weight", 4)[0] for n in range(levels)),
        blocks=blocks,
        extra=extra,
        groups=groups,
        middle_attention="decoder.mid.attn_1.q.weight" in names,
        quant_conv="quant_conv.weight" in names,
    ), names.ndim("decoder.mid.attn_1.q.weight") == 2
