"""HuggingVis: one library for visual generation: `import huggingvis as hv; hv.generate("a red fox")`.

The verbs live in `huggingvis.api` and are loaded on first use (PEP 562), so importing the package loads no torch.
"""

from __future__ import annotations

import importlib
from inspect import Signature, getdoc, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

from huggingvis.core.version import __version__

if TYPE_CHECKING:
    from huggingvis.api import (
        batch,
        catalog,
        compare,
        control,
        describe,
        evaluate,
        explore,
        export,
        generate,
        grid,
        inspect,
        load,
        save,
        train,
    )

_VERBS = (
    "load", "generate", "batch", "grid", "control", "describe", "train", "evaluate", "compare", "explore", "export",
    "save", "inspect", "catalog",
)  # fmt: skip
__all__ = [
    "__version__", "load", "generate", "batch", "grid", "control", "describe", "train", "evaluate", "compare",
    "explore", "export", "save", "inspect", "catalog",
]  # fmt: skip


class _FolderAndVerb(ModuleType):
    # `train` and `export` are folders as well as verbs: the folder's module answers calls, and questions, by the verb.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._verb(*args, **kwargs)

    @property
    def _verb(self) -> Any:
        return _verb(self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Signature:
        return signature(self._verb)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return f"hv.{self._verb.__name__}{self.__signature__}\n\n{getdoc(self._verb)}"


def _verb(name: str) -> Any:
    return getattr(importlib.import_module("huggingvis.api"), name)


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return _verb(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS})


for _folder in ("train", "export"):
    importlib.import_module(f"{__name__}.{_folder}").__class__ = _FolderAndVerb
