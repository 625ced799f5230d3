"""A prompt for the second of two passes: what changes in it is counted from the first, and said in steps of the second.

In `[a:b:when]` parts from 0 to 1 and the steps of the first pass are over, those from 1 to 2 and beyond its last step
are of the second (`prompt_script.Steps`). So "[a:b:0.5]" reads b all along and "[a:b:1.5]" changes half way. Words that
alternate begin anew. Book: chapter 6, "A second pass".
"""

from __future__ import annotations

from dataclasses import replace

from huggingvis.codecs.prompt_grammar import parse
from huggingvis.codecs.prompt_problems import PromptProblem
from huggingvis.codecs.prompt_script import Steps
from huggingvis.codecs.prompt_tree import Alternating, Node, Nodes, Scheduled, Weighted


def continued(text: str, steps: Steps, *, negative: bool = False) -> str:
    """`text` with its changes at steps of the second pass; what is no prompt of this language stays as it is."""
    try:
        told = parse(text, conjunctions=not negative)
    except PromptProblem:  # told where the prompt is read, if it is read so
        return text
    return str(replace(told, parts=tuple(replace(part, body=_told(part.body, steps)) for part in told.parts)))


def _told(nodes: Nodes, steps: Steps) -> Nodes:
    return tuple(_one(node, steps) for node in nodes)


def _one(node: Node, steps: Steps) -> Node:
    if isinstance(node, Weighted):
        return replace(node, body=_told(node.body, steps))
    if isinstance(node, Alternating):
        return replace(node, options=tuple(_told(option, steps) for option in node.options))
    if isinstance(node, Scheduled):
        before = None if node.before is None else _told(node.before, steps)
        return replace(node, before=before, after=_told(node.after, steps), when=str(max(0, steps.when(node.when))))
    return node
