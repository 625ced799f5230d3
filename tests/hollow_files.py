"""Files of real models' names and shapes, in which no number was ever written: any size, no room on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from huggingvis.checkpoints.formats import BITS, TensorFact


def hollow(path: Path, tensors: Mapping[str, TensorFact], metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file whose body is a hole."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, fact in tensors.items():
        end = at + fact.numel * BITS[fact.dtype] // 8
        table[name] = {"dtype": fact.dtype, "shape": list(fact.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path
