"""The conditioner of models that were trained without words or classes: there is nothing to ask them for.

Book: chapter 1, where the first such models are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from huggingvis.core.errors import UsageError
from huggingvis.core.protocols import Cond
from huggingvis.core.request import Request


@final
class Unconditional:
    """Requests -> the empty condition; only the empty prompt is possible. Raises `UsageError` for any other."""

    def __call__(self, requests: Sequence[Request]) -> Cond:
        for text in (text for r in requests for text in (r.prompt.text, r.prompt.negative)):
            if text.strip():
                raise UsageError(
                    f"This model was trained without words or classes, so it cannot be asked for {text.strip()!r:.80}. "
                    "Leave the prompt empty."
                )
        return {}

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        return ()
