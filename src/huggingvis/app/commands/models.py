"""List, find, fetch, save and remove models: packaged ones, what was trained here, those of other programs and of hubs.

hvis models list                                      ours, what A1111, Forge or ComfyUI keep, and the hub's cache
hvis models list --kind lora --models ~/ComfyUI       those of one kind
hvis models find detail                               where those are that are called so, or have it in their names
hvis models get owner/name --variant fp16             from the Hugging Face hub (HF_HOME, HF_ENDPOINT, HF_TOKEN)
hvis models get modelscope:owner/name                 from ModelScope
hvis models get owner/name@revision:file.safetensors  one file, of one revision
hvis models save runs/ddpm out/ddpm                   as a folder of diffusers
hvis models save model.ckpt model.safetensors         as one file, as A1111 and ComfyUI have it
hvis models remove runs/old --yes        the whole run
hvis models remove runs/old --cache      only what it can make again (stored latents)
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingvis.app.arguments import one_of
from huggingvis.app.locating import add_places, located, places, told
from huggingvis.app.preferences import Preferences, preferences
from huggingvis.app.screen import Screen, size_of
from huggingvis.checkpoints.local_folders import KINDS, find, listed
from huggingvis.checkpoints.local_models import DAMAGED, Found, matching, overview
from huggingvis.core.errors import Cancelled, FileProblem, UsageError, unknown
from huggingvis.core.files import explain

_NO_PLACES = (
    "Say where models of other programs lie: `--models ~/stable-diffusion-webui`, or `models = [...]` in the settings "
    "file that `hvis doctor` names."
)


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    actions = ("list", "find", "get", "save", "remove")
    parser.add_argument("action", type=one_of("action of models", actions), nargs="?", default="list",
                        help=f"{', '.join(actions)} (default list)")  # fmt: skip
    parser.add_argument("name", nargs="?", help="the model to find, get or save, the run to remove")
    parser.add_argument("place", nargs="?", help="where to save it: a new folder, or a file.safetensors")
    parser.add_argument("--kind", metavar="KIND", type=one_of("kind of model", tuple(KINDS)),
                        help=f"of other programs' models: {', '.join(KINDS)}")  # fmt: skip
    parser.add_argument("--variant", metavar="NAME", help="the precision to get where there is a choice: fp16, bf16")
    add_places(parser)
    parser.add_argument("--runs", metavar="FOLDER", type=Path, help="where runs lie (default runs)")
    parser.add_argument("--cache", action="store_true", help="remove only what the run can make again")
    parser.add_argument("--yes", action="store_true", help="remove without asking")


def run(args: argparse.Namespace, screen: Screen) -> Any:
    usual = preferences()
    folder = args.runs or usual.runs
    if args.place is not None and args.action != "save":
        raise UsageError(f"`hvis models {args.action}` takes one name; found {args.name!r} and {args.place!r}.")
    if args.action == "list":
        return _local(args, usual, screen) if args.kind else _list(folder, places(args, usual), screen)
    if args.action in ("find", "get"):
        return _find(args, usual, screen) if args.action == "find" else _get(args, screen)
    if args.action == "save":
        return _save(args, usual, screen)
    if args.name is None:
        raise UsageError("Say which run to remove, as in `hvis models remove runs/old`. `hvis models list` shows them.")
    return _remove(_run_of(args.name, folder), args, screen)


def _find(args: argparse.Namespace, usual: Preferences, screen: Screen) -> dict[str, Any]:
    if args.name is None:
        raise UsageError("Say what to find, as in `hvis models find detail` or `hvis models find detail --kind lora`.")
    if args.kind:
        path = find(args.name, args.kind, _places(args, usual))
        screen.say(str(path))
        return {"name": args.name, "kind": args.kind, "path": str(path)}
    there = overview(places(args, usual))
    found = matching(args.name, there)
    if not found:
        raise unknown("model on this machine", args.name, [model.name for model in there], lister="hvis models list")
    for model in found:
        screen.say(f"{model.path}  ({_what(model)})")
    first = found[0]
    return {
        "name": args.name, "kind": first.kind, "path": str(first.path),
        "models": [{"kind": model.kind, **model.as_json()} for model in found],
    }  # fmt: skip


def _what(model: Found) -> str:
    """A model of another program in words."""
    kind = KINDS[model.kind].title if model.kind in KINDS else f"`hvis inspect {model.path}` tells what it is"
    return f"{kind}, {DAMAGED}" if model.title == DAMAGED else model.title or kind


def _places(args: argparse.Namespace, usual: Preferences) -> tuple[Path, ...]:
    there = places(args, usual)
    if not there:
        raise UsageError(_NO_PLACES)
    return there


def _local(args: argparse.Namespace, usual: Preferences, screen: Screen) -> dict[str, Any]:
    found = listed(args.kind, _places(args, usual))
    for model in found:
        screen.say(f"{model.name:<48}  {size_of(_bytes([model.path])):>9}  {model.path}")
    if not found:
        screen.say(f"There is no {KINDS[args.kind].title} in {', '.join(map(str, places(args, usual)))}.")
    return {"kind": args.kind, "models": [{"name": m.name, "path": str(m.path)} for m in found]}


def _get(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis.checkpoints.hub import Fetching, fetch, remote

    what = remote(args.name or "")
    if what is None:
        raise UsageError(
            "Say which model to get, as in `hvis models get owner/name`, `owner/name@revision:file.safetensors` or "
            f"`modelscope:owner/name`; found {args.name!r}."
        )
    with told(screen, Fetching(variant=args.variant, newest=True)) as how:
        path = fetch(what, how)
    screen.say(str(path))
    return {"name": str(what), "path": str(path), "bytes": _whole([path])}


def _save(args: argparse.Namespace, usual: Preferences, screen: Screen) -> dict[str, Any]:
    from huggingvis import api

    if args.name is None or args.place is None:
        raise UsageError(
            "Say which model to save and where, as in `hvis models save runs/ddpm out/ddpm`: a folder of diffusers, or "
            "one file if the name ends in .safetensors."
        )
    path = api.save(located(args.name, args, usual, screen), args.place)
    screen.say(f"{path}  ({size_of(_bytes([path]))})")
    return {"name": args.name, "path": str(path), "bytes": _bytes([path])}


def _whole(places: Iterable[Path]) -> int:
    """Bytes with those that links lead to, of which a hub's cache consists."""
    files = (file for place in places for file in (place, *place.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def _list(folder: Path, roots: Sequence[Path], screen: Screen) -> dict[str, Any]:
    from huggingvis.core.catalog import ROOT

    shipped = [_packaged(path.parent) for path in sorted(ROOT.glob("weights/*/model.json"))]
    trained = [_run(path.parent) for path in sorted(folder.glob("*/config.toml"))] if folder.is_dir() else []
    for record in shipped:
        screen.say(f"{record['name']:<28}  {size_of(record['bytes']):>9}  ships with the package ({record['family']})")
    for record in trained:
        state = f"{record['recipe']}, step {record['step']}" if record["step"] is not None else "no checkpoint yet"
        extra = f", {size_of(record['cache'])} of it cache" if record["cache"] else ""
        screen.say(f"{record['path']:<28}  {size_of(record['bytes']):>9}  {state}{extra}")
    if not shipped and not trained:
        screen.say(f"There are no models: none ships with this installation, and {folder} holds no runs.")
    found = overview(roots)
    for model in found:
        screen.say(f"{model.name:<48}  {size_of(model.bytes):>9}  {_what(model)}")
    if not roots:
        screen.note(_NO_PLACES)
    others = {kind: [model.as_json() for model in found if model.kind == kind] for kind in (*KINDS, "other")}
    return {"packaged": shipped, "runs": trained, "others": others}


def _packaged(folder: Path) -> dict[str, Any]:
    import json

    try:
        record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileProblem(f"{folder / 'model.json'} is damaged ({error}). Install the package again.") from error
    return {"name": folder.name, "family": record.get("family"), "path": str(folder), "bytes": _bytes([folder])}


def _run(folder: Path) -> dict[str, Any]:
    import tomllib

    try:
        recipe = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")).get("recipe")
    except (OSError, ValueError, RecursionError):
        recipe = None
    steps = [
        int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*") if path.name[5:].isdecimal()
    ]
    return {
        "path": str(folder),
        "recipe": recipe,
        "step": max(steps, default=None),
        "bytes": _bytes([folder]),
        "cache": _bytes(_cache(folder)),
    }


def _cache(folder: Path) -> list[Path]:
    """What a run can make again."""
    return [path for path in (folder / "cache", *folder.glob("latents-*.npy")) if path.exists()]


def _bytes(places: Iterable[Path]) -> int:
    total = 0
    for place in places:
        for path in (place, *place.rglob("*")):
            with contextlib.suppress(OSError):  # a running training removes files while they are counted
                total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    return total


def _run_of(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if (path / "config.toml").is_file() and (path / "checkpoints").is_dir():
            return path
    from huggingvis.api import packaged_models

    if name in packaged_models():
        raise UsageError(f"{name!r} ships with the package; it goes when the package is uninstalled.")
    raise unknown("run", name, [path.parent.name for path in folder.glob("*/config.toml")] if folder.is_dir() else [])


def _remove(path: Path, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    from huggingvis.train.lock import locked

    going = _cache(path) if args.cache else [path]
    freed = _bytes(going)
    what = f"the cache of {path}" if args.cache else f"the run {path}"
    if not args.yes and not args.cache:
        _ask(f"Remove {what} ({size_of(freed)})?")
    with locked(path):
        pass  # nobody trains there; some systems do not rename a folder whose lock is open
    gone = [_aside(place) for place in going]
    for place in gone:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    screen.say(f"Removed {what}: {size_of(freed)} are free again.")
    return {"removed": [str(place) for place in going], "bytes": freed}


def _aside(path: Path) -> Path:
    """Out of sight in one step, so that a removal that is stopped leaves no half of a run under its name."""
    try:
        return path.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"))
    except OSError as error:
        raise explain(error, path, "remove") from error


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is here to answer: add --yes to remove it without asking.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes", "j", "是"):
        raise Cancelled("Nothing was removed.")
