"""What this machine has: versions, devices and their precisions, fonts, models, folders and free disk."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from huggingvis.app.preferences import place, preferences
from huggingvis.app.screen import Screen, size_of
from huggingvis.core.catalog import ROOT
from huggingvis.core.version import __version__

if TYPE_CHECKING:
    import torch

NEEDED = ("torch", "numpy", "pillow", "safetensors", "tokenizers", "sentencepiece", "huggingface_hub", "pyyaml",
          "einops", "emoji", "tomli-w", "rich")  # fmt: skip
EXTRAS = {
    "bench": "comparisons with other libraries (benchmarks/)",
    "book": "building the book",
    "cluster": "trainings on several machines",
    "eval": "what some scores are checked against",
    "export": "ONNX and OpenVINO graphs",
    "scene": "3D scenes and meshes",
    "serve": "the HTTP service",
    "studio": "the web studio",
    "test": "the library's own tests",
    "video": "video files",
}
"""What each optional part is for."""
FONTS = {
    "colour emoji": "only needed to draw training scenes; Debian: apt install fonts-noto-color-emoji",
    "Chinese": "only needed to write Chinese on sheets; Debian: apt install fonts-noto-cjk",
}
"""What a font is for, and where it comes from."""
SIDE, TIMES = 512, 8
"""Of the matrices whose product is timed, and how often: a tenth of a second on a slow core."""


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    return


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    facts = {
        "huggingvis": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: _version(name) for name in NEEDED},
        "extras": _extras(),
        "install_extra": _install_extra(),
        "devices": _devices(),
        "fonts": _fonts(),
        "models": sorted(path.parent.name for path in ROOT.glob("weights/*/model.json")),
        "folders": _folders(),
    }
    _show(facts, screen)
    return facts


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, dict[str, str | None]]:
    """What each optional part asks for, and the version of it that is here."""
    asked: dict[str, dict[str, str | None]] = {}
    try:
        lines = metadata.requires("huggingvis") or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return {}
    for line in lines:
        need, _, condition = line.partition(";")
        if "extra ==" in condition:
            extra = condition.rpartition("==")[2].strip().strip("\"'")
            name = need.strip().split(" ")[0]
            for sign in "<>=!~[(":
                name = name.partition(sign)[0]
            asked.setdefault(extra, {})[name] = _version(name)
    return asked


def _install_extra() -> str:
    """The command that adds an optional part, from where the package itself came from: an index, a folder or a file."""
    try:
        told = json.loads(metadata.distribution("huggingvis").read_text("direct_url.json") or "{}")
        url, editable = told.get("url", ""), told.get("dir_info", {}).get("editable", False)
        if cloned := told.get("vcs_info"):
            url = f"{cloned['vcs']}+{url}@{cloned['commit_id']}"
    except (metadata.PackageNotFoundError, ValueError, AttributeError, KeyError):
        url, editable = "", False
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    if editable:
        return f'{python} -m pip install -e "{url2pathname(urlsplit(url).path)}[NAME]"'
    return f'{python} -m pip install "huggingvis[NAME]{f" @ {url}" if url else ""}"'


def _devices() -> list[dict[str, Any]]:
    import torch

    found = [_device(torch.device("cpu"), platform.processor() or platform.machine())]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found.append(_device(torch.device("cuda", i), torch.cuda.get_device_name(i)))
    if torch.backends.mps.is_available():
        found.append(_device(torch.device("mps"), "Apple GPU"))
    return found


def _device(device: torch.device, name: str) -> dict[str, Any]:
    """Milliseconds of a matrix product in each precision; None where the device cannot."""
    import torch

    kinds = (torch.float32, torch.bfloat16, torch.float16)
    times = {str(kind).removeprefix("torch."): _milliseconds(device, kind) for kind in kinds}
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return {"device": str(device), "name": name, "threads": threads, f"ms_of_{SIDE}x{SIDE}_product": times}


def _milliseconds(device: torch.device, kind: torch.dtype) -> float | None:
    import torch

    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    try:
        a = torch.ones(SIDE, SIDE, device=device, dtype=kind)
        a @ a
        wait()
        began = time.perf_counter()
        for _ in range(TIMES):
            b = a @ a
        wait()
        if float(b[0, 0]) != SIDE:
            return None
    except RuntimeError:
        return None
    return round(1000 * (time.perf_counter() - began) / TIMES, 3)


def _fonts() -> dict[str, str | None]:
    from huggingvis.data.artwork import emoji_font_path
    from huggingvis.export.lettering import Lettering

    emoji = emoji_font_path()
    _, drawn = Lettering().drawable("狐狸")
    return {"colour emoji": str(emoji) if emoji else None, "Chinese": "found" if drawn == "狐狸" else None}


def _folders() -> dict[str, dict[str, Any]]:
    usual = preferences()
    places = {"settings": place(), "output": usual.output, "data": usual.data, "runs": usual.runs}
    return {name: _folder(path) for name, path in places.items()}


def _folder(path: Path) -> dict[str, Any]:
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return {"path": str(path), "exists": path.exists(), "free": shutil.disk_usage(there).free}


def _show(facts: dict[str, Any], screen: Screen) -> None:
    screen.say(f"huggingvis {facts['huggingvis']}, Python {facts['python']} ({sys.executable}), {facts['system']}")
    screen.say("\npackages")
    for name, value in facts["packages"].items():
        screen.say(f"  {name:<18}  {value or 'missing: install huggingvis again'}")
    screen.say("\nfonts")
    for name, value in facts["fonts"].items():
        screen.say(f"  {name:<18}  {value or f'not found; {FONTS[name]}'}")
    _show_extras(facts, screen)
    screen.say(f"\ndevices (milliseconds of a {SIDE} x {SIDE} product)")
    for device in facts["devices"]:
        times = device[f"ms_of_{SIDE}x{SIDE}_product"]
        said = ", ".join(f"{kind} {'no' if ms is None else f'{ms:g}'}" for kind, ms in times.items())
        screen.say(f"  {device['device']:<18}  {device['name']}: {said}")
    screen.say(f"\nmodels that ship with the package: {', '.join(facts['models']) or 'none'}")
    screen.say("\nfolders")
    for name, folder in facts["folders"].items():
        state = "" if folder["exists"] else ", not there yet"
        screen.say(f"  {name:<18}  {folder['path']} ({size_of(folder['free'])} free{state})")


def _show_extras(facts: dict[str, Any], screen: Screen) -> None:
    if not facts["extras"]:
        screen.say("\nextras: not known, for this checkout is not installed by pip")
        return
    screen.say("\nextras (optional: generate, train and the other verbs work without them)")
    for extra, needs in facts["extras"].items():
        lacking = [name for name, version in needs.items() if version is None]
        state = f"not installed ({', '.join(lacking)})" if lacking else "installed"
        screen.say(f"  {extra:<18}  {EXTRAS.get(extra, 'another part')}: {state}")
    if any(None in needs.values() for needs in facts["extras"].values()):
        screen.say(f"  To add one of them: {facts['install_extra']}")
