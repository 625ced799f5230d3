"""ControlNets at work: nets beside a U-Net that bring it residuals, each reading a picture of its own.

Zhang, Rao, Agrawala 2023 (arXiv 2302.05543); the net is `nets.controlnet`. Several add up in the order in which they
were attached. What a picture becomes lies in the condition under `<name>.hint`, so guidance and batches of several
pictures treat it like everything else there. Book: chapter 6, "A second picture".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.adapters.bases import same_tokens, same_widths
from huggingvis.adapters.window import ALWAYS, Window
from huggingvis.core.errors import UsageError
from huggingvis.core.ports import PortHandle, provide
from huggingvis.core.protocols import Cond
from huggingvis.core.shapes import expand
from huggingvis.nets.controlnet import ControlNet
from huggingvis.nets.unet import UNet

SYSTEM = {
    "name": "ControlNet",
    "chapter": 6,
    "paper": "2302.05543",
    "files": ["nets/controlnet.py", "core/ports.py", "checkpoints/diffusers_controlnet.py"],
    "built": "tests/interop/test_adapters_at_work.py::test_a_controlnet_reads_a_picture",
    "exact": [
        "tests/interop/test_control.py::test_controlnet_is_theirs",
        "tests/interop/test_control.py::test_controls_at_work_are_theirs",
        "tests/interop/test_control.py::test_controls_that_say_nothing_change_no_bit",
        "tests/interop/test_control.py::test_only_the_control_learns",
        "tests/interop/test_control_walks.py::test_a_controlnet_for_a_part_of_the_walk",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True, eq=False)
class Control:
    """One ControlNet beside a U-Net, `scale` 1 as it was trained and 0 not asked at all.

    `guess`: the picture should speak for itself ("guess mode"): fine residuals count less than deep ones, from 0.1 up
    to 1 (in even steps of the logarithm), and the negative half of guidance gets none. `window`: when it acts.
    """

    net: ControlNet
    scale: float = 1.0
    name: str = "control"
    window: Window = ALWAYS
    guess: bool = False

    def condition(self, picture: Tensor) -> dict[str, Tensor]:
        """What belongs into the condition for pictures [B, C, 8H, 8W] in [-1, 1]: made once, read at every step."""
        cond = {f"{self.name}.hint": self.net.hint(((picture + 1) / 2).to(next(self.net.parameters()).dtype))}
        if self.guess or self.net.reads.pooled:  # residuals without places would also move what guidance leaves
            ones = torch.ones(len(picture), device=picture.device, dtype=picture.dtype)
            cond |= {f"{self.name}.strength": ones, f"negative.{self.name}.strength": torch.zeros_like(ones)}
        return cond

    def attach(self, base: UNet) -> PortHandle:
        """Let it speak at every call of `base`. Raises `UsageError` where it was made for another base."""
        same_tokens("ControlNet", self.net.config.tokens_dim, base.config.tokens_dim)
        same_widths("ControlNet", self.net.widths, base.widths)
        return provide(base, self.name, self)

    def __call__(self, x: Tensor, clock: Tensor, cond: Cond) -> Cond:
        if self.scale == 0.0:
            return cond
        weights = self.window.weights(clock)  # [B]
        if weights is not None and not bool(weights.any()):
            return cond
        if (hint := cond.get(f"{self.name}.hint")) is None:
            raise UsageError(
                f"The ControlNet {self.name!r} reads a picture, but the condition has no '{self.name}.hint': add what "
                "Control.condition(picture) gives, or remove the ControlNet."
            )
        parts = self.net(x, clock, {**cond, "hint": hint})
        for each in (weights, cond.get(f"{self.name}.strength")):
            parts = parts if each is None else tuple(part * expand(each, part) for part in parts)
        more = {}
        for n, (part, scale) in enumerate(zip(parts, self._scales(len(parts)), strict=True)):
            part, port = part if scale == 1.0 else part * scale, f"residuals.{n}"
            more[port] = cond[port] + part if port in cond else part
        return {**cond, **more}

    def _scales(self, count: int) -> list[float]:
        if not self.guess or self.net.reads.pooled:
            return [self.scale] * count
        return [self.scale * 10.0 ** (n / (count - 1) - 1) for n in range(count)]
