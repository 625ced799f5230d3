"""What has no effect is said: negative prompts without guidance; models that see a picture are not compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
from PIL import Image
from tiny_pipelines import pipeline, unet

from huggingvis.core.errors import UsageError
from huggingvis.core.request import FromPicture, Inpaint, Prompt, Refine, Request, Sampling
from huggingvis.edits.generate import notes
from huggingvis.recipes.comparing import Comparison, compare_samplers
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
NOTHING = "The negative prompt has no effect"


def test_a_negative_prompt_without_guidance(tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path)
    system = bind_folder(tmp_path, How())
    asked = Request(Prompt("a fox", "fog"), sampling=replace(system.defaults, guidance_scale=1.0))
    (said,) = notes(system, asked)
    assert said.startswith(f"{NOTHING}: at guidance_scale 1 ")
    assert notes(system, replace(asked, prompt=Prompt("a fox"))) == ()
    assert notes(system, replace(asked, sampling=system.defaults)) == ()
    second = replace(asked, refine=Refine(1.0, 2, guidance_scale=7.0))
    assert notes(system, second) == ()  # guided in the second pass
    own = replace(second, refine=Refine(1.0, 2, guidance_scale=7.0, negative="rain"))
    (said,) = notes(system, own)  # the second pass is guided away from its own
    assert said.startswith(f"{NOTHING}: at guidance_scale 1 ")
    own = replace(second, refine=Refine(1.0, 2, negative="rain"))
    assert [note.partition(" has no effect")[0] for note in notes(system, own)] == [
        "The negative prompt", "The second pass's negative prompt"
    ]  # fmt: skip
    varied = replace(asked, prompt=Prompt("a fox"), sampling=replace(system.defaults, variation_seed=4))
    assert "no effect at variation_strength 0" in notes(system, varied)[0]
    labelled = replace(asked, sampling=Sampling("Euler a", "karras", 4, 1.0))
    assert notes(system, labelled)[0].startswith(NOTHING)


def test_what_becomes_of_a_picture_is_said(tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path / "model")
    system = bind_folder(tmp_path / "model", How())
    side = system.spec.size[0]

    def said(size: tuple[int, int], alpha: int, **how: Any) -> str:
        path = tmp_path / "in.png"
        Image.new("RGBA", size, (255, 0, 0, alpha)).save(path)
        return " ".join(notes(system, Request(Prompt("a fox"), source=FromPicture(str(path), **how))))

    assert said((side, side), 255) == said((2 * side, side), 255, resize="crop") == ""
    assert "is transparent in places: it is laid over white" in said((side, side), 99)
    assert f"is pulled to another shape, {side}x{side}" in said((2 * side, side), 255)
    picture, mask = (str(tmp_path / name) for name in ("in.png", "mask.png"))
    Image.new("L", (2 * side, side), 255).save(mask)
    for source, pulled in ((Inpaint(picture, mask), True), (Inpaint(picture, mask, region="masked"), False)):
        assert ("is pulled to" in " ".join(notes(system, Request(Prompt("a fox"), source=source)))) is pulled


def test_a_negative_prompt_of_a_model_that_is_told_its_guidance(tmp_path: Path) -> None:
    made = pipeline(
        "LatentConsistencyModelPipeline", unet=unet(time_cond_proj_dim=16), scheduler=diffusers.LCMScheduler()
    )
    made.save_pretrained(tmp_path)
    system = bind_folder(tmp_path, How())
    (said,) = notes(system, Request(Prompt("a fox", "fog"), sampling=system.defaults))
    assert said.startswith(NOTHING) and "is told its guidance as a number" in said


def test_a_model_that_fills_holes_is_not_compared(tmp_path: Path) -> None:
    pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9)).save_pretrained(tmp_path)
    system = bind_folder(tmp_path, How())
    with pytest.raises(UsageError, match="Compare a model that makes pictures from noise alone") as caught:
        compare_samplers(system, Comparison(samplers=("ddim",), nfe=(2,)))
    assert "--image" not in str(caught.value)


def test_what_is_refused_is_not_warned_of_before(tmp_path: Path, hvis: Any) -> None:
    pipeline().save_pretrained(tmp_path / "model")
    said = hvis(["generate", "a fox", "--model", tmp_path / "model", "--size", "24x24", "--schedule", "karas"])
    assert said.code == 2 and "karras" in said.paragraph and "was trained on pictures" not in said.err


def test_a_file_that_is_called_otherwise_is_named(tmp_path: Path, hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("style.safetensors", "photo.png", "model.safetensors"):
        Path(name).write_bytes(b"0")
    for words in (["--lora", "stlye.safetensors", "--model", "model.safetensors"], ["--image", "foto.png"]):
        said = hvis(["generate", "a fox", *words])
        assert said.code == 3 and "Did you mean" in said.paragraph, said.paragraph
