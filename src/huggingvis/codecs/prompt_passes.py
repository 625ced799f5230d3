"""A prompt in a second pass: schedules go on from the first, as AUTOMATIC1111's web UI has them.

Fractions from 0 to 1 and whole steps up to the first pass's last are over when the second begins; those from 1 to 2,
and steps after that one, are of the second. What is left is a prompt of its own. Book: chapter 6, "What a prompt can
say".
"""

from __future__ import annotations

from dataclasses import replace

from huggingvis.codecs.prompt_grammar import parse
from huggingvis.codecs.prompt_script import Steps
from huggingvis.codecs.prompt_tree import Alternating, Node, Nodes, Prompt, Scheduled, Weighted


def in_second_pass(text: str, steps: Steps, *, negative: bool = False) -> str:
    """`text` as the second pass reads it over its own steps; `steps.before` is how many the first had.

    Raises `PromptProblem` where it cannot be read.
    """
    parts = parse(text, conjunctions=not negative).parts
    return str(Prompt(tuple(replace(part, body=_left(part.body, steps)) for part in parts)))


def _left(nodes: Nodes, steps: Steps) -> Nodes:
    return tuple(kept for node in nodes for kept in _of(node, steps))


def _of(node: Node, steps: Steps) -> Nodes:
    if isinstance(node, Weighted):
        return (replace(node, body=_left(node.body, steps)),)
    if isinstance(node, Alternating):
        return (replace(node, options=tuple(_left(option, steps) for option in node.options)),)
    if not isinstance(node, Scheduled):
        return (node,)
    before, after = _left(node.before or (), steps), _left(node.after, steps)
    last = steps.when(node.when)
    if last < 1:
        return after
    if last >= steps.total:
        return before
    return (replace(node, before=None if node.before is None else before, after=after, when=str(last)),)
