"""Say what pictures show: sentences by a model that was trained on captions.

hvis train bit_captions --run runs/captions                    trains one on the synthetic world
hvis describe photo.png drawing.png --model runs/captions
hvis describe photo.png --model runs/captions --count 5 --steps 50
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import whole
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("pictures", nargs="*", type=Path, help="picture files")
    parser.add_argument("--model", metavar="RUN", type=Path, help="the run folder of a model that describes pictures")
    parser.add_argument(
        "--count", metavar="N", type=whole("--count", 1), default=1, help="sentences of each (default 1)"
    )
    parser.add_argument("--seed", metavar="N", type=whole("--seed", 0), default=0, help="of the first (default 0)")
    parser.add_argument(
        "--steps", metavar="N", type=whole("--steps", 1), help="of the sampler (default the model's own)"
    )
    parser.add_argument("--sampler", metavar="NAME", help="how it is drawn (default the model's own)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")


def run(args: argparse.Namespace, screen: Screen) -> list[dict[str, Any]]:
    if not args.pictures:
        raise UsageError("Name the pictures, as in `hvis describe photo.png --model runs/captions`.")
    if args.model is None:
        raise UsageError(
            "Name a run that describes pictures, as in --model runs/captions. None ships; `hvis train bit_captions "
            "--run runs/captions` trains one."
        )
    from huggingvis import api

    said = api.describe(
        args.pictures,
        args.model,
        count=args.count,
        seed=args.seed,
        steps=args.steps,
        sampler=args.sampler,
        device=args.device or preferences().device,
    )
    for picture, sentences in zip(args.pictures, said, strict=True):
        for sentence in sentences:
            told = sentence or "(nothing)"
            screen.say(f"{picture}  {told}" if len(args.pictures) > 1 else told)
    if not all(all(sentences) for sentences in said):
        screen.note("Sentences without a word are what a model says that has hardly been trained: train it for longer.")
    seeds = range(args.seed, args.seed + args.count)
    return [
        {"picture": str(picture), "said": [{"seed": k, "text": text} for k, text in zip(seeds, sentences, strict=True)]}
        for picture, sentences in zip(args.pictures, said, strict=True)
    ]
