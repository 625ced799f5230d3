"""Which files of a model are needed: of many copies of the same weights, one.

A repository often holds its weights five times: safetensors and pickles, float32 and float16, Flax, ONNX, and a single
file for other programs. What is taken:

    a diffusers folder (`model_index.json`)   of each component that it names: its small files and one set of weights
    one component (`config.json`)             its small files and one set of weights
    a checkpoint, a LoRA, an embedding        the one weights file

One set of weights is one precision in one format: the variant that was asked for, else the fullest; safetensors before
pickles. Nothing here needs a network.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from huggingvis.core.errors import FileProblem, UsageError, unknown

INDEX = "model_index.json"
CARD = "README.md"
SPARED = frozenset({"safety_checker"})
"""Components that no picture needs: they are fetched only when asked for by name, as `owner/name:safety_checker`."""

VARIANTS = (None, "fp32", "bf16", "fp16")
"""The fullest precision first; others (`non_ema`, ...) are only taken when asked for."""
FORMATS = ("safetensors", "bin", "pt", "pth", "ckpt")

_STANDARD = frozenset({"diffusion_pytorch_model", "model", "pytorch_model"})
_USUAL = frozenset({"pytorch_lora_weights", "learned_embeds"})
"""How diffusers calls the one file of a LoRA or of an embedding, whatever lies beside it."""
_SMALL = (".json", ".txt", ".model", ".jinja")
_SHARD = r"-(?P<shard>\d{5})-of-(?P<shards>\d{5})"
WEIGHTS = re.compile(
    rf"(?P<stem>[^.]+?)(?:\.(?P<before>\w+))?(?:{_SHARD})?(?:\.(?P<after>\w+))?\.(?P<format>{'|'.join(FORMATS)})"
)
_TABLE = re.compile(r".+\.(?:safetensors|bin)\.index(?:\.\w+)?\.json")
_STATE = re.compile(r"(?:optimizer|scheduler|scaler|random_states.*|training_args|rng_state.*)\.\w+")
_PRECISION = re.compile(r"[-_.](?P<variant>fp16|bf16|fp32)$")


@final
@dataclass(frozen=True)
class Choice:
    """The files that are needed, and what of them is the model: a file, a folder, or "" for all of them."""

    files: tuple[str, ...]
    model: str = ""


@final
@dataclass(frozen=True)
class _Set:
    """One copy of the weights: its precision, its format, its files (one, or all shards with their index)."""

    stem: str
    variant: str | None
    format: str
    files: tuple[str, ...]
    whole: bool


def needed(
    files: Collection[str], index: Mapping[str, Any] | None, *, variant: str | None = None, part: str | None = None
) -> Choice:
    """The files of a repository that are needed.

    `index`: what `model_index.json` says, where there is one; `part`: a file or folder that was asked for by name.
    Raises `UsageError` where a choice is left to the user, `FileProblem` where there are no usable weights.
    """
    if part is not None:
        return _part(files, variant, part)
    if index is not None:
        return _pipeline(files, index, variant)
    if "config.json" in files and any(s.stem in _STANDARD for s in _sets(_inside(files, ""))):
        return Choice((*_card(files), *_component(files, "", variant)))
    return _single(files, variant)


def _part(files: Collection[str], variant: str | None, part: str) -> Choice:
    if part in files:
        tables = _shards_beside(files, part)
        return Choice((*_card(files), part, *tables), part)
    inside = [name for name in files if name.startswith(f"{part}/")]
    if not inside:
        folders = {name.rpartition("/")[0] for name in files} - {""}
        raise unknown("file or folder in the repository", part, {*files, *folders})
    if any(s.stem in _STANDARD for s in _sets(_inside(files, part))):
        return Choice((*_card(files), *_component(files, part, variant)), part)
    chosen = _single([name.removeprefix(f"{part}/") for name in inside], variant)
    return Choice((*_card(files), f"{part}/{chosen.model}"), f"{part}/{chosen.model}")


def _shards_beside(files: Collection[str], table: str) -> tuple[str, ...]:
    """Of a table of shards, the shards; of another file nothing."""
    if not _TABLE.fullmatch(table):
        return ()
    folder = table.rpartition("/")[0]
    return next((s.files[:-1] for s in _sets(_inside(files, folder), folder) if table in s.files), ())


def _pipeline(files: Collection[str], index: Mapping[str, Any], variant: str | None) -> Choice:
    """A diffusers folder: `index` names its components as {name: [library, class]}, absent ones as [null, null]."""
    taken = [*_card(files), INDEX]
    for name, made_by in index.items():
        present = isinstance(made_by, list) and len(made_by) == 2 and made_by[1] is not None
        if not present or name.startswith("_") or name in SPARED:
            continue
        inside = _inside(files, name)
        if not inside:
            raise FileProblem(
                f"{INDEX} names the component {name!r} ({made_by[1]}), but the repository has no folder of that name. "
                "It was not uploaded whole: choose another copy of the model."
            )
        taken += _component(files, name, variant)
    return Choice(tuple(taken))


def _component(files: Collection[str], folder: str, variant: str | None) -> list[str]:
    """The small files of one component and one set of its weights, where it has any (tokenizers have none)."""
    names = _inside(files, folder)
    sets = [s for s in _sets(names, folder) if s.stem in _STANDARD]
    small = [n for n in names if n.endswith(_SMALL) and not _TABLE.fullmatch(n) and n != INDEX]
    weightless = any(n.startswith(("tokenizer", "preprocessor", "scheduler", "vocab")) for n in names)
    if not sets and "config.json" in names and not weightless:
        foreign = [n for n in names if n.endswith((".msgpack", ".onnx", ".h5", ".ot"))]
        others = f", only for other frameworks ({', '.join(foreign[:3])})" if foreign else ""
        raise FileProblem(
            f"{folder or 'The repository'} has no weights that can be read here{others}. Choose a copy of the model "
            "with .safetensors or .bin weights."
        )
    prefix = f"{folder}/" if folder else ""
    return [*(prefix + n for n in small), *(_best(sets, variant).files if sets else ())]


def _single(files: Collection[str], variant: str | None) -> Choice:
    """The one weights file of a repository: in its uppermost folder that has any."""
    sets: list[_Set] = []
    for depth in sorted({name.count("/") for name in files}):
        folders = {name.rpartition("/")[0] for name in files if name.count("/") == depth}
        sets = [s for folder in sorted(folders) for s in _sets(_inside(files, folder), folder)]
        if sets:
            break
    if not sets:
        raise FileProblem(
            "The repository holds no weights that can be read here: expected a diffusers folder with model_index.json, "
            "or a file .safetensors, .ckpt, .pt, .pth or .bin. Check the name of the model."
        )
    sets = [s for s in sets if s.stem in _USUAL] or sets
    models = {(_PRECISION.sub("", s.stem), s.variant if s.variant not in VARIANTS else None) for s in sets}
    if len(models) > 1:
        names = sorted(s.files[0] for s in sets)
        some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise UsageError(
            f"The repository holds several models: {some}. Say which, as in owner/name:{names[0]}; the files are "
            "fetched one by one."
        )
    best = _best(sets, variant)
    return Choice((*_card(files), *best.files), best.files[0] if len(best.files) == 1 else best.files[-1])


def _best(sets: Iterable[_Set], variant: str | None) -> _Set:
    """The set of the asked precision, else the fullest; of one precision the safest format."""
    order = [variant, *(v for v in VARIANTS if v != variant)] if variant is not None else list(VARIANTS)

    def rank(one: _Set) -> tuple[bool, int, int, str]:
        precision = order.index(one.variant) if one.variant in order else len(order)
        return not one.whole, precision, FORMATS.index(one.format), one.stem

    best = min(sets, key=rank)
    if not best.whole:
        raise FileProblem(
            f"The weights {best.files[0]} are one shard of several, and not all of them or not their index are there. "
            "Choose another copy of the model."
        )
    return best


def _sets(names: Iterable[str], folder: str = "") -> list[_Set]:
    """The copies of weights among the files of one folder; shards of one copy are together."""
    prefix = f"{folder}/" if folder else ""
    names = list(names)
    groups: dict[tuple[str, str | None, str], list[tuple[str, int]]] = {}
    for name in names:
        found = WEIGHTS.fullmatch(name) or _dotted(name)
        if found is None or _STATE.fullmatch(name):
            continue
        stem, told = found["stem"], found["before"] or found["after"]
        if told is None and (suffix := _PRECISION.search(stem)):
            told = suffix["variant"]
        groups.setdefault((stem, told, found["format"]), []).append((prefix + name, int(found["shards"] or 0)))
    out = []
    for (stem, told, kind), held in groups.items():
        shards = sorted(path for path, count in held if count)
        lone = [path for path, count in held if not count]
        if lone:
            out.append(_Set(stem, told, kind, (lone[0],), whole=True))
            continue
        table = [prefix + n for n in names if n in _tables(stem, told, kind)]
        whole = bool(table) and len(shards) == held[0][1]
        out.append(_Set(stem, told, kind, (*shards, *table[:1]), whole))
    return out


def _dotted(name: str) -> re.Match[str] | None:
    """A weights file whose own name has dots, as `v1.5.safetensors`: all before the last one is its stem."""
    return re.fullmatch(
        rf"(?P<stem>.+)(?P<before>(?!))?(?P<shards>(?!))?(?P<after>(?!))?\.(?P<format>{'|'.join(FORMATS)})", name
    )


def _tables(stem: str, variant: str | None, kind: str) -> tuple[str, ...]:
    """The names that the index of a sharded copy goes by."""
    if variant is None:
        return (f"{stem}.{kind}.index.json",)
    return f"{stem}.{kind}.index.{variant}.json", f"{stem}.{variant}.{kind}.index.json"


def _inside(files: Collection[str], folder: str) -> list[str]:
    """Names directly in `folder`."""
    prefix = f"{folder}/" if folder else ""
    return [n[len(prefix) :] for n in files if n.startswith(prefix) and "/" not in n[len(prefix) :]]


def _card(files: Collection[str]) -> tuple[str, ...]:
    """The model card, which names the licence."""
    return (CARD,) if CARD in files else ()
