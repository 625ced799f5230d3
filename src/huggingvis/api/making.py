"""Pictures of one request: `generate`, `stream` as they come, `notes` beforehand; `control` pictures, and `export`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.api.loading import load
from huggingvis.core.config import from_dict
from huggingvis.core.request import Request

if TYPE_CHECKING:
    from huggingvis.api.loading import Loading, Model, Parts
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep
    from huggingvis.core.system import System


def generate(
    prompt: str | Request,
    *,
    model: Model = None,
    device: str | None = None,
    precision: str = "auto",
    vae: str | Path | None = None,
    text_encoder: Parts = (),
    prediction: str | None = None,
    on_step: OnStep | None = None,
    **asked: Any,
) -> list[Picture]:
    """Pictures of a sentence, or of a whole `Request`, and of what else is `asked`; all else is the model's own.

    Asked by the names that batches and grids know too:

        seed=7, count=4, steps=20, cfg=5, negative="rain", sampler="Euler a", size="96x64"

    any other field of the request; `image`, a picture's file to start from, with `strength` and a `mask` that is white
    where it is made anew; a part of the request whole, `refine=Refine(2.0)`. `lora`, files with weights,
    `{"style.safetensors": 0.8}`; `embedding`, learnt words; `control`, `("canny.safetensors", "edges.png", 0.7)` or a
    list of such, for ControlNets, T2I-Adapters and IP-Adapters (these with their `image_encoder`); weights may also be
    OWNER/NAME at a hub. In a sentence `{red|blue}` is drawn by each picture's seed, and `__colour__` from the lists in
    the folder `wildcards`; `style` names styles of the table `styles`. The prompt of a `Request` is read as it stands.
    `device`, `precision`, `vae`, `text_encoder` and `prediction` as of `load`.

    Words that the model does not know, and all else in `notes`, come as warnings, and as `made["notes"]` of a picture.
    Raises `UsageError` for a name that is none, with the nearest, and for what the model cannot do, `FileProblem`.
    """
    from huggingvis.edits.generate import prepared
    from huggingvis.recipes.asking import rows_asked
    from huggingvis.recipes.beside import check_files

    rows = rows_asked(asked, prompt) if isinstance(prompt, Request) else rows_asked({"prompt": prompt, **asked})
    for row in rows:
        check_files(row.request)
    how: Loading = {"device": device, "precision": precision, "vae": vae, "text_encoder": text_encoder,
                    "prediction": prediction}  # fmt: skip
    system = load(model, **how)
    ready = [prepared(system, row.request) for row in rows]
    found = [*(row.notes for row in rows), *(one.notes for one in ready)]
    for note in dict.fromkeys(note for notes in found for note in notes):
        warnings.warn(note, stacklevel=2)
    return [picture for one in ready for picture in one.pictures(on_step)]


def notes(system: System, request: Request) -> tuple[str, ...]:
    """What `request` asks for that `system` cannot do or was not trained for, in sentences."""
    from huggingvis.edits.generate import notes as found

    return found(system, request)


def stream(system: System, request: Request, *, on_step: OnStep | None = None) -> Iterator[Picture]:
    """The pictures of `generate`, each as soon as it is made."""
    from huggingvis.edits.generate import stream as make

    return make(system, request, on_step=on_step)


def control(
    how: str,
    picture: str | Path,
    *,
    numbers: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
) -> Picture:
    """What a ControlNet sees of a picture file that is prepared by `how`: a file of data/control_inputs, as `canny`.

    `numbers` differ from its defaults; `size` (width, height) of the canvas, to which the picture comes by `fit`:
    stretch, crop or fill. Raises `UsageError` for an unknown way or number, `FileProblem` for no picture.
    """
    from huggingvis.core.media import Picture
    from huggingvis.data.control_pictures import kind_named, prepared_by

    return Picture(prepared_by(picture, from_dict(kind_named(how), dict(numbers or {})), size, fit))


def export(
    pictures: Sequence[Picture], folder: str | Path, *, metadata: bool = True, extension: str = ".png"
) -> list[Path]:
    """Save pictures as numbered files (.png, .jpg, .webp) that carry their request; nothing is overwritten.

    Without `metadata` neither the files nor their names say anything of how the pictures were made.
    """
    from huggingvis.export.image import save_numbered

    if not metadata:
        return [save_numbered(picture.bare(), folder, "", extension) for picture in pictures]
    return [save_numbered(picture, folder, _words(picture), extension) for picture in pictures]


def _words(picture: Picture) -> str:
    """What a picture's file is called after: its prompt, or else the model that made it."""
    prompt = picture.request.prompt.text if picture.request else ""
    return prompt.strip() or Path(str(picture.made.get("model", "picture"))).name
