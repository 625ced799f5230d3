"""See how a prompt is read: its tokens, weights and chunks, and what each step is told.

hvis prompt explain "a (red:1.3) [fox:cat:0.5]" --steps 20       as the packaged model reads it
hvis prompt explain "masterpiece, a fox" --model clip            as Stable Diffusion reads it, without one at hand
hvis prompt explain "a fox <lora:ink:0.8>" --model folder        with the tokenizer of a model's folder
hvis prompt expand "a {red|blue} __animal__" --wildcards lists --seed 7 -n 3     what choices and lists become
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from huggingvis.app.arguments import one_of, whole
from huggingvis.app.explaining import Reader, explained, reader_of, sentences
from huggingvis.app.locating import add_places
from huggingvis.app.preferences import preferences
from huggingvis.app.prompting import add_prompting, filling_of
from huggingvis.app.screen import Screen
from huggingvis.codecs.prompt_filling import Filling
from huggingvis.core.errors import UsageError
from huggingvis.core.request import EMPHASIS, MAX_SEED, Prompt

STEPS = 20


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("what", type=one_of("thing to do", ("explain", "expand")), help="explain or expand")
    parser.add_argument("prompt", help="the prompt, in quotation marks")
    parser.add_argument("--negative", metavar="TEXT", default="", help="the negative prompt")
    parser.add_argument("--model", metavar="NAME", help="whose tokens: tiny, clip, or a model's folder or file")
    add_places(parser)
    parser.add_argument("--steps", metavar="N", type=whole("--steps", 1), default=STEPS, help=f"default {STEPS}")
    parser.add_argument(
        "--emphasis", metavar="NAME", type=one_of("emphasis", EMPHASIS), default=EMPHASIS[0],
        help=f"what weights do: {', '.join(EMPHASIS)}",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=whole("--seed", 0), default=0, help="of the first picture")
    parser.add_argument(
        "-n", "--count", metavar="N", type=whole("--count", 1), default=1, help="pictures to expand for"
    )
    add_prompting(parser)


def run(args: argparse.Namespace, screen: Screen) -> Any:
    if args.seed + args.count - 1 > MAX_SEED:
        raise UsageError(f"seed plus count must stay within {MAX_SEED}; choose a smaller seed.")
    filling = filling_of(args)
    notes = filling.notes(Prompt(args.prompt, args.negative), "--wildcards")
    if args.what == "expand":
        told: Any = [_expanded(args, filling, args.seed + i, screen) for i in range(args.count)]
    else:
        reader: Reader = reader_of(args, preferences(), screen)
        told = explained(filling.texts(args.prompt, args.negative, args.seed), args.steps, args.emphasis, reader)
        notes = told["notes"] = (*notes, *told["notes"])
        for line in sentences(told):
            screen.say(line)
    for note in notes:
        screen.note(note)
    return told


def _expanded(args: argparse.Namespace, filling: Filling, seed: int, screen: Screen) -> dict[str, Any]:
    prompt, negative = filling.texts(args.prompt, args.negative, seed)
    screen.say(f"{seed}: {prompt}")
    if negative:
        screen.say(f"{' ' * len(str(seed))}  negative: {negative}")
    return {"seed": seed, "prompt": prompt, "negative": negative}
