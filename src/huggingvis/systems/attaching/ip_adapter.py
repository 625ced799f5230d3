"""IP-Adapters on a system: a picture as a prompt, seen by an image encoder of its own.

The encoder is a folder of transformers (`CLIPVisionModelWithProjection`), which the community keeps apart from the
adapter's file: beside it as `image_encoder`, in the model's folder, or named by the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.adapters.ip_adapter import IPAdapter
from huggingvis.checkpoints import ip_adapter_files
from huggingvis.checkpoints.text_towers import from_transformers
from huggingvis.core.errors import FileProblem
from huggingvis.core.request import AdapterUse
from huggingvis.nets.clip_vision import CLIPVision
from huggingvis.systems.attachments import Bench, Removable

FOLDER = "image_encoder"


@dataclass
class Opened:
    """An adapter, where it lies, and the encoders that were asked for so far."""

    path: Path
    adapter: IPAdapter
    encoders: dict[Path, CLIPVision]


def opened(path: Path, bench: Bench) -> Opened:
    """The adapter in the file. Raises `UsageError` where it was made for another base."""
    adapter = ip_adapter_files.load(path, dtype=bench.dtype, tokens_dim=bench.unet.config.tokens_dim)
    return Opened(path, adapter.to(bench.device), {})


def attach(found: Opened, use: AdapterUse, bench: Bench) -> tuple[Removable, Mapping[str, Tensor]]:
    """A second attention to the picture's tokens at every step of its window."""
    seen, nothing = _seen(_encoder(found, use, bench), found.adapter, use, bench)
    cond = found.adapter.condition(seen, nothing, bench.name)
    return found.adapter.attach(bench.unet, use.weight, bench.name, bench.window), bench.everywhere(cond)


def _encoder(found: Opened, use: AdapterUse, bench: Bench) -> CLIPVision:
    places = [Path(use.encoder)] if use.encoder else [found.path.parent / FOLDER, found.path.parent.parent / FOLDER]
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise FileProblem(
            f"{found.path} sees pictures by an image encoder, which is not in it: expected a folder "
            f"{' or '.join(map(str, places))}. Download the adapter's image_encoder and name its folder."
        )
    if place not in found.encoders:
        tower = from_transformers(place, bench.dtype)
        if not isinstance(tower, CLIPVision):
            raise FileProblem(f"{place} holds a {type(tower).__name__}; an IP-Adapter sees by CLIP's image tower.")
        found.encoders[place] = tower.to(bench.device)
    return found.encoders[place]


def _seen(tower: CLIPVision, adapter: IPAdapter, use: AdapterUse, bench: Bench) -> tuple[Tensor, Tensor | None]:
    """What the tower sees of the picture, [1, 1, E] or [1, 1, S, E], and of an empty one where that is asked for."""
    x = bench.seen(use, tower.config.image)  # [1, 3, S, S]
    if not adapter.reads_patches:
        return tower(x)[1][:, None], None
    last = tower.config.depth - 1
    return tower.hidden(x, last)[:, None], tower.hidden(torch.zeros_like(x), last)[:, None]
