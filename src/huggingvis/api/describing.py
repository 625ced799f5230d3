"""What pictures show, in words: `describe`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from huggingvis.api.loading import device_of
from huggingvis.core.errors import UsageError
from huggingvis.core.request_sampling import MAX_SEED

if TYPE_CHECKING:
    from huggingvis.core.media import Picture

CHUNK = 64


def describe(
    pictures: Sequence[Picture | str | Path] | Picture | str | Path,
    model: str | Path,
    *,
    count: int = 1,
    seed: int = 0,
    steps: int | None = None,
    sampler: str | None = None,
    device: str | None = None,
) -> list[list[str]]:
    """`count` sentences for each picture, by a run of a recipe that says them, as `bit_captions`.

        hv.describe("photo.png", "runs/captions", count=3)

    Sentence k of each picture is drawn from seed + k. `steps`, `sampler`: None as the model does it best. Pictures are
    seen as in training: the largest square in the middle. Raises `UsageError` for a run that says nothing of pictures
    and for impossible numbers, `FileProblem` for files that are missing or damaged.
    """
    from dataclasses import replace

    import torch

    from huggingvis.core.media import Picture
    from huggingvis.core.noise import SeedNoise
    from huggingvis.core.picture_files import over_white
    from huggingvis.recipes.describing import as_seen, open_describer

    if count < 1 or (steps is not None and steps < 1) or not 0 <= seed <= MAX_SEED - count:
        raise UsageError(
            f"A picture gets 1 sentence or more, in 1 step or more, from a seed of 0 to {MAX_SEED - count}; found "
            f"count {count}, steps {steps} and seed {seed}."
        )
    given = [pictures] if isinstance(pictures, Picture | str | Path) else list(pictures)
    if not given:
        raise UsageError("There is no picture to describe. Give one or more.")
    say = open_describer(model, device_of(device))
    numbers = replace(say.usual, steps=steps or say.usual.steps, sampler=sampler or say.usual.sampler)
    seen = (p.to_pil().convert("RGB") if isinstance(p, Picture) else over_white(p) for p in given)
    x = torch.cat([as_seen(image, say.facts) for image in seen]).repeat_interleave(count, dim=0)  # [N count, C, S, S]
    said: list[str] = []
    for part in x.split(CHUNK):
        seeds = [seed + (len(said) + i) % count for i in range(len(part))]
        with torch.inference_mode():
            said += say(part, SeedNoise(seeds), numbers)
    return [said[i : i + count] for i in range(0, len(said), count)]
