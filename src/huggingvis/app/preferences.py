"""What a user wants every time: a TOML file in the platform's place for such files. Only the app reads it.

    device = "cpu"          # auto, cpu, cuda, cuda:1, mps
    model = "runs/mine"     # a packaged name, a model or run folder, a file, owner/name at a hub
    models = ["~/ComfyUI"]  # folders of A1111, Forge or ComfyUI, or an extra_model_paths.yaml: their models by name
    output = "pictures"     # where pictures go
    data = "data"           # where standard data sets lie or are downloaded to
    runs = "runs"           # where trainings go

`HVIS_CONFIG` names another file. Flags of a command go before the file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from huggingvis.core import config
from huggingvis.core.errors import FileProblem


@dataclass(frozen=True)
class Preferences:
    """The keys of the file."""

    device: str = "auto"
    model: str | None = None
    models: tuple[Path, ...] = ()
    output: Path = Path("out")
    data: Path = Path("data")
    runs: Path = Path("runs")


def place() -> Path:
    """Where the file is, or would be."""
    if named := os.environ.get("HVIS_CONFIG"):
        return Path(named)
    home = Path.home()
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return folder / "huggingvis" / "config.toml"


def hashes_place() -> Path:
    """Where the hashes of large files are remembered, beside the settings."""
    return place().with_name("hashes.json")


def preferences() -> Preferences:
    """The user's preferences, or the usual ones. Raises `FileProblem` or `UsageError` for an unusable file."""
    path = place()
    try:
        with open(path, "rb"):
            pass
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise FileProblem(
            f"The settings file {path} cannot be read ({error.strerror or error}). Change its permissions, or let the "
            "variable HVIS_CONFIG name a file that can be read."
        ) from error
    else:
        return config.load(Preferences, path)
    if os.environ.get("HVIS_CONFIG"):
        raise FileProblem(f"HVIS_CONFIG names the file {path}, which is not there. Create it, or unset the variable.")
    return Preferences()
