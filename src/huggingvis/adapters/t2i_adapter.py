"""T2I-Adapters at work: features of a picture, made once, added to a U-Net's way down at every step.

Mou et al. 2023 (arXiv 2302.08453), Eq. 7-8; the net is `nets.t2i_adapter`. Several add up. The features lie in the
condition under `<name>.N`, so guidance and batches of several pictures treat them like everything else there.
Book: chapter 6, "A second picture".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.adapters.bases import same_sizes, same_widths
from huggingvis.adapters.window import ALWAYS, Window
from huggingvis.core.errors import UsageError
from huggingvis.core.ports import PortHandle, provide
from huggingvis.core.protocols import Cond
from huggingvis.core.shapes import expand
from huggingvis.nets.t2i_adapter import T2IAdapter
from huggingvis.nets.unet import UNet, UNetConfig

SYSTEM = {
    "name": "T2I-Adapter",
    "chapter": 6,
    "paper": "2302.08453",
    "files": ["nets/t2i_adapter.py", "core/ports.py", "checkpoints/t2i_adapter_files.py"],
    "built": "tests/interop/test_control_walks.py::test_a_t2i_adapter",
    "exact": [
        "tests/interop/test_control.py::test_t2i_adapters_are_theirs",
        "tests/interop/test_control_walks.py::test_a_t2i_adapter",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@dataclass(frozen=True)
class Place:
    """Where a feature is added: the number of the skip, and how often the latents were halved before."""

    skip: int
    halvings: int


def places(base: UNetConfig) -> tuple[Place, ...]:
    """One for each level, and last the middle's.

    A level with attention ends before its resampling, one without after it. That is how these adapters were trained:
    XL's first level has no attention, and its adapters begin where the map is halved already.
    """
    last, each = len(base.channels) - 1, base.blocks + 1
    late = [int(level < last and not depth) for level, depth in enumerate(base.attention)]
    ends = [Place(level * each + base.blocks + more, level + more) for level, more in enumerate(late)]
    return (*ends, Place((last + 1) * each, last))


@final
@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """One T2I-Adapter beside a U-Net, `scale` 1 as it was trained, 0 without effect. `window`: when it acts."""

    net: T2IAdapter
    scale: float = 1.0
    name: str = "t2i"
    window: Window = ALWAYS

    def condition(self, picture: Tensor) -> dict[str, Tensor]:
        """What belongs into the condition for pictures [B, C, 8H, 8W] in [-1, 1]: made once, read at every step."""
        told = ((picture + 1) / 2).to(next(self.net.parameters()).dtype)
        return {f"{self.name}.{n}": part for n, part in enumerate(self.net(told))}

    def attach(self, base: UNet) -> PortHandle:
        """Let it speak at every call of `base`. Raises `UsageError` where it was made for another base."""
        c, at = self.net.config, places(base.config)
        at = at[: len(c.channels)] if len(c.channels) == len(at) - 1 else at
        same_widths("T2I-Adapter", c.channels, [(*base.widths, base.widths[-1])[place.skip] for place in at])
        sizes = [2 ** (place.halvings - at[0].halvings) for place in at]
        same_sizes("T2I-Adapter", [2 ** sum(c.halves[1 : n + 1]) for n in range(len(at))], sizes)
        return provide(base, self.name, _Bringing(self, tuple(place.skip for place in at)))


@final
@dataclass(frozen=True, eq=False)
class _Bringing:
    """Features of the condition, brought to the places of one base."""

    features: PictureFeatures
    places: tuple[int, ...]

    def __call__(self, x: Tensor, clock: Tensor, cond: Cond) -> Cond:
        one = self.features
        if one.scale == 0.0:
            return cond
        weights = one.window.weights(clock)  # [B]
        if weights is not None and not bool(weights.any()):
            return cond
        if f"{one.name}.0" not in cond:
            raise UsageError(
                f"The T2I-Adapter {one.name!r} reads a picture, but the condition has no '{one.name}.0': add what "
                "PictureFeatures.condition(picture) gives, or remove the adapter."
            )
        more = {}
        for n, place in enumerate(self.places):
            part, port = cond[f"{one.name}.{n}"], f"features.{place}"
            part = part if one.scale == 1.0 else part * one.scale
            part = part if weights is None else part * expand(weights, part)
            more[port] = cond[port] + part if port in cond else part
        return {**cond, **more}
