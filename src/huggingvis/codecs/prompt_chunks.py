"""A prompt of any length as chunks of the length that CLIP reads.

A tower of 77 positions reads start, 75 pieces, end. Longer prompts are read in chunks of 75, each with a start and an
end of its own, and what is made of them is put in a row; BREAK begins a new one. So that a phrase stays whole, a chunk
that would end in the middle of one ends at its last comma instead, if that is at most 20 pieces back; and a learnt word
of several vectors is never cut. These are the rules of AUTOMATIC1111's web UI. Book: chapter 6, "What a prompt can
say".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, final

from huggingvis.codecs.prompt_script import Reading

BACKTRACK = 20
"""A comma so many pieces back still ends a chunk."""


class Pieces(Protocol):
    """What is needed of a tokenizer."""

    @property
    def room(self) -> int: ...

    comma: int | None
    lengths: dict[int, int]

    def pieces(self, text: str) -> list[int]: ...


@final
@dataclass(frozen=True)
class Chunk:
    """At most `room` ids and their weights; the first `moved` of them were brought here by a comma."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    moved: int = 0


@final
@dataclass
class _Filling:
    """The chunk that is being filled, and those that are full."""

    tokens: Pieces
    done: list[Chunk] = field(default_factory=list)
    ids: list[tuple[int, float]] = field(default_factory=list)
    moved: int = 0
    comma: int | None = None

    def end(self, keep: int | None = None) -> None:
        """The chunk is full; pieces from `keep` on begin the next one."""
        stay, go = (self.ids, []) if keep is None else (self.ids[:keep], self.ids[keep:])
        self.done.append(Chunk(tuple(id for id, _ in stay), tuple(w for _, w in stay), self.moved))
        self.ids, self.moved, self.comma = go, len(go), None

    def add(self, word: list[int], weight: float) -> None:
        """One piece, or all of a learnt word."""
        room = self.tokens.room
        if word[0] == self.tokens.comma:
            self.comma = len(self.ids)
        elif len(self.ids) == room and self.comma is not None and room - self.comma <= BACKTRACK:
            self.end(self.comma + 1)
        if len(self.ids) == room or (len(word) > 1 and len(self.ids) + len(word) > room):
            self.end()
        self.ids += [(id, weight) for id in word]


def chunked(reading: Reading, tokens: Pieces) -> tuple[Chunk, ...]:
    """The chunks of a prompt, at least one."""
    filling = _Filling(tokens)
    for number, section in enumerate(reading.sections):
        if number:
            filling.end()
        for span in section:
            ids = tokens.pieces(span.text)
            at = 0
            while at < len(ids):
                length = tokens.lengths.get(ids[at], 1)
                length = length if length <= tokens.room else 1
                filling.add(ids[at : at + length], span.weight)
                at += length
    if filling.ids or not filling.done:
        filling.end()
    return tuple(filling.done)
