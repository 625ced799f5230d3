"""The prompts of a command line: styles around them, gaps drawn by each picture's seed, LoRAs that tags name.

    --style film --styles styles.csv          words around the prompt, from a table
    --wildcards lists                         __colour__ in the prompt is a line of lists/colour.txt
    "a {red|blue} fox"                        a choice; every picture draws its own
    "a fox <lora:ink:0.8>"                    the LoRA called ink, found as --lora would find it

Where no flag says otherwise, styles are those of styles.csv and wildcards those of the folder wildcards, both beside
the settings file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from huggingvis.app.arguments import record_of
from huggingvis.app.locating import places, told
from huggingvis.app.preferences import Preferences, place
from huggingvis.app.screen import Screen
from huggingvis.codecs.prompt_filling import Filling, Part, each_of
from huggingvis.codecs.prompt_problems import PromptProblem
from huggingvis.codecs.prompt_script import script
from huggingvis.codecs.prompt_styles import Style, read_styles
from huggingvis.codecs.prompt_templates import Wildcards
from huggingvis.codecs.prompt_tree import Extra
from huggingvis.core.errors import UsageError
from huggingvis.core.request import EMPHASIS, AdapterUse, Prompt, Request

if TYPE_CHECKING:
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep
    from huggingvis.edits.generate import Prepared

LORAS = ("lora", "lyco")
TABLE, FOLDER = "styles.csv", "wildcards"


@dataclass(frozen=True)
class Words:
    """The part of a prompt that has a flag."""

    negative: str = ""  #: what the picture should not show
    emphasis: str = EMPHASIS[0]  #: what weights such as (red:1.3) do: original, no-norm, ignore, none


@dataclass(frozen=True)
class Draft:
    """A part of a request, and the adapters that its prompt names too."""

    part: Part
    adapters: tuple[AdapterUse, ...]


def add_prompting(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    words = parser.add_argument_group("words for the prompt")
    words.add_argument(
        "--style", metavar="NAME", action="append", default=[], help="words around the prompt (may be given again)"
    )
    words.add_argument("--styles", metavar="FILE", type=Path, help=f"the table of styles (default: your {TABLE})")
    words.add_argument(
        "--wildcards", metavar="FOLDER", type=Path, help=f"lists for __names__ in the prompt (default: your {FOLDER})"
    )


def said(args: argparse.Namespace) -> bool:
    """Whether any of the flags was given."""
    return bool(args.style or args.styles or args.wildcards)


def prompt_of(args: argparse.Namespace, base: Prompt) -> Prompt:
    """The prompt that is typed, on top of `base`; gaps are still in it."""
    words = record_of(Words, args, Words(base.negative, base.emphasis))
    if args.prompt is None and words.negative == base.negative and not args.style:
        return replace(base, emphasis=words.emphasis)
    text = base.text if args.prompt is None else args.prompt
    return Prompt(text, words.negative, words.emphasis)


def drafts(
    args: argparse.Namespace, request: Request, base: Prompt, usual: Preferences, screen: Screen
) -> tuple[Draft, ...]:
    """What each picture of `request` is asked for by: styles and gaps filled, LoRAs found.

    `base`: the prompt of a record that the request repeats; what is left of it is filled already. Raises `UsageError`
    and `FileProblem`.
    """
    typed, count = request.prompt, request.canvas.count
    if typed.text == base.text and typed.negative == base.negative and not args.style:
        return (Draft(Part(typed, 0, count), request.adapters),)
    before = {Path(tag.name).stem for tag in _tags(base)} if typed.text != base.text else set()
    adapters = tuple(use for use in request.adapters if Path(use.path).stem not in before)
    loaded = {Path(use.path).stem for use in adapters}
    filling = filling_of(args)
    for note in filling.notes(typed, "--wildcards"):
        screen.note(note)
    found = []
    for part in filling.parts(typed, request.sampling.seed, count):
        tags = [tag for tag in _tags(part.prompt) if Path(tag.name).stem not in loaded]
        more = [_found(tag, part.prompt.text, args, usual, screen) for tag in tags]
        found.append(Draft(part, (*adapters, *more)))
    return tuple(found)


def filling_of(args: argparse.Namespace) -> Filling:
    """What the flags put around prompts and into their gaps. Raises `UsageError` and `FileProblem`."""
    return Filling(_wildcards(args), tuple(args.style), _styles(args))


def requests_of(request: Request, drafted: Sequence[Draft]) -> tuple[Request, ...]:
    """The requests that `drafted` makes of one."""
    filled = each_of(request, [draft.part for draft in drafted])
    return tuple(replace(one, adapters=draft.adapters) for one, draft in zip(filled, drafted, strict=True))


def streamed(ready: Sequence[Prepared], on_step: OnStep) -> Iterator[Picture]:
    """The pictures of all requests."""
    for one in ready:
        yield from one.pictures(on_step)


def notes_of(ready: Sequence[Prepared], screen: Screen) -> list[str]:
    """What there is to know of the requests; each thing is said once."""
    found = list(dict.fromkeys(note for one in ready for note in one.notes))
    for note in found:
        screen.note(note)
    return found


def _styles(args: argparse.Namespace) -> dict[str, Style]:
    path = args.styles or place().parent / TABLE
    if not args.style:
        return {}
    if not os.path.lexists(path):
        raise UsageError(f"--style takes a name from a table of styles, but there is no {path}. Name it with --styles.")
    return read_styles(path)


def _wildcards(args: argparse.Namespace) -> Wildcards | None:
    usual = place().parent / FOLDER
    folder = args.wildcards or (usual if usual.is_dir() else None)
    return None if folder is None else Wildcards(folder)


def _tags(prompt: Prompt) -> list[Extra]:
    """The LoRAs that a prompt names; those of a negative prompt load nothing."""
    return [tag for tag in script(prompt.text, prompt.emphasis).extras if tag.kind in LORAS]


def _found(tag: Extra, text: str, args: argparse.Namespace, usual: Preferences, screen: Screen) -> AdapterUse:
    """What a tag asks for, with its file on this machine. Raises `PromptProblem` where there is none."""
    from huggingvis.checkpoints.hub import USUAL
    from huggingvis.recipes.beside import here

    try:
        with told(screen, USUAL) as how:
            return here(_use(tag, text), "lora", places(args, usual), how)
    except PromptProblem:
        raise
    except UsageError as error:
        raise PromptProblem(str(error), text, tag.at) from None


def _use(tag: Extra, text: str) -> AdapterUse:
    """What a tag asks for: <lora:name:weight>, or with two weights, of text towers and of the net."""
    name, *rest = tag.arguments.split(":")
    told = {"te": "1", "unet": ""}
    for key, word in zip(("te", "unet"), [one for one in rest if "=" not in one], strict=False):
        told[key] = word
    told |= dict(word.split("=", 1) for word in rest if "=" in word)
    try:
        towers = float(told["te"])
        net = float(told["unet"] or towers)
    except ValueError:
        raise PromptProblem(
            f"{tag} should be a name and a weight, as in <lora:{name}:0.8>, but a weight in it is no number.",
            text,
            tag.at,
        ) from None
    if set(told) - {"te", "unet"} or len(rest) > 2:
        raise PromptProblem(f"{tag} says more than a name and weights, and nothing else is known.", text, tag.at)
    local = f"{name}.safetensors"
    path = local if os.path.isfile(local) and not os.path.lexists(name) else name
    return AdapterUse(path, net, text_weight=None if towers == net else towers)
