"""Tensors that lie in parts on several processes, on disk: PyTorch's distributed checkpoints, as safetensors.

Each process writes the parts it holds into a file of its own, whose head says where they belong in the whole, so any
other count of processes can read what it needs, and one process alone all of it (`torch.distributed.checkpoint`).
Nothing in these files is executed when they are read.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from huggingvis.core.errors import FileProblem
from huggingvis.train.tensor_sets import Live, Sets


def save(sets: Sets, folder: Path) -> None:
    """Writes this process's parts of the named sets into `folder`; all processes must do it together.

    Raises `OSError` on every process where one of them could not write.
    """
    flat = {f"{name}:{key}": tensor.detach() for name, tensors in sets.items() for key, tensor in tensors.items()}
    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(flat, storage_writer=writer)
    except dcp.CheckpointException as error:
        causes = [failed[0] for failed in error.failures.values()]
        raise next((cause for cause in causes if isinstance(cause, OSError)), OSError(str(error))) from error


def shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """The shape of every whole tensor of one set. Raises `FileProblem`."""
    return {key: tuple(facts.size) for key, facts in _facts(folder, name).items()}


def load(folder: Path, name: str, live: Live) -> dict[str, Tensor]:
    """One set of tensors: cut like its live counterpart where that is of its shape and cut, else whole, on the CPU.

    Only what this process needs is read. Raises `FileProblem` for files that are damaged.
    """
    facts = _facts(folder, name)
    out = {key: _place(live(key), fact) for key, fact in facts.items()}
    reader = dcp.HuggingFaceStorageReader(str(folder))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)  # reading needs no group
            dcp.load({f"{name}:{key}": tensor for key, tensor in out.items()}, storage_reader=reader, no_dist=True)
    except (dcp.CheckpointException, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return out


def _place(live: Tensor | None, fact: TensorStorageMetadata) -> Tensor:
    if live is not None and live.shape == fact.size:
        return torch.empty_like(live, dtype=fact.properties.dtype, requires_grad=False)
    return torch.empty(fact.size, dtype=fact.properties.dtype)


def _facts(folder: Path, name: str) -> dict[str, TensorStorageMetadata]:
    try:
        found = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except SafetensorError as error:
        raise _damaged(folder, error) from error
    prefix = f"{name}:"
    return {
        key.removeprefix(prefix): fact
        for key, fact in found.items()
        if key.startswith(prefix) and isinstance(fact, TensorStorageMetadata)
    }


def _damaged(folder: Path, error: BaseException) -> FileProblem:
    said = str(error).strip().splitlines()[-1]
    return FileProblem(f"{folder} is damaged ({said}). Delete that folder to go on from the checkpoint before it.")
