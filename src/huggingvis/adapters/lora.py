"""LoRA on a net, several at once: W + sum_i scale_i D_i, merged into the weights or computed beside them.

Hu et al. 2021 (arXiv 2106.09685), section 4.1, and its relatives of `lora_factors`. Merged costs nothing at sampling
and keeps the original tensors aside; live leaves the weights alone and costs two thin products a layer. Removal gives
the net its own bits back, in whatever order attachments go. Files: `checkpoints.lora_formats`.
Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from huggingvis.adapters.lora_factors import Factors, Layer
from huggingvis.core.errors import UsageError, unknown

SYSTEM = {
    "name": "LoRA",
    "chapter": 8,
    "paper": "2106.09685",
    "files": [
        "adapters/lora_factors.py",
        "adapters/lora_lycoris.py",
        "checkpoints/lora_formats.py",
        "checkpoints/lora_formats_fit.py",
        "checkpoints/lora_formats_write.py",
    ],
    "built": "tests/interop/test_adapters_at_work.py::test_two_loras_add_up",
    "exact": [
        "tests/oracle/test_lora.py::test_every_change_is_its_formula",
        "tests/oracle/test_lora.py::test_as_peft_computes_it",
        "tests/interop/test_lora_files.py::test_outputs_equal_diffusers",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

Lora = Mapping[str, Factors]
"""Changes of a net's tensors, by their names in its state_dict."""
Weighted = Sequence[tuple[Factors, float]]
Scale = float | Callable[[str], float]
"""One strength, or one for each tensor by its name (strengths by block)."""


@final
class Handle:
    """Undoes one attachment exactly; a second time it does nothing."""

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []
        self._merged: list[nn.Parameter] = []

    def remove(self) -> None:
        """The net as if this had never been attached, bit for bit."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._merged:
            if parameter in _MERGED:  # else it was replaced meanwhile, and there is nothing of ours on it
                _MERGED[parameter].take_off(parameter, self)
        self._hooks, self._merged = [], []


@dataclass
class _Ledger:
    """What lies on one parameter: its own tensor, and what each attachment adds."""

    original: Tensor
    layers: dict[Handle, Weighted] = field(default_factory=dict)

    def put_on(self, parameter: nn.Parameter, handle: Handle, changes: Weighted) -> None:
        self.layers[handle] = (*self.layers.get(handle, ()), *changes)  # a tied tensor may be named twice
        self._write(parameter)

    def take_off(self, parameter: nn.Parameter, handle: Handle) -> None:
        self.layers.pop(handle, None)
        if self.layers:
            self._write(parameter)
        else:
            parameter.data = self.original.to(parameter)  # no copy, unless the net was moved or cast meanwhile
            del _MERGED[parameter]

    @torch.no_grad()
    def _write(self, parameter: nn.Parameter) -> None:
        """Always from the original: so what is left after a removal does not depend on what was there."""
        own = self.original.to(parameter)
        deltas = [s * factors.delta(own) for changes in self.layers.values() for factors, s in changes]
        parameter.data = sum(deltas, own.to(deltas[0].dtype)).to(parameter)


# The originals of parameters that carry merged changes. A net knows nothing of it: copied or saved, it is merged.
_MERGED = WeakTensorKeyDictionary()


@final
class LoraSet:
    """Several LoRAs of one net, each with its weight: `LoraSet((style, 0.8), (subject, 1.0))`.

    >>> handle = LoraSet((style, 0.8)).attach(unet)
    >>> handle.remove()
    """

    def __init__(self, *loras: tuple[Lora, float]):
        for _, weight in loras:
            if not math.isfinite(weight):
                raise UsageError(f"The weight of a LoRA should be a finite number such as 0.8, found {weight}.")
        self.loras = loras

    def attach(self, net: nn.Module, scale: Scale = 1.0, *, merged: bool = True) -> Handle:
        """Add sum_i weight_i scale D_i to the tensors of `net`, in float32, until the handle is removed.

        `merged` False: linear layers and convolutions compute the change beside their own product, with names and
        tensors of the net untouched; norms, biases and embeddings, which are no such layers, are merged even then.
        What has strength 0 is left out altogether. DoRA depends on the weight it sits on: merged, that is the net's
        own, whatever else is attached; live, the weight as it is. Raises `UsageError`, before anything changes, for
        names that the net lacks, other shapes, and nets without weights (on the meta device).
        """
        handle = Handle()
        try:
            for name, changes in self._changes(net, scale).items():
                owner, leaf = net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
                if not merged and leaf == "weight" and isinstance(owner, nn.Linear | nn.Conv2d):
                    cast = [(factors.to(owner.weight.device, owner.weight.dtype), s) for factors, s in changes]
                    hook = partial(_add, Layer(owner), tuple(cast))
                    handle._hooks.append(owner.register_forward_hook(hook))
                    continue
                parameter = owner.get_parameter(leaf)
                handle._merged.append(parameter)
                ledger = _MERGED.setdefault(parameter, _Ledger(parameter.data))
                ledger.put_on(parameter, handle, changes)
        except BaseException:
            handle.remove()
            raise
        return handle

    def _changes(self, net: nn.Module, scale: Scale) -> dict[str, Weighted]:
        """By tensor of `net`: everything that is added to it and how strongly, checked."""
        there = dict(net.named_parameters(remove_duplicate=False))
        out: dict[str, list[tuple[Factors, float]]] = {}
        for lora, weight in self.loras:
            for name, factors in lora.items():
                strength = weight * (scale if isinstance(scale, int | float) else scale(name))
                if not math.isfinite(strength):
                    raise UsageError(
                        f"The strength of a LoRA should be a finite number, found {strength} for {name!r}."
                    )
                if name not in there:
                    raise unknown(f"parameter of {type(net).__name__}", name, there)
                _check(name, there[name], factors)
                if strength:
                    out.setdefault(name, []).append((factors, strength))
        return dict(out)


def _check(name: str, parameter: nn.Parameter, factors: Factors) -> None:
    if parameter.is_meta:
        raise UsageError("A LoRA changes weights, but this net has none yet (meta device): load its checkpoint first.")
    if not factors.fits(tuple(parameter.shape)):
        raise UsageError(
            f"The LoRA's {type(factors).__name__} for {name!r} does not make a tensor of shape "
            f"{list(parameter.shape)}, which the net has there: it was made for another model."
        )


def _add(layer: Layer, changes: Weighted, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    """The forward hook of a live layer."""
    for factors, strength in changes:
        out = out + strength * factors.live(args[0], layer)
    return out
