"""The verbs: load, generate, train, evaluate, compare, explore, export, inspect, catalog: the command line in Python.

    import huggingvis as hv
    pictures = hv.generate("a fox to the left of a pizza", seed=7, count=4)
    hv.export(pictures, "out")

Nothing heavy is imported before a verb needs it, so that asking for the catalogue stays quick.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.core import catalog as _catalog
from huggingvis.core.config import from_dict
from huggingvis.core.errors import HvisError, UsageError
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.core.shipped import DEFAULT as DEFAULT_MODEL
from huggingvis.core.shipped import packaged_models
from huggingvis.core.undisturbed import imported
from huggingvis.recipes.repeating import Repetition, repeat

if TYPE_CHECKING:
    import torch

    from huggingvis.core.axes import Axis
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep
    from huggingvis.core.system import System
    from huggingvis.edits.exploring import Finding
    from huggingvis.recipes.batch_rows import Told
    from huggingvis.recipes.batching import Done, Outcome, Row
    from huggingvis.recipes.beside import Controls, Embeddings, Loras, Name
    from huggingvis.recipes.comparing import Compared, Comparison
    from huggingvis.recipes.evaluation import Evaluation, Evaluator, Progress
    from huggingvis.systems.judges.safety import SafetyJudge
    from huggingvis.train.run import Run

    Model = System | str | Path | None

__all__ = [
    "DEFAULT_MODEL", "Repetition", "batch", "catalog", "compare", "control", "device_of", "evaluate", "explore",
    "export", "generate", "grid", "inspect", "load", "notes", "packaged_models", "repeat", "safety_checker", "stream",
    "train",
]  # fmt: skip
CELL = 96
"""Pixels of a cell of the sheets that explorations make."""


def ready() -> None:
    """Import what `load` and `generate` need, PyTorch above all: for those who would rather wait for it now."""
    imported("torch", "huggingvis.edits.generate", "huggingvis.systems.packaged")


def device_of(name: str | None = None) -> torch.device:
    """The device called `name`; None or "auto" is CUDA or MPS where there is one, else the CPU. Raises `UsageError`."""
    imported("torch")
    from huggingvis.runtime.devices import device_of as found

    return found(name)


def load(
    model: Model = None,
    *,
    device: str | None = None,
    precision: str = "auto",
    vae: str | Path | None = None,
    prediction: str | None = None,
) -> System:
    """A system by what names it: nothing (the packaged one), a packaged name, a model folder of ours or of diffusers, a
    run folder, a single-file checkpoint, an official StyleGAN2 file (.pkl), or `owner/name` at a hub, which is fetched
    into the hub's cache where it is not there.

    `device`: as `device_of`. Of models made of files of others: `precision`, auto, float32, bfloat16 or float16
    (`runtime.precision`; this library's own run in float32); `vae`, an autoencoder, file or folder, in the place of the
    model's; `prediction`, `epsilon` or `v`, where a single file does not tell what its net predicts.
    Raises `UsageError` for an unknown name and for what such a model does not take, `FileProblem` for damaged or
    missing files.
    """
    ready()
    from huggingvis.core.system import System
    from huggingvis.recipes.models import Wishes, bind_model

    if isinstance(model, System):
        return model
    return bind_model(model, Wishes(device_of(device), precision, vae, prediction))


def generate(
    prompt: str | Request,
    *,
    model: Model = None,
    count: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    device: str | None = None,
    on_step: OnStep | None = None,
    lora: Loras = (),
    embedding: Embeddings = (),
    control: Controls | tuple[()] = (),
    image_encoder: Name = "",
    image: Name | None = None,
    mask: Name | None = None,
    strength: float | None = None,
) -> list[Picture]:
    """Pictures of a sentence, or of a whole `Request`, which says all but model and device itself.

    Beside the sentence, as on the command line: `lora`, files with weights, `{"style.safetensors": 0.8}`; `embedding`,
    learnt words; `control`, `("canny.safetensors", "edges.png", 0.7)` or a list of such, for ControlNets, T2I-Adapters
    and IP-Adapters (these with their `image_encoder`); `image`, a picture's file to start from, with `strength` and a
    `mask` that is white where it is made anew. Weights may also be OWNER/NAME at a hub.
    Words that the model does not know, and all else in `notes`, come as warnings, and as `made["notes"]` of a picture.
    """
    from huggingvis.recipes.beside import Beside

    beside = Beside(lora, embedding, control, image_encoder, image, mask, strength)
    if isinstance(prompt, Request):
        if beside:
            raise UsageError(
                "A whole Request says itself what it starts from and which adapters it has: put them into its `source` "
                "and `adapters`, or give a sentence."
            )
        system, request = load(model, device=device), prompt
    else:
        request = beside.added(Request(Prompt(prompt), Canvas(count=count)))
        system = load(model, device=device)
        request = replace(request, sampling=replace(sampling or system.defaults, seed=seed))
    pictures = stream(system, request, on_step=on_step)
    for note in notes(system, request):
        warnings.warn(note, stacklevel=2)
    return list(pictures)


def batch(
    requests: Told,
    folder: str | Path,
    *,
    model: Model = None,
    base: Request | None = None,
    device: str | None = None,
    on_row: Callable[[Outcome], None] = lambda outcome: None,
) -> Done:
    """The pictures of many requests, each made once: those that `folder` has already are kept, whoever stopped before.

    `requests`: prompts, `Request`s, tables of values by field (`{"prompt": "a fox", "steps": 20}`), or a file of them
    (.txt, .csv, .jsonl); a table's `model` names another than `model`. `base`: what rows do not say; without it the
    model's own numbers. A row that fails does not stop the rest: `Done.outcomes` say what became of each.
    Raises `UsageError` before anything is made where rows are wrong.
    """
    from huggingvis.recipes.batch_rows import rows_of

    return _batch(rows_of(requests, base), folder, model, device, on_row)


def grid(
    prompt: str | Request,
    *,
    x: str | Axis | None = None,
    y: str | Axis | None = None,
    z: str | Axis | None = None,
    folder: str | Path = "out",
    model: Model = None,
    device: str | None = None,
) -> tuple[Picture, Done]:
    """One request with other values along up to three axes: the labelled sheet, and what became of each cell.

    An axis as `"steps=5,10,20"`, `"cfg=1..7:4"`, `"prompt:fox,cat"` (search and replace) or `core.axes.Axis`. Each
    cell's picture is in `folder`, and is not made again by a second call.
    """
    from huggingvis.core.axes import Axis
    from huggingvis.recipes.batch_rows import rows_of
    from huggingvis.recipes.grids import Axes, check_cells, sheet_of

    right, down, blocks = (Axis.parse(axis) if isinstance(axis, str) else axis for axis in (x, y, z))
    axes = Axes(right, down, blocks)
    base = prompt if isinstance(prompt, Request) else None
    words = {} if base else {"prompt": prompt}
    rows = rows_of([{**words, **cells.values} for cells in axes.cells()], base)
    check_cells(rows)
    done = _batch(rows, folder, model, device, lambda outcome: None)
    return sheet_of(axes, done.outcomes), done


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


def _batch(
    rows: Sequence[Row], folder: str | Path, model: Model, device: str | None, on_row: Callable[[Outcome], None]
) -> Done:
    from huggingvis.core.system import System
    from huggingvis.edits.generate import fingerprint
    from huggingvis.recipes import batching
    from huggingvis.recipes.models import place_of_model

    def of(named: str | None) -> Model:
        return model if named is None else named

    def place(named: str | None) -> Path | str:
        asked = of(named)
        if isinstance(asked, System):
            return fingerprint(asked)
        try:
            return place_of_model(asked)
        except HvisError as error:
            if named is None:
                raise
            return str(error)  # the rows of this model fail when it is loaded

    how = batching.Batch(Path(folder), lambda named: load(of(named), device=device), place, on_row=on_row)
    return batching.run(rows, how)


def notes(system: System, request: Request) -> tuple[str, ...]:
    """What `request` asks for that `system` cannot do or was not trained for, in sentences."""
    from huggingvis.edits.generate import notes as found

    return found(system, request)


def stream(system: System, request: Request, *, on_step: OnStep | None = None) -> Iterator[Picture]:
    """The pictures of `generate`, each as soon as it is made."""
    from huggingvis.edits.generate import stream as make

    return make(system, request, on_step=on_step)


def safety_checker(folder: str | Path, *, device: str | None = None) -> SafetyJudge:
    """What looks at finished pictures for those who serve them: `checker(picture)` is the picture, or a black one.

    `folder`: a `safety_checker` of diffusers. Raises `FileProblem` for another. Nothing uses it unless it is called.
    """
    from huggingvis.systems.judges.safety import bind

    return bind(folder, device_of(device))


def train(
    recipe: str,
    run: str | Path,
    config: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    shard: bool = False,
) -> Run:
    """Train recipe `recipe` in the folder `run`; `config` holds the numbers that differ from its defaults.

    Under `torchrun` every process trains its share of each batch, and with `shard` keeps only a part of each net.
    Raises `Cancelled` after ctrl-C, with everything saved.
    """
    from huggingvis.recipes.setting import Setting
    from huggingvis.train.parallel import from_torchrun

    module = _catalog.find_recipe(recipe)
    numbers = from_dict(module.Config, dict(config or {}))
    parallel = from_torchrun(device_of(device), shard)
    try:
        result: Run = module.train(numbers, Setting(Path(run), resume=resume, parallel=parallel))
    finally:
        parallel.close()
    return result


def evaluate(
    model: Model = None,
    how: Evaluator | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """What is measured of a model, a run or a folder of pictures, in JSON values and in words.

    `how`: `SceneScores`, `HeldOut`, `ParzenWindow`, `FolderDistance` (see `recipes.evaluation`), each with its numbers;
    without it scene accuracy where sentences are read, and of another run its last held-out losses. `progress` makes a
    bar for each piece of work. Raises `UsageError` for a model that cannot be measured so.
    """
    from huggingvis.recipes.evaluation import Subject, silent
    from huggingvis.recipes.usual_evaluation import Usual

    subject = Subject(model, device_of(device), lambda: load(model, device=device), progress or silent)
    return (how or Usual())(subject)


def compare(
    model: Model = None,
    how: Comparison | None = None,
    *,
    device: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda text: None,
    keep: str | Path | None = None,
) -> Compared:
    """The samplers of a diffusion model side by side, against a fine solution from the same noise.

    `say` is told beforehand how long it takes. `keep`: a folder for what is done, from which it goes on when stopped.
    """
    from huggingvis.recipes.comparing import Comparison, compare_samplers

    kept = Path(keep) if keep is not None else None
    return compare_samplers(load(model, device=device), how or Comparison(), progress, say=say, keep=kept)


def explore(
    name: str,
    model: Model,
    pictures: Sequence[Picture | str | Path] = (),
    *,
    numbers: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> tuple[Picture, Finding]:
    """What the latents of a model hold, as one labelled sheet, and what was found in words, numbers and tensors.

    `name`: a file of edits/explore (reconstruct, interpolate, traverse, ...); `numbers` differ from its defaults.
    Raises `UsageError` for a model that cannot do it.
    """
    from huggingvis.core.media import Picture
    from huggingvis.core.picture_files import open_picture
    from huggingvis.edits.exploring import exploration
    from huggingvis.export.grid import Sheet, contact_sheet

    explorer = from_dict(exploration(name), dict(numbers or {}))
    given = [p if isinstance(p, Picture) else open_picture(p) for p in pictures]
    found = explorer(load(model, device=device), given)
    tiles = found.tiles
    sheet = Sheet(tiles.columns, CELL, tiles.row_labels, tiles.column_labels)
    return contact_sheet(tiles.pictures, sheet, tiles.captions), found


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


def inspect(path: str | Path, *, base: str | Path | None = None, hashes: bool = True) -> dict[str, Any]:
    """What a file or folder is, in JSON values: `kind`, `title`, a `summary` for people, and all that it tells.

    Of a checkpoint, a LoRA, an embedding and the like: for which base it is, types and sizes, trigger words, what its
    maker wrote into it, licence and hashes; of a picture how it was made; of a model folder, a packaged model by its
    name or a run folder: its name, family or recipe and steps, and the sizes of its parts. Of safetensors only the
    header is read, and the whole once for its `hashes`; nothing is executed.
    Of `owner/name` at a hub only settings are fetched, and of a safetensors file its header.
    `base`: a model, or `sd1`, `sd2`, `sdxl`, `refiner`: `fits` then says whether it can be used with it, and why not.
    Raises `FileProblem` for what is missing or damaged, `UsageError` for an unknown base.
    """
    from huggingvis.recipes.inspecting import inspected

    return inspected(path, base=base, hashes=hashes)


def catalog(chapter: int | str | None = None) -> list[dict[str, Any]]:
    """A record for each system of the library, with the proof of each claim."""
    return [record.to_dict() for record in _catalog.systems(None if chapter is None else str(chapter))]
