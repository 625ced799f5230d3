r"""How fine each layer of an alias-free generator may draw: its bandwidth, its transition band, its sampling rate.

Karras et al. 2021 (arXiv 2106.12423), Sec. 3.2, "flexible layers" (config T). Cutoffs f_c and stopbands f_t of the
layers i = 0 ... N rise geometrically from the first layer's to the last's, which the final K layers share:

    f_c[i] = f_c,0 (f_c,N / f_c,0)^e,  e = min(i / (N - K), 1),  f_c,N = size / 2,  and f_t[i] alike
    s[i]   = the power of 2 at or above min(2 f_t[i], size)      samples per unit, a unit being the picture's side
    f_h[i] = max(f_t[i], s[i] / 2) - f_c[i]                      half the transition band: all that the rate allows

Lower layers leave room above their cutoff (f_c < s / 2), so that what a nonlinearity adds can be filtered out; the last
K sample critically, for the sake of sharp detail. Channels fall as cutoffs rise. Book: chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from huggingvis.core.errors import UsageError


@final
@dataclass(frozen=True)
class Signal:
    """What one layer hands to the next: maps of this kind.

    Attributes:
        channels: of the maps.
        size: their side in samples, margins included.
        rate: s, samples per side of the picture.
        cutoff: f_c, cycles per side of the picture.
        half_width: f_h, half the transition band, in the same unit.
    """

    channels: int
    size: int
    rate: int
    cutoff: float
    half_width: float


@final
@dataclass(frozen=True)
class Schedule:
    """Numbers of the layers.

    Attributes:
        size: side of the pictures, a power of 2.
        channels: of the pictures.
        width: channels of a layer times twice its cutoff.
        most: channels at most.
        layers: N, of filtered layers.
        critical: K, how many of them at the end are sampled critically.
        first_cutoff: f_c,0.
        first_stopband: f_t,0.
        last_stopband: f_t,N in units of f_c,N.
        margin: samples around the picture, so that its border is like any place.
    """

    size: int
    channels: int = 3
    width: int = 32768
    most: int = 512
    layers: int = 14
    critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband: float = 2**0.3
    margin: int = 10

    def __post_init__(self) -> None:
        if self.size < 4 or self.size & (self.size - 1):
            raise UsageError(f"An alias-free generator makes pictures whose side is a power of 2, found {self.size}.")
        if not 1 <= self.critical < self.layers:
            raise UsageError(
                f"Of the layers of an alias-free generator one at least is sampled critically, and not all; found "
                f"{self.critical} of {self.layers}."
            )
        last = self.size / 2
        rising = 0 < self.first_cutoff <= last and 0.5 <= self.first_stopband <= last * self.last_stopband
        if not (rising and self.first_cutoff < self.first_stopband and self.last_stopband > 1):
            raise UsageError(
                "Cutoffs of an alias-free generator rise from layer to layer, each stopband lies above its cutoff, and "
                f"the first at half a cycle or more; found {self.first_cutoff:g} to {last:g} with stopbands from "
                f"{self.first_stopband:g} to {last * self.last_stopband:g}."
            )

    def signals(self) -> tuple[Signal, ...]:
        """What layers 0 ... N give; the last is the picture. The input is of the kind that layer 0 gives."""
        return tuple(self._signal(i) for i in range(self.layers + 1))

    def _signal(self, i: int) -> Signal:
        share, last = min(i / (self.layers - self.critical), 1.0), self.size / 2
        cutoff = self.first_cutoff * (last / self.first_cutoff) ** share
        stopband = self.first_stopband * (last * self.last_stopband / self.first_stopband) ** share
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, self.size)))
        width = round(min(self.width / 2 / cutoff, self.most))
        within = i >= self.layers - 1  # these two have no margin
        return Signal(
            channels=self.channels if i == self.layers else max(width, 1),
            size=self.size if within else rate + 2 * self.margin,
            rate=rate,
            cutoff=cutoff,
            half_width=max(stopband, rate / 2) - cutoff,
        )

    def steps(self) -> tuple[tuple[Signal, Signal], ...]:
        """What each of layers 0 ... N takes and gives."""
        found = self.signals()
        return ((found[0], found[0]), *pairwise(found))


@final
@dataclass(frozen=True)
class Filtering:
    """Numbers of each layer.

    Attributes:
        kernel: of the convolutions.
        taps: of the filters, for each sample at the lower of two rates.
        oversampling: how many times the higher rate the nonlinearity works at.
        radial: filter alike in all directions where sampling is not critical.
        clamp: activations are cut to this size, as official weights trained in half precision expect; None: never.
    """

    kernel: int = 3
    taps: int = 6
    oversampling: int = 2
    radial: bool = False
    clamp: float | None = 256.0


@final
@dataclass(frozen=True)
class StyleGAN3Sizes:
    """Sizes of an alias-free generator.

    Attributes:
        schedule: of its layers.
        filtering: in each of them.
        z_dim: numbers in z.
        w_dim: numbers in w.
        mapping_layers: of the mapping network.
        mapping_lr: how much slower the mapping network learns than the rest.
        classes: of a conditional model, 0 without.
        scale: of the pictures: the layers work at a larger magnitude.
    """

    schedule: Schedule
    filtering: Filtering = Filtering()
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    mapping_lr: float = 0.01
    classes: int = 0
    scale: float = 0.25


def config_t(size: int, classes: int = 0) -> StyleGAN3Sizes:
    """The paper's StyleGAN3-T, equivariant to translation, for pictures of `size` pixels."""
    return StyleGAN3Sizes(Schedule(size), classes=classes)


def config_r(size: int, classes: int = 0) -> StyleGAN3Sizes:
    """The paper's StyleGAN3-R, equivariant to rotation too: 1x1 kernels, radial filters, twice the channels."""
    schedule = Schedule(size, width=65536, most=1024)
    return StyleGAN3Sizes(schedule, Filtering(kernel=1, radial=True), classes=classes)
