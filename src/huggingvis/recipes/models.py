"""A system by what names it: a packaged name, a folder, a run, a file, a model at a hub. The verb `load` is this.

Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch

from huggingvis import systems
from huggingvis.checkpoints.diffusers_common import read_config
from huggingvis.checkpoints.diffusers_unet_config import TEXT
from huggingvis.checkpoints.inspect import Family, family_in, inspect
from huggingvis.checkpoints.resolve import resolve
from huggingvis.core.catalog import ROOT
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.shipped import DEFAULT, packaged_models
from huggingvis.core.system import System
from huggingvis.recipes.beside import each
from huggingvis.recipes.loading import bind_run
from huggingvis.runtime import precision as runtime
from huggingvis.systems import autoencoder_folder
from huggingvis.systems.packaged import packaged, read_record
from huggingvis.systems.pipelines import INDEX, How, bind_folder


@dataclass(frozen=True)
class Wishes:
    """How a model should be bound; all but `device` are of models made of files of others.

    Attributes:
        device: of everything.
        precision: auto, float32, bfloat16 or float16; none: as the files have it.
        vae: an autoencoder, file or folder, in the place of the model's.
        prediction: `epsilon` or `v`, where a single file does not tell what its net predicts.
        text_encoder: a file or folder with text encoders in the place of the model's, or several.
    """

    device: torch.device
    precision: str | None = "auto"
    vae: str | Path | None = None
    prediction: str | None = None
    text_encoder: str | Path | Sequence[str | Path] = ()


def bind_model(model: str | Path | None, wishes: Wishes) -> System:
    """The system called `model`; None: the packaged one.

    Raises `UsageError` for an unknown name and for wishes that such a model cannot fulfil, `FileProblem` for damaged or
    missing files.
    """
    path = place_of_model(model)
    of_others = leaves_prediction_open(path) or (path / INDEX).is_file()
    if not of_others and not _is_own(path):
        read_record(path)  # says what it is instead
    if not of_others and (wishes.vae is not None or wishes.text_encoder):
        part, flag = ("an autoencoder", "--vae") if wishes.vae is not None else ("a text encoder", "--text-encoder")
        raise UsageError(f"{path.name!r} has {part} of its own or none, and takes no other: leave out {flag}.")
    if wishes.prediction is not None and not leaves_prediction_open(path):
        raise UsageError(
            f"{path.name!r} says itself what its net predicts: leave out --prediction, which is for single files."
        )
    return _of_others(path, wishes) if of_others else _own(path, wishes.device)


def leaves_prediction_open(path: Path) -> bool:
    """Whether nothing there says what the net predicts: so in one file of others, and in the folder of a U-Net."""
    if path.is_file():
        return path.suffix != ".pkl"
    return (path / "config.json").is_file() and read_config(path).get("_class_name") == TEXT


def place_of_model(model: str | Path | None) -> Path:
    """The file or folder that is meant, fetched where only a hub has it."""
    path = packaged(DEFAULT) if model is None else Path(model)
    here = os.path.exists(path)
    if not here and os.path.isdir(packaged(str(model))):
        return packaged(str(model))
    if model is None and not path.is_dir():
        raise FileProblem(
            "This installation lacks the model that ships with the package. Install the package again, or name a model "
            "folder or a run folder of your own."
        )
    return path if here else resolve(str(model), known=packaged_models())


def _is_own(path: Path) -> bool:
    """Whether `_own` binds such a thing, but for model folders of ours."""
    return path.is_file() or (path / "config.toml").is_file() or autoencoder_folder.is_one(path)


def _own(path: Path, device: torch.device) -> System:
    """The system in a run folder, a model folder of ours, an autoencoder's of diffusers, or an official file of
    StyleGAN2 or StyleGAN3."""
    if (path / "config.toml").is_file():
        return bind_run(path, device)
    if path.is_file():
        from huggingvis.systems import stylegan

        return stylegan.bind(path, device)
    if autoencoder_folder.is_one(path):
        return autoencoder_folder.bind_autoencoder(path, device)
    family, known = read_record(path)["family"], _families()
    if family not in known:
        raise FileProblem(f"{path}: {unknown('family of generators', str(family), known)}")
    system: System = importlib.import_module(f"huggingvis.systems.{family}").bind(path, device)
    return system


def _of_others(path: Path, wishes: Wishes) -> System:
    """The system in a folder of diffusers, a single file or the folder of a U-Net."""
    how = How(wishes.device, prediction=wishes.prediction)
    if wishes.precision is not None:
        chosen = runtime.precision(wishes.precision, wishes.device, path)
        how = replace(how, dtype=chosen.net, codec=chosen.codec)
    if wishes.vae is not None:
        how = replace(how, vae=resolve(wishes.vae, kind="vae"))
    texts = each(wishes.text_encoder)
    how = replace(how, text_encoders=tuple(resolve(name, kind="text-encoder") for name in texts))
    if (path / INDEX).is_file():
        return bind_folder(path, how)
    if path.is_file():
        from huggingvis.systems.single_file import bind_file

        try:
            return bind_file(path, how)
        except FileProblem:
            found = family_in(systems, inspect(path).tensors)
            if found is None:
                raise
        return _of_family(path, *found, wishes)
    from huggingvis.systems.unet_folder import bind_unet

    return bind_unet(path, how)


def _of_family(path: Path, family: Family, module: ModuleType, wishes: Wishes) -> System:
    """The system in a file of a family of `systems` that has a binder of its own."""
    if not family.alone:
        raise FileProblem(f"{path} holds weights of {family.name}, by which alone nothing is drawn: {family.use}.")
    said = {"--vae": wishes.vae is not None, "--text-encoder": bool(each(wishes.text_encoder)),
            "--prediction": wishes.prediction is not None}  # fmt: skip
    if any(said.values()):
        flag = next(name for name in said if said[name])
        raise UsageError(
            f"{path.name!r} holds a whole {family.name}, to which nothing is to be added: leave out {flag}."
        )
    system: System = module.bind(path, wishes.device)
    return system


def _families() -> list[str]:
    """Files of systems/ whose `bind` takes a model folder; the others bind single files of their own."""
    files = (ROOT / "systems").glob("*.py")
    return sorted(p.stem for p in files if "def bind(folder" in p.read_text(encoding="utf-8"))
