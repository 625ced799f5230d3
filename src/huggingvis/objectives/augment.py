r"""Augmentation that a discriminator looks through, with a probability that adapts to how much it overfits.

Karras et al. 2020 (arXiv 2006.06676), Sec. 2 and 3, App. B. Each transformation is applied with probability p to what
the discriminator sees, real or made, so that a generator still has to match the true pictures as long as p is below
about 0.8. Here are its three strongest groups: pixel blitting (mirror, quarter turns, whole-pixel shifts), geometry
(scale, rotation, aspect, shift) and colour (brightness, contrast, luma flip, hue, saturation). The overfitting
heuristic is

    r_t = E[sign D(x)],   p <- p + sign(r_t - target) * pictures / (1000 kimg)             Eq. 1 and Sec. 3.1

Everything is differentiable twice with respect to the picture (a gather, not `grid_sample`), since R1 asks for it.
Book: chapter 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.resampling import upfirdn2d

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Daubechies' symlet of six vanishing moments: orthogonal, so that up and down again is the identity."""


@dataclass(frozen=True)
class Strengths:
    """How far each transformation goes (App. B), and which groups there are: 1 with, 0 without.

    Attributes:
        blit: mirror, quarter turns, shifts by whole pixels.
        geometry: scale, rotation, aspect, shift.
        colour: brightness, contrast, luma flip, hue, saturation.
        shift_max: largest whole-pixel shift, share of the side.
        scale_std: log2 deviation of scale and of aspect.
        shift_std: deviation of the shift, share of the side.
        brightness_std: deviation of brightness; pictures span [-1, 1].
        contrast_std: log2 deviation of contrast.
        saturation_std: log2 deviation of saturation.
    """

    blit: float = 1.0
    geometry: float = 1.0
    colour: float = 1.0
    shift_max: float = 0.125
    scale_std: float = 0.2
    shift_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    saturation_std: float = 1.0


@final
class Draws:
    """Random numbers for a batch of `n` pictures, each kind switched on with a probability of its own."""

    def __init__(self, n: int, rng: torch.Generator, dtype: torch.dtype):
        self.n, self.rng, self.dtype = n, rng, dtype

    def uniform(self, low: float, high: float) -> Tensor:
        u = torch.rand(self.n, generator=self.rng, device=self.rng.device, dtype=self.dtype)
        return low + (high - low) * u

    def normal(self, std: float) -> Tensor:
        return std * torch.randn(self.n, generator=self.rng, device=self.rng.device, dtype=self.dtype)

    def on(self, p: Tensor) -> Tensor:
        """1 with probability `p` [], else 0: [n]."""
        return (self.uniform(0, 1) < p).to(self.dtype)


@final
class Augment(nn.Module):
    """Pictures [B, C, S, S] in [-1, 1] -> the same, each transformation done with probability `p` []."""

    taps: Tensor

    def __init__(self, strengths: Strengths | None = None):
        super().__init__()
        self.strengths = strengths or Strengths()
        self.register_buffer("taps", torch.tensor(SYM6) / sum(SYM6), persistent=False)

    def forward(self, x: Tensor, p: Tensor, rng: torch.Generator) -> Tensor:
        draws = Draws(len(x), rng, torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            x = blit(x, self.jump(draws, p, x.shape[-1]))
            x = warp(x, self.bend(draws, p, x.shape[-1]), self.taps)
            return recolour(x, self.tint(draws, p, x.shape[1]))

    def jump(self, draws: Draws, p: Tensor, side: int) -> Tensor:
        """Mirror, quarter turn and whole-pixel shift as maps from pixels of the result, counted from the centre, to
        pixels of the picture: [B, 3, 3]."""
        s, p = self.strengths, p * self.strengths.blit
        mirror = 1 - 2 * torch.floor(draws.uniform(0, 2)) * draws.on(p)
        turn = torch.floor(draws.uniform(0, 4)) * draws.on(p) * (math.pi / 2)
        shift = [torch.round(draws.uniform(-1, 1) * s.shift_max * side) for _ in "xy"]
        moved = draws.on(p)
        return _stretch(mirror, torch.ones_like(mirror)) @ _turn(turn) @ _shift(shift[0] * moved, shift[1] * moved)

    def bend(self, draws: Draws, p: Tensor, side: int) -> Tensor:
        """Scale, rotation, aspect, rotation and shift, as in `jump`: [B, 3, 3]."""
        s, p = self.strengths, p * self.strengths.geometry
        either = 1 - torch.sqrt((1 - p).clamp(0, 1))  # two chances of a rotation make one of probability p
        zoom = torch.exp2(draws.normal(s.scale_std) * draws.on(p))
        turns = [draws.uniform(-math.pi, math.pi) * draws.on(either) for _ in range(2)]
        aspect = torch.exp2(draws.normal(s.scale_std) * draws.on(p))
        moved = draws.on(p) * side
        shift = _shift(draws.normal(s.shift_std) * moved, draws.normal(s.shift_std) * moved)
        return _stretch(zoom, zoom) @ _turn(turns[0]) @ _stretch(aspect, 1 / aspect) @ _turn(turns[1]) @ shift

    def tint(self, draws: Draws, p: Tensor, channels: int) -> Tensor:
        """Brightness, contrast, luma flip and, where there is colour, hue and saturation: [B, 4, 4] on (r, g, b, 1)."""
        s, p = self.strengths, p * self.strengths.colour
        brightness = draws.normal(s.brightness_std) * draws.on(p)
        contrast = torch.exp2(draws.normal(s.contrast_std) * draws.on(p))
        flip = torch.floor(draws.uniform(0, 2)) * draws.on(p)
        eye = torch.eye(4, dtype=flip.dtype, device=flip.device)
        grey = torch.block_diag(torch.full_like(eye[:3, :3], 1 / 3), torch.zeros_like(eye[:1, :1]))  # onto (1, 1, 1)
        white = torch.outer(eye[3], eye[3])
        lift = eye + torch.outer(1 - eye[3], eye[3]) * brightness[:, None, None]
        light = (white + (eye - white) * contrast[:, None, None]) @ lift
        total = (eye - 2 * grey * flip[:, None, None]) @ light
        if channels == 1:
            return total
        hue = draws.uniform(-math.pi, math.pi) * draws.on(p)
        vivid = torch.exp2(draws.normal(s.saturation_std) * draws.on(p))
        turned = _about_grey(hue, eye, grey)
        colour = eye - grey - white  # what is not grey
        return (eye - colour + colour * vivid[:, None, None]) @ turned @ total


def blit(x: Tensor, motion: Tensor) -> Tensor:
    """x [B, C, S, S] rearranged by maps of pixels onto pixels [B, 3, 3]; beyond the border it goes on mirrored."""
    xs, ys = _seen(motion, x.shape[-1], 0, 1.0, 0.0)
    return _look(x, torch.round(xs).long(), torch.round(ys).long())


def warp(x: Tensor, motion: Tensor, taps: Tensor) -> Tensor:
    """x [B, C, S, S] seen through any affine maps [B, 3, 3]; beyond the border it goes on mirrored.

    The picture is doubled, sampled bilinearly and halved, both by the orthogonal filter `taps` [K]: so the identity is
    exact, and the rest does not blur.
    """
    half, side, taps = len(taps) // 2, x.shape[-1], taps.to(x.dtype)
    wide = F.pad(x, (half,) * 4, mode="reflect")  # half for what lies beyond the border, half for the filter
    fine = upfirdn2d(wide, taps, up=2, padding=(0, -1), gain=4.0)  # [B, C, 2 (S + half), same]
    places = torch.arange(len(taps), dtype=motion.dtype, device=motion.device) - (len(taps) - 1) / 2
    phase = -(places * taps.to(motion.dtype)).sum()  # the filter is not symmetric: its output lies this much aside
    xs, ys = _seen(motion, side, half, 2.0, phase)  # [B, 2 S + 2 half, 2 S + 2 half]
    return upfirdn2d(_bilinear(fine, xs, ys), taps.flip(0), down=2, padding=(-1, -1))


def recolour(x: Tensor, tint: Tensor) -> Tensor:
    """x [B, C, H, W] through affine maps of colour [B, 4, 4]; a grey picture through what they do to grey."""
    tint = tint.to(x.dtype)
    if x.shape[1] == 1:
        tint = tint[:, :3].mean(1)  # [B, 4]
        return x * tint[:, :3].sum(1)[:, None, None, None] + tint[:, 3, None, None, None]
    return torch.einsum("bij,bjhw->bihw", tint[:, :3, :3], x) + tint[:, :3, 3, None, None]


def _seen(motion: Tensor, side: int, margin: int, density: float, phase: Tensor | float) -> tuple[Tensor, Tensor]:
    """Where each pixel of a result with `margin` pixels around it looks: x and y indices, [B, N, N] each.

    Both grids have `density` pixels to one of the picture, and their centres lie `phase` off; indices count from the
    margin's corner.
    """
    n = round(side * density) + 2 * margin
    line = torch.arange(n, dtype=motion.dtype, device=motion.device) - (n - 1) / 2 + phase
    y, x = torch.meshgrid(line, line, indexing="ij")
    linear, shift = motion[:, :2, :2], motion[:, :2, 2] * density
    at = torch.einsum("bij,jhw->bihw", linear, torch.stack([x, y])) + shift[:, :, None, None] + (n - 1) / 2 - phase
    return at[:, 0], at[:, 1]


def _look(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """x [B, C, H, W] at whole indices [B, h, w], mirrored beyond the border: [B, C, h, w]."""
    height, width = x.shape[2:]
    xs, ys = xs % (2 * width), ys % (2 * height)
    xs, ys = torch.minimum(xs, 2 * width - 1 - xs), torch.minimum(ys, 2 * height - 1 - ys)
    places = (ys * width + xs).flatten(1)[:, None].expand(-1, x.shape[1], -1)  # [B, C, h w]
    return x.flatten(2).gather(2, places).unflatten(2, xs.shape[1:])


def _bilinear(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """x [B, C, H, W] between its pixels, at indices [B, h, w]."""
    left, top = xs.floor(), ys.floor()
    fx, fy = (xs - left).to(x.dtype)[:, None], (ys - top).to(x.dtype)[:, None]  # [B, 1, h, w]
    i, j = left.long(), top.long()
    upper = torch.lerp(_look(x, i, j), _look(x, i + 1, j), fx)
    lower = torch.lerp(_look(x, i, j + 1), _look(x, i + 1, j + 1), fx)
    return torch.lerp(upper, lower, fy)


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    """[B, 3, 3] of nine entries [B]."""
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _stretch(sx: Tensor, sy: Tensor) -> Tensor:
    o, one = torch.zeros_like(sx), torch.ones_like(sx)
    return _matrix([[sx, o, o], [o, sy, o], [o, o, one]])


def _turn(angle: Tensor) -> Tensor:
    o, one, c, s = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _matrix([[c, -s, o], [s, c, o], [o, o, one]])


def _shift(tx: Tensor, ty: Tensor) -> Tensor:
    o, one = torch.zeros_like(tx), torch.ones_like(tx)
    return _matrix([[one, o, tx], [o, one, ty], [o, o, one]])


def _about_grey(angle: Tensor, eye: Tensor, grey: Tensor) -> Tensor:
    """Rotations of colour about the grey axis by Rodrigues' formula, [B, 4, 4]."""
    cross = F.pad(eye[:3, :3].roll(-1, 1) - eye[:3, :3].roll(1, 1), (0, 1, 0, 1)) / -math.sqrt(3)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    white = torch.outer(eye[3], eye[3])
    return (eye - white) * c + cross * s + grey * (1 - c) + white
