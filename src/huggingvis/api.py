"""The verbs: load, generate, train, evaluate, compare, explore, export, inspect, catalog: the command line in Python.

    import huggingvis as hv
    pictures = hv.generate("a fox to the left of a pizza", seed=7, count=4)
    hv.export(pictures, "out")

Nothing heavy is imported before a verb needs it, so that asking for the catalogue stays quick.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.core import catalog as _catalog
from huggingvis.core.config import from_dict
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.request import Canvas, Prompt, Request, Sampling

if TYPE_CHECKING:
    import torch

    from huggingvis.checkpoints.kinds import Subject
    from huggingvis.core.media import Picture
    from huggingvis.core.protocols import OnStep
    from huggingvis.core.system import System
    from huggingvis.edits.exploring import Finding
    from huggingvis.recipes.comparing import Compared, Comparison
    from huggingvis.recipes.evaluation import Evaluation, Evaluator, Progress
    from huggingvis.systems.judges.safety import SafetyJudge
    from huggingvis.systems.pipelines import How
    from huggingvis.train.run import Run

    Model = System | str | Path | None

DEFAULT_MODEL = "tiny"
CELL = 96
"""Pixels of a cell of the sheets that explorations make."""
_HERE = Path(__file__).parent


def device_of(name: str | None = None) -> torch.device:
    """The device called `name`; None or "auto" is CUDA or MPS where there is one, else the CPU. Raises `UsageError`."""
    import torch

    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used here: {str(error).splitlines()[0]} "
            "`hvis doctor` shows which there are; `auto` takes the best of them."
        ) from None
    return device


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
    from huggingvis.core.system import System

    if isinstance(model, System):
        return model
    where, path = device_of(device), _place(model)
    of_others = path.suffix != ".pkl" if path.is_file() else (path / "model_index.json").is_file()
    if vae is not None and not of_others:
        raise UsageError(f"{path.name!r} has an autoencoder of its own or none, and takes no other: leave out --vae.")
    if prediction is not None and not (of_others and path.is_file()):
        raise UsageError(
            f"{path.name!r} says itself what its net predicts: leave out --prediction, which is for single files."
        )
    if of_others:
        return _of_others(path, replace(_how(where, precision, path), vae=_vae(vae), prediction=prediction))
    return _own(path, where)


def _place(model: str | Path | None) -> Path:
    """The file or folder that `load` was told of, fetched where only a hub has it."""
    from huggingvis.systems.packaged import packaged

    path = packaged(DEFAULT_MODEL) if model is None else Path(model)
    if not path.exists() and packaged(str(model)).is_dir():
        return packaged(str(model))
    if model is None and not path.is_dir():
        raise FileProblem(
            "This installation lacks the model that ships with the package. Install the package again, or name a model "
            "folder or a run folder of your own."
        )
    if not path.exists():
        from huggingvis.checkpoints.resolve import resolve

        return resolve(str(model), known=packaged_models())
    return path


def _own(path: Path, device: torch.device) -> System:
    """The system in a run folder, a model folder of ours, or an official StyleGAN2 file."""
    from huggingvis.systems.packaged import read_record

    if (path / "config.toml").is_file():
        from huggingvis.recipes.loading import bind_run

        return bind_run(path, device)
    if path.is_file():
        from huggingvis.systems import stylegan2

        return stylegan2.bind(path, device)
    family, known = read_record(path)["family"], _families()
    if family not in known:
        raise FileProblem(f"{path}: {unknown('family of generators', str(family), known)}")
    system: System = importlib.import_module(f"huggingvis.systems.{family}").bind(path, device)
    return system


def _of_others(path: Path, how: How) -> System:
    """The system in a folder of diffusers or a single file."""
    if path.is_file():
        from huggingvis.systems.single_file import bind_file

        return bind_file(path, how)
    from huggingvis.systems.pipelines import bind_folder

    return bind_folder(path, how)


def _how(device: torch.device, precision: str, path: Path) -> How:
    from huggingvis.runtime import precision as runtime
    from huggingvis.systems.pipelines import How

    chosen = runtime.precision(precision, device, path)
    return How(device, chosen.net, chosen.codec)


def _vae(named: str | Path | None) -> Path | None:
    from huggingvis.checkpoints.resolve import resolve

    return None if named is None else resolve(named, kind="vae")


def packaged_models() -> list[str]:
    """Names of the generators that ship with the package."""
    return sorted(p.parent.name for p in _HERE.glob("weights/*/model.json") if not p.parent.name.startswith("judge"))


def _families() -> list[str]:
    """Files of systems/ whose `bind` takes a model folder; the others bind single files of their own."""
    files = (_HERE / "systems").glob("*.py")
    return sorted(p.stem for p in files if "def bind(folder" in p.read_text(encoding="utf-8"))


def generate(
    prompt: str | Request,
    *,
    model: Model = None,
    count: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    device: str | None = None,
    on_step: OnStep | None = None,
) -> list[Picture]:
    """Pictures of a sentence, or of a whole `Request` (then the other numbers are ignored).

    Words that the model does not know, and all else in `notes`, come as warnings, and as `made["notes"]` of a picture.
    """
    system = load(model, device=device)
    if isinstance(prompt, str):
        prompt = Request(Prompt(prompt), Canvas(count=count), replace(sampling or system.defaults, seed=seed))
    pictures = stream(system, prompt, on_step=on_step)
    for note in notes(system, prompt):
        warnings.warn(note, stacklevel=2)
    return list(pictures)


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


def repeat(path: str | Path, *, system: System, on_step: OnStep | None = None) -> tuple[Picture, Repetition]:
    """The picture file `path` made again from its own record, and how the two compare.

    Raises `FileProblem` for a file without a record, `UsageError` where `system` cannot do what the record asks.
    """
    from huggingvis.core.picture_files import open_picture
    from huggingvis.edits.generate import CHUNK
    from huggingvis.edits.generate import repeat as again
    from huggingvis.export.image import read_provenance

    told = read_provenance(path)
    index, chunk = told.made.get("batch_index", 0), told.made.get("chunk", CHUNK)
    if not (type(index) is int and type(chunk) is int and chunk > 0):
        raise FileProblem(f"The record in {path} is damaged: batch index or chunk is no number. Use an intact copy.")
    picture = again(system, told.request(), index, chunk=chunk, on_step=on_step)
    before, after = open_picture(path).pixels.astype(int), picture.pixels.astype(int)
    apart = int(abs(before - after).max()) if before.shape == after.shape else 255
    differs = {
        key: (told.made.get(key), picture.made[key])
        for key in ("model", "weights", "backend", "version")
        if told.made.get(key) != picture.made[key]
    }
    return picture, Repetition(apart, differs)


@dataclass(frozen=True)
class Repetition:
    """How a repeated picture compares: the largest difference in 255ths, and what was different about its making."""

    apart: int
    differs: Mapping[str, tuple[Any, Any]]

    @property
    def identical(self) -> bool:
        return self.apart == 0


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
    from huggingvis.checkpoints.report import hashes as hashes_of
    from huggingvis.checkpoints.report import report_of

    if not Path(path).exists() and (named := _HERE / "weights" / str(path)).is_dir():
        path = named
    subject, told_sha = _looked_at(path)
    report = report_of(subject)
    kind = {"kind": report.kind.name}
    if report.kind.name == "own" or (subject.is_folder and report.kind.name == "other"):
        from huggingvis.recipes.loading import folder_facts

        found = {**folder_facts(subject.path), **kind} if not subject.settings else report.as_json()
    elif report.kind.name == "picture":
        from huggingvis.export.image import picture_facts

        found = {**picture_facts(subject.path), **kind}
    else:
        found = report.as_json()
    if base is not None:
        from huggingvis.checkpoints.fitting import fits_on

        found["fits"] = fits_on(report, base)
    if subject.format is not None:
        if subject.is_remote:
            found |= {"sha256": told_sha}
        elif hashes:
            found |= {"hashes": (told := hashes_of(report)), "sha256": told["sha256"]}
        found["family"] = family = _family(subject.tensors) if report.kind.name == "other" else None
        if family is not None:
            title = f"a file of weights of {family}, a family of this library"
            found |= {"title": title, "summary": f"{subject.path.name} is {title}."}
    return found


def _looked_at(path: str | Path) -> tuple[Subject, str | None]:
    """What is there, or what a hub says of it, with the hash of a file that only the hub has."""
    from huggingvis.checkpoints.kinds import Subject

    if not os.path.lexists(path) and isinstance(path, str):
        from huggingvis.checkpoints.hub_names import remote

        what = remote(path)
        if what is not None:
            from huggingvis.checkpoints.hub_look import subject_at
            from huggingvis.checkpoints.resolve import is_path

            if not is_path(what):
                return subject_at(what)
    return Subject(path), None


def _family(tensors: Mapping[str, Any]) -> str | None:
    """The family of this library that these tensors are of."""
    from huggingvis import systems
    from huggingvis.checkpoints.inspect import families_in, identify

    family = identify(tensors, families_in(systems))
    return family.name if family else None


def catalog(chapter: int | str | None = None) -> list[dict[str, Any]]:
    """A record for each system of the library, with the proof of each claim."""
    return [record.to_dict() for record in _catalog.systems(None if chapter is None else str(chapter))]
