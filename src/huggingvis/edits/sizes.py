"""Canvases larger than a model knows: what is done in windows, what in tiles, and what is not possible.

Windows average the beliefs of the net (`guidance.windows`), tiles save memory of the autoencoder (`codecs.tiles`). A
net that is told sizes hears of a window as of a picture of its own, uncut: that is what it was trained on, and told
the true corner it would draw things cut off. Book: chapter 6, "Large pictures".
"""

from __future__ import annotations

from dataclasses import replace

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.tiles import Tiling, usual_side
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Encodes
from huggingvis.core.request import Request
from huggingvis.core.system import System, canvas_of
from huggingvis.core.upscalers import upscaler_of
from huggingvis.edits import refine
from huggingvis.edits.task import Task
from huggingvis.guidance.windows import Windows


def check_sizes(system: System, request: Request) -> Request:
    """The request itself if its second pass, second model, windows and tiles are possible. Raises `UsageError`."""
    name = system.spec.name
    if request.canvas.vae_tile and not isinstance(system.codec, KLLatents):
        raise UsageError(f"{name!r} has no autoencoder that could work in tiles: leave vae_tile out.")
    asked = [part for part in ("refine", "refiner", "tiles") if getattr(request, part) is not None]
    if asked and not isinstance(system.generator(refine.first(request)), Diffuses):
        raise UsageError(
            f"The request holds {asked[0]!r}, which is about the steps of a diffusion model, but {name!r} makes "
            "pictures in one go. Leave that part of the request out."
        )
    if request.refine is not None:
        if request.source is not None and not request.source.anew:
            raise UsageError(
                "A second pass would make the known part of the picture anew too. Leave refine out, or enlarge the "
                "finished picture by image-to-image."
            )
        if not upscaler_of(request.refine.upscaler).latent and not isinstance(system.codec, Encodes):
            raise UsageError(
                f"{name!r} has no encoder, so enlarged pixels cannot be read again. Choose an upscaler of latents: "
                "latent, latent-bicubic, latent-nearest."
            )
        system.generator(refine.second(system, request))
    return request


def seen(system: System, request: Request) -> Request:
    """The request as the net is told of it: of a window, where it sees windows."""
    if request.tiles is None:
        return request
    width, height = _window(system, request)
    return replace(request, canvas=replace(request.canvas, width=width, height=height))


def windowed(task: Task) -> Task:
    """The task with a net that sees the canvas in windows, where the request asks for them."""
    tiles, model = task.request.tiles, task.generator
    if tiles is None:
        return task
    assert isinstance(model, Diffuses)
    diffusion, (width, height) = model.diffusion, _window(task.system, task.request)
    factor = task.size[0] // diffusion.shape[-1]
    windows = Windows(height // factor, width // factor, tiles.overlap, (tiles.wrap_y, tiles.wrap_x))
    after = diffusion.then
    after = None if after is None else replace(after, denoise=windows(after.denoise))
    return replace(task, generator=replace(diffusion, guidance=(*diffusion.guidance, windows), then=after))


def cut(system: System, request: Request) -> System:
    """The system with an autoencoder that works in tiles, where the request asks for it or the picture is large."""
    codec, side, tiles = system.codec, request.canvas.vae_tile, request.tiles
    if not isinstance(codec, KLLatents):
        return system
    if side is None:
        side = usual_side(codec.autoencoder, *canvas_of(request, system.spec), next(codec.parameters()).dtype)
    wrap = (False, False) if tiles is None else (tiles.wrap_y, tiles.wrap_x)
    if not side and not any(wrap):
        return system if codec.tiling is None else replace(system, codec=codec.tiled(None))
    return replace(system, codec=codec.tiled(Tiling(side or None, wrap)))


def _window(system: System, request: Request) -> tuple[int, int]:
    """(width, height) of a window in pixels."""
    tiles, (width, height) = request.tiles, canvas_of(request, system.spec)
    assert tiles is not None
    return min(tiles.width or system.spec.size[0], width), min(tiles.height or system.spec.size[1], height)
