"""Nets without numbers: built in no time and no memory, to be filled from a file.

PyTorch's meta device is for this, but the first normal draw there imports its symbolic shapes and a compiler: 800
modules and a second, more than all else of a start but the reading of a large model. What a hollow net would draw it
never keeps, so within `hollow()` nothing is drawn. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """Tensors are made but not filled with noise."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        told = kwargs or {}
        if func is torch.nn.init.normal_:  # which hands itself on, by names
            return told["tensor"] if "tensor" in told else args[0]
        if func is torch.Tensor.normal_:
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **told)


@contextmanager
def hollow() -> Iterator[None]:
    """Within the block modules and tensors are made on the meta device, without numbers.

    Arithmetic there is as slow to begin; a module that scales its first weights does it in place (`mul_`).
    """
    with torch.device("meta"), _Undrawn():
        yield
