"""Prompts with gaps: words drawn from lists, and choices written in the prompt.

    __colour__           a line of colour.txt in the folder of wildcards; __animals/cat__, __animals/*__: of sub-folders
    {red|green|blue}     one of these
    {3::red|1::blue}     the first three times as often
    {2$$red|green|blue}  two different ones, with ", " between them; {2$$ and $$...} with " and "
    {1-3$$...}           one to three; {-2$$...} up to two, {2-$$...} at least two

Lines and choices may hold such things again. They are the forms of the Dynamic Prompts extension. What is drawn depends
on the seed alone. Braces without a bar, a number or a weight are letters, and so is whatever follows a backslash.
Book: chapter 6, "What a prompt can say".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import final

from huggingvis.codecs.prompt_problems import PromptProblem
from huggingvis.core.errors import FileProblem, unknown
from huggingvis.core.files import explain

WILDCARD = re.compile(r"__([\w*](?:[\w*./ -]*?[\w*])?)__")
DEEPEST = 30
"""Gaps inside gaps, and lists that name lists."""
LONGEST = 20_000
"""Letters that a prompt may grow to."""
BETWEEN = ", "
_COUNT = re.compile(r"\s*(?:(\d*)-(\d*)|(\d+))\$\$")
_WEIGHT = re.compile(r"\s*(\d+\.?\d*|\.\d+)::")


@final
@dataclass(frozen=True)
class Option:
    """A choice and how often it is made, beside the others."""

    text: str
    weight: float = 1.0


@final
@dataclass(frozen=True)
class Wildcards:
    """Lists of words: the .txt files in a folder and in its sub-folders."""

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise FileProblem(f"There is no folder {self.folder} with wildcards. It holds lists such as colour.txt.")

    @cached_property
    def files(self) -> dict[str, Path]:
        """The lists, by their names."""
        found = sorted(path for path in self.folder.rglob("*.txt") if path.is_file())
        return {path.relative_to(self.folder).with_suffix("").as_posix(): path for path in found}

    def options(self, name: str) -> tuple[Option, ...]:
        """The lines that `name` means. Raises `UsageError` for a name that no list has, `FileProblem` for bad files."""
        names = {known.casefold(): known for known in self.files}
        key = name.strip().casefold()
        last = [known for known in names if known.rpartition("/")[2] == key]
        picked = fnmatch.filter(names, key) if "*" in key else [key] if key in names else last
        if not picked:
            raise unknown("wildcard", name, self.files)
        lines = [option for one in picked for option in _lines(self.files[names[one]])]
        if not lines:
            files = ", ".join(str(self.files[names[one]]) for one in picked)
            raise FileProblem(f"The wildcard {name!r} has no words: {files} is empty. Write one into each line.")
        return tuple(lines)


def has_gaps(text: str) -> bool:
    """Whether drawing changes anything."""
    return WILDCARD.search(text) is not None or any(_choice(text, at) for at in range(len(text)) if text[at] == "{")


def never_closed(text: str) -> int | None:
    """The place of the first brace that opens and has no end, or None."""
    places, at = list[int](), 0
    while at < len(text):
        if text[at] == "{":
            places.append(at)
        elif text[at] == "}" and places:
            places.pop()
        at += 2 if text[at] == "\\" else 1
    return places[0] if places else None


def expand(text: str, seed: int, wildcards: Wildcards | None = None) -> str:
    """`text` with its gaps filled by what `seed` draws; without `wildcards` their names are letters.

    Raises `UsageError`, which points at the letter where it can, for lists that there are none of, lists that name
    themselves, and weights that leave no choice.
    """
    return _Drawing(text, Random(f"{seed} {text}".encode("utf-8", "surrogatepass")), wildcards).fill(text, 0)


@final
@dataclass
class _Drawing:
    whole: str
    chance: Random
    wildcards: Wildcards | None

    def fill(self, text: str, depth: int) -> str:
        out: list[str] = []
        at = 0
        while at < len(text):
            piece, at = self._next(text, at, depth)
            out.append(piece)
        made = "".join(out)
        if len(made) > LONGEST:
            raise self._problem(f"The prompt grows to more than {LONGEST:,} letters.", text)
        return made

    def _next(self, text: str, at: int, depth: int) -> tuple[str, int]:
        if depth > DEEPEST:
            raise self._problem(
                f"Lists and choices lead to each other more than {DEEPEST} deep: one of them names itself.", text
            )
        if text[at] == "\\":
            return text[at : at + 2], at + 2
        if text[at] == "{" and (end := _choice(text, at)):
            return self._choose(text[at + 1 : end - 1], depth), end
        if self.wildcards and (found := WILDCARD.match(text, at)):
            return self._draw(self.wildcards.options(found[1]), 1, BETWEEN, depth), found.end()
        return text[at], at + 1

    def _choose(self, inside: str, depth: int) -> str:
        least, most, between = 1, 1, BETWEEN
        counted = _COUNT.match(inside)
        rest = inside[counted.end() :] if counted else inside
        if counted and "$$" in rest:
            between, _, rest = rest.partition("$$")
        options = tuple(_option(part) for part in _parts(rest))
        if len(options) == 1 and self.wildcards and (only := WILDCARD.fullmatch(options[0].text.strip())):
            options = self.wildcards.options(only[1])
        if counted:
            least, most = _bounds(counted, len(options))
        count = least + int(self.chance.random() * (most - least + 1)) if most > least else least
        return self._draw(options, count, between, depth)

    def _draw(self, options: Sequence[Option], count: int, between: str, depth: int) -> str:
        """`count` different options, each drawn by its weight among those that are left."""
        left, drawn = list(options), []
        for _ in range(min(count, len(left))):
            total = sum(option.weight for option in left)
            if total <= 0.0:
                raise self._problem("All weights of a choice are 0, so nothing can be drawn.", self.whole)
            point, n = self.chance.random() * total, 0
            while n < len(left) - 1 and point >= left[n].weight:
                point -= left[n].weight
                n += 1
            drawn.append(self.fill(left.pop(n).text, depth + 1))
        return between.join(drawn)

    def _problem(self, said: str, near: str) -> PromptProblem:
        return PromptProblem(said, self.whole, max(0, self.whole.find(near)))


def _choice(text: str, at: int) -> int:
    """Where the choice that begins at `at` ends; 0 for braces that are letters."""
    depth, bars = 0, 0
    n = at
    while n < len(text):
        letter = text[n]
        depth += (letter == "{") - (letter == "}")
        bars += letter == "|" and depth == 1
        n += 2 if letter == "\\" else 1
        if depth == 0:
            inside = text[at + 1 : n - 1]
            return n if bars or _COUNT.match(inside) or _WEIGHT.match(inside) else 0
    return 0


def _parts(text: str) -> list[str]:
    """The choices, which bars divide."""
    parts, depth, n = [""], 0, 0
    while n < len(text):
        letter = text[n]
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += text[n : n + 2] if letter == "\\" else letter
        n += 2 if letter == "\\" else 1
    return parts


def _option(text: str) -> Option:
    weighed = _WEIGHT.match(text)
    return Option(text[weighed.end() :], float(weighed[1])) if weighed else Option(text)


def _bounds(counted: re.Match[str], options: int) -> tuple[int, int]:
    if counted[3]:
        return int(counted[3]), int(counted[3])
    low, high = int(counted[1] or 0), int(counted[2] or options)
    return min(low, high), max(low, high)


def _lines(path: Path) -> list[Option]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise explain(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} should be UTF-8 text, one choice a line, but is not ({error}).") from error
    lines = (line.strip() for line in text.splitlines())
    return [_option(line) for line in lines if line and not line.startswith("#")]
