"""What the official files of StyleGAN2 and StyleGAN3 share: a mapping network, tensors that must fit, a system's shape.

Book: chapter 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.assign import assign, compare
from huggingvis.checkpoints.keymap import Rule
from huggingvis.checkpoints.persistent_pickle import Record
from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.hollow import hollow
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.nets.stylegan import StyleGenerator
from huggingvis.systems.unconditional import Unconditional

WIDEST, CLASSES = 2**16, 2**20
Net = TypeVar("Net", bound=nn.Module)

MAPPING = (
    Rule("w_avg", "mapping.w_avg"),
    Rule("mapping.embed.{leaf:word}", "mapping.embed.{leaf:word}"),
    Rule("mapping.layers.{i}.{leaf:word}", "mapping.fc{i}.{leaf:word}"),
)
"""Names of the mapping network inside `StyleGenerator` and inside the official generators."""


@dataclass(frozen=True)
class StoredMapping:
    """Numbers of a stored mapping network, by the names that they have in our sizes."""

    z_dim: int
    w_dim: int
    mapping_layers: int
    mapping_lr: float
    classes: int


def stored_mapping(stored: Record) -> StoredMapping:
    """The mapping network of a stored generator. Raises `FileProblem` for absurd sizes."""
    mapping = stored.child("mapping")
    layers = sum(re.fullmatch(r"fc[0-9]+\.bias", name) is not None for name in mapping.tensors())
    return StoredMapping(
        z_dim=mapping.whole("z_dim", 1, WIDEST),
        w_dim=mapping.whole("w_dim", 1, WIDEST),
        mapping_layers=layers,
        mapping_lr=mapping.child("fc0").real("bias_gain", 1e-6, 1e3) if layers else 0.01,
        classes=mapping.whole("c_dim", 0, CLASSES),
    )


def shown_channels(found: int) -> int:
    """Channels of a stored generator's pictures. Raises `FileProblem` for pictures that are neither grey nor RGB."""
    if found not in (1, 3):
        raise FileProblem(
            f"The stored generator should make pictures of 1 channel (grey) or 3 (RGB), found {found}. Pictures of "
            "other channels cannot be shown: take another file."
        )
    return found


def stored_clamp(layer: Record) -> float | None:
    """The size to which a stored layer cuts its activations; None: to none."""
    unlimited = layer.state.get("conv_clamp", 0) is None
    return None if unlimited else layer.real("conv_clamp", 1e-3, 1e9)


def filled(fresh: Callable[[], Net], tensors: Mapping[str, Tensor]) -> Net:
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


def styled_system(net: StyleGenerator, spec: Spec, device: torch.device) -> System:
    """An official generator as a system. A conditional one draws classes at random."""
    net.to(device)

    def made(request: Request) -> StyleGenerator:
        if canvas_of(request, spec) != spec.size:
            raise UsageError(
                f"This generator makes pictures of {spec.size[0]} x {spec.size[1]} pixels and no other. Leave the size "
                "out."
            )
        return net

    return System(
        spec=spec,
        parts={"generator": net},
        conditioner=Unconditional(),
        codec=Pixels(),
        generator=made,
        defaults=Sampling(steps=1, guidance_scale=1.0),
        limits=Limits(side=spec.size[0], multiple=spec.multiple, prompt_required=False),
        device=device,
    )


def square(path: Path | str, family: str, side: int, channels: int) -> Spec:
    """What a file's generator makes: pictures of `side` pixels."""
    return Spec(Path(path).stem, family, (side, side), multiple=side, channels=channels)
