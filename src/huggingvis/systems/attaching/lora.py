"""LoRAs and their kin on a system: merged into the weights of its nets for as long as pictures are made."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import final

from torch import Tensor

from huggingvis.adapters.lora import LoraSet
from huggingvis.checkpoints.lora_formats import read
from huggingvis.checkpoints.lora_formats_fit import Fitted, Host, fit
from huggingvis.core.request import AdapterUse
from huggingvis.systems.attachments import Bench, Removable, check_all_steps


@final
class _All:
    """What was put on several nets."""

    def __init__(self, stack: ExitStack):
        self._stack = stack

    def remove(self) -> None:
        self._stack.close()


def opened(path: Path, bench: Bench) -> Fitted:
    """The file's changes by our names. Raises `FileProblem` for one that was made for another model."""
    return fit(read(path), {part: Host(net, bench.maps[part]) for part, net in bench.nets.items()})


def attach(found: Fitted, use: AdapterUse, bench: Bench) -> tuple[Removable, Mapping[str, Tensor]]:
    """Merged into the weights: what is removed gives the nets their own bits back. Raises `UsageError` for a window."""
    check_all_steps(use, "a LoRA")
    with ExitStack() as stack:
        for part, changes in found.parts.items():
            stack.callback(LoraSet((changes, use.weight)).attach(bench.nets[part]).remove)
        return _All(stack.pop_all()), {}
