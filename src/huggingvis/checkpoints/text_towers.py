"""Text and image towers from the folders of transformers and back, whichever they are.

    net = from_transformers(folder, torch.bfloat16)
    to_transformers(net, folder)

What each kind of tower is called in such a folder is a `Layout` of its own file. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from huggingvis.checkpoints.diffusers_common import Json, read_config, unsupported
from huggingvis.checkpoints.text_towers_bert import BERT_TEXT
from huggingvis.checkpoints.text_towers_clip import CLIP_TEXT
from huggingvis.checkpoints.text_towers_clip_vision import CLIP_VISION
from huggingvis.checkpoints.text_towers_common import Layout
from huggingvis.checkpoints.text_towers_ldm_bert import LDM_BERT
from huggingvis.checkpoints.text_towers_t5 import T5
from huggingvis.core.errors import UsageError, about

_LAYOUTS: tuple[Layout[Any, Any], ...] = (CLIP_TEXT, CLIP_VISION, T5, BERT_TEXT, LDM_BERT)
_READ = {name: layout for layout in _LAYOUTS for name in layout.classes}
_WRITE = {layout.net: layout for layout in _LAYOUTS}


def from_transformers(folder: Path | str, dtype: torch.dtype | None = None) -> nn.Module:
    """The tower in a folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`.

    Which tower it is, `architectures` in its `config.json` says.
    """
    found = read_config(folder).get("architectures")
    name = found[0] if isinstance(found, list) and len(found) == 1 and isinstance(found[0], str) else None
    if name not in _READ:
        with about(folder):
            raise unsupported("architectures", found, " or ".join(_READ))
    return _READ[name].read(folder, dtype)


def to_transformers(net: nn.Module, folder: Path | str, config: Json | None = None) -> Path:
    """Write a tower as a folder that transformers loads; returns it.

    `config`: a `config.json` to keep. Raises `UsageError` where it describes another net, or where transformers has
    none like this.
    """
    layout = _WRITE.get(type(net))
    if layout is None:
        known = ", ".join(kind.__name__ for kind in _WRITE)
        raise UsageError(f"transformers has no folder for a {type(net).__name__}; it has one for {known}.")
    return layout.write(net, folder, config)
