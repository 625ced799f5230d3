"""Official StyleGAN3 weights: the `.pkl` files of stylegan3 whose generator is alias-free, bound to our own networks.

Karras et al. 2021 (arXiv 2106.12423), configurations T and R. Nothing in a file is executed
(`checkpoints.persistent_pickle`): the numbers that its generator was made with are plain data beside the tensors, and
what each layer says of itself must follow from them. The discriminator is StyleGAN2's. Book: chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import final

import torch

from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.persistent_pickle import Record, network
from huggingvis.checkpoints.pickle_bounds import said
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.system import System
from huggingvis.nets.stylegan import StyleGenerator, Truncation
from huggingvis.nets.stylegan3_sizes import Filtering, Schedule, Signal, StyleGAN3Sizes
from huggingvis.nets.stylegan3_synthesis import fresh_alias_free
from huggingvis.systems.style_pickles import (
    MAPPING,
    WIDEST,
    filled,
    shown_channels,
    square,
    stored_clamp,
    stored_mapping,
    styled_system,
)

FIRST = "input"
"""The part of the synthesis that tells its kind."""


def generator_keymap(sizes: StyleGAN3Sizes) -> KeyMap:
    """Names inside `StyleGenerator` and inside the official generator, whose layers are called by what they make."""
    *convs, torgb = _names(sizes.schedule)
    return KeyMap(
        (
            *MAPPING,
            Rule("synthesis.input.{rest:path}", "synthesis.input.{rest:path}"),
            *(
                Rule(f"synthesis.convs.{i}.{{rest:path}}", f"synthesis.{name}.{{rest:path}}")
                for i, name in enumerate(convs)
            ),
            Rule("synthesis.torgb.{rest:path}", f"synthesis.{torgb}.{{rest:path}}"),
        )
    )


def _names(schedule: Schedule) -> list[str]:
    """Layers by their official names."""
    return [f"L{i}_{made.size}_{made.channels}" for i, made in enumerate(schedule.signals())]


@final
class _Settings:
    """What a stored synthesis was made with; what was not said is the official code's usual."""

    def __init__(self, synthesis: Record):
        self.given = synthesis.settings()

    def whole(self, key: str, usual: int, low: int, high: int) -> int:
        return self.given.whole(key, low, high) if key in self.given.state else usual

    def real(self, key: str, usual: float, low: float, high: float) -> float:
        return self.given.real(key, low, high) if key in self.given.state else usual

    def flag(self, key: str) -> bool:
        found = self.given.state.get(key, False)
        if not isinstance(found, bool):
            raise FileProblem(
                f"The stored network {self.given.kind!r} should state {key!r} as true or false, but holds "
                f"{said(found)}. The file is damaged: get it again."
            )
        return found


def generator_sizes(stored: Record) -> StyleGAN3Sizes:
    """Sizes of a stored generator. Raises `FileProblem` for a network of another kind, or of absurd sizes."""
    synthesis = stored.child("synthesis")
    told = _Settings(synthesis)
    try:
        schedule = _schedule(synthesis, told)
    except UsageError as error:
        raise FileProblem(f"{error} The file is damaged, or was trained with changed code: get it again.") from error
    sizes = StyleGAN3Sizes(
        schedule,
        Filtering(
            kernel=told.whole("conv_kernel", 3, 1, 15),
            taps=told.whole("filter_size", 6, 2, 32),
            oversampling=told.whole("lrelu_upsampling", 2, 1, 8),
            radial=told.flag("use_radial_filters"),
            clamp=stored_clamp(synthesis.child(_names(schedule)[0])),
        ),
        scale=told.real("output_scale", 0.25, 1e-6, 1e6),
        **asdict(stored_mapping(stored)),
    )
    _check(synthesis, schedule)
    return sizes


def _schedule(synthesis: Record, told: _Settings) -> Schedule:
    return Schedule(
        size=synthesis.whole("img_resolution", 4, 4096),
        channels=shown_channels(synthesis.whole("img_channels", 1, WIDEST)),
        width=told.whole("channel_base", 32768, 1, 2**24),
        most=told.whole("channel_max", 512, 1, WIDEST),
        layers=synthesis.whole("num_layers", 2, 64),
        critical=synthesis.whole("num_critical", 1, 63),
        first_cutoff=told.real("first_cutoff", 2, 1e-2, 4096),
        first_stopband=told.real("first_stopband", 2**2.1, 0.5, 4096),
        last_stopband=told.real("last_stopband_rel", 2**0.3, 1, 16),
        margin=synthesis.whole("margin_size", 0, 256),
    )


def _check(synthesis: Record, schedule: Schedule) -> None:
    """That the layers say of themselves what follows from the numbers of the whole."""
    first = schedule.signals()[0]
    _same(synthesis.child(FIRST), {"bandwidth": first.cutoff, "sampling_rate": first.rate})
    for name, (given, made) in zip(_names(schedule), schedule.steps(), strict=True):
        _same(synthesis.child(name), _facts("in", given) | _facts("out", made))


def _facts(side: str, signal: Signal) -> dict[str, float]:
    return {
        f"{side}_channels": signal.channels,
        f"{side}_sampling_rate": signal.rate,
        f"{side}_cutoff": signal.cutoff,
        f"{side}_half_width": signal.half_width,
    }


def _same(layer: Record, wanted: dict[str, float]) -> None:
    for key, want in wanted.items():
        found = layer.real(key, -1e9, 1e9)
        if not math.isclose(found, want, rel_tol=1e-6):
            raise FileProblem(
                f"The stored layer {layer.kind!r} should have {key} {want:g}, as follows from the numbers of its "
                f"network, but has {found:g}. The file is damaged or was trained with changed code: get it again."
            )


def generator(path: Path | str, name: str = "G_ema") -> StyleGenerator:
    """The generator of an official file. Raises `FileProblem` for another file or another kind of network."""
    stored = network(path, name)
    return _generator(stored, generator_sizes(stored))


def _generator(stored: Record, sizes: StyleGAN3Sizes) -> StyleGenerator:
    tensors = generator_keymap(sizes).to_ours(stored.tensors())
    return filled(lambda: fresh_alias_free(sizes), tensors)


def bind(path: Path | str, device: torch.device | None = None, *, psi: float = 1.0) -> System:
    """An official generator as a system; `psi` truncates its styles. A conditional one draws classes at random."""
    return bind_stored(network(path), path, device, psi)


def bind_stored(stored: Record, path: Path | str, device: torch.device | None = None, psi: float = 1.0) -> System:
    """The same for the generator that was read from `path`."""
    sizes = generator_sizes(stored)
    net, schedule = _generator(stored, sizes), sizes.schedule
    net.truncation = Truncation(psi)
    spec = square(path, "stylegan3", schedule.size, schedule.channels)
    return styled_system(net, spec, device or torch.device("cpu"))
