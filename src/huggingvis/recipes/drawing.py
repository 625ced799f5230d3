"""Many pictures from a system, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.core.system import System


def prompts_for(system: System, count: int) -> list[str]:
    """What `count` pictures are asked for by: each class in turn where there are some, or else nothing.

    Raises `UsageError` for a system that draws what sentences say.
    """
    if system.limits.prompt_required:
        raise UsageError(
            f"{system.spec.name} draws what sentences say; this is measured of models that need none. Leave the option "
            "out, and its scenes are scored."
        )
    classes = system.spec.card.get("classes") or [""]
    return [str(classes[i % len(classes)]) for i in range(count)]


def drawn(
    system: System,
    prompts: Sequence[str],
    sampling: Sampling,
    chunk: int = 64,
    on_chunk: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Pictures [B, C, H, W] in [-1, 1] of a chunk of `prompts` after another; picture i from seed + i."""
    for start in range(0, len(prompts), chunk):
        part = prompts[start : start + chunk]
        requests = [Request(Prompt(text), sampling=sampling) for text in part]
        with torch.inference_mode():
            cond = system.conditioner.prepare(system.conditioner(requests))
            noise = SeedNoise([sampling.seed + start + i for i in range(len(part))])
            x = system.codec.decode(system.generator(requests[0]).sample(len(part), cond, noise=noise))
        yield x.float().cpu()
        if on_chunk is not None:
            on_chunk(start + len(part))
