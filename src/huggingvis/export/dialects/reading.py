"""What another program's notes say of a picture, in our words: a request, the files it needs, and what is left over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from huggingvis.core.request import Canvas, Request
from huggingvis.core.request_fields import sides_of
from huggingvis.core.request_sampling import BY_CHANCE, MAX_SEED, OWN, Sampling
from huggingvis.export.dialects.solvers import Solver

C = TypeVar("C")
_SIDES = (1, 65_536)
_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


@dataclass(frozen=True)
class Wanted:
    """A file that a picture was made with.

    Attributes:
        kind: as in `checkpoints.local_folders.KINDS`.
        name: as it was told.
        weight: of an adapter.
        hash: first digits of one of the hashes that go about; empty: none was told.
    """

    kind: str
    name: str
    weight: float = 1.0
    hash: str = ""

    @property
    def stem(self) -> str:
        """The name without folders and suffix, as a prompt's <lora:...> has it."""
        last = self.name.replace("\\", "/").rpartition("/")[2]
        return next((last.removesuffix(s) for s in _SUFFIXES if last.endswith(s)), last)


@dataclass(frozen=True)
class Reading:
    """What a program wrote.

    Attributes:
        program: whose notes these are.
        request: what they ask for; numbers not told are `Sampling`'s, sampler and schedule not told the model's own.
        numbers: of `Sampling`, those that they tell.
        files: what is needed beside the request.
        notes: sentences on what differs or is not understood.
        started: of a picture that it began with and that is not among the notes, the numbers that they tell, by their
            names in `core.request_sources`.
    """

    program: str
    request: Request
    numbers: Mapping[str, Any]
    files: tuple[Wanted, ...] = ()
    notes: tuple[str, ...] = ()
    started: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, told: Told, program: str, request: Request, numbers: Mapping[str, Any], files: Iterable[Wanted]
    ) -> Reading:
        """From what was read one by one; what nobody asked for is named."""
        sampling = replace(Sampling(sampler=OWN, schedule=OWN), **numbers)
        notes = (*told.notes, *unknown_note(program, told.left()))
        return cls(program, replace(request, sampling=sampling), numbers, tuple(files), notes, dict(told.started))


@dataclass
class Told:
    """The notes of a program by their names, read one by one; what is never asked for is left over.

    A value that cannot be is noted and taken for absent.
    """

    values: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    started: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A text that is not empty."""
        value = self._take(name)
        return None if value is None or isinstance(value, dict | list) else str(value).strip() or None

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds; "20.0" is one."""
        value = self._take(name)
        if value is None or value == "":
            return None
        try:
            whole = int(str(value)[:40])  # seeds have more digits than a float
        except ValueError:
            number = self.number(name, low, high)
            if number is not None and number != int(number):
                self.note(name, value)
                return None
            return None if number is None else int(number)
        if not low <= whole <= high:
            self.note(name, value)
            return None
        return whole

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within bounds."""
        value = self._take(name)
        if value is None or value == "":
            return None
        try:
            number = math.nan if isinstance(value, bool | dict | list) else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high:
            self.note(name, value)
            return None
        return number

    def size(self, name: str, *, free: bool = False) -> tuple[int, int] | None:
        """WIDTHxHEIGHT; `free`: a side may be 0, for one that follows from the other."""
        text = self.text(name)
        if text is None:
            return None
        sides = sides_of(text, square=False)
        if sides is None or not all(_SIDES[0] <= side <= _SIDES[1] or (free and side == 0) for side in sides):
            self.note(name, text)
            return None
        return sides

    def canvas(self, width: str, height: str) -> Canvas:
        """Width and height from two numbers; none, if one is missing."""
        wide, high = (self.whole(name, *_SIDES) for name in (width, height))
        return Canvas(wide, high) if wide and high else Canvas()

    def choice(self, name: str, ours: Mapping[str, C]) -> C | None:
        """What `ours` has for a text."""
        text = self.text(name)
        if text is not None and text not in ours:
            self.note(name, text)
        return ours.get(text or "")

    def truth(self, name: str) -> bool:
        """Whether it says yes."""
        return str(self._take(name)).lower() in ("true", "1", "yes")

    def ignore(self, *names: str) -> None:
        """What says nothing of the picture's making."""
        self.asked.update(names)

    def start(self, numbers: Mapping[str, Any], picture: str = "") -> None:
        """It began with a picture: these are its numbers, those of a mask too where one of them is a mask's."""
        self.started.update(numbers)
        how = ", ".join(f"{name} {_word(value)}" for name, value in numbers.items())
        named = f" ({picture})" if picture else ""
        if numbers.keys() <= {"strength"}:
            self.notes.append(
                f"It was made from a picture{named}, which is not in the file: give it with --image, and it is made "
                f"from that with {how}; else it is made from noise."
            )
        else:
            self.notes.append(
                f"A part of a picture{named} was made anew; that picture and its mask are not in the file: give them "
                f"with --image and --mask, and it is made anew with {how}; else the whole is made from noise."
            )

    def note(self, name: str, value: Any) -> None:
        self.notes.append(f"{name} {str(value)[:60]!r} cannot be, and is left out.")

    def left(self) -> list[str]:
        """Names that nobody asked for, of values that say something."""
        nothing: tuple[Any, ...] = (None, "", "None", False, 0, [], {}, "False", "0")
        return [name for name, value in self.values.items() if name not in self.asked and value not in nothing]

    def _take(self, name: str) -> Any:
        self.asked.add(name)
        return self.values.get(name)


def _word(value: float | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def sampling_of(told: Told, names: Mapping[str, str]) -> dict[str, Any]:
    """The numbers that every program has: `names` says what each is called there. For `dataclasses.replace`."""
    rules: dict[str, tuple[str, float, float]] = {
        "steps": ("whole", 1, 10_000), "guidance_scale": ("number", 0.0, 100.0), "seed": ("whole", BY_CHANCE, MAX_SEED),
        "guidance_rescale": ("number", 0.0, 1.0), "eta": ("number", 0.0, 1.0),
        "eta_noise_seed_delta": ("whole", -(2**32), 2**32), "variation_seed": ("whole", BY_CHANCE, MAX_SEED),
        "variation_strength": ("number", 0.0, 1.0),
    }  # fmt: skip
    found = {}
    for ours, theirs in names.items():
        kind, low, high = rules[ours]
        value = told.whole(theirs, int(low), int(high)) if kind == "whole" else told.number(theirs, low, high)
        if value is not None:
            found[ours] = value
    return found


def solver_of(told: Told, program: str, label: str, row: Solver | None) -> dict[str, Any]:
    """Sampler and schedule of a row, with its notes; of none the model's own, and a sentence."""
    if row is None:
        told.notes.append(f"{program}'s sampler {label!r} has no counterpart here: the model's own is used.")
        return {}
    if row.note:
        told.notes.append(f"{label}: {row.note}")
    return {"sampler": row.sampler, "schedule": row.schedule, "discard_penultimate": row.discard}


def unknown_note(program: str, names: Iterable[str]) -> tuple[str, ...]:
    """The sentence on what is not understood."""
    names = list(dict.fromkeys(names))
    if not names:
        return ()
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (f"Not understood, and left out: {', '.join(names[:12])}{more} ({program}).",)
