"""Load a checkpoint as it is, then as bfloat16, and print how far memory rose by each, in bytes.

Run by `test_single_file_memory.py`, as the highest mark that the system keeps is of a whole process.
"""

from __future__ import annotations

import sys

import torch

from huggingvis.checkpoints.io import load


def mark(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def main(path: str) -> None:
    torch.zeros(8).bfloat16()  # what PyTorch takes for its first operation is not the file's
    for dtype in (None, torch.bfloat16):
        before = mark("VmRSS:")
        tensors = load(path, dtype=dtype)
        assert len(tensors) > 1
        print(mark("VmHWM:") - before)
        del tensors


if __name__ == "__main__":
    main(*sys.argv[1:])
