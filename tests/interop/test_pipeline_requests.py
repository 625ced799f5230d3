"""What a request asks of the community's models that they cannot do, and what they are called, kept and known by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import NEGATIVE, PROMPT, pipeline, pipeline_pixart, pipeline_xl, unet, vae
from torch import nn

from huggingvis.core.errors import UsageError
from huggingvis.core.request import OWN, Canvas, FromPicture, Inpaint, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import fingerprint, generate
from huggingvis.recipes.comparing import Comparison, compare_samplers
from huggingvis.systems.pipelines import How, bind_folder, name_of
from huggingvis.systems.saving import save_file, save_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
ASKED = Request(Prompt(PROMPT, NEGATIVE), Canvas(16, 16), Sampling(OWN, OWN, 2, 3.0))


def bound(made: Any, folder: Path) -> System:
    made.save_pretrained(folder)
    return bind_folder(folder, How())


def a_picture(path: Path, white: tuple[int, ...]) -> str:
    """Black, with one white pixel for each pair of `white`."""
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[white] = 255
    Image.fromarray(pixels).save(path)
    return str(path)


def a_vae(folder: Path, scale: float) -> Path:
    vae().save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": scale}))
    return folder


@pytest.mark.parametrize(("name", "word"), [("clip_skip", "²"), ("crop", "²x1"), ("original_size", "1024")])
def test_options_that_are_no_numbers_are_told(name: str, word: str, tmp_path: Path) -> None:
    system = bound(pipeline_xl(), tmp_path / "model")
    with pytest.raises(UsageError, match=f"{name} is .*, found '{word}'"):
        generate(system, replace(ASKED, options={name: word}))


def test_a_net_for_instructions_says_what_it_does_not_know(tmp_path: Path) -> None:
    made = pipeline("StableDiffusionInstructPix2PixPipeline", unet=unet(in_channels=8))
    system, picture = bound(made, tmp_path / "model"), a_picture(tmp_path / "picture.png", (4, 4))
    shown = replace(ASKED, source=FromPicture(picture))
    with pytest.raises(UsageError, match="sees no mask"):
        generate(system, replace(ASKED, source=Inpaint(picture, picture)))
    with pytest.raises(UsageError, match="image_guidance_scale is a number, usually 1.5; found 'nan'"):
        generate(system, replace(shown, options={"image_guidance_scale": "nan"}))
    for more in ({"guidance_rescale": 0.5}, {"guidance_interval": (0.2, 0.8)}):
        with pytest.raises(UsageError, match="guidance_rescale and guidance_interval do nothing"):
            generate(system, replace(shown, sampling=replace(ASKED.sampling, **more)))


@pytest.mark.parametrize("channels", [4, 9])
def test_a_mask_too_small_for_latents_is_told(channels: int, tmp_path: Path) -> None:
    system = bound(pipeline(unet=unet(in_channels=channels)), tmp_path / "model")
    picture = a_picture(tmp_path / "picture.png", (3, 3))
    seen, unseen = a_picture(tmp_path / "seen.png", (4, 4)), a_picture(tmp_path / "unseen.png", (5, 5))
    assert len(generate(system, replace(ASKED, source=Inpaint(picture, seen)))) == 1
    with pytest.raises(UsageError, match="too small to be seen among 8x8 latents"):
        generate(system, replace(ASKED, source=Inpaint(picture, unseen)))


def test_a_model_in_a_hubs_cache_is_called_as_at_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--tiny--sd" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    assert name_of(folder) == "owner/tiny--sd"
    assert name_of(tmp_path / "tiny-sd") == "tiny-sd"


def test_a_transformer_takes_another_autoencoder(tmp_path: Path) -> None:
    pipeline_pixart().save_pretrained(tmp_path / "model")
    system = bind_folder(tmp_path / "model", How(vae=a_vae(tmp_path / "vae", 0.5)))
    assert system.codec.std.tolist() == [2.0] * 4  # type: ignore[attr-defined]


def test_another_autoencoder_is_saved_with_its_own_scale(tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path / "model")
    system = bind_folder(tmp_path / "model", How(vae=a_vae(tmp_path / "vae", 0.5)))
    again = bind_folder(save_folder(system, tmp_path / "saved"), How())
    assert again.codec.std.tolist() == system.codec.std.tolist() == [2.0] * 4  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"by 0\.5, but of a single file every program takes .* by 0\.18215"):
        save_file(system, tmp_path / "model.safetensors")


def test_the_fingerprint_knows_numbers_and_not_their_place_in_memory(tmp_path: Path) -> None:
    system = bound(pipeline(), tmp_path / "model")
    net = nn.Conv2d(96, 32, 3, bias=False)
    plain = replace(system, parts={"net": net})
    weight = net.weight
    weight.data = torch.arange(weight.numel()).to(weight).reshape(weight.shape)
    before = fingerprint(plain)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert weight.stride()[1] == 1  # channels last
    assert fingerprint(plain) == before == "b2f47a24cfcb"
    weight.data[0, 0, 0, 0] += 1.0
    assert fingerprint(plain) != before


def test_samplers_are_compared_on_the_models_own_grid(tmp_path: Path) -> None:
    system = bound(pipeline(), tmp_path / "model")
    record = compare_samplers(system, Comparison(("ddim", "dpm++2m"), (4, 16), count=2, fine=32)).record
    assert record["schedule"] == OWN and [row["calls"] for row in record["rows"]] == [4, 16, 4, 16]
    errors = [row["relative_error"] for row in record["rows"]]
    assert errors[1] < errors[0] and errors[3] < errors[2]
