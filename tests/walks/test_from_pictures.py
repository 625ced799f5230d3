"""Pictures to start from: image-to-image at its ends, and files of every kind, odd and bad ones too."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_pictures import STEPS, box_mask, load, noise, save

from huggingvis.core.errors import FileProblem, HvisError, UsageError
from huggingvis.core.picture_files import looks_of, open_picture, over_white
from huggingvis.core.request import Canvas, FromPicture, Inpaint, Prompt, Request, Sampling, Source
from huggingvis.core.system import System
from huggingvis.edits.generate import generate, notes
from huggingvis.systems import tiny


@pytest.fixture(scope="module")
def system(tiny_model: Path) -> System:
    return tiny.bind(tiny_model)


def request(source: Source | None, **more: Any) -> Request:
    return Request(Prompt("a red circle"), Canvas(), Sampling(steps=STEPS, guidance_scale=2.0, **more), source)


def made(system: System, source: Source | None, **more: Any) -> np.ndarray:
    return generate(system, request(source, **more))[0].pixels


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_strength_0_gives_the_picture_back(kind: str, system: System, tmp_path: Path) -> None:
    path = save(tmp_path / "picture.png", noise(*system.spec.size))
    mask = save(tmp_path / "mask.png", box_mask(*system.spec.size))
    source = FromPicture(path, 0.0) if kind == "image" else Inpaint(path, mask, 0.0)
    assert np.array_equal(made(system, source), load(path))


def test_strength_1_is_text_to_image(system: System, tmp_path: Path) -> None:
    """A flow ends in pure noise, so nothing is left of the picture: the same seed makes the same, to the bit."""
    path = save(tmp_path / "picture.png", noise(*system.spec.size))
    for seed in (0, 7):
        assert np.array_equal(made(system, FromPicture(path, 1.0), seed=seed), made(system, None, seed=seed))
    assert not np.array_equal(made(system, FromPicture(path, 0.75)), made(system, None))


def test_resize_modes_reach_the_model(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    path = save(tmp_path / "wide.png", noise(2 * width, height))
    out = {mode: made(system, FromPicture(path, 0.0, mode)) for mode in ("stretch", "crop", "fill")}
    assert np.array_equal(out["crop"], load(path)[:, width // 2 : width // 2 + width])
    quarter = height // 4
    assert (out["fill"][:quarter] == out["fill"][quarter]).all() and not np.array_equal(out["stretch"], out["fill"])


# ---- files of every kind ---------------------------------------------------------------------------------------------


def kinds(folder: Path) -> dict[str, Path]:
    """Files of pictures as programs write them, each 12 x 10."""
    rgb = Image.fromarray(noise(12, 10))
    grey16 = Image.fromarray((np.arange(120).reshape(10, 12) * 500).astype(np.uint16))
    palette = rgb.quantize(16)
    mirrored = palette.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "sixteen.png": (grey16, {}),
        "palette.png": (palette, {"transparency": 3}),
        "grey-alpha.png": (rgb.convert("LA"), {}),
        "bits.png": (rgb.convert("1"), {}),
        "moving.gif": (palette, {"save_all": True, "append_images": [palette.rotate(180), mirrored]}),
        "moving.webp": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)], "lossless": True}),
    }
    for name, (image, how) in made.items():
        image.save(folder / name, **how)
    return {name: folder / name for name in made}


def test_files_of_every_kind_are_read(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    for name, path in kinds(tmp_path).items():
        out = made(system, FromPicture(str(path), 0.0))
        assert out.shape == (height, width, 3), name


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    found = open_picture(kinds(tmp_path)["sixteen.png"]).pixels[:, :, 0]
    assert np.array_equal(found, (np.arange(120).reshape(10, 12) * 500) >> 8)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2] = (10, 20, 30, 255)
    pixels[2] = (0, 0, 0, 128)
    found = np.array(over_white(save(tmp_path / "a.png", pixels)))
    assert (
        (found[:2] == (10, 20, 30)).all() and (found[3] == 255).all() and (abs(found[2].astype(int) - 127) <= 1).all()
    )
    path = kinds(tmp_path)["palette.png"]
    shown = np.array(Image.open(path))
    assert (np.array(over_white(path))[shown == 3] == 255).all() and (shown == 3).any()


def test_of_moving_pictures_the_first_frame_is_used_and_that_is_said(system: System, tmp_path: Path) -> None:
    files = kinds(tmp_path)
    assert looks_of(files["moving.gif"]).frames == 3 and looks_of(files["cmyk.jpg"]).frames == 1
    assert np.array_equal(open_picture(files["moving.webp"]).pixels, noise(12, 10))
    for name, count in (("moving.gif", 3), ("moving.webp", 2)):
        said = notes(system, request(FromPicture(str(files[name]), 0.5)))
        assert any(f"{name} is a moving picture of {count} frames: the first one is used." in note for note in said)
    (picture,) = generate(system, request(FromPicture(str(files["moving.gif"]), 0.5)))
    assert any("moving picture" in note for note in picture.made["notes"])


def test_what_a_picture_is_its_head_says(tmp_path: Path) -> None:
    """Of files cut off in the middle of their pixels; through an opaque alpha channel nothing shows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cut.jpg", "cut.png", "cut.webp"):
        Image.fromarray(noise(48, 32)).save(tmp_path / name, exif=exif)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole if name.endswith("webp") else whole[: len(whole) * 2 // 3])
        found = looks_of(tmp_path / name)
        assert (found.size, found.frames, found.transparent) == ((32, 48), 1, False), name
    for turned in range(1, 9):
        exif[0x0112] = turned
        Image.fromarray(noise(48, 32)).save(tmp_path / "turned.jpg", exif=exif)
        assert looks_of(tmp_path / "turned.jpg").size == over_white(tmp_path / "turned.jpg").size, turned
    alpha = np.full((4, 6, 4), 255, np.uint8)
    assert not looks_of(save(tmp_path / "opaque.png", alpha)).transparent
    alpha[0, 0, 3] = 254
    assert looks_of(save(tmp_path / "glass.png", alpha)).transparent


def test_pictures_are_turned_upright(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    upright = noise(width, height)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(made(system, FromPicture(str(tmp_path / "turned.png"), 0.0)), upright)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (30_000, 3)])
def test_pictures_of_odd_sizes_are_used(width: int, height: int, system: System, tmp_path: Path) -> None:
    path = save(tmp_path / "odd.png", noise(width, height))
    mask = save(tmp_path / "mask.png", np.full((height, width), 255, np.uint8))
    for resize in ("stretch", "crop", "fill"):
        assert made(system, FromPicture(path, 0.5, resize)).shape[:2] == system.spec.size[::-1]
    assert made(system, Inpaint(path, mask)).shape[:2] == system.spec.size[::-1]
    assert made(system, Inpaint(path, mask, region="masked")).shape == (height, width, 3)


# ---- what cannot be used ---------------------------------------------------------------------------------------------


def told(error: HvisError) -> str:
    assert "\n" not in str(error) and len(str(error)) > 40
    return str(error)


def test_an_all_white_mask_makes_everything_anew(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    path = save(tmp_path / "picture.png", noise(width, height))
    white = save(tmp_path / "white.png", np.full((height, width), 255, np.uint8))
    out = made(system, Inpaint(path, white))
    assert np.array_equal(out, made(system, Inpaint(path, white, paste=False)))
    with pytest.raises(UsageError, match="Nothing in the mask .* is black: its darkest spot is 255 of 255") as caught:
        made(system, Inpaint(path, white, invert=True))
    told(caught.value)


def test_an_all_black_mask_is_refused(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    path = save(tmp_path / "picture.png", noise(width, height))
    black = save(tmp_path / "black.png", np.zeros((height, width), np.uint8))
    for region in ("whole", "masked"):
        with pytest.raises(
            UsageError, match="Nothing in the mask .* is white: its brightest spot is 0 of 255"
        ) as caught:
            made(system, Inpaint(path, black, region=region))
        told(caught.value)


def test_masks_of_the_picture_s_shape_fit_and_others_are_refused(system: System, tmp_path: Path) -> None:
    width, height = system.spec.size
    path = save(tmp_path / "picture.png", noise(width, height))
    small, large = (box_mask(width * k // 2, height * k // 2) for k in (1, 4))
    for mask in (small, large):
        out = made(system, Inpaint(path, save(tmp_path / "mask.png", mask)))
        sized = np.array(Image.fromarray(mask).resize((width, height), 0))
        assert np.array_equal(out[sized == 0], load(path)[sized == 0])
    wrong = save(tmp_path / "wrong.png", box_mask(width, height // 2))
    with pytest.raises(
        UsageError, match=f"is {width}x{height // 2} pixels and the picture .* {width}x{height}"
    ) as caught:
        made(system, Inpaint(path, wrong))
    assert "different shapes" in told(caught.value)


def test_damaged_files_are_told(system: System, tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise(200, 200)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    size = (tmp_path / "bomb.png").stat().st_size
    assert size < 100_000
    words = {
        "cut.png": "cut.png is damaged or incomplete",
        "text.png": "is not a PNG, JPEG or WebP picture",
        "bomb.png": "refused as a decompression bomb",
        "absent.png": "There is no file",
    }
    good = save(tmp_path / "good.png", noise(*system.spec.size))
    for name, sentence in words.items():
        path = str(tmp_path / name)
        for source in (FromPicture(path), Inpaint(path, good), Inpaint(good, path)):
            with pytest.raises(FileProblem, match=sentence) as caught:
                made(system, source)
            told(caught.value)


def test_large_pictures_that_can_be_read_bring_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (30_000, 3_200)).save(path)  # 96 million pixels: Pillow warns from 89 on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert looks_of(path).frames == 1


def test_a_model_without_an_encoder_says_so(system: System, tmp_path: Path) -> None:
    class Decoder:
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return z

    path = save(tmp_path / "picture.png", noise(*system.spec.size))
    with pytest.raises(UsageError, match="starts from no picture"):
        made(replace(system, codec=Decoder()), FromPicture(path))
