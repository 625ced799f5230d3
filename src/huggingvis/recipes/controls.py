"""Words of `--control`: pictures that steer, the nets that read them, how strongly and for which part of the steps.

    --control canny:photo.png:0.8                  edges of the photo, by the net for edges in the folders of --models
    --control canny=my-net.safetensors:photo.png   by this one
    --control canny,low=50,high=150:photo.png      with other numbers; `hvis control canny --help` tells them
    --control none=my-net.safetensors:edges.png    a picture that is prepared already; the same as
    --control my-net.safetensors:edges.png:0.8:0.0-0.6     here from the start to 0.6 of the steps

What stands before the picture is a way to prepare it if it has the name of one (`hvis control` lists them), else a
file. A file that is called like one is said with its folder or after `none=`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final

from huggingvis.checkpoints.fitting import fits_on
from huggingvis.checkpoints.kinds import Kind, Subject
from huggingvis.checkpoints.local_folders import listed
from huggingvis.checkpoints.report import report_of
from huggingvis.core.errors import HvisError, UsageError
from huggingvis.core.request import FITS, AdapterUse
from huggingvis.data.control_pictures import Preparation, kind_named, name_of, preparation, preparations, prepared

_COLONS = re.compile(r"(?<!^[A-Za-z])(?<!:[A-Za-z]):|:(?![\\/])")
"""Between the parts, but not within a Windows path such as C:\\nets."""
_WINDOW = re.compile(r"(\d*\.?\d+)-(\d*\.?\d+)")
_HEAD = re.compile(r"(?P<name>[\w-]+)(?P<numbers>(?:,[\w.-]+=[^=:]+?)*)(?:=(?P<file>.+))?")
_CLOSE = 0.75
"""How like the name of a way a word must be to be taken for it misspelt."""
_SMALL = (16, 16)
_READERS = ("controlnet", "t2i-adapter")


@final
@dataclass(frozen=True)
class Said:
    """One `--control` in its parts; `file` is empty where the net is to be found."""

    prepare: str
    file: str
    image: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


def parts_of(word: str) -> Said:
    """A `--control` in its parts. Raises `UsageError` for what does not parse."""
    head, image, numbers = _pieces(word)
    start, end, weight = 0.0, 1.0, 1.0
    if numbers and (window := _WINDOW.fullmatch(numbers[-1])):
        start, end = float(window[1]), float(window[2])
        numbers.pop()
        if not 0.0 <= start < end <= 1.0:
            raise UsageError(
                f"--control acts from one part of the steps to a later one, such as 0.0-0.6; found {window[0]!r}."
            )
    if numbers:
        weight = float(numbers.pop())
    prepare, file = _head(head)
    return Said(prepare, file, image, weight, start, end)


def with_files(word: str, placed: Callable[[str], str]) -> str:
    """A `--control` with `placed` of its files, the net's and the picture's. Raises as `parts_of`."""
    head, image, numbers = _pieces(word)
    _, file = _head(head)
    head = head.removesuffix(file) + placed(file) if file else head
    return ":".join([head, placed(image), *numbers])


def _pieces(word: str) -> tuple[str, str, list[str]]:
    """What stands before the picture, the picture, and the numbers after it: a weight, a part of the steps, or both."""
    pieces, numbers = _COLONS.split(word), list[str]()
    for is_number in (_WINDOW.fullmatch, _is_number):
        if len(pieces) > 2 and is_number(pieces[-1]):
            numbers.insert(0, pieces.pop())
    head, image = ":".join(pieces[:-1]), pieces[-1]
    if not head or not image:
        raise UsageError(
            "--control takes a file and the picture that it reads, as in canny.safetensors:edges.png:0.7, or a way to "
            f"prepare a picture, as in canny:photo.png:0.7; found {word!r}."
        )
    return head, image, numbers


@final
@dataclass(frozen=True)
class Nets:
    """Where nets that were not named are looked for.

    Attributes:
        roots: folders of other programs.
        model: gives the path of the model that they are for, if it has one.
        say: told where several would do.
    """

    roots: Sequence[Path] = ()
    model: Callable[[], Path | str | None] = lambda: None
    say: Callable[[str], None] = lambda text: None


def use_of(said: Said, nets: Nets, encoder: str = "", fit: str = FITS[0]) -> AdapterUse:
    """The adapter of a request that a `--control` asks for. Raises `UsageError`, `FileProblem` for what cannot be."""
    _check_picture(said)
    file = said.file or _net_for(said, nets)
    return AdapterUse(file, said.weight, said.image, said.start, said.end, encoder, said.prepare, fit)


def check_net(path: Path, kind: Kind) -> None:
    """Refuse what reads no picture in the place of a net of control. Raises `UsageError`."""
    if kind.name == "picture":
        raise UsageError(
            f"{path} is a picture, where --control expects the file of a net: it takes the net first, then its "
            "picture, as in canny.safetensors:edges.png, or a way to prepare it, as in canny:photo.png."
        )
    if not kind.adapter:
        raise UsageError(f"{path} is {kind.title}: --control takes a ControlNet, a T2I-Adapter or an IP-Adapter.")


def _head(head: str) -> tuple[str, str]:
    """How a picture is prepared, and the file that reads it; one of them may be empty."""
    found = _HEAD.fullmatch(head)
    if found is None or os.path.exists(head):
        return "", head
    word, numbers, file = found["name"], found["numbers"], found["file"] or ""
    if word.lower() == "none":
        if not file or numbers:
            raise UsageError("`none` prepares nothing and tells no net: name its file, as in none=FILE:PICTURE.")
        return "", file
    name = name_of(word)
    if name is None:
        close = difflib.get_close_matches(word.lower().replace("-", "_"), preparations(), 1, _CLOSE)
        if close:
            raise UsageError(
                f"There is neither a file {word!r} nor a way to prepare a picture of that name. Did you mean "
                f"{close[0]!r}? `hvis control` lists all."
            )
        return "", head
    preparation(name + numbers)  # its numbers are checked before a model is loaded
    return name + numbers, file


def _check_picture(said: Said) -> None:
    """A picture that is there must be one that can be so prepared, before a model is loaded. Raises as `prepared`."""
    if os.path.lexists(said.image):  # of one that is not, `beside.check_files` tells
        prepared(said.image, said.prepare, _SMALL)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


# ---- nets that were not named ---------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class _Found:
    """A net that reads such pictures, by its name; `misfit`: why it does not fit the model, or nothing."""

    path: Path
    rank: tuple[int, int, int, str]
    misfit: str


def _net_for(said: Said, nets: Nets) -> str:
    """The file of the best net for a kind of picture. Raises `UsageError` where there is none, or none that fits."""
    name = said.prepare.partition(",")[0]
    kind = kind_named(name)
    paths = [model.path for model in listed("controlnet", nets.roots) if _words(model.path, kind) is not None]
    model = nets.model() if paths else None
    found = [one for path in paths if (one := _seen(path, kind, model)) is not None]
    fitting = sorted((one for one in found if not one.misfit), key=lambda one: one.rank)
    if not fitting:
        _none_for(name, kind, found, bool(nets.roots))
    best, others = fitting[0].path, [one.path.name for one in fitting[1:]]
    if others:
        nets.say(
            f"--control {name} is read by {best.name}; there are also {', '.join(others)}, to be named as in "
            f"{name}={others[0]}:{said.image}."
        )
    return str(best)


def _none_for(name: str, kind: type[Preparation], found: list[_Found], asked: bool) -> NoReturn:
    hint = f"Name the file: --control {name}=FILE:PICTURE."
    if found:
        raise UsageError(f"{found[0].path.name} reads such pictures, but does not fit: {found[0].misfit} {hint}")
    words = " or ".join(repr(word) for word in kind.nets)
    where = "has a ControlNet or T2I-Adapter" if asked else "was named"
    raise UsageError(
        f"--control {name} needs a net that reads such pictures, with {words} in its name, and no folder of --models "
        f"{where}{' of such a name' if asked else ''}. {hint}"
    )


def _words(path: Path, kind: type[Preparation]) -> int | None:
    """Which of the kind's words is in the name of a file, the best first."""
    stem = path.name.lower()
    return next((n for n, word in enumerate(kind.nets) if re.search(rf"(?<![a-z]){word}", stem)), None)


def _seen(path: Path, kind: type[Preparation], model: Path | str | None) -> _Found | None:
    """A file that is a net of control, and whether it fits the model as far as headers tell."""
    try:
        report = report_of(Subject(path))
        if report.kind.name not in _READERS:
            return None
    except HvisError:
        return None
    misfit = ""
    try:
        fits = fits_on(report, model) if isinstance(model, Path) or (model and os.path.exists(model)) else None
        misfit = str(fits["why"]) if fits and fits["fits"] is False else ""
    except HvisError:  # a model of our own, of which nothing is told here; attaching says the rest
        pass
    version = re.search(r"v(\d+)", path.name)
    newest = -int(version[1]) if version else 0
    return _Found(path, (_words(path, kind) or 0, _READERS.index(report.kind.name), newest, path.name), misfit)
