"""Official StyleGAN2 weights: the `.pkl` files of stylegan2-ada-pytorch and stylegan3, bound to our own networks.

Karras et al. 2019 and 2020 (arXiv 1912.04958, 2006.06676). A file holds the generator `G`, its running average `G_ema`
and the discriminator `D`, which is the same in StyleGAN3's files; nothing in it is executed
(`checkpoints.persistent_pickle`). Book: chapter 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.persistent_pickle import Record, network
from huggingvis.checkpoints.pickle_bounds import said
from huggingvis.core.errors import FileProblem
from huggingvis.core.system import System
from huggingvis.nets.resampling import taps
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, Truncation, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems.style_pickles import (
    CLASSES,
    MAPPING,
    WIDEST,
    filled,
    shown_channels,
    square,
    stored_clamp,
    stored_mapping,
    styled_system,
)

_LEVELS = 11  # 4 ... 4096 px; the largest official networks have 9

FIRST = "b4"
"""The part of the synthesis that tells its kind."""

_FILTERS = ("{rest:path}.resample_filter",)  # the same binomial filter everywhere, which `_check_filters` makes sure of


def generator_keymap() -> KeyMap:
    """Names inside `StyleGenerator` and inside the official generator."""
    return KeyMap(
        (*MAPPING, Rule("synthesis.blocks.{side}.{rest:path}", "synthesis.b{side}.{rest:path}")), ignored=_FILTERS
    )


def discriminator_keymap(sizes: StyleGANSizes) -> KeyMap:
    """Names inside `StyleDiscriminator` and inside the official discriminator; 4 pixels are its head."""
    return KeyMap(
        (
            Rule("mapping.embed.{leaf:word}", "mapping.embed.{leaf:word}"),
            Rule("mapping.layers.{i}.{leaf:word}", "mapping.fc{i}.{leaf:word}"),
            Rule("head.{rest:path}", "b4.{rest:path}"),
            *(Rule(f"blocks.{s}.{{rest:path}}", f"b{s}.{{rest:path}}") for s in sizes.sides[1:]),
        ),
        ignored=_FILTERS,
    )


def generator_sizes(stored: Record) -> StyleGANSizes:
    """Sizes of a stored generator. Raises `FileProblem` for a network of another kind, or of absurd sizes."""
    tensors = stored.tensors()
    sides = sorted(
        int(found[1]) for name in tensors if (found := re.fullmatch(r"synthesis\.b([0-9]{1,5})\.conv1\.bias", name))
    )
    if not 0 < len(sides) <= _LEVELS or sides != [4 * 2**i for i in range(len(sides))]:
        raise FileProblem(
            f"The stored network {stored.kind!r} has no StyleGAN2 synthesis (blocks of 4, 8, 16 ... pixels, at "
            f"most {4 * 2 ** (_LEVELS - 1)}). Leave it to `load` to tell whether it is StyleGAN3's, or take "
            "another file."
        )
    last = stored.child("synthesis").child(f"b{sides[-1]}")
    _expect(last, "architecture", "skip")
    _check_filters(tensors)
    return StyleGANSizes(
        widths=tuple(_length(tensors, f"synthesis.b{side}.conv1.bias") for side in sides),
        channels=shown_channels(_length(tensors, f"synthesis.b{sides[-1]}.torgb.bias")),
        clamp=stored_clamp(last.child("conv1")),
        **asdict(stored_mapping(stored)),
    )


def _length(tensors: Mapping[str, Tensor], name: str) -> int:
    found = tensors.get(name)
    if found is None or found.ndim != 1 or not 1 <= len(found) <= WIDEST:
        raise FileProblem(
            f"The stored network should have a tensor {name!r} of 1 to {WIDEST} numbers in a row, found "
            f"{'none' if found is None else f'one of shape {list(found.shape)}'}. The file is damaged or holds another "
            "kind of network: get it again, or another."
        )
    return len(found)


def _expect(block: Record, key: str, value: str) -> None:
    found = block.state.get(key)
    if found != value:
        raise FileProblem(
            f"The stored network's blocks have the {key} {said(found)}, but StyleGAN2's own is {value!r}, and only "
            "that is read. Networks of other configurations need their own code."
        )


def _check_filters(tensors: dict[str, Tensor]) -> None:
    want = torch.outer(taps(), taps())
    for name, found in tensors.items():
        if name.endswith("resample_filter") and not (
            found.shape == want.shape and torch.allclose(found.to(want.dtype), want)
        ):
            raise FileProblem(
                f"The stored network resamples with another filter than StyleGAN2's [1 3 3 1] ({name}), which is not "
                "read. It was trained with changed settings."
            )


def generator(path: Path | str, name: str = "G_ema") -> StyleGenerator:
    """The generator of an official file. Raises `FileProblem` for another file or another kind of network."""
    stored = network(path, name)
    return _generator(stored, generator_sizes(stored))


def _generator(stored: Record, sizes: StyleGANSizes) -> StyleGenerator:
    tensors = generator_keymap().to_ours(stored.tensors())
    return filled(lambda: fresh_generator(sizes, StyleGAN2Synthesis(sizes)), tensors)


def discriminator(path: Path | str) -> StyleDiscriminator:
    """The discriminator of an official file. Raises `FileProblem` as `generator`."""
    stored = network(path, "D")
    side, tensors = stored.whole("img_resolution", 4, 4 * 2 ** (_LEVELS - 1)), stored.tensors()
    last = stored.child(f"b{side}")
    _expect(last, "architecture", "resnet")
    inner = (f"b{s}.conv0.bias" for s in (8 * 2**i for i in range(_LEVELS)) if s <= side)
    sizes = StyleGANSizes(
        widths=tuple(_length(tensors, name) for name in ("b4.conv.bias", *inner)),
        channels=shown_channels(stored.whole("img_channels", 1, WIDEST)),
        classes=stored.whole("c_dim", 0, CLASSES),
        clamp=stored_clamp(last.child("conv1")),
    )
    group = _group(stored.child("b4").child("mbstd"))
    return filled(lambda: StyleDiscriminator(sizes, group=group), discriminator_keymap(sizes).to_ours(tensors))


def _group(layer: Record) -> int | None:
    """How many pictures have their spread measured together; None: the whole batch."""
    if layer.whole("num_channels", 0, WIDEST) != 1:
        raise FileProblem(
            "The stored discriminator should have 1 channel for the spread of the batch (mbstd_num_channels), found "
            f"{layer.state['num_channels']}. Our discriminator has one and no other: take a file of the usual settings."
        )
    return None if layer.state.get("group_size", 0) is None else layer.whole("group_size", 1, WIDEST)


def bind(path: Path | str, device: torch.device | None = None, *, psi: float = 1.0) -> System:
    """An official generator as a system; `psi` truncates its styles. A conditional one draws classes at random."""
    return bind_stored(network(path), path, device, psi)


def bind_stored(stored: Record, path: Path | str, device: torch.device | None = None, psi: float = 1.0) -> System:
    """The same for the generator that was read from `path`."""
    sizes = generator_sizes(stored)
    net = _generator(stored, sizes)
    net.truncation = Truncation(psi)
    spec = square(path, "stylegan2", sizes.resolution, sizes.channels)
    return styled_system(net, spec, device or torch.device("cpu"))
