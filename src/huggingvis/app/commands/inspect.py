"""Look into a checkpoint, a picture, a model or run folder: what it is, how it was made. Nothing in it is executed.

hvis inspect model.safetensors
hvis inspect out/00001-a-fox.png
hvis inspect runs/mine
hvis inspect tiny
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from huggingvis.app.screen import Screen, size_of


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("file", help="a checkpoint (.safetensors, .pt ...), a picture, a folder or a packaged model")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis import api

    facts = api.inspect(args.file)
    for key, value in facts.items():
        if isinstance(value, dict):
            _table(key, value, screen)
        elif value is not None:
            screen.say(f"{key:<12}  {size_of(value) if key == 'bytes' else _short(value)}")
    return facts


def _table(name: str, rows: dict[str, Any], screen: Screen) -> None:
    for key, value in rows.items():
        if isinstance(value, dict):
            _table(f"{name}.{key}", value, screen)
        elif value not in (None, "", [], ()):
            screen.say(f"{f'{name}.{key}':<28}  {size_of(value) if key == 'bytes' else _short(value)}")


def _short(value: Any) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 400 else f"{text[:397]}..."
