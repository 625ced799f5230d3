"""Names and layouts of one code base translated into another's, both ways, from one table of rules.

    KeyMap((
        Rule("conv{i}.{leaf:word}", "convnet.c{i}.{leaf:word}"),
        Rule(("q.weight", "k.weight", "v.weight"), "qkv.weight", Split(3)),
    ))

A placeholder stands for a number (`{i}`), for one dotless word (`{leaf:word}`) or for anything (`{rest:path}`), and
means the same on both sides of its rule. Every tensor is used exactly once: two rules that claim one name, or one
result made twice, are faults of the table and raise at once; names that no rule takes are reported, not dropped. A
table of a large net has a thousand rules, so a name is compared only with those that begin as it does.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import final

from torch import Tensor

from huggingvis.checkpoints.transforms import Group, Identity, Transform
from huggingvis.core.errors import FileProblem

_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_KINDS = {"int": "[0-9]+", "word": "[^.]+", "path": ".+"}

Tensors = dict[str, Tensor]


@final
class Pattern:
    """A name with placeholders, which can be matched and filled in."""

    def __init__(self, text: str):
        self.text = text
        self.fields: dict[str, str] = {}  # placeholder -> kind
        for name, kind in _PLACEHOLDER.findall(text):
            if (kind or "int") not in _KINDS:
                raise ValueError(f"pattern {text!r}: placeholder {name!r} has kind {kind!r}; known: {list(_KINDS)}")
            self.fields.setdefault(name, kind or "int")
        self.head = text.partition("{")[0] if self.fields else text

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        seen: set[str] = set()
        parts, at = [], 0
        for found in _PLACEHOLDER.finditer(self.text):
            name = found.group(1)
            group = f"(?P={name})" if name in seen else f"(?P<{name}>{_KINDS[self.fields[name]]})"
            parts += [re.escape(self.text[at : found.start()]), group]
            seen.add(name)
            at = found.end()
        return re.compile("".join(parts) + re.escape(self.text[at:]))

    def match(self, name: str) -> dict[str, str] | None:
        """What the placeholders stand for in `name`, or None."""
        found = self._regex.fullmatch(name)
        return found.groupdict() if found else None

    def fill(self, values: Mapping[str, str]) -> str:
        """The name for these values."""
        return _PLACEHOLDER.sub(lambda found: values[found.group(1)], self.text)


Ways = list[Callable[[Group], Group]]
Place = tuple[int, int, Pattern]  # number of the rule, slot in its side, the pattern there


@final
@dataclass(frozen=True)
class Rule:
    """Our name(s), their name(s), and how the tensors become each other. A tuple where a side has several."""

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    transform: Transform = field(default_factory=Identity)

    def __post_init__(self) -> None:
        sides = (patterns(self.ours), patterns(self.theirs))
        ours, theirs = self.transform.arity
        if (len(sides[0]), len(sides[1])) != (ours, theirs):
            raise ValueError(f"{self}: the transform joins {ours} of our tensors to {theirs} of theirs")
        if len({tuple(sorted(pattern.fields.items())) for side in sides for pattern in side}) != 1:
            raise ValueError(f"{self}: every name of a rule must have the same placeholders, or the way back is lost")


@lru_cache(8192)
def patterns(side: str | tuple[str, ...]) -> tuple[Pattern, ...]:
    """One side of a rule as patterns."""
    return tuple(map(Pattern, (side,) if isinstance(side, str) else side))


@final
class _Side:
    """One side of all rules, found by how its patterns begin."""

    def __init__(self, sides: Iterable[tuple[Pattern, ...]]):
        self.rules = tuple(sides)
        self._places: dict[str, list[Place]] = {}  # text before the first placeholder -> patterns that begin so
        for number, side in enumerate(self.rules):
            for slot, pattern in enumerate(side):
                self._places.setdefault(pattern.head, []).append((number, slot, pattern))
        self._lengths = sorted({len(head) for head in self._places})

    def near(self, name: str) -> Iterator[Place]:
        """The patterns that `name` begins like."""
        for length in self._lengths:
            if length > len(name):
                return
            yield from self._places.get(name[:length], ())


@final
class KeyMap:
    """A table of rules. `ignored`: their tensors that carry nothing (position indices, counters) and may be there."""

    def __init__(self, rules: Iterable[Rule], ignored: Iterable[str] = ()):
        self.rules = tuple(rules)
        self.ignored = tuple(map(Pattern, ignored))
        self._ours = _Side(patterns(rule.ours) for rule in self.rules)
        self._theirs = _Side(patterns(rule.theirs) for rule in self.rules)

    def to_ours(self, theirs: Mapping[str, Tensor]) -> Tensors:
        """Our tensors from theirs. Raises `FileProblem` naming what no rule takes and what is incomplete."""
        return _complete(*self.take(theirs))

    def consume(self, theirs: Tensors) -> Tensors:
        """As `to_ours`, but `theirs` is emptied on the way, so that no tensor is in memory in both layouts."""
        self._drop_ignored(theirs)
        return _complete(*self._move(theirs, self._theirs, self._ours, self._inwards))

    def to_theirs(self, ours: Mapping[str, Tensor]) -> Tensors:
        """Their tensors from ours; what `ignored` covers is not made up."""
        return _complete(
            *self._move(dict(ours), self._ours, self._theirs, [rule.transform.to_theirs for rule in self.rules])
        )

    def take(self, theirs: Mapping[str, Tensor]) -> tuple[Tensors, Tensors]:
        """(ours, what is left): for files that hold several nets, each with a map of its own."""
        left = dict(theirs)
        self._drop_ignored(left)
        return self._move(left, self._theirs, self._ours, self._inwards)

    @property
    def _inwards(self) -> Ways:
        return [rule.transform.to_ours for rule in self.rules]

    def _drop_ignored(self, tensors: Tensors) -> None:
        for name in [name for name in tensors if any(p.match(name) is not None for p in self.ignored)]:
            del tensors[name]

    def _move(self, tensors: Tensors, sources: _Side, targets: _Side, way: Ways) -> tuple[Tensors, Tensors]:
        """The one translation; both directions are it, with the sides exchanged. What it moves leaves `tensors`."""
        groups: dict[tuple[int, tuple[str, ...]], dict[int, str]] = {}
        for name in tensors:
            claims = self._claims(name, sources)
            if claims:
                (number, slot, values) = claims[0]
                groups.setdefault((number, values), {})[slot] = name
        moved: Tensors = {}
        for (number, values), slots in groups.items():
            if len(slots) < len(sources.rules[number]):
                continue  # a fused group with a part missing: its parts are left over, and reported
            names = [slots[slot] for slot in range(len(slots))]
            made = _apply(way[number], tuple(tensors.pop(name) for name in names), names)
            bound = dict(zip(sorted(sources.rules[number][0].fields), values))
            for pattern, tensor in zip(targets.rules[number], made, strict=True):
                target = pattern.fill(bound)
                if target in moved:
                    raise ValueError(f"two rules of the key map make {target!r}, the second is {self.rules[number]}")
                moved[target] = tensor
        return moved, tensors

    def _claims(self, name: str, sources: _Side) -> list[tuple[int, int, tuple[str, ...]]]:
        found = [
            (number, slot, tuple(values[key] for key in sorted(values)))
            for number, slot, pattern in sources.near(name)
            if (values := pattern.match(name)) is not None
        ]
        if len(found) > 1:
            rivals = [self.rules[number] for number, _, _ in found[:2]]
            raise ValueError(f"two rules of the key map claim {name!r}: {rivals[0]} and {rivals[1]}")
        return found

    def links(self, ours: Iterable[str]) -> list[Link]:
        """What our names are called there, for files that name layers and hold other tensors than theirs: adapters."""
        found = dict.fromkeys((number, values) for name in ours for number, _, values in self._claims(name, self._ours))
        links = []
        for number, values in found:
            rule = self.rules[number]
            bound = dict(zip(sorted(patterns(rule.ours)[0].fields), values))
            here, there = (tuple(p.fill(bound) for p in patterns(side)) for side in (rule.ours, rule.theirs))
            links.append(Link(here, there, rule.transform))
        return links


@final
@dataclass(frozen=True)
class Link:
    """Tensors of ours that are tensors of theirs: names of each side, and how one becomes the other."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transform: Transform


def _apply(transform: Callable[[Group], Group], tensors: Group, names: list[str]) -> Group:
    try:
        return transform(tensors)
    except ValueError as error:
        raise FileProblem(
            f"Tensor {names[0]!r} does not have the layout its model has elsewhere: {error}. The checkpoint belongs to "
            "another model, or to another version of it."
        ) from error


def _complete(moved: Tensors, left: Tensors) -> Tensors:
    if left:
        first = ", ".join(list(left)[:4])
        raise FileProblem(
            f"{len(left)} of the checkpoint's tensors have no place in this model, or lack the parts they belong "
            f"with: {first}{', ...' if len(left) > 4 else ''}. It is another model's checkpoint, or "
            "another size or version of this one."
        )
    return moved
