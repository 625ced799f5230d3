"""What is put around prompts and into their gaps before a request is made: styles, lists, choices.

The command line and Python fill prompts by this, so that one seed draws the same words in both. Every picture draws its
own: picture i by seed + i. Book: chapter 6, "What a prompt can say".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from huggingvis.codecs.prompt_problems import pointed
from huggingvis.codecs.prompt_styles import Style, styled
from huggingvis.codecs.prompt_templates import WILDCARD, Wildcards, expand, has_gaps, never_closed
from huggingvis.core import rules
from huggingvis.core.request import Limits, Prompt, Request


@final
@dataclass(frozen=True)
class Part:
    """What the pictures from number `first` on, `count` of them, are asked for by."""

    prompt: Prompt
    first: int
    count: int


@final
@dataclass(frozen=True)
class Filling:
    """What prompts are filled by.

    Attributes:
        wildcards: the lists that `__name__` is drawn from; none: such names are letters.
        styles: names of the styles that are put around both prompts.
        table: every style by its name.
    """

    wildcards: Wildcards | None = None
    styles: tuple[str, ...] = ()
    table: Mapping[str, Style] = field(default_factory=dict)

    def texts(self, text: str, negative: str, seed: int) -> tuple[str, str]:
        """Both prompts as `seed` fills them. Raises `UsageError` and `FileProblem`."""
        whole = self._whole(text, negative)
        return expand(whole[0], seed, self.wildcards), expand(whole[1], seed, self.wildcards)

    def parts(self, typed: Prompt, seed: int, count: int) -> Iterator[Part]:
        """The prompt of each picture; one for all of them where nothing is drawn. Raises as `texts`."""
        rules.whole("count", count, 1, Limits().count)
        gaps = any(map(has_gaps, self._whole(typed.text, typed.negative)))
        for i in range(count) if gaps else range(1):
            text, negative = self.texts(typed.text, typed.negative, seed + i)
            changed = (text, negative) != (typed.text, typed.negative)
            words = (typed.text, typed.negative) if changed else ("", "")
            prompt = replace(
                typed, text=text, negative=negative, written=words[0], written_negative=words[1],
                styles=self.styles or typed.styles,
            )  # fmt: skip
            yield Part(prompt, i, 1 if gaps else count)

    def filled(self, request: Request) -> list[Request]:
        """The requests that one becomes. Raises as `texts`."""
        return each_of(request, list(self.parts(request.prompt, request.sampling.seed, request.canvas.count)))

    def notes(self, typed: Prompt, how: str) -> tuple[str, ...]:
        """What of the signs of gaps is read as letters; `how`: the words that name a folder of lists."""
        whole = self._whole(typed.text, typed.negative)
        said = list(unclosed(*whole))
        if self.wildcards is None and (gap := WILDCARD.search(" ".join(whole))):
            said.insert(0, f"{gap[0]} is read as words: name the folder of such lists with {how}.")
        return tuple(said)

    def _whole(self, text: str, negative: str) -> tuple[str, str]:
        return styled(text, negative, self.styles, self.table)


def each_of(request: Request, parts: Sequence[Part]) -> list[Request]:
    """The requests that its `parts` make of one. Each of several says its seeds, whatever the model's own are."""
    seeds = [request.sampling.seeds(part.first) if len(parts) > 1 else {} for part in parts]
    return [
        replace(
            request,
            prompt=part.prompt,
            canvas=replace(request.canvas, count=part.count),
            sampling=request.sampling.saying(**own),
        )
        for part, own in zip(parts, seeds, strict=True)
    ]


def unclosed(*texts: str) -> Iterator[str]:
    """Which brace is a letter because nothing closes it, for each text that has one."""
    for text in texts:
        if (at := never_closed(text)) is not None:
            yield pointed("The brace '{' is never closed: it and what follows are read as letters.", text, at)
