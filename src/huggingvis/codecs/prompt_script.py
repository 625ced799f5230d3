r"""Which words of a prompt hold at which step, and with which weights.

Two layers, as in the programs that the language comes from: schedules and alternations first give a text for the step;
then its brackets are read as weights, so that words which a schedule lets in count as if they had been typed there.
Steps are counted from 1 here; `[a:b:when]` is `a` up to and with step `when`, b afterwards. `when` with a point is a
part of the steps, without one a number of steps; in a second pass ("hires fix") parts run from 1 to 2 and steps go on
from those of the first. Book: chapter 6, "What a prompt can say".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import final

from huggingvis.codecs.prompt_grammar import parse
from huggingvis.codecs.prompt_problems import PromptProblem, pointed
from huggingvis.codecs.prompt_tree import (
    Alternating,
    Extra,
    Node,
    Nodes,
    Part,
    Prompt,
    Scheduled,
    Weighted,
    Words,
)
from huggingvis.core.request import EMPHASIS

_MARKED = re.compile(r"[()\[\]\\]|\bBREAK\b")
"""A text without any of these is words of one weight."""
_ROUND, _SQUARE = 1.1, 1 / 1.1
_LETTERS = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_NO_CHANGE = re.compile(r"\[([^\[\]():|\\]*):([^\[\]():|\\]*):([^\[\]():|\\]*)\]")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_OPEN_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^>]*\Z")


@final
@dataclass(frozen=True)
class Span:
    """Words and what they are multiplied by."""

    text: str
    weight: float = 1.0


@final
@dataclass(frozen=True)
class Reading:
    """What a text tower is given: sections, each begun by a BREAK, of spans."""

    sections: tuple[tuple[Span, ...], ...]

    @classmethod
    def of(cls, text: str) -> Reading:
        """`text` as words, whatever stands in it."""
        return cls(((Span(text),),))

    @property
    def text(self) -> str:
        """All of its words."""
        return " ".join("".join(span.text for span in section) for section in self.sections)

    @property
    def weighted(self) -> bool:
        """Whether a weight is not 1."""
        return any(span.weight != 1.0 for section in self.sections for span in section)


@final
@dataclass(frozen=True)
class Said:
    """One of the prompts that AND joins, at a step."""

    reading: Reading
    weight: float = 1.0


@final
@dataclass(frozen=True)
class Steps:
    """How many there are; `before`: of the first pass, where this is the second."""

    total: int
    before: int | None = None

    def when(self, word: str) -> int:
        """The last step of what stands before the change at `word`."""
        value, part = float(word), "." in word
        if self.before is not None:
            value -= 1.0 if part else self.before
        return min(self.total, int(value * self.total if part else value))


@final
@dataclass(frozen=True)
class Script:
    """A prompt as it is read over the steps. `emphasis`: one of `core.request.EMPHASIS`."""

    text: str
    prompt: Prompt
    emphasis: str = EMPHASIS[0]

    def texts(self, step: int, steps: Steps) -> tuple[str, ...]:
        """The text of each part at a step, 1 to `steps.total`: no schedule is left in it."""
        return tuple(_text(part.body, step, steps) for part in self.prompt.parts)

    def at(self, step: int, steps: Steps) -> tuple[Said, ...]:
        """What is read at a step, 1 to `steps.total`."""
        read = Reading.of if self.emphasis == "none" else self._read
        told = zip(self.texts(step, steps), self.prompt.parts, strict=True)
        return tuple(Said(read(text), part.strength) for text, part in told)

    def walked(self, i: int, steps: Steps) -> tuple[Said, ...]:
        """What step i of a walk, from 0, reads: what is said of step max(i, 1).

        So the web UI counts: it asks which words last at least i steps. The first two steps read the same, what is said
        of the last one is read by none, and a change after 10 of 20 steps shows in the twelfth.
        """
        return self.at(max(i, 1), steps)

    def changes(self, steps: Steps) -> tuple[tuple[int, tuple[Said, ...]], ...]:
        """What is read, each with the first step that reads it."""
        if not any(_moving(part) for part in self.prompt.parts):
            return ((1, self.at(1, steps)),)
        every = ((step, self.at(step, steps)) for step in range(1, steps.total + 1))
        return tuple(next(same) for _, same in groupby(every, key=lambda one: one[1]))

    @property
    def extras(self) -> tuple[Extra, ...]:
        """The tags, in their order."""
        return tuple(node for node in self.nodes() if isinstance(node, Extra))

    @property
    def moving(self) -> bool:
        """Whether anything depends on the step."""
        return any(_moving(part) for part in self.prompt.parts)

    def nodes(self) -> Iterator[Node]:
        """All nodes, each before what is in it."""
        for part in self.prompt.parts:
            yield from _every((*part.body, *part.rest))

    def notes(self, steps: Steps | None = None, again: Steps | None = None) -> tuple[str, ...]:
        """What is read otherwise than it may be meant, each pointing at a letter; `again`: of a second pass."""
        told = [*self._brackets(), *self._numbers()]
        walks = [walk for walk in (steps, again) if walk is not None]
        for node in self.nodes():
            if isinstance(node, Scheduled) and walks and all(w.when(node.when) >= w.total for w in walks):
                here = " and then ".join(f"{w.total} steps" if w.total > 1 else "one step" for w in walks)
                told.append((node.at, f"What {str(node)!r} changes to never comes: there are {here}."))
            elif isinstance(node, Weighted) and (found := _NO_CHANGE.fullmatch(str(node))):
                said = (
                    f"{str(node)!r} changes nothing: {found[3].strip()!r} is no number of steps, so that all of it is "
                    f"read as words. Write [{found[1]}:{found[2]}:0.5], or [{found[1]}|{found[2]}|{found[3]}]."
                )
                told.append((node.at, said))
        return tuple(pointed(said, self.text, at) for at, said in sorted(told))

    def _brackets(self) -> Iterator[tuple[int, str]]:
        """Those without another half, or with the half of another one between."""
        for part in self.prompt.parts if self.emphasis != "none" else ():
            opened: dict[str, list[int]] = {"(": [], "[": []}
            for at, letter in _lone(part.body):
                if letter in opened:
                    opened[letter].append(at)
                elif opened["(" if letter == ")" else "["]:
                    start = opened["(" if letter == ")" else "["].pop()
                    yield start, "This bracket crosses another one; both weigh what stands between their own halves."
                else:
                    yield at, f"The bracket {letter!r} closes nothing and is read as a letter, as \\{letter} is."
            for letter, places in opened.items():
                factor = "1.1" if letter == "(" else "1/1.1"
                for at in places:
                    yield at, f"The bracket {letter!r} is never closed: all that follows is weighted by {factor}."

    def _numbers(self) -> Iterator[tuple[int, str]]:
        """A weight without AND, and a tag without end."""
        first = self.prompt.parts[0]
        if len(self.prompt.parts) == 1 and first.weight:
            at = first.at + len("".join(map(str, first.body))) + first.weight.index(":")
            said = f"{first.weight.strip()!r} at the end weighs the whole prompt, as between AND; to weigh words, put"
            yield at, f"{said} them in brackets: (words:1.3)."
        if (tag := _OPEN_TAG.search(self.text)) is not None:
            yield tag.start(), "This tag has no end ('>') and is read as words."

    def _read(self, text: str) -> Reading:
        return weighed(text, self.text)


def script(text: str, emphasis: str = EMPHASIS[0], *, negative: bool = False) -> Script:
    """A prompt, or a negative one, in which AND is a word. Raises `PromptProblem`."""
    return Script(text, parse(text, conjunctions=not negative), emphasis)


def weighed(text: str, source: str | None = None) -> Reading:
    """A text without schedules as spans. Raises `PromptProblem` for a weight that is no number.

    Round and square brackets are counted apart, and one that is never closed weighs all that follows, as in A1111's
    reading of such texts.
    """
    if _MARKED.search(text) is None:
        return Reading.of(text)
    flat: list[tuple[str, float] | None] = []  # None: a BREAK
    opened: dict[str, list[int]] = {")": [], "]": []}

    def multiply(closing: str, factor: float) -> None:
        start = opened[closing].pop()
        flat[start:] = [None if one is None else (one[0], one[1] * factor) for one in flat[start:]]

    for found in _LETTERS.finditer(text):
        letters, number = found[0], found[1]
        if letters.startswith("\\"):
            flat.append((letters[1:], 1.0))
        elif letters in ("(", "["):
            opened[")" if letters == "(" else "]"].append(len(flat))
        elif number is not None and opened[")"]:
            multiply(")", _number(number, text, found.start(1), source))
        elif letters in (")", "]") and opened[letters]:
            multiply(letters, _ROUND if letters == ")" else _SQUARE)
        else:
            for n, words in enumerate(_BREAK.split(letters)):
                flat += [None, (words, 1.0)] if n else [(words, 1.0)]
    for closing, factor in ((")", _ROUND), ("]", _SQUARE)):
        while opened[closing]:
            multiply(closing, factor)
    return _sections(flat)


def _sections(flat: list[tuple[str, float] | None]) -> Reading:
    """Words and weights, None for a BREAK, as sections; words of one weight that follow each other are one span."""
    spans: list[list[tuple[str, float]]] = [[]]
    for one in flat:
        if one is None:
            spans.append([])
        elif spans[-1] and spans[-1][-1][1] == one[1]:
            spans[-1][-1] = spans[-1][-1][0] + one[0], one[1]
        else:
            spans[-1].append(one)
    return Reading(tuple(tuple(Span(*span) for span in section) or (Span(""),) for section in spans))


def _number(word: str, text: str, at: int, source: str | None) -> float:
    try:
        return float(word)
    except ValueError:
        whole = text if source is None or word not in source else source
        where = at if whole is text else source.index(word) if source else at
        said = f"A weight is a number such as 1.3, but {word!r} was found. Write it as in (words:1.3)."
        raise PromptProblem(said, whole, where) from None


def _text(nodes: Nodes, step: int, steps: Steps) -> str:
    return "".join(_of(node, step, steps) for node in nodes)


def _of(node: Node, step: int, steps: Steps) -> str:
    if isinstance(node, Extra):
        return ""
    if isinstance(node, Weighted):
        closing = ")" if node.bracket == "(" else "]"
        return f"{node.bracket}{_text(node.body, step, steps)}{node.number}{closing}"
    if isinstance(node, Scheduled):
        return _text((node.before or ()) if step <= steps.when(node.when) else node.after, step, steps)
    if isinstance(node, Alternating):
        return _text(node.options[(step - 1) % len(node.options)], step, steps)
    return str(node)


def _every(nodes: Nodes) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Weighted):
            yield from _every(node.body)
        elif isinstance(node, Scheduled):
            yield from _every((*(node.before or ()), *node.after))
        elif isinstance(node, Alternating):
            for option in node.options:
                yield from _every(option)


def _moving(part: Part) -> bool:
    return any(isinstance(node, Scheduled | Alternating) for node in _every(part.body))


def _lone(nodes: Nodes) -> Iterator[tuple[int, str]]:
    """Brackets among a part's words: those are the ones that have no other half."""
    for node in nodes:
        if isinstance(node, Words):
            for found in re.finditer(r"\\.|[()\[\]]", node.text, re.DOTALL):
                if not found[0].startswith("\\"):
                    yield node.at + found.start(), found[0]
