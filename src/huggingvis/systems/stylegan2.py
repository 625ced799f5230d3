"""Official StyleGAN2 weights: the `.pkl` files of stylegan2-ada-pytorch and stylegan3, bound to our own networks.

Karras et al. 2019 and 2020 (arXiv 1912.04958, 2006.06676). A file holds the generator `G`, its running average `G_ema`
and the discriminator `D`; nothing in it is executed (`checkpoints.persistent_pickle`). The alias-free networks of
StyleGAN3 travel in the same kind of file, but are other networks. Book: chapter 2.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.persistent_pickle import Record, network
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.nets.resampling import taps
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, Truncation, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems.unconditional import Unconditional

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
    """Sizes of a stored generator. Raises `FileProblem` for a network of another kind."""
    tensors = stored.tensors()
    sides = sorted(
        int(found[1]) for name in tensors if (found := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.bias", name))
    )
    if not sides or sides != [4 * 2**i for i in range(len(sides))]:
        raise FileProblem(
            f"The stored network {stored.kind!r} has no StyleGAN2 synthesis (blocks of 4, 8, 16 ... pixels). The "
            "alias-free networks of StyleGAN3 are not read; take a file whose name says stylegan2."
        )
    last = stored.child("synthesis").child(f"b{sides[-1]}")
    _expect(last, "architecture", "skip")
    mapping = stored.child("mapping")
    layers = sum(re.fullmatch(r"mapping\.fc\d+\.bias", name) is not None for name in tensors)
    _check_filters(tensors)
    return StyleGANSizes(
        widths=tuple(len(tensors[f"synthesis.b{side}.conv1.bias"]) for side in sides),
        channels=len(tensors[f"synthesis.b{sides[-1]}.torgb.bias"]),
        z_dim=int(mapping.state["z_dim"]),
        w_dim=int(mapping.state["w_dim"]),
        mapping_layers=layers,
        mapping_lr=float(mapping.child("fc0").state["bias_gain"]) if layers else 0.01,
        classes=int(mapping.state["c_dim"]),
        clamp=_clamp(last.child("conv1")),
    )


def _clamp(layer: Record) -> float | None:
    limit = layer.state.get("conv_clamp")
    return None if limit is None else float(limit)


def _expect(block: Record, key: str, value: str) -> None:
    found = block.state.get(key)
    if found != value:
        raise FileProblem(
            f"The stored network's blocks have the {key} {found!r}, but StyleGAN2's own is {value!r}, and only that is "
            "read. Networks of other configurations need their own code."
        )


def _check_filters(tensors: dict[str, Tensor]) -> None:
    want = torch.outer(taps(), taps())
    for name, found in tensors.items():
        if name.endswith("resample_filter") and not (found.shape == want.shape and torch.allclose(found, want)):
            raise FileProblem(
                f"The stored network resamples with another filter than StyleGAN2's [1 3 3 1] ({name}), which is not "
                "read. It was trained with changed settings."
            )


def generator(path: Path | str, name: str = "G_ema") -> StyleGenerator:
    """The generator of an official file. Raises `FileProblem` for another file or another kind of network."""
    stored = network(path, name)
    sizes = generator_sizes(stored)
    net = fresh_generator(sizes, StyleGAN2Synthesis(sizes))
    assign(net, generator_keymap().to_ours(stored.tensors()))
    return net.eval().requires_grad_(False)


def discriminator(path: Path | str) -> StyleDiscriminator:
    """The discriminator of an official file. Raises `FileProblem` as `generator`."""
    of, stored = generator_sizes(network(path)), network(path, "D")
    _expect(stored.child(f"b{of.resolution}"), "architecture", "resnet")
    widths = (len(stored.tensors()["b4.conv.bias"]), *(len(stored.tensors()[f"b{s}.conv0.bias"]) for s in of.sides[1:]))
    clamp = _clamp(stored.child(f"b{of.resolution}").child("conv1"))
    sizes = StyleGANSizes(widths, of.channels, classes=of.classes, clamp=clamp)
    group = stored.child("b4").child("mbstd").state["group_size"]
    net = StyleDiscriminator(sizes, group=4 if group is None else int(group))
    assign(net, discriminator_keymap(sizes).to_ours(stored.tensors()))
    return net.eval().requires_grad_(False)


def bind(path: Path | str, device: torch.device | None = None, *, psi: float = 1.0) -> System:
    """An official generator as a system; `psi` truncates its styles. A conditional one draws classes at random."""
    where = device or torch.device("cpu")
    net = generator(path).to(where)
    net.truncation = Truncation(psi)
    side = 4 * 2 ** (net.layers // 2 - 1)
    spec = Spec(Path(path).stem, "stylegan2", (side, side), multiple=side)

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
