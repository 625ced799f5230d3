"""What of a request has no effect on its pictures, in sentences: nobody should wait for what cannot come."""

from __future__ import annotations

from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.told_scale import ToldScale


def idle(system: System, request: Request) -> tuple[str, ...]:
    """A negative prompt where nothing is guided away from it. `request`: one that `system` can do."""
    if not request.prompt.negative.strip():
        return ()
    try:
        model = system.generator(request)
    except UsageError:  # told when pictures are made
        return ()
    if not isinstance(model, Diffuses) or not _unguided(model.diffusion):
        return ()
    if isinstance(model.diffusion.prior, ToldScale):
        why = f"{system.spec.name!r} is told its guidance as a number and knows none"
        return (f"The negative prompt has no effect: {why}. Leave it out, or use a model that was not distilled so.",)
    return (
        "The negative prompt has no effect: at guidance_scale 1 pictures are not guided away from it. Raise "
        "guidance_scale, if the model is made for that (Turbo, Lightning and LCM models are not), or leave it out.",
    )


def _unguided(model: Diffusion) -> bool:
    return any(isinstance(guidance, ClassifierFree) and guidance.scale == 1.0 for guidance in model.guidance)
