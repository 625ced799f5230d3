"""What a prompt is made of: nodes that print to the very text they were read from.

Which words hold at a step, and with which weight, is `prompt_script`'s to say. Book: chapter 6, "What a prompt can
say".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

_USUAL = {"(": 1.1, "[": 1 / 1.1}
CLOSING = {"(": ")", "[": "]"}


@final
@dataclass(frozen=True)
class Words:
    """Letters, with their escapes; `text` as typed."""

    text: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.text


@final
@dataclass(frozen=True)
class Break:
    """The word BREAK."""

    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return "BREAK"


@final
@dataclass(frozen=True)
class Extra:
    """`<kind:arguments>`: a LoRA or another thing that is loaded, not read."""

    kind: str
    arguments: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"<{self.kind}:{self.arguments}>"

    @property
    def name(self) -> str:
        """What is loaded."""
        return self.arguments.split(":")[0]


@final
@dataclass(frozen=True)
class Weighted:
    """Words in brackets. `bracket` "(" or "["; `number` what stands before the closing one, as typed (":1.3")."""

    bracket: str
    body: Nodes
    number: str = ""
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.bracket}{printed(self.body)}{self.number}{CLOSING[self.bracket]}"

    @property
    def weight(self) -> float:
        """What the words in it are multiplied by."""
        return float(self.number.strip().removeprefix(":")) if self.number else _USUAL[self.bracket]


@final
@dataclass(frozen=True)
class Scheduled:
    """`before` until `when`, then `after`. None: not even its colon was typed. `when` as typed."""

    before: Nodes | None
    after: Nodes
    when: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        before = "" if self.before is None else f"{printed(self.before)}:"
        return f"[{before}{printed(self.after)}:{self.when}]"


@final
@dataclass(frozen=True)
class Alternating:
    """One of `options` at each step, in turn."""

    options: tuple[Nodes, ...]
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"[{'|'.join(map(printed, self.options))}]"


Node = Words | Break | Extra | Weighted | Scheduled | Alternating
Nodes = tuple[Node, ...]


@final
@dataclass(frozen=True)
class Part:
    """What stands between two AND. `weight` as typed (" :1.2"), `rest` what follows it: nothing but tags and spaces."""

    body: Nodes
    weight: str = ""
    rest: Nodes = ()
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{printed(self.body)}{self.weight}{printed(self.rest)}"

    @property
    def strength(self) -> float:
        """The weight as a number."""
        return float(self.weight.strip().removeprefix(":")) if self.weight else 1.0


@final
@dataclass(frozen=True)
class Prompt:
    """A whole prompt: at least one part."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "AND".join(map(str, self.parts))


def printed(nodes: Nodes) -> str:
    """The text of `nodes`."""
    return "".join(map(str, nodes))
