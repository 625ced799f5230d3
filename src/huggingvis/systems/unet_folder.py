"""The `unet` folder of diffusers by itself as a system, with a text encoder and an autoencoder from elsewhere.

Its `config.json` tells the sizes of the net, and nothing of its noise table and of what it predicts: these are the
family's, as of a single file (`systems.single_file`). Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from pathlib import Path

from huggingvis.checkpoints import diffusers_unet
from huggingvis.checkpoints.diffusers_common import read_config, trained_sides
from huggingvis.checkpoints.single_file import Parts, Said
from huggingvis.checkpoints.single_file_detect import layout_of_unet
from huggingvis.core.errors import about
from huggingvis.core.system import System
from huggingvis.systems.pipelines import How, name_of
from huggingvis.systems.single_file import bound


def bind_unet(folder: Path, how: How) -> System:
    """The system of such a folder and of the parts that `how` gives. Raises `FileProblem`."""
    theirs = read_config(folder)
    unet = diffusers_unet.from_diffusers(folder, dtype=how.dtype, channels_last=True).to(how.device)
    with about(folder):
        layout = layout_of_unet(unet.config, bool(theirs.get("use_linear_projection")), Said(how.prediction))
        sample = None if theirs.get("sample_size") is None else trained_sides(theirs)
    name = name_of(folder.resolve().parent if folder.name == "unet" else folder)
    return bound(folder, Parts(layout, unet), how, name, sample)
