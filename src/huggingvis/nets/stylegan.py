"""Style-based generator: a mapping network turns z into a style w, a synthesis network paints what the styles say.

Karras, Laine & Aila 2018 (arXiv 1812.04948): mapping f: Z -> W of eight layers, one style for each layer, styles of
two pictures mixed (Sec. 3.1), and truncation w' = w_avg + psi (w - w_avg) (App. B). The synthesis is that paper's
(`nets.adain_synthesis`), or that of Karras et al. 2019, arXiv 1912.04958 (`nets.stylegan2_synthesis`), or of 2021,
arXiv 2106.12423 (`nets.stylegan3_synthesis`). Book: chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.core.classes import some_class
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.protocols import Cond, OnStep
from huggingvis.nets.equalised import EqualLinear
from huggingvis.nets.layer_noise import DrawnNoise, LayerNoise, StoredNoise

SQRT2 = math.sqrt(2.0)


@dataclass(frozen=True)
class StyleGANSizes:
    """Sizes that generator and discriminator share.

    Attributes:
        widths: channels at 4, 8, 16 ... pixels; their number decides the size of the pictures.
        channels: of the pictures.
        z_dim: numbers in z.
        w_dim: numbers in w.
        mapping_layers: of the mapping network.
        mapping_lr: how much slower the mapping network learns than the rest.
        classes: of a conditional model, 0 without.
        clamp: activations are cut to this size, as official weights trained in half precision expect; None: never.
    """

    widths: tuple[int, ...] = (64, 64, 64, 32)
    channels: int = 3
    z_dim: int = 64
    w_dim: int = 64
    mapping_layers: int = 8
    mapping_lr: float = 0.01
    classes: int = 0
    clamp: float | None = None

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise UsageError(f"A style-based generator needs a width for each of 4, 8, ... px, found {self.widths}.")

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return 4 * 2 ** (len(self.widths) - 1)

    @property
    def sides(self) -> tuple[int, ...]:
        """4, 8, ... up to the side of the pictures."""
        return tuple(4 * 2**i for i in range(len(self.widths)))


class Synthesis(Protocol):
    """Paints pictures from styles."""

    layers: int

    def __call__(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        """Styles [B, L, D] -> pictures [B, C, H, W]."""
        ...


def unit(x: Tensor) -> Tensor:
    """Each row of x [B, D] brought to mean square 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


@final
class StyleMapping(nn.Module):
    """z [B, Z] (none where Z is 0) and one-hot classes [B, K] (none where K is 0) -> w [B, D]."""

    def __init__(self, z_dim: int, w_dim: int, layers: int = 8, classes: int = 0, lr_multiplier: float = 0.01):
        super().__init__()
        self.z_dim, self.classes = z_dim, classes
        self.embed = EqualLinear(classes, w_dim) if classes else None
        sizes = [z_dim + (w_dim if classes else 0), *[w_dim] * layers]
        self.layers = nn.ModuleList(EqualLinear(a, b, lr_multiplier=lr_multiplier) for a, b in pairwise(sizes))

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        parts = [] if z is None else [unit(z)]
        if self.embed is not None and label is not None:
            parts.append(unit(self.embed(label)))
        h = torch.cat(parts, dim=1)
        for layer in self.layers:
            h = F.leaky_relu(cast(Tensor, layer(h)), 0.2) * SQRT2
        return h


@final
@dataclass(frozen=True)
class Truncation:
    """Styles drawn towards their mean: w_avg + psi (w - w_avg) in the first `layers` layers (None: in all).

    psi 1 changes nothing, psi 0 gives the mean picture; between them variety is traded for fidelity.
    """

    psi: float = 1.0
    layers: int | None = None

    def __call__(self, ws: Tensor, mean: Tensor) -> Tensor:
        """Styles [B, L, D] and their mean [D] -> [B, L, D]."""
        if self.psi == 1.0:
            return ws
        near = torch.lerp(mean.to(ws.dtype), ws, self.psi)
        if self.layers is None:
            return near
        return torch.cat([near[:, : self.layers], ws[:, self.layers :]], dim=1)


def mix(coarse: Tensor, fine: Tensor, layer: int | Tensor) -> Tensor:
    """Styles [B, L, D]: those of `coarse` in the layers before `layer` (a number, or [B]), of `fine` from there on."""
    places = torch.arange(coarse.shape[1], device=coarse.device)  # [L]
    first = places < (layer[:, None] if isinstance(layer, Tensor) else layer)  # [L] or [B, L]
    return torch.where(first[..., None], coarse, fine)


@final
class StyleGenerator(nn.Module):
    """Mapping, synthesis and the running mean of w. `Generative` and `Decodes` of `core.protocols`.

    With classes, `cond["vector"]` [B, K] is one-hot; a row of zeros draws a class for itself.
    """

    w_avg: Tensor

    def __init__(self, mapping: StyleMapping, synthesis: nn.Module, w_dim: int, truncation: Truncation | None = None):
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis
        self.truncation = truncation or Truncation()
        self.register_buffer("w_avg", torch.zeros(w_dim))

    @property
    def layers(self) -> int:
        """Styles that a picture has, L."""
        return cast(Synthesis, self.synthesis).layers

    def spread(self, w: Tensor) -> Tensor:
        """One style for all layers, [B, D] -> [B, L, D]."""
        return w[:, None].expand(-1, self.layers, -1)

    def paint(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        """Styles [B, L, D] -> pictures [B, C, H, W], nominally in [-1, 1]."""
        return cast(Tensor, self.synthesis(ws, noise))

    def forward(self, z: Tensor, label: Tensor | None, noise: LayerNoise) -> Tensor:
        return self.paint(self.spread(self.mapping(z, label)), noise)

    @property
    def middle(self) -> Tensor:
        """The mean style, [D]."""
        return self.w_avg

    def latents(self, n: int, cond: Cond, *, noise: Noise) -> Tensor:
        """Truncated styles of `n` draws, [n, L, D]: what `decode` takes."""
        return self.styles(n, cond, noise)

    def styles(self, n: int, cond: Cond, noise: Noise) -> Tensor:
        """Truncated styles of `n` draws, [n, L, D]."""
        z = self.normals(n, noise=noise)
        if not self.mapping.classes:
            return self.styled(z, {})
        none = z.new_zeros(n, self.mapping.classes)
        return self.styled(z, {"vector": some_class(cond.get("vector", none).to(z), noise)})

    def normals(self, n: int, *, noise: Noise) -> Tensor:
        """Draws of z, [n, Z]."""
        return noise.draw(self.w_avg.new_empty(n, self.mapping.z_dim))

    def styled(self, z: Tensor, cond: Cond) -> Tensor:
        """Truncated styles of z [B, Z] and, where there are classes, one-hot `cond["vector"]`: [B, L, D]."""
        label = cond["vector"].to(z) if self.mapping.classes else None
        return self.truncation(self.spread(self.mapping(z, label)), self.w_avg)

    def sample(self, n: int, cond: Cond, *, noise: Noise, on_step: OnStep | None = None) -> Tensor:
        """Pictures of `n` draws of z and of the layers' noise: [n, C, H, W]. There are no steps to report."""
        return self.paint(self.styles(n, cond, noise), DrawnNoise(noise.draw))

    def decode(self, z: Tensor, cond: Cond | None = None) -> Tensor:
        """Pictures of styles w, [B, D] or [B, L, D], as they are, with the stored noise: a function of w alone."""
        return self.paint(z if z.ndim == 3 else self.spread(z), StoredNoise())


def fresh_generator(sizes: StyleGANSizes, synthesis: nn.Module, truncation: Truncation | None = None) -> StyleGenerator:
    """The generator of these sizes around a synthesis network."""
    mapping = StyleMapping(sizes.z_dim, sizes.w_dim, sizes.mapping_layers, sizes.classes, sizes.mapping_lr)
    return StyleGenerator(mapping, synthesis, sizes.w_dim, truncation)
