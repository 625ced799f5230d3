"""What every kind of source says of itself, so that nothing else need know which kinds there are.

Numbers that are lengths count pixels of the picture's file, unless they say otherwise. Book: chapter 6.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from huggingvis.core import rules

Method = Literal["auto", "blend", "repaint"]
"""How a net learns of what is known: auto (told, if it can be told, else blend), blend, or repaint (resampling)."""

LONGEST_MARGIN = 8192
MOST_RESAMPLES = 1000


class SourceKind(ABC):
    """A kind of source: a frozen dataclass of its files and numbers.

    Attributes:
        path: the picture's file.
        strength: 0 to 1, the share of the noising that is done and undone.
        anew: every pixel is made anew; of other kinds some stay, which a second pass would change.
        begins: how a request comes to this kind when its fields are said one by one: the kind that it is of until then
            (None: it starts from noise) and the field that is said. None: only as a whole.
        flag: what the flag of its name says on a command line, after which its numbers stand. None: it has no flag.
        alone: the fields that a number without a name is for, after that flag.
    """

    path: str
    strength: float
    anew: ClassVar[bool] = False
    begins: ClassVar[tuple[str | None, str] | None] = None
    flag: ClassVar[str | None] = None
    alone: ClassVar[tuple[str, ...]] = ()

    def files(self) -> tuple[str, ...]:
        """Every file that it reads: each must be there, has its hash in the record, and decides the picture."""
        return (self.path,)

    @property
    def stretched(self) -> bool:
        """Whether the whole picture takes the shape of the canvas, whatever its own."""
        return False

    @abstractmethod
    def check(self) -> None:
        """Raises `UsageError` for values that cannot be, by their names in the request."""


def check_started(source: SourceKind) -> None:
    """The rules of a picture that is noised and undone. Raises `UsageError`."""
    rules.path("source.path", source.path)
    rules.number("source.strength", source.strength, 0.0, 1.0)


def check_resampling(jump: int, resamples: int) -> None:
    """The rules of the numbers of the method `repaint`. Raises `UsageError`."""
    rules.whole("source.jump", jump, 1, 10_000, unit=" steps")
    rules.whole("source.resamples", resamples, 1, MOST_RESAMPLES)
