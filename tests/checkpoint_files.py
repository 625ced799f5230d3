"""What the tests of checkpoint files share: tensors of many dtypes, and how a refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from huggingvis.checkpoints.io import load
from huggingvis.core.errors import FileProblem


def tensors() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(5, 3, generator=g),
        "a.bias": torch.randn(5, generator=g).half(),
        "b": torch.randn(2, 2, 2, generator=g).bfloat16(),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "none": torch.zeros(0, 4),
        "wide": torch.randn(3, generator=g).double(),
        "small": torch.randn(4, generator=g).to(torch.float8_e4m3fn),
    }


def refused(path: Path, *words: str, **how: object) -> str:
    """The message of the refusal: one paragraph that holds the file's name and `words`."""
    with pytest.raises(FileProblem) as caught:
        load(path, **how)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700, message
    for word in (path.name, *words):
        assert word in message, message
    return message
