"""The CLIP text towers in one file: of one by itself, or those of a whole checkpoint, whose other nets stay unread.

    for tower in read_towers("clip_l.safetensors"): print(tower.config.dim)

Files of one tower come in the spelling of transformers (ComfyUI's `models/text_encoders`) or of OpenCLIP. A
`config.json` beside a file, as in the folders of transformers, knows more than its shapes: name the folder then.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.kinds import Subject
from huggingvis.checkpoints.report import report_of
from huggingvis.checkpoints.single_file_detect import towers_in
from huggingvis.checkpoints.single_file_family import TOWERS_ALONE
from huggingvis.checkpoints.single_file_layout import TowerLayout
from huggingvis.checkpoints.single_file_towers import tower_net
from huggingvis.core.errors import FileProblem, about
from huggingvis.nets.clip_text import CLIPText

_OWN = ("transformer.resblocks.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
"""What a tower's names begin with in OpenCLIP's spelling; beside them such a file has a tower for pictures."""


def read_towers(path: Path, dtype: torch.dtype | None = None) -> list[CLIPText]:
    """The towers in a file, in evaluation mode; `dtype` None keeps the file's, but 8-bit floats become bfloat16.

    Raises `FileProblem` for a file without any, by the name of what it is, and for a damaged one.
    """
    facts = inspect(path)
    with about(path):
        found = towers_in(facts.tensors) or towers_in(facts.tensors, TOWERS_ALONE)
    found = {part: where for part, where in found.items() if where.spelling != "ldm"}
    if not found:
        report = report_of(Subject(path))
        told = " ".join((f"{path} is {report.title}, and has no text tower of CLIP's.", *report.told.sentences[:1]))
        raise FileProblem(f"{told} Stable Diffusion reads by these: --text-encoder takes a file or folder with one.")
    if dtype is None and any(fact.dtype.startswith("F8") for fact in facts.tensors.values()):
        dtype = torch.bfloat16
    mine = {name: part for name in facts.tensors for part, where in found.items() if _is_of(name, where)}
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in found}
    for name, tensor in load(facts.path, dtype=dtype, wanted=mine.__contains__).items():
        tensors[mine[name]][name] = tensor
    with about(path):
        nets = [tower_net(where, tensors[part]) for part, where in found.items()]
    return [net for net in nets if isinstance(net, CLIPText)]


def _is_of(name: str, where: TowerLayout) -> bool:
    """Whether a tensor belongs to that tower; in files of one, nothing stands before its names."""
    if where.root:
        return name.startswith(where.root)
    if where.spelling == "open_clip":
        return name.startswith(_OWN)
    return name == "text_projection.weight" or name.startswith((f"{where.inner}embeddings.", f"{where.inner}encoder.",
                                                                f"{where.inner}final_layer_norm."))  # fmt: skip
