"""What a request has beside its words, as people name it: adapters, and the files of all it names.

    hvis generate "a fox" --lora style.safetensors:0.8 --control canny.safetensors:edges.png:0.7
    hv.generate("a fox", lora={"style.safetensors": 0.8}, control=("canny.safetensors", "edges.png", 0.7))

Both are read here, so that both make one `Request`. Files may be named as in folders of other programs, or as
OWNER/NAME at a hub, like models. Book: chapter 8, "Adapters".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints.hub import USUAL, Fetching
from huggingvis.checkpoints.kinds import kind_of
from huggingvis.checkpoints.resolve import resolve
from huggingvis.core.errors import UsageError, no_file
from huggingvis.core.request import FITS, AdapterUse, Request
from huggingvis.core.request_fields import files_of
from huggingvis.recipes.controls import Nets, check_net, parts_of, use_of

KINDS = {"lora": ("lora",), "embedding": ("embedding",), "controlnet": ("controlnet", "t2i-adapter", "ip-adapter")}
"""By what an adapter's file is looked for as, the kinds of `checkpoints.kinds` that it may be."""
_SAID_WITH = {
    "lora": "--lora FILE:WEIGHT (`lora` in Python)", "embedding": "--embedding FILE (`embedding` in Python)",
    "controlnet": "--control FILE:PICTURE (`control` in Python)",
}  # fmt: skip

Name = str | Path
Loras = Name | Mapping[str, float] | Sequence[Name]
Embeddings = Name | Sequence[Name]
Control = str | tuple[Name, Name] | tuple[Name, Name, float]
Controls = Control | list[Control]


@final
@dataclass(frozen=True)
class Beside:
    """The adapters that calls in Python name.

    Attributes:
        lora: `"style.safetensors:0.8"`, several of them, or weights by file.
        embedding: textual inversions, called by their words in the prompt.
        control: `"canny.safetensors:edges.png:0.7"`, `"canny=net.safetensors:photo.png"` (`recipes.controls`) or
            (file, picture, weight), or a list of them.
        image_encoder: the folder of what an IP-Adapter of `control` sees by.
        control_fit: how pictures of `control` come to the canvas's shape: stretch, crop or fill.
    """

    lora: Loras = ()
    embedding: Embeddings = ()
    control: Controls | tuple[()] = ()
    image_encoder: Name = ""
    control_fit: str = FITS[0]

    def added(self, request: Request) -> Request:
        """`request` with all this in the place of its adapters, as files that are here.

        Raises `UsageError` for words that say nothing of the kind, `FileProblem` for files that are not there or are
        something else.
        """
        return replace(request, adapters=self._adapters() or request.adapters)

    def _adapters(self) -> tuple[AdapterUse, ...]:
        if isinstance(self.lora, Mapping):
            loras = [AdapterUse(str(path), _weight(path, weight)) for path, weight in self.lora.items()]
        else:
            loras = [lora_of(str(word)) for word in each(self.lora)]
        words = [AdapterUse(str(path)) for path in each(self.embedding)]
        controls = [self.control] if isinstance(self.control, tuple) and self.control else each(self.control)
        pictured = [replace(control_of(word, str(self.image_encoder)), fit=self.control_fit) for word in controls]
        asked = [("lora", use) for use in loras]
        asked += [("embedding", use) for use in words] + [("controlnet", use) for use in pictured]
        return tuple(here(use, kind) for kind, use in asked)


def each(told: Any) -> Sequence[Any]:
    """Several values: a list of them, or a text with semicolons between them, as a cell of a table has it.

    None and an empty text are none.
    """
    if told is None:
        return ()
    if isinstance(told, str) and not os.path.exists(told):
        return told.split(";") if told else ()
    return told if isinstance(told, list | tuple) else [told]


# ---- one adapter -----------------------------------------------------------------------------------------------------


def lora_of(word: str) -> AdapterUse:
    """FILE or FILE:WEIGHT."""
    path, weight = weighted(word)
    return AdapterUse(path, weight)


def control_of(told: Any, encoder: str = "") -> AdapterUse:
    """As `controls.parts_of`, or a tuple of file, picture and weight. Raises `UsageError` where none is named."""
    if isinstance(told, str):
        return use_of(parts_of(told), Nets(), encoder)
    if not isinstance(told, tuple) or not 2 <= len(told) <= 3:
        raise UsageError(
            "`control` takes a word such as 'canny.safetensors:edges.png:0.7', or a file, the picture that it reads "
            f"and a weight, ('canny.safetensors', 'edges.png', 0.7), or a list of such; found {told!r:.80}."
        )
    path, image, weight = (*told, 1.0)[:3]
    return AdapterUse(str(path), _weight(path, weight), str(image), encoder=encoder)


def _weight(path: Name, told: Any) -> float:
    """The weight of the file `path`. Raises `UsageError` for what is no number."""
    try:
        return float(told)
    except (TypeError, ValueError):
        raise UsageError(f"The weight of {path} must be a number such as 0.8, but {told!r:.80} was found.") from None


def weighted(word: str) -> tuple[str, float]:
    """FILE:0.8 as its parts; without a number, 1."""
    path, _, last = word.rpartition(":")
    if path and not os.path.exists(word):
        try:
            return path, float(last)
        except ValueError:
            pass
    return word, 1.0


def here(use: AdapterUse, kind: str, roots: Sequence[Path] = (), how: Fetching = USUAL) -> AdapterUse:
    """The adapter with the path of its file on this machine, told as one of `kind`.

    `roots`: folders of other programs; `how`: how a hub is asked. Raises `UsageError` for one of another kind.
    """
    path = resolve(use.path, roots, kind=kind, how=how)
    found = kind_of(path)
    if kind == "controlnet":
        check_net(path, found)
    if found.adapter and found.name not in KINDS[kind]:
        right = next(words for name, words in _SAID_WITH.items() if found.name in KINDS[name])
        raise UsageError(f"{path} is {found.title}: give it with {right}.")
    return replace(use, path=str(path))


def check_files(request: Request, record: Path | None = None) -> None:
    """Refuse a request whose files are not there before a model is loaded for it; `record`: the picture it comes from.

    Raises `FileProblem`.
    """
    for path in files_of(request):
        if not os.path.lexists(path):
            why = "Check the path."
            if record is not None:
                why = (
                    f"The record of {record} names it, as seen from the folder where that was made: go there, or name "
                    "it again by its flag (--image, --lora, ...)."
                )
            raise no_file(path, why)
