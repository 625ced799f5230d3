"""The verbs: load, generate, describe, train, evaluate, compare, explore, export, save, inspect, catalog: the command
line in Python.

    import huggingvis as hv
    pictures = hv.generate("a fox to the left of a pizza", seed=7, count=4)
    hv.export(pictures, "out")

Nothing heavy is imported before a verb needs it, so that asking for the catalogue stays quick.
"""

from __future__ import annotations

from huggingvis.api.describing import describe
from huggingvis.api.loading import device_of, load, ready, safety_checker, save
from huggingvis.api.making import control, export, generate, notes, stream
from huggingvis.api.many import batch, grid
from huggingvis.api.telling import catalog, explore, inspect
from huggingvis.api.training import compare, evaluate, train
from huggingvis.core.shipped import DEFAULT as DEFAULT_MODEL
from huggingvis.core.shipped import packaged_models
from huggingvis.recipes.repeating import Repetition, repeat

__all__ = [
    "DEFAULT_MODEL", "Repetition", "batch", "catalog", "compare", "control", "describe", "device_of", "evaluate",
    "explore", "export", "generate", "grid", "inspect", "load", "notes", "packaged_models", "ready", "repeat",
    "safety_checker", "save", "stream", "train",
]  # fmt: skip
