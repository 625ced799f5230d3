"""Measure a model: scene accuracy of one that reads sentences, the held-out losses of any other run.

hvis evaluate                          the packaged model, 1,000 prompts in each language
hvis evaluate runs/mine --prompts 200 --json -o result.json
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import whole
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen, Tick
from huggingvis.core.files import check_folder, write_atomically
from huggingvis.core.machine import cores, machine, versions

PROMPTS = "prompts in each language, the same number of each kind (default 1000)"


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("model", nargs="?", help="a packaged model, a model folder or a run folder")
    parser.add_argument("--prompts", metavar="N", type=whole("--prompts", 1), default=1000, help=PROMPTS)
    parser.add_argument(
        "--seed", metavar="N", type=whole("--seed", 0), default=0, help="of prompts and noise (default 0)"
    )
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="also write the result there, as JSON")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    usual = preferences()
    if args.output is not None:
        check_folder(args.output.parent)
    from huggingvis import api

    began = time.perf_counter()
    with screen.progress("drawing", 2 * args.prompts) as tick:
        found = api.evaluate(
            args.model or usual.model,
            prompts=args.prompts,
            seed=args.seed,
            device=args.device or usual.device,
            on_chunk=_through(tick),
        )
    record = {
        "command": shlex.join(["hvis", "evaluate", *_said(args)]),
        **found.record,
        "seconds": round(time.perf_counter() - began, 3),
        "machine": machine(threads=cores()),
        "versions": versions(()),
    }
    screen.say(found.text)
    if (drawn := found.record.get("prompts", args.prompts)) != args.prompts:
        screen.note(f"{drawn} prompts in each language, not {args.prompts}: every kind of prompt gets the same number.")
    if args.output is not None:
        text = json.dumps(record, ensure_ascii=False, indent=2)
        write_atomically(args.output, lambda file: file.write(f"{text}\n".encode()))
        screen.say(f"\nWritten to {args.output}")
    return record


def _through(tick: Tick) -> Tick:
    """Counts on where the count of a second language begins anew."""
    before, last = 0, 0

    def on_chunk(done: int) -> None:
        nonlocal before, last
        before, last = before + (last if done <= last else 0), done
        tick(before + done)

    return on_chunk


def _said(args: argparse.Namespace) -> list[str]:
    """The words that repeat this measurement, whatever preferences the machine has."""
    model = [args.model] if args.model else []
    return [*model, "--prompts", str(args.prompts), "--seed", str(args.seed)]
