"""Official StyleGAN2 weights: the `.pkl` files of stylegan2-ada-pytorch and stylegan3, bound to our own networks.

Karras et al. 2019 and 2020 (arXiv 1912.04958, 2006.06676). A file holds the generator `G`, its running average `G_ema`
and the discriminator `D`; nothing in it is executed (`checkpoints.persistent_pickle`). The alias-free networks of
StyleGAN3 travel in the same kind of file, but are other networks. Book: chapter 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.assign import assign, compare
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.persistent_pickle import Record, network
from huggingvis.checkpoints.pickle_bounds import said
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.hollow import hollow
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.nets.resampling import taps
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, Truncation, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems.unconditional import Unconditional

_LEVELS = 11  # 4 ... 4096 px; the largest official networks have 9
_WIDEST, _CLASSES = 2**16, 2**20
Net = TypeVar("Net", bound=nn.Module)

_FILTERS = ("{rest:path}.resample_filter",)  # the same binomial filter everywhere, which `_check_filters` makes sure of


def generator_keymap() -> KeyMap:
    """Names inside `StyleGenerator` and inside the official generator."""
    return KeyMap(
        (
            Rule("w_avg", "mapping.w_avg"),
            Rule("mapping.embed.{leaf:word}", "mapping.embed.{leaf:word}"),
            Rule("mapping.layers.{i}.{leaf:word}", "mapping.fc{i}.{leaf:word}"),
            Rule("synthesis.blocks.{side}.{rest:path}", "synthesis.b{side}.{rest:path}"),
        ),
        ignored=_FILTERS,
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
            f"most {4 * 2 ** (_LEVELS - 1)}). The alias-free networks of StyleGAN3 are not read; take a file whose "
            "name says stylegan2."
        )
    last = stored.child("synthesis").child(f"b{sides[-1]}")
    _expect(last, "architecture", "skip")
    mapping = stored.child("mapping")
    layers = sum(re.fullmatch(r"mapping\.fc[0-9]+\.bias", name) is not None for name in tensors)
    _check_filters(tensors)
    return StyleGANSizes(
        widths=tuple(_length(tensors, f"synthesis.b{side}.conv1.bias") for side in sides),
        channels=_channels(_length(tensors, f"synthesis.b{sides[-1]}.torgb.bias")),
        z_dim=mapping.whole("z_dim", 1, _WIDEST),
        w_dim=mapping.whole("w_dim", 1, _WIDEST),
        mapping_layers=layers,
        mapping_lr=mapping.child("fc0").real("bias_gain", 1e-6, 1e3) if layers else 0.01,
        classes=mapping.whole("c_dim", 0, _CLASSES),
        clamp=_clamp(last.child("conv1")),
    )


def _length(tensors: Mapping[str, Tensor], name: str) -> int:
    found = tensors.get(name)
    if found is None or found.ndim != 1 or not 1 <= len(found) <= _WIDEST:
        raise FileProblem(
            f"The stored network should have a tensor {name!r} of 1 to {_WIDEST} numbers in a row, found "
            f"{'none' if found is None else f'one of shape {list(found.shape)}'}. The file is damaged or holds another "
            "kind of network: get it again, or another."
        )
    return len(found)


def _channels(found: int) -> int:
    if found not in (1, 3):
        raise FileProblem(
            f"The stored generator should make pictures of 1 channel (grey) or 3 (RGB), found {found}. Pictures of "
            "other channels cannot be shown: take another file."
        )
    return found


def _clamp(layer: Record) -> float | None:
    unlimited = layer.state.get("conv_clamp", 0) is None
    return None if unlimited else layer.real("conv_clamp", 1e-3, 1e9)


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
    return _filled(lambda: fresh_generator(sizes, StyleGAN2Synthesis(sizes)), tensors)


def _filled(fresh: Callable[[], Net], tensors: Mapping[str, Tensor]) -> Net:
    """The net that `fresh` makes, with these tensors; made only if they fit one without memory of its own."""
    with hollow():
        differ = compare(fresh(), tensors)
    if differ:
        raise FileProblem(
            f"The stored network does not fit the sizes it states: {differ}. The file is damaged or was trained with "
            "changed code: get it again, or another."
        )
    net = fresh()
    assign(net, tensors)
    return net.eval().requires_grad_(False)


def discriminator(path: Path | str) -> StyleDiscriminator:
    """The discriminator of an official file. Raises `FileProblem` as `generator`."""
    of, stored = generator_sizes(network(path)), network(path, "D")
    last, tensors = stored.child(f"b{of.resolution}"), stored.tensors()
    _expect(last, "architecture", "resnet")
    widths = tuple(_length(tensors, f"b{s}.{'conv0' if s > 4 else 'conv'}.bias") for s in of.sides)
    sizes = StyleGANSizes(widths, of.channels, classes=of.classes, clamp=_clamp(last.child("conv1")))
    group = _group(stored.child("b4").child("mbstd"))
    return _filled(lambda: StyleDiscriminator(sizes, group=group), discriminator_keymap(sizes).to_ours(tensors))


def _group(layer: Record) -> int | None:
    """How many pictures have their spread measured together; None: the whole batch."""
    if layer.whole("num_channels", 0, _WIDEST) != 1:
        raise FileProblem(
            "The stored discriminator should have 1 channel for the spread of the batch (mbstd_num_channels), found "
            f"{layer.state['num_channels']}. Our discriminator has one and no other: take a file of the usual settings."
        )
    return None if layer.state.get("group_size", 0) is None else layer.whole("group_size", 1, _WIDEST)


def bind(path: Path | str, device: torch.device | None = None, *, psi: float = 1.0) -> System:
    """An official generator as a system; `psi` truncates its styles. A conditional one draws classes at random."""
    where = device or torch.device("cpu")
    stored = network(path)
    sizes = generator_sizes(stored)
    net, side = _generator(stored, sizes).to(where), sizes.resolution
    net.truncation = Truncation(psi)
    spec = Spec(Path(path).stem, "stylegan2", (side, side), multiple=side, channels=sizes.channels)

    def made(request: Request) -> StyleGenerator:
        if canvas_of(request, spec) != (side, side):
            raise UsageError(
                f"This generator makes pictures of {side} x {side} pixels and no other. Leave the size out."
            )
        return net

    return System(
        spec=spec,
        parts={"generator": net},
        conditioner=Unconditional(),
        codec=Pixels(),
        generator=made,
        defaults=Sampling(steps=1, guidance_scale=1.0),
        limits=Limits(side=side, multiple=side, prompt_required=False),
        device=where,
    )
