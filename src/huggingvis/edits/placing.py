"""Where a picture lies on a canvas: its size made the canvas's, a part cut out around a mask, and put back.

Which part is cut out for a mask follows the AUTOMATIC1111 web UI ("only masked"): the mask's bounding box, grown by a
padding, then grown along one axis to the canvas's shape and pushed back inside the picture.
Book: chapter 6, "Inpainting".
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from huggingvis.core.errors import UsageError
from huggingvis.core.resizing import Box, Resize, place_on

NEAREST, LANCZOS = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
GREY = 127.0
LARGEST = 2**28
"""Pixels of a picture on its way to a canvas."""


def placed(image: Image.Image, size: tuple[int, int], resize: Resize, how: Image.Resampling = LANCZOS) -> Image.Image:
    """`image` made (width, height) large: stretched; or of its own shape, cut, or laid in with its edges drawn out.

    Raises `UsageError` for a picture so narrow that it would become huge before it is cut.
    """
    if image.size == size:
        return image
    at = place_on(size, image.size, resize)
    if at.size[0] * at.size[1] > LARGEST:
        raise UsageError(
            f"A picture of {image.width}x{image.height} would become one of {at.size[0]}x{at.size[1]} before "
            f"{size[0]}x{size[1]} is cut from it. Cut it nearer to that shape first, or ask for another way to resize."
        )
    sized = image.resize(at.size, how)
    if resize == "fill":
        return drawn_out(sized, at, size)
    return sized.crop((-at.left, -at.top, size[0] - at.left, size[1] - at.top))


def drawn_out(image: Image.Image, at: Box, size: tuple[int, int]) -> Image.Image:
    """A larger picture with `image` lying `at` a place of it and its edges drawn out to all sides."""
    width, height = size
    pixels = np.asarray(image)
    pad = [(at.top, height - at.bottom), (at.left, width - at.right)]
    return Image.fromarray(np.pad(pixels, pad + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def around(mask: np.ndarray, padding: int, canvas: tuple[int, int]) -> Box:
    """The part of a picture to work on for the mask [H, W], which is not empty: of the canvas's shape where it can."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom = max(int(rows[0]) - padding, 0), min(int(rows[-1]) + 1 + padding, height)
    left, right = max(int(columns[0]) - padding, 0), min(int(columns[-1]) + 1 + padding, width)
    ratio = canvas[0] / canvas[1]
    if (right - left) / (bottom - top) > ratio:
        top, bottom = _grown(top, bottom, int((right - left) / ratio), height)
    else:
        left, right = _grown(left, right, int((bottom - top) * ratio), width)
    return Box(left, top, right, bottom)


def _grown(low: int, high: int, wanted: int, limit: int) -> tuple[int, int]:
    """[low, high) grown to both sides to the length `wanted`, moved inside [0, limit), cut where that is shorter."""
    more = max(wanted - (high - low), 0)
    low -= more // 2
    high += more - more // 2
    back = max(high - limit, 0)
    low, high = low - back, high - back
    return (0, min(high - low, limit)) if low < 0 else (low, high)


def feathered(weight: np.ndarray, radius: float) -> np.ndarray:
    """A mask uint8 [H, W] whose edges fade over `radius` pixels (the deviation of a Gaussian)."""
    if not radius:
        return weight
    return np.asarray(Image.fromarray(weight).filter(ImageFilter.GaussianBlur(radius)))


def mixed(new: np.ndarray, old: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C]: (k new + (255 - k) old) / 255, rounded, with k = `weight` [H, W]. 255 is new, 0 old, exactly."""
    k = weight.astype(np.uint32)[:, :, None]
    return ((k * new + (255 - k) * old + 127) // 255).astype(np.uint8)


def surroundings(image: Image.Image, hole: np.ndarray) -> Image.Image:
    """`image` with its hole, bool [H, W], filled by the colours around it, the blurrier the farther; grey if all is.

    Sums of what is known are halved in size until one number is left, then enlarged again, each size deciding as far
    as it saw something (the pull-push of Gortler et al. 1996, "The Lumigraph").
    """
    pixels = np.asarray(image, dtype=np.float32)
    flat = pixels[:, :, None] if pixels.ndim == 2 else pixels  # [H, W, C]
    known = (~hole)[:, :, None].astype(np.float32)
    sizes = [np.concatenate([flat * known, known], axis=2)]  # each: sums of colours, share known
    while max(sizes[-1].shape[:2]) > 1:
        h, w, _ = sizes[-1].shape
        sizes.append(_sized(sizes[-1], (-(-w // 2), -(-h // 2)), Image.Resampling.BOX))
    filled = np.full((1, 1, flat.shape[2]), GREY, np.float32)
    for level in reversed(sizes):
        sums, seen = level[:, :, :-1], level[:, :, -1:]
        coarse = _sized(filled, (level.shape[1], level.shape[0]), Image.Resampling.BILINEAR)
        least = seen if level is not sizes[-1] else (seen > 0).astype(np.float32)  # the last one knows all there is
        filled = least * sums / np.maximum(seen, 1e-9) + (1 - least) * coarse
    out = np.where(known > 0, flat, np.rint(filled)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(out[:, :, 0] if pixels.ndim == 2 else out)


def _sized(values: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """float32 [H, W, C] at another (width, height)."""
    planes = [Image.fromarray(np.ascontiguousarray(plane)).resize(size, how) for plane in np.moveaxis(values, 2, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
