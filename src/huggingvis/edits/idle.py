"""What of a request has no effect on its pictures, in sentences: nobody should wait for what cannot come."""

from __future__ import annotations

from collections.abc import Iterator

from huggingvis.core.diffusion import Diffuses, Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Request
from huggingvis.core.system import System
from huggingvis.edits import refine
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.guidance.told_scale import ToldScale


def idle(system: System, request: Request) -> tuple[str, ...]:
    """A negative prompt that nothing is guided away from, and a variation of no strength.

    `request`: one that `system` can do.
    """
    return (*_variation(request), *_negative(system, request))


def _variation(request: Request) -> Iterator[str]:
    asked = request.sampling
    if asked.variation_seed and asked.variation_strength == 0.0:
        yield "The variation seed has no effect at variation_strength 0. Raise it, to 0.1 for a like picture."


def _negative(system: System, request: Request) -> Iterator[str]:
    """Of the prompt that both passes read, and of one that is the second's own."""
    how, first = request.refine, refine.first(request)
    again = () if how is None else (refine.second(system, request),)
    own = how is not None and how.negative is not None
    if request.prompt.negative.strip():
        yield from _unheard(system, (first, *(() if own else again)), "The negative prompt")
    if how is not None and (how.negative or "").strip():
        yield from _unheard(system, again, "The second pass's negative prompt")


def _unheard(system: System, passes: tuple[Request, ...], called: str) -> Iterator[str]:
    """The sentence where none of the passes is guided away from what is called so."""
    try:
        models = [system.generator(one) for one in passes]
    except UsageError:  # told when pictures are made
        return
    diffused = [model.diffusion for model in models if isinstance(model, Diffuses) and _unguided(model.diffusion)]
    if len(diffused) < len(models):
        return
    if isinstance(diffused[0].prior, ToldScale):
        why = f"{system.spec.name!r} is told its guidance as a number and knows none"
        yield f"{called} has no effect: {why}. Leave it out, or use a model that was not distilled so."
        return
    yield (
        f"{called} has no effect: at guidance_scale 1 pictures are not guided away from it. Raise guidance_scale, if "
        "the model is made for that (Turbo, Lightning and LCM models are not), or leave it out."
    )


def _unguided(model: Diffusion) -> bool:
    return any(isinstance(guidance, ClassifierFree) and guidance.scale == 1.0 for guidance in model.guidance)
