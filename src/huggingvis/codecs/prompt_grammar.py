r"""The prompt language of the community, as a tree that prints to the very text it was read from.

    (words)  (words:1.3)  [words]      weights: 1.1, 1.3, 1/1.1; what is nested multiplies
    [a:b:0.5]  [b:0.5]  [a::0.5]       a, then b, from half of the steps; [a:b:7]: after seven
    [a|b]                              one after another, a new one at each step
    a AND b :0.6                       several prompts at once, each with its weight
    BREAK                              what follows begins a chunk of its own
    <lora:name:0.8>                    no words: what other programs load
    \( \) \[ \]                        the letters themselves

Nodes (`prompt_tree`) are what brackets make of a text. The language has no errors in the programs that it comes from: a
bracket without its other half is a letter that may still weigh what follows, and so it is here (`prompt_script.Script`
points at it in its notes). `str(parse(text)) == text` for every text that parses. Book: chapter 6, "What a prompt can
say".
"""

from __future__ import annotations

import re
from typing import final

from huggingvis.codecs.prompt_problems import PromptProblem
from huggingvis.codecs.prompt_tree import (
    CLOSING,
    Alternating,
    Break,
    Extra,
    Node,
    Nodes,
    Part,
    Prompt,
    Scheduled,
    Weighted,
    Words,
    printed,
)

EXTRA = re.compile(r"<(\w+):([^>]+)>")
BREAK = re.compile(r"\bBREAK\b")
DEEPEST = 100
"""Brackets inside each other."""
_AND = re.compile(r"\bAND\b")
_PART_WEIGHT = re.compile(r"(\s*(?<!\\):\s*([-+]?(?:\d+\.?|\d*\.\d+)))((?:\s|<\w+:[^>]+>)*)\Z")
_WEIGHT = re.compile(r"\s*([+-]?[.\d]+)\s*")
_WHEN = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_PLAIN = re.compile(r"(?:[^\\()\[\]:|<]|\\.|\\\Z)+", re.DOTALL)


def parse(text: str, *, conjunctions: bool = True) -> Prompt:
    """The tree of `text`; without `conjunctions` (negative prompts) AND is a word and a last number no weight.

    Raises `PromptProblem`, which points at the letter, for numbers that are none and for more than `DEEPEST` brackets
    inside each other.
    """
    parts, start = [], 0
    for end in (*_ands(text, conjunctions), len(text)):
        found = _PART_WEIGHT.search(text, start, end) if conjunctions else None
        body_end = found.start() if found else end
        parts.append(
            Part(
                _Parser(text, body_end).all(start),
                found[1] if found else "",
                _Parser(text, end).all(found.end(1)) if found else (),
                start,
            )
        )
        start = end + len("AND")
    return Prompt(tuple(parts))


def _ands(text: str, conjunctions: bool) -> list[int]:
    """Where AND stands, outside of tags."""
    if not conjunctions:
        return []
    tags = [found.span() for found in EXTRA.finditer(text)]
    return [found.start() for found in _AND.finditer(text) if not any(low < found.start() < high for low, high in tags)]


@final
class _Parser:
    """Reads `text` up to `end`. What a bracket leads to is found once for each of them."""

    def __init__(self, text: str, end: int):
        self.text, self.end = text, end
        self.known: dict[int, tuple[Node, int] | None] = {}

    def all(self, start: int) -> Nodes:
        """Everything from `start`; brackets without another half, colons and bars are letters."""
        found: list[Node] = []
        at = start
        while at < self.end:
            some, at = self.run(at, 0)
            found += some
            if at < self.end:
                found.append(Words(self.text[at], at))
                at += 1
        return _merged(found)

    def run(self, at: int, depth: int) -> tuple[list[Node], int]:
        """Nodes from `at` until a letter that is no part of one: a bracket, a colon, a bar."""
        found: list[Node] = []
        while at < self.end:
            letter = self.text[at]
            if letter in "([":
                group = self.group(at, depth + 1)
                if group is None:
                    break
                node, at = group
                found.append(node)
            elif letter == "<":
                tag = EXTRA.match(self.text, at, self.end)
                found.append(Words("<", at) if tag is None else Extra(tag[1], tag[2], at))
                at = at + 1 if tag is None else tag.end()
            elif (words := _PLAIN.match(self.text, at, self.end)) is not None:
                found += _words(words[0], at)
                at = words.end()
            else:
                break
        return found, at

    def group(self, at: int, depth: int) -> tuple[Node, int] | None:
        """The node that begins with the bracket at `at`, and where it ends; None if it is never closed."""
        if depth > DEEPEST:
            raise PromptProblem(
                f"Brackets stand inside each other more than {DEEPEST} deep. Close them, or write a weight as a "
                "number: (words:1.5).",
                self.text,
                at,
            )
        if at not in self.known:
            self.known[at] = self._group(at, depth)
        return self.known[at]

    def _group(self, start: int, depth: int) -> tuple[Node, int] | None:
        bracket = self.text[start]
        segments: list[list[Node]] = []
        signs: list[Words] = []
        at = start + 1
        while True:
            found, at = self.run(at, depth)
            segments.append(found)
            if at >= self.end or self.text[at] not in f":|{CLOSING[bracket]}":
                return None
            if self.text[at] == CLOSING[bracket]:
                break
            signs.append(Words(self.text[at], at))
            at += 1
        make = self._round if bracket == "(" else _square
        return make(start, segments, signs), at + 1

    def _round(self, at: int, segments: list[list[Node]], signs: list[Words]) -> Node:
        last = printed(tuple(segments[-1]))
        told = _WEIGHT.fullmatch(last) if signs and signs[-1].text == ":" else None
        if told is None:
            return Weighted("(", _joined(segments, signs), "", at)
        try:
            float(told[1])
        except ValueError:
            where = signs[-1].at + 1 + told.start(1)
            said = f"A weight is a number such as 1.3, but {told[1]!r} was found. Write it as in (words:1.3)."
            raise PromptProblem(said, self.text, where) from None
        return Weighted("(", _joined(segments[:-1], signs[:-1]), f":{last}", at)


def _square(at: int, segments: list[list[Node]], signs: list[Words]) -> Node:
    colons = [n for n, sign in enumerate(signs) if sign.text == ":"]
    last = printed(tuple(segments[-1]))
    if len(colons) in (1, 2) and colons[-1] == len(signs) - 1 and _WHEN.fullmatch(last):
        if len(colons) == 1:
            return Scheduled(None, _joined(segments[:-1], signs[:-1]), last, at)
        n = colons[0]
        before = _joined(segments[: n + 1], signs[:n])
        return Scheduled(before, _joined(segments[n + 1 : -1], signs[n + 1 : -1]), last, at)
    if signs and not colons:
        return Alternating(tuple(map(_merged, segments)), at)
    return Weighted("[", _joined(segments, signs), "", at)


def _joined(segments: list[list[Node]], signs: list[Words]) -> Nodes:
    """Segments with the signs between them, which are letters there."""
    nodes = list(segments[0])
    for sign, segment in zip(signs, segments[1:], strict=True):
        nodes += [sign, *segment]
    return _merged(nodes)


def _merged(nodes: list[Node]) -> Nodes:
    """Words that follow each other as one."""
    merged: list[Node] = []
    for node in nodes:
        last = merged[-1] if merged else None
        if isinstance(node, Words) and isinstance(last, Words):
            merged[-1] = Words(last.text + node.text, last.at)
        else:
            merged.append(node)
    return tuple(merged)


def _words(text: str, at: int) -> list[Node]:
    """Words and the BREAK between them."""
    found: list[Node] = []
    done = 0
    for stop in BREAK.finditer(text):
        found += [Words(text[done : stop.start()], at + done)] if stop.start() > done else []
        found.append(Break(at + stop.start()))
        done = stop.end()
    return found + ([Words(text[done:], at + done)] if done < len(text) else [])
