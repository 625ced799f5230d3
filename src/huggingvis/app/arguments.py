"""The words of a command line: a parser whose mistakes are explained, and flags made of the fields of dataclasses."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, TypeVar

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.flags import flags, parse
from huggingvis.core.request_fields import place_of
from huggingvis.core.request_sampling import Sampling

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """As argparse's, but a mistake is a `UsageError`, and an unknown flag is answered with the nearest one."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def read(self, words: Sequence[str], before: argparse.Namespace | None = None) -> argparse.Namespace:
        """What the words of the command line say, on top of what was said `before`. Raises `UsageError`."""
        start = None if before is None else argparse.Namespace(**vars(before))
        found, left = self.parse_known_intermixed_args(hyphened(words), start)  # `remove --yes NAME` too
        if not left:
            return found
        word = left[0].partition("=")[0]
        if word.startswith("-"):
            raise self._unknown(word)
        raise UsageError(
            f"The word {word!r} is one too many. Put a sentence in quotation marks; see `{self.prog} --help`."
        )

    def _unknown(self, word: str) -> UsageError:
        """For a flag that there is none of, in another program's words perhaps: `--cfg-scale`."""
        try:
            meant = f"--{place_of(word.lstrip('-')).rpartition('.')[2].replace('_', '-')}"
        except UsageError:
            meant = ""
        known = self.options()
        return (
            unknown("flag", word, known)
            if meant not in known
            else UsageError(f"There is no flag called {word!r}. Here it is {meant!r}.")
        )

    def hide(self, *options: str) -> None:
        """Leave flags out of the help that mean nothing to this verb; said, they are still read."""
        for action in self._actions:
            if not {*options}.isdisjoint(action.option_strings):
                action.help = argparse.SUPPRESS

    def in_flags(self, message: str) -> str:
        """A message that begins with the name of a field, `guidance_scale must be ...`, of the flag that says it."""
        name, rest = message.partition(" ")[::2]
        said = (f"--{name.replace('_', '-')}", f"--{name.replace('_', '-').replace('.', '-')}")
        option = next((one for one in said if one in self.options()), None)
        return f"{option} {rest}" if option and rest.startswith("must ") else message

    def options(self) -> list[str]:
        """Every flag that is known and shown."""
        return [
            option
            for action in self._actions
            if action.help is not argparse.SUPPRESS
            for option in action.option_strings
            if option.startswith("--")
        ]

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def hyphened(words: Sequence[str]) -> list[str]:
    """The words with `--guidance_scale` written `--guidance-scale`: both are accepted everywhere."""
    out: list[str] = []
    for i, word in enumerate(words):
        if word == "--":
            return [*out, *words[i:]]
        name, equals, value = word.partition("=")
        out.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return out


def one_of(kind: str, known: Collection[str]) -> Callable[[str], str]:
    """A type for an argument that must be one of a few words."""

    def check(word: str) -> str:
        if word not in known:
            raise unknown(kind, word, known)
        return word

    return check


def whole(name: str, least: int) -> Callable[[str], int]:
    """A type for an argument that is a whole number of at least `least`."""

    def check(word: str) -> int:
        if not word.lstrip("-").isdecimal() or int(word) < least:
            raise UsageError(f"{name} must be a whole number of at least {least}, found {word!r}.")
        return int(word)

    return check


def number(name: str) -> Callable[[str], float]:
    """A type for an argument that is a finite number."""

    def check(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a number, found {word!r}.")
        return value

    return check


def add_record(
    parser: argparse.ArgumentParser, cls: type, *, also: dict[str, str] | None = None, defaults: bool = True
) -> None:
    """A flag for every field of the dataclass `cls`; `also` gives a field a short flag.

    `defaults`: whether help shows the class's own; not where a model brings others. `record_of` reads them.
    """
    for flag in flags(cls):
        names = [flag.option, *([also[flag.name]] if also and flag.name in also else [])]
        text = (flag.meaning if defaults else flag.help).replace("%", "%%")
        common: dict[str, Any] = {"action": _Word, "dest": cls.__qualname__, "words": flag.option}
        if not flag.truth:
            parser.add_argument(*names, metavar=flag.takes, help=text, **common)
            continue
        parser.add_argument(*names, metavar=flag.takes, help=text, nargs="?", const="yes", **common)
        off = f"--no-{flag.name.replace('_', '-')}"
        parser.add_argument(off, nargs=0, help=argparse.SUPPRESS, **common)


def words_of(cls: type, args: argparse.Namespace) -> list[str]:
    """What was said about the fields of `cls`, as `core.flags.parse` reads it."""
    return list(vars(args).get(cls.__qualname__) or ())


def record_of(cls: type[T], args: argparse.Namespace, base: T | None = None) -> T:
    """The dataclass that the flags describe, starting from `base` or its defaults. Raises `UsageError`."""
    return parse(cls, words_of(cls, args), base=base)


def numbers_of(args: argparse.Namespace, base: Sampling) -> Sampling:
    """`base` with the numbers that the flags say. Raises `UsageError`."""
    found = record_of(Sampling, args, base)
    names = (word[2:].partition("=")[0].replace("-", "_") for word in words_of(Sampling, args))
    return base.saying(**{name: getattr(found, name) for name in names})


class _Word(argparse.Action):
    """Collects `--name=value` words; their types are checked where all of them are known."""

    def __init__(self, *, words: str, **settings: Any):
        super().__init__(**settings)
        self.words = words

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        said = list(getattr(namespace, self.dest) or ())
        said.append(f"{self.words}={'no' if self.nargs == 0 else values}")
        setattr(namespace, self.dest, said)
