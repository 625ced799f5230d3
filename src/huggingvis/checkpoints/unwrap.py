"""Where the weights are in what a PyTorch file holds: training programs nest them differently.

Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from huggingvis.checkpoints.torch_zip import Stored, Unbuilt
from huggingvis.core.errors import FileProblem, unknown

Leaf = Tensor | Stored

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params_ema", "params")
"""Where training programs put the weights inside a PyTorch file; the first that is there is taken."""


def unwrap(path: Path, content: Any, inside: str | None) -> dict[str, Leaf]:
    """The mapping of names to tensors within what a PyTorch file holds."""
    if isinstance(content, Leaf):
        return {"": content}
    if not isinstance(content, Mapping):
        what = content.kind if isinstance(content, Unbuilt) else type(content).__name__
        raise FileProblem(
            f"{path} holds a {what}, not a table of named tensors. Where it was made, save its `state_dict()` instead."
        )
    if inside is not None:
        if not isinstance(content.get(inside), Mapping):
            raise unknown(f"table of weights in {path}", inside, tables(content) or map(str, content))
        return _tensors(content[inside])
    key = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping) and _tensors(content[key])), None)
    table = content if key is None else content[key]
    weights = _tensors(table)
    odd = next((name for name, value in table.items() if _is_tensor(value)), None)
    if weights and odd is not None:
        raise FileProblem(
            f"{path} holds {str(odd)!r} as {table[odd].kind!r}, which is not read here: weights are plain dense "
            "tensors. Have its author save it so, or get another version."
        )
    if not weights:
        inner = tables(content)
        hint = f"Tables inside: {', '.join(inner)}; name one as `inside`." if inner else "It is no checkpoint."
        raise FileProblem(f"{path} has no tensors at its top level. {hint}")
    return weights


def _is_tensor(value: Any) -> bool:
    """Whether it stands for a tensor of a kind that is not built: sparse, quantised, of a class of its own."""
    return isinstance(value, Unbuilt) and value.kind.startswith(("torch._utils.", "torch._tensor."))


def _tensors(table: Mapping[Any, Any]) -> dict[str, Leaf]:
    return {str(name): value for name, value in table.items() if isinstance(value, Leaf)}


def tables(content: Mapping[Any, Any]) -> dict[str, dict[str, Leaf]]:
    """The tables of tensors in what a PyTorch file holds."""
    found = ((str(key), _tensors(value)) for key, value in content.items() if isinstance(value, Mapping))
    return {key: table for key, table in found if table}
