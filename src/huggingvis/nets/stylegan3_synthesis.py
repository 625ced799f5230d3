r"""Synthesis network of StyleGAN3: a signal of the plane, not of a pixel grid, refined layer by layer without aliases.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks" (arXiv 2106.12423), Sec. 3: Fourier features that the
style turns and moves (configs B, H), no noise in the layers, which would stick to the grid (C), no skips to RGB but
input magnitudes kept at 1 by a running mean instead (D), margins (E), filtered nonlinearities (F), bandwidths below
what the rates could hold (G, T; `nets.stylegan3_sizes`), and 1x1 kernels with radial filters (R). The names of its
weights are those of the official networks but for their grouping. Book: chapter 2.
"""

from __future__ import annotations

import math
from typing import cast, final

import torch
from torch import Tensor, nn

from huggingvis.nets.equalised import EqualLinear
from huggingvis.nets.filtered_lrelu import filtered_lrelu
from huggingvis.nets.layer_noise import LayerNoise
from huggingvis.nets.lowpass import Lowpass
from huggingvis.nets.modulated_conv import modulated_conv2d
from huggingvis.nets.stylegan import StyleGenerator, StyleMapping, Truncation, unit
from huggingvis.nets.stylegan3_sizes import Filtering, Signal, StyleGAN3Sizes


@final
class FourierInput(nn.Module):
    r"""Waves over the plane, placed by the style: w [B, D] -> [B, C, size, size].

    w gives (r_c, r_s, t_x, t_y) / |(r_c, r_s)|: the picture is turned by that rotation R and then moved by t, after
    which the user's own `transform` (3x3, of the picture's coordinates, its inverse stored) applies:

        x -> sin(2 pi (f^T A x + phase + f^T b)),  (A | b) = (R | -R t) transform.

    A wave that the transform brings beyond the bandwidth is faded out before it could alias.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, signal: Signal, w_dim: int):
        super().__init__()
        channels = signal.channels
        self.signal = signal
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = EqualLinear(w_dim, 4)
        with torch.no_grad():  # any style leaves the picture where it is, until training says otherwise
            self.affine.weight.zero_()
            cast(Tensor, self.affine.bias)[0] = 1.0
        radius, angle = signal.cutoff * torch.rand(channels).sqrt(), 2 * math.pi * torch.rand(channels)
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.stack([radius * angle.cos(), radius * angle.sin()], 1))  # even over a disc
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        wide = torch.promote_types(w.dtype, torch.float32)  # a wave's place needs more digits than its height
        with torch.autocast(w.device.type, enabled=False):
            placed = self._placed(w).to(wide)  # [B, 2, 3]
            freqs = self.freqs.to(wide) @ placed[:, :, :2]  # [B, C, 2]
            phases = self.phases.to(wide) + (self.freqs.to(wide) @ placed[:, :, 2:])[..., 0]  # [B, C]
            x = torch.einsum("bcp,phw->bchw", freqs, self._grid(freqs)) + phases[:, :, None, None]
            x = torch.sin(2 * math.pi * x) * self._heights(freqs)[:, :, None, None]
            weight = self.weight.to(wide) / math.sqrt(len(self.weight))
            return torch.einsum("oc,bchw->bohw", weight, x).to(w.dtype)

    def _placed(self, w: Tensor) -> Tensor:
        """(A | b), [B, 2, 3]."""
        t = self.affine(w.to(self.affine.weight.dtype))
        cos, sin, x, y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        rotation = torch.stack([cos, -sin, sin, cos], 1).unflatten(1, (2, 2))  # [B, 2, 2]
        moved = rotation @ torch.stack([x, y], 1)[..., None]  # [B, 2, 1]
        return torch.cat([rotation, -moved], 2) @ self.transform

    def _grid(self, like: Tensor) -> Tensor:
        """Coordinates of the samples' centres, the picture's being in [-1/2, 1/2]: [2 (x, y), size, size]."""
        size = self.signal.size
        line = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5 - size / 2) / self.signal.rate
        return torch.stack(torch.meshgrid(line, line, indexing="xy"))

    def _heights(self, freqs: Tensor) -> Tensor:
        """1 up to the bandwidth, 0 from half the sampling rate: [B, C]."""
        beyond = freqs.norm(dim=2) - self.signal.cutoff
        return (1 - beyond / (self.signal.rate / 2 - self.signal.cutoff)).clamp(0, 1)


class _Styled(nn.Module):
    """A modulated convolution whose input is brought to magnitude 1 by the running mean of its square."""

    magnitude_ema: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, w_dim: int):
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("magnitude_ema", torch.ones(()))

    @torch.no_grad()
    def track(self, x: Tensor, decay: float) -> None:
        """Count the inputs x [B, I, H, W] in their running mean square."""
        power = x.to(self.magnitude_ema.dtype).square().mean()  # float16 ends at 256 squared, where these are clamped
        self.magnitude_ema.lerp_(power, 1 - decay)

    def levelled(self, x: Tensor) -> Tensor:
        """x [B, I, H, W] at magnitude 1."""
        return x * self.magnitude_ema.rsqrt().to(x.dtype)


@final
class AliasFreeConv(_Styled):
    """Modulated convolution and filtered leaky ReLU, from one kind of maps to another: x [B, I, H, H], w [B, D] -> [B,
    O, H', H'].

    Kernels and styles are brought to mean square 1 before they meet: demodulation undoes it, half precision needs it.
    (The official code takes the styles of a whole batch together, which differs by demodulation's eps alone.)
    """

    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, given: Signal, made: Signal, w_dim: int, filtering: Filtering, radial: bool):
        super().__init__(given.channels, made.channels, filtering.kernel, w_dim)
        rate = max(given.rate, made.rate) * filtering.oversampling
        self.up, self.down, self.clamp = rate // given.rate, rate // made.rate, filtering.clamp
        up = Lowpass(filtering.taps * self.up, given.cutoff, 2 * given.half_width, rate)
        down = Lowpass(filtering.taps * self.down, made.cutoff, 2 * made.half_width, rate)
        self.register_buffer("up_filter", up.separable() if self.up > 1 else None)
        self.register_buffer("down_filter", None if self.down == 1 else down.radial() if radial else down.separable())
        self.padding = self._padding(given, made, filtering.kernel)

    def _padding(self, given: Signal, made: Signal, kernel: int) -> tuple[int, int]:
        """Zeros at the higher rate that give maps of the wanted size, their middle where it was (App. C)."""
        filters = sum(len(f) - 1 for f in (self.up_filter, self.down_filter) if f is not None)
        wanted = (made.size - 1) * self.down + 1 + filters
        total = wanted - (given.size + kernel - 1) * self.up
        first = (total + self.up) // 2  # the zeros of upsampling come after each sample, not on both sides of it
        return first, total - first

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        weight = self.weight * self.weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        full = self.weight.shape[2] - 1
        x = modulated_conv2d(self.levelled(x), weight, unit(self.affine(w)), padding=full)
        return filtered_lrelu(
            x,
            self.bias,
            self.up_filter,
            self.down_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            clamp=self.clamp,
        )


@final
class AliasFreeRGB(_Styled):
    """1x1 modulated convolution without demodulation: x [B, I, H, H], w [B, D] -> [B, C, H, H]."""

    def __init__(self, c_in: int, channels: int, w_dim: int, clamp: float | None):
        super().__init__(c_in, channels, 1, w_dim)
        self.scale, self.clamp = 1 / math.sqrt(c_in), clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated_conv2d(self.levelled(x), self.weight, self.affine(w) * self.scale, demodulate=False)
        y = y + self.bias.to(y.dtype)[:, None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


@final
class StyleGAN3Synthesis(nn.Module):
    """Styles [B, L, D] -> pictures [B, C, H, W], with L = N + 2: one for the input, one for each of layers 0 ... N."""

    def __init__(self, sizes: StyleGAN3Sizes):
        super().__init__()
        schedule, filtering, w_dim = sizes.schedule, sizes.filtering, sizes.w_dim
        *steps, (last, picture) = schedule.steps()
        self.input = FourierInput(steps[0][0], w_dim)
        smooth = schedule.layers - schedule.critical  # layers that are not sampled critically
        self.convs = nn.ModuleList(
            AliasFreeConv(given, made, w_dim, filtering, radial=filtering.radial and i < smooth)
            for i, (given, made) in enumerate(steps)
        )
        self.torgb = AliasFreeRGB(last.channels, picture.channels, w_dim, filtering.clamp)
        self.layers, self.scale = schedule.layers + 2, sizes.scale

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        """`noise` is there for other syntheses: these layers have none."""
        x = self.input(ws[:, 0])
        for i, conv in enumerate(self.convs, 1):
            x = conv(x, ws[:, i])
        return cast(Tensor, self.torgb(x, ws[:, -1]) * self.scale)

    @torch.no_grad()
    def track(self, ws: Tensor, decay: float = 0.999) -> None:
        """Count what the layers get for styles [B, L, D] in the means that level it: once in a training step."""
        x = self.input(ws[:, 0])
        for i, conv in enumerate(self.convs, 1):
            cast(AliasFreeConv, conv).track(x, decay)
            x = conv(x, ws[:, i])
        self.torgb.track(x, decay)


def fresh_alias_free(sizes: StyleGAN3Sizes, truncation: Truncation | None = None) -> StyleGenerator:
    """The generator of these sizes."""
    mapping = StyleMapping(sizes.z_dim, sizes.w_dim, sizes.mapping_layers, sizes.classes, sizes.mapping_lr)
    return StyleGenerator(mapping, StyleGAN3Synthesis(sizes), sizes.w_dim, truncation)
