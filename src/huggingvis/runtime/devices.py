"""Which device a name means. Book: chapter 10, "Speed"."""

from __future__ import annotations

import torch

from huggingvis.core.errors import UsageError


def device_of(name: str | None = None) -> torch.device:
    """The device called `name`; None or "auto" is CUDA or MPS where there is one, else the CPU. Raises `UsageError`."""
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used here: {str(error).splitlines()[0].rstrip('.')}. "
            "`hvis doctor` shows which there are; `auto` takes the best of them."
        ) from None
    return device
