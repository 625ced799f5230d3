"""A trained text encoder, from its run folder or from the folder of a model it became part of.

Book: chapter 5.
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.assign import assign
from huggingvis.codecs.text import TextTokenizer
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.systems import tiny
from huggingvis.systems.packaged import is_model, packaged
from huggingvis.train.run import Run


def place(name: str) -> Path:
    """A folder by its path, or a packaged model's by its name."""
    return Path(name) if Path(name).exists() or not is_model(packaged(name)) else packaged(name)


def load_reader(path: Path) -> tuple[TextTokenizer, TextTower]:
    """Tokenizer and text encoder of a run folder, or of a model folder."""
    if is_model(path):
        parts = tiny.load_parts(path, torch.device("cpu"))
        return parts.tokenizer, parts.tower
    run = Run.open(path)
    tokenizer = TextTokenizer.load(path / "tokenizer.json")
    numbers = run.config["config"]
    tower = TextTower(TextTowerConfig(vocabulary=tokenizer.vocabulary, dim=numbers["dim"], depth=numbers["depth"]))
    assign(tower, run.weights("text"))
    return tokenizer, tower
