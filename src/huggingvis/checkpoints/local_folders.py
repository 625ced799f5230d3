"""Models that other programs keep on this machine, read where they lie: the folders of A1111, Forge and ComfyUI.

A root is the folder of such a program, its `models` folder, a plain folder of models, or an `extra_model_paths.yaml`,
by which ComfyUI reads the folders of others:

    a111:
        base_path: path/to/stable-diffusion-webui/
        checkpoints: models/Stable-diffusion
        loras: |
            models/Lora
            models/LyCORIS

That file is also read where it lies in a root. A path in it counts from its section's `base_path`, or else from the
file's own folder. Nothing is written, moved or loaded here; the YAML is read as plain data.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.files import explain

EXTRA = "extra_model_paths.yaml"
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".th", ".gguf")
MOST_YAML = 1 << 20
"""Bytes of a file of paths; a longer one is something else."""


@final
@dataclass(frozen=True)
class Kind:
    """What a model is for: the folders that hold it, below a program's own, and its keys in ComfyUI's file of paths."""

    title: str
    folders: tuple[str, ...]
    keys: tuple[str, ...]
    suffixes: tuple[str, ...] = SUFFIXES


KINDS: Mapping[str, Kind] = {
    "checkpoint": Kind("checkpoint", ("models/Stable-diffusion", "models/checkpoints", "models/diffusers"),
                       ("checkpoints", "diffusers")),
    "lora": Kind("LoRA", ("models/Lora", "models/LyCORIS", "models/loras"), ("loras",)),
    "vae": Kind("VAE", ("models/VAE", "models/vae"), ("vae",)),
    "embedding": Kind("embedding", ("embeddings", "models/embeddings"), ("embeddings",),
                      (*SUFFIXES, ".png", ".webp")),
    "controlnet": Kind("ControlNet", ("models/ControlNet", "models/controlnet", "models/t2i_adapter",
                                      "extensions/sd-webui-controlnet/models"), ("controlnet", "t2i_adapter")),
    "ip-adapter": Kind("IP-Adapter", ("models/ipadapter", "models/ControlNet"), ("ipadapter",)),
    "text-encoder": Kind("text encoder", ("models/text_encoder", "models/text_encoders", "models/clip"),
                         ("text_encoders", "clip")),
    "image-encoder": Kind("image encoder", ("models/clip_vision",), ("clip_vision",)),
    "unet": Kind("U-Net", ("models/diffusion_models", "models/unet"), ("diffusion_models", "unet")),
    "tiny-vae": Kind("tiny VAE", ("models/VAE-approx", "models/vae_approx"), ("vae_approx",)),
    "upscaler": Kind("upscaler", ("models/ESRGAN", "models/RealESRGAN", "models/SwinIR", "models/upscale_models"),
                     ("upscale_models",)),
    "hypernetwork": Kind("hypernetwork", ("models/hypernetworks",), ("hypernetworks",)),
}  # fmt: skip


@final
@dataclass(frozen=True)
class LocalModel:
    """A model file, or a diffusers folder: its name is its path below the folder of its kind."""

    name: str
    kind: str
    path: Path


def listed(kind: str, roots: Iterable[Path]) -> list[LocalModel]:
    """All models of a kind, in the order of the roots, each once. Raises `FileProblem` for a root that is not there."""
    what, seen, out = _kind(kind), set[str](), list[LocalModel]()
    for folder in _folders(what, roots):
        for path in _models(folder, what.suffixes):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                out.append(LocalModel(path.relative_to(folder).as_posix(), kind, path))
    return out


def find(name: str, kind: str, roots: Sequence[Path]) -> Path:
    """The model called `name`: its path below the folder of its kind, or its file's name, each with or without suffix.

    Also as A1111 shows it, `name.safetensors [6ce0161689]`. Raises `UsageError` for a name that none has (with the
    nearest, or the kind that has it) or that several have, `FileProblem` for a root that is not there.
    """
    found = lookup(name, kind, roots)
    if found is not None:
        return found
    if (fault := of_another_kind(name, kind, roots)) is not None:
        raise fault
    known = {_file_stem(model.name) for model in listed(kind, roots)}
    raise unknown(KINDS[kind].title, name, known, lister=f"hvis models list --kind {kind}")


def of_another_kind(name: str, kind: str, roots: Sequence[Path]) -> UsageError | None:
    """The error for a name that only a model of another kind has, if one does."""
    for other in KINDS:
        if other != kind and lookup(name, other, roots) is not None:
            here, asked = _article(KINDS[other].title), _article(KINDS[kind].title)
            return UsageError(f"{name!r} is here as {here}, not as {asked}. Name it where {here} is expected.")
    return None


def lookup(name: str, kind: str, roots: Sequence[Path]) -> Path | None:
    """As `find`, but None for a name that none has."""
    wanted = re.sub(r"\s*\[[0-9a-fA-F]{6,64}\]$", "", name.strip()).replace("\\", "/")
    models = listed(kind, roots)
    for fold in (str, str.lower):  # another case is meant only where none has this one
        for of_name in (_whole, _stem, _file, _file_stem):
            same = [m for m in models if fold(of_name(m.name)) == fold(wanted)]
            if same:
                return _one(name, same)
    return None


def _one(name: str, same: list[LocalModel]) -> Path:
    """Of models with one name the safest format; the first root that has it; but never one of two different ones."""
    roots = {model.path.parent for model in same}
    if len(roots) > 1 and len({model.name.rpartition("/")[0] for model in same}) > 1:
        told = ", ".join(sorted(model.name for model in same))
        raise UsageError(f"{name!r} may be any of {told}. Say which, with its folder.")
    return min(same, key=lambda m: (m.path.parent != same[0].path.parent, _rank(m.path))).path


def _rank(path: Path) -> int:
    return SUFFIXES.index(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else len(SUFFIXES)


def _whole(name: str) -> str:
    return name


def _stem(name: str) -> str:
    """Without the suffix of a model file; other dots are part of the name."""
    head, dot, suffix = name.rpartition(".")
    return head if f".{suffix.lower()}" in (*SUFFIXES, ".png", ".webp") and dot else name


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _file_stem(name: str) -> str:
    return _stem(_file(name))


def _article(title: str) -> str:
    return f"{'an' if title[0] in 'aeiouIA' else 'a'} {title}"


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise unknown("kind of model", name, KINDS)
    return KINDS[name]


# ---- folders --------------------------------------------------------------------------------------------------------


def _folders(kind: Kind, roots: Iterable[Path]) -> Iterator[Path]:
    """The folders that hold models of a kind, each once; a root without any program's folders is one itself."""
    seen = set()
    for root in roots:
        for folder in _of_root(kind, Path(root).expanduser()):
            real = os.path.realpath(folder)
            if real not in seen and folder.is_dir():
                seen.add(real)
                yield folder


def _of_root(kind: Kind, root: Path) -> list[Path]:
    if root.suffix.lower() in (".yaml", ".yml") and root.is_file():
        return _of_paths(kind, root)
    if not root.is_dir():
        raise FileProblem(
            f"There is no folder {root}, which was named as a place of models. Correct it in --models, or under "
            "`models` in the settings file that `hvis doctor` names."
        )
    told = _of_paths(kind, root / EXTRA) if (root / EXTRA).is_file() else []
    if not _is_program(root):
        return [root, *told]
    return [*(place for folder in kind.folders for place in _below(root, folder)), *told]


def _is_program(root: Path) -> bool:
    """Whether any kind of model has its own folder there; else its files may be of every kind."""
    return any(place.is_dir() for kind in KINDS.values() for folder in kind.folders for place in _below(root, folder))


def _below(root: Path, folder: str) -> tuple[Path, ...]:
    """`folder` in a program's folder, or in its `models` folder named as the root."""
    within = folder.removeprefix("models/")
    return (root / folder, root / within) if within != folder else (root / folder,)


def _models(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Model files below `folder`, following links without walking in circles, and diffusers folders as one model."""
    walked = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        if "model_index.json" in files or ("config.json" in files and here != folder):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            real = os.path.realpath(here / name)
            if real in walked:
                folders.remove(name)
            walked.add(real)
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield here / name


# ---- extra_model_paths.yaml -----------------------------------------------------------------------------------------


def _of_paths(kind: Kind, file: Path) -> list[Path]:
    """The folders of a kind that a file of paths names, those of the section marked `is_default` first."""
    out: list[tuple[bool, Path]] = []
    for section in _sections(file):
        base = file.absolute().parent
        if isinstance(section.get("base_path"), str):
            base /= Path(os.path.expandvars(section["base_path"].strip())).expanduser()  # both as ComfyUI does
        first = section.get("is_default") is True
        out += [(not first, base / place) for key in kind.keys for place in _places(section.get(key), key, file)]
    return [path for _, path in sorted(out, key=lambda item: item[0])]


def _places(told: Any, key: str, file: Path) -> list[str]:
    """A value: one path, several on lines of their own, or a list of them."""
    lines = told.splitlines() if isinstance(told, str) else [] if told is None else told
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise FileProblem(f"{file}: {key!r} should be a path, or several on lines of their own; found {told!r}.")
    return [line.strip() for line in lines if line.strip()]


def _sections(file: Path) -> list[Mapping[str, Any]]:
    """The sections; keys that stand outside of any, as people write them, are one of their own."""
    import yaml

    try:
        if file.stat().st_size > MOST_YAML:
            raise FileProblem(f"{file} is too long for a file of paths ({file.stat().st_size:,} bytes). Name another.")
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain(error, file, "read") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FileProblem(f"{file} should be model paths in YAML, but it does not parse: {reason}.") from error
    if told is None:
        return []
    if not isinstance(told, dict):
        raise FileProblem(f"{file} should hold sections with a base_path and paths each, as ComfyUI's example shows.")
    loose = {key: value for key, value in told.items() if not isinstance(value, dict)}
    return [*(value for value in told.values() if isinstance(value, dict)), loose]
