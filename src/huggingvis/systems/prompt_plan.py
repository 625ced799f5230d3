"""What of a request's prompts is told to a net at which step: prompts that change, and prompts that AND joins.

A condition holds what the first step reads under its ports (`tokens`, `vector` ...), the further prompts of AND under
`and.1.`, `and.2.` ..., and, where something changes, every distinct reading under `variant.0.`, `variant.1.` ...;
`guidance.by_step` puts the right ones in place and `guidance.conjunction` adds them up. Steps are those of the request,
as AUTOMATIC1111's web UI counts them (`Script.walked`): from a picture, where fewer are walked, they are counted from
the first that is. Book: chapter 6, "What a prompt can say".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from huggingvis.codecs.prompt_script import Reading, Script, Steps, script
from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Guidance
from huggingvis.core.request import Prompt, Request
from huggingvis.guidance.by_step import AND, VARIANT, ByStep
from huggingvis.guidance.cfg import NEGATIVE, ClassifierFree
from huggingvis.guidance.conjunction import Conjunction

LORAS = ("lora", "lyco")
"""Tags that name one."""

Ports = Callable[[Sequence[Reading], bool], Mapping[str, Tensor]]
"""The ports of some prompts; whether they are negative ones."""


@final
@dataclass(frozen=True)
class PromptPlan:
    """Prompt and negative prompt over `steps`."""

    prompt: Script
    negative: Script
    steps: Steps

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the prompts that AND joins."""
        return tuple(part.strength for part in self.prompt.prompt.parts)

    @property
    def moving(self) -> bool:
        """Whether anything changes between steps."""
        return self.prompt.moving or self.negative.moving

    @cached_property
    def said(self) -> tuple[tuple[Reading, ...], ...]:
        """What each step, from 0, reads: of every prompt of AND, and last the negative one."""
        count = self.steps.total if self.moving else 1
        return tuple(
            (*(said.reading for said in self.prompt.walked(i, self.steps)),
             self.negative.walked(i, self.steps)[0].reading)
            for i in range(count)
        )  # fmt: skip

    @cached_property
    def variants(self) -> tuple[Reading, ...]:
        """Distinct readings, positive ones first."""
        return tuple(dict.fromkeys((*self._positive, *self._negative)))

    @property
    def _positive(self) -> Iterable[Reading]:
        return (reading for step in self.said for reading in step[:-1])

    @property
    def _negative(self) -> Iterable[Reading]:
        return (step[-1] for step in self.said)

    @cached_property
    def table(self) -> tuple[tuple[int, ...], ...]:
        """`said`, by numbers of `variants`."""
        numbers = {reading: number for number, reading in enumerate(self.variants)}
        return tuple(tuple(numbers[reading] for reading in step) for step in self.said)


@lru_cache(maxsize=64)
def _plan(prompt: Prompt, steps: Steps) -> PromptPlan:
    return PromptPlan(
        script(prompt.text, prompt.emphasis), script(prompt.negative, prompt.emphasis, negative=True), steps
    )


def plan_of(request: Request, steps: Steps | None = None) -> PromptPlan:
    """The plan of a request; `steps` where they are not its own. Raises `PromptProblem`."""
    return _plan(request.prompt, steps or Steps(request.sampling.steps))


def plans_of(requests: Sequence[Request]) -> list[PromptPlan]:
    """The plan of each. Raises `UsageError` where they differ and are more than words with weights."""
    plans = [plan_of(request) for request in requests]
    if any(plan is not plans[0] and (plan.moving or plan.weights != (1.0,)) for plan in plans[1:]) or (
        any(plan is not plans[0] for plan in plans) and (plans[0].moving or plans[0].weights != (1.0,))
    ):
        raise UsageError(
            "Pictures of different prompts cannot be made at once where a prompt changes between steps or is joined by "
            "AND. Ask for them one after another."
        )
    return plans


def conditions(plans: Sequence[PromptPlan], ports: Ports) -> dict[str, Tensor]:
    """The condition of pictures with these plans, all of one if they are more than words with weights."""
    plan = plans[0]

    def named(prefix: str, told: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{prefix}{key}": value for key, value in told.items()}

    own = ports([one.said[0][0] for one in plans], False)
    cond = {**own, **named(NEGATIVE, ports([one.said[0][-1] for one in plans], True))}
    for number, reading in enumerate(plan.said[0][1:-1], start=1):
        cond |= named(f"{AND}{number}.", ports([reading] * len(plans), False))
    if not plan.moving:
        return cond
    for numbers, prefix, negative in (
        (sorted({n for step in plan.table for n in step[:-1]}), VARIANT, False),
        (sorted({step[-1] for step in plan.table}), f"{NEGATIVE}{VARIANT}", True),
    ):
        for n in numbers:
            cond |= named(f"{prefix}{n}.", ports([plan.variants[n]] * len(plans), negative))
    return {**cond, "step": torch.zeros(len(plans), dtype=torch.int64)}


def guided(plan: PromptPlan, free: ClassifierFree) -> Guidance:
    """`free`, for as many prompts as AND joins."""
    if plan.weights == (1.0,):
        return free
    return Conjunction(plan.weights, free.scale, free.rescale, free.interval)


def stepwise(plan: PromptPlan) -> tuple[Guidance, ...]:
    """What puts each step's readings in place; it goes around every other guidance."""
    return (ByStep(plan.table),) if plan.moving else ()


def words_of(request: Request) -> tuple[str, str]:
    """All that the prompt, and the negative prompt, say at any step, without the language's signs."""
    plan = plan_of(request)
    positive = dict.fromkeys(reading.text for step in plan.said for reading in step[:-1])
    return " ".join(positive), " ".join(dict.fromkeys(step[-1].text for step in plan.said))


def grammar_notes(request: Request) -> tuple[str, ...]:
    """What of the prompts is read otherwise than it may be meant, and which of their tags load nothing."""
    plan, how = plan_of(request), request.refine
    again = None if how is None else Steps(how.steps, before=plan.steps.total)
    said = [*plan.prompt.notes(plan.steps, again if how and how.prompt is None else None)]
    away = plan.negative.notes(plan.steps, again if how and how.negative is None else None)
    said += [note.replace("of the prompt.", "of the negative prompt.") for note in away]
    loaded = {Path(use.path).stem for use in request.adapters}
    for tag in (*plan.prompt.extras, *plan.negative.extras):
        if tag.kind not in LORAS:
            said.append(f"{tag} in the prompt is no word, and nothing that this model can load: it does nothing.")
        elif Path(tag.name).stem not in loaded:
            said.append(f"{tag} in the prompt is no word, and nothing is loaded for it: name its file as an adapter.")
    return tuple(said)


def section_notes(plan: PromptPlan) -> tuple[str, ...]:
    """What a tower that reads one row makes of BREAK."""
    if all(len(reading.sections) == 1 for reading in plan.variants):
        return ()
    return ("BREAK is no more than a space to this model, which reads its prompt in one row.",)


def pieces_of(reading: Reading, pieces: Callable[[str], Sequence[int]]) -> tuple[list[int], list[float]]:
    """The ids of a prompt in a row and their weights, for towers that read one row: BREAK is no more than a space."""
    ids: list[int] = []
    weights: list[float] = []
    for section in reading.sections:
        for span in section:
            own = list(pieces(span.text))
            ids += own
            weights += [span.weight] * len(own)
    return ids, weights
