"""Chunks of 75 and the comma rule, by a tokenizer of single letters."""

from __future__ import annotations

import pytest

from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.prompt_chunks import chunked
from huggingvis.codecs.prompt_script import Reading, Span, weighed

COMMA = ord(",")


class Letters:
    """A token is a letter; "E" is a learnt word of `vectors` ids from 1000 on."""

    room = 75
    comma: int | None = COMMA

    def __init__(self, vectors: int = 4):
        self.lengths = {1000: vectors}
        self.vectors = vectors

    def pieces(self, text: str) -> list[int]:
        return [id for letter in text for id in (range(1000, 1000 + self.vectors) if letter == "E" else [ord(letter)])]


def lengths(text: str, tokens: Letters | None = None) -> list[int]:
    return [len(chunk.ids) for chunk in chunked(Reading.of(text), tokens or Letters())]


@pytest.mark.parametrize(
    ("text", "expected", "moved"),
    [
        ("", [0], [0]),
        ("a" * 75, [75], [0]),
        ("a" * 76, [75, 1], [0, 0]),
        ("a" * 60 + "," + "b" * 14, [75], [0]),  # full, and nothing follows: the comma is not asked
        ("a" * 60 + "," + "b" * 15, [61, 15], [0, 14]),
        ("a" * 54 + "," + "b" * 21, [75, 1], [0, 0]),  # the comma is 21 back
        ("a" * 55 + "," + "b" * 20, [56, 20], [0, 19]),
        ("a" * 75 + "," + "b" * 3, [75, 4], [0, 0]),  # a comma that has no room itself begins the next
        ("a" * 70 + ",bbb,cc", [75, 2], [0, 0]),
        ("a" * 70 + ",bb,ccc", [74, 3], [0, 1]),
    ],
)
def test_where_chunks_end(text: str, expected: list[int], moved: list[int]) -> None:
    found = chunked(Reading.of(text), Letters())
    assert sum(len(chunk.ids) for chunk in found) == len(text)
    assert (lengths(text), [chunk.moved for chunk in found]) == (expected, moved)
    assert [id for chunk in found for id in chunk.ids] == [ord(letter) for letter in text]


def test_a_learnt_word_is_not_cut() -> None:
    assert lengths("a" * 72 + "Eb") == [72, 5]
    assert lengths("a" * 71 + "Eb") == [75, 1]
    assert lengths("E", Letters(80)) == [75, 5]


def test_break_ends_a_chunk() -> None:
    assert [len(c.ids) for c in chunked(weighed("aa BREAK bbb"), Letters())] == [2, 3]
    assert [len(c.ids) for c in chunked(weighed("aa BREAK"), Letters())] == [2]
    assert [len(c.ids) for c in chunked(weighed("BREAK a"), Letters())] == [0, 1]


def test_weights_go_with_their_tokens() -> None:
    (chunk,) = chunked(Reading(((Span("ab"), Span("cd", 1.5)),)), Letters())
    assert chunk.ids == tuple(map(ord, "abcd")) and chunk.weights == (1.0, 1.0, 1.5, 1.5)
    first, second = chunked(Reading(((Span("a" * 70 + ","), Span("b" * 8, 0.5)),)), Letters())
    assert len(first.ids) == 71 and second.weights == (0.5,) * 8 and second.moved == 4


def test_the_vocabulary_that_ships_knows_the_comma() -> None:
    tokens = CLIPTokens.bundled()
    assert tokens.comma == 267 and tokens.pieces("a, b")[1] == 267
    learnt = tokens.with_words({"wombat": [50000, 50001, 50002], "one": [50003]})
    assert learnt.lengths == {50000: 3}
    found = chunked(weighed("fox " * 73 + "(wombat:1.2)"), learnt)
    assert [len(chunk.ids) for chunk in found] == [73, 3] and found[1].weights == (1.2,) * 3
