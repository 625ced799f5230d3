"""A folder as diffusers writes it makes pictures, whatever it is of, and the same ones again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image
from tiny_pipelines import NEGATIVE, PROMPT, SD1_SOLVER, pipeline, pipeline_ldm, pipeline_pixart, pipeline_xl, unet

from huggingvis.core.request import OWN, Canvas, FromPicture, Inpaint, Prompt, Request, Sampling, Source
from huggingvis.edits.generate import generate, repeat
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]


def v_solver() -> Any:
    return diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, prediction_type="v_prediction")


FOLDERS: dict[str, Callable[[], Any]] = {
    "sd1": pipeline,
    "sd2": lambda: pipeline(unet=unet(use_linear_projection=True), scheduler=v_solver()),
    "xl": pipeline_xl,
    "lcm": lambda: pipeline(
        "LatentConsistencyModelPipeline", unet=unet(time_cond_proj_dim=16), scheduler=diffusers.LCMScheduler()
    ),
    "pixart": pipeline_pixart,
    "ldm": pipeline_ldm,
    "img2img": pipeline,
    "instruct": lambda: pipeline("StableDiffusionInstructPix2PixPipeline", unet=unet(in_channels=8)),
    "inpaint": lambda: pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9)),
}


def source(name: str, folder: Path) -> Source | None:
    if name not in ("img2img", "instruct", "inpaint"):
        return None
    picture, mask = folder / "picture.png", folder / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(picture)
    Image.fromarray(np.eye(24, dtype=np.uint8)[:20] * 255).save(mask)
    return Inpaint(str(picture), str(mask)) if name == "inpaint" else FromPicture(str(picture), 0.7)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_makes_pictures(name: str, tmp_path: Path) -> None:
    FOLDERS[name]().save_pretrained(tmp_path / "model")
    system = bind_folder(tmp_path / "model", How())
    asked = Request(Prompt(PROMPT, NEGATIVE), Canvas(24, 20, 2), Sampling(OWN, OWN, 4, 3.0), source(name, tmp_path))
    first, second = generate(system, asked)
    assert first.to_pil().size == second.to_pil().size == (24, 20)
    assert np.abs(np.asarray(first.to_pil(), float) - np.asarray(second.to_pil(), float)).mean() > 1
    again = repeat(system, asked, 1)
    assert np.array_equal(np.asarray(again.to_pil()), np.asarray(second.to_pil()))
    alone = ("sample",) if system.shows is None else ()  # a net that sees pictures draws none without one
    assert system.verbs == (*alone, "encode", "decode")
