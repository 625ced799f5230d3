"""Load a checkpoint as bfloat16 and print how far the memory of this process rose meanwhile, in bytes.

Run by `test_single_file_memory.py`, as the highest mark that the system keeps is of a whole process.
"""

from __future__ import annotations

import sys

import torch

from huggingvis.checkpoints.io import load


def mark(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def main(path: str, how: str) -> None:
    torch.zeros(8).bfloat16()  # what PyTorch takes for its first operation is not the file's
    before = mark("VmRSS:")
    if how == "mapped":
        tensors = load(path)
    else:
        tensors = load(path, dtype=torch.bfloat16)
    assert len(tensors) > 1
    print(mark("VmHWM:") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
