"""Inpainting on the smallest model: what is known stays to the bit, whatever method, mask, region and fill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from source_pictures import STEPS, box_mask, load, noise, save

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Inpaint, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import generate, repeat
from huggingvis.edits.placing import around, feathered, mixed, placed, surroundings
from huggingvis.systems import tiny


@pytest.fixture(scope="module")
def system(tiny_model: Path) -> System:
    return tiny.bind(tiny_model)


@pytest.fixture
def picture(tmp_path: Path, system: System) -> str:
    return save(tmp_path / "picture.png", noise(*system.spec.size))


@pytest.fixture
def mask(tmp_path: Path, system: System) -> str:
    return save(tmp_path / "mask.png", box_mask(*system.spec.size))


def request(source: Inpaint, count: int = 1, **more: Any) -> Request:
    return Request(
        Prompt("a red circle"), Canvas(count=count), Sampling(steps=STEPS, guidance_scale=2.0, **more), source
    )


def made(system: System, source: Inpaint, **more: Any) -> np.ndarray:
    return generate(system, request(source, **more))[0].pixels


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"method": "blend", "strength": 0.5},
        {"method": "repaint", "jump": 2, "resamples": 2},
        {"region": "masked", "padding": 2},
        {"region": "masked", "padding": 0, "resize": "crop"},
        {"fill": "fill", "strength": 0.75},
        {"fill": "noise", "strength": 0.75},
        {"fill": "nothing", "strength": 0.75},
        {"invert": True},
    ],
)
def test_known_pixels_are_the_file_s_own(numbers: dict[str, Any], system: System, picture: str, mask: str) -> None:
    source = Inpaint(picture, mask, **numbers)
    out, known = made(system, source), (load(mask) < 128) ^ source.invert
    assert np.array_equal(out[known], load(picture)[known])
    assert (out[~known] != load(picture)[~known]).mean() > 0.5


def test_every_method_fills_the_hole_alone(system: System, picture: str, mask: str) -> None:
    """And each in its own way; the second picture differs, and is made again to the bit."""
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"method": "repaint", "jump": 2, "resamples": 2},
        {"region": "masked", "padding": 2},
    )
    found = [made(system, Inpaint(picture, mask, **way)) for way in ways]
    assert not any(np.array_equal(a, b) for a, b in zip(found, found[1:] + found[:1], strict=True))
    asked = request(Inpaint(picture, mask, **ways[1]), count=2)
    first, second = generate(system, asked)
    assert not np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(repeat(system, asked, 1).pixels, second.pixels)
    assert second.request == asked


def test_the_raw_decode_is_left_where_asked(system: System, picture: str, mask: str) -> None:
    raw, pasted = (made(system, Inpaint(picture, mask, paste=paste)) for paste in (False, True))
    hole = load(mask) >= 128
    assert np.array_equal(raw[hole], pasted[hole])
    assert (raw[~hole] != load(picture)[~hole]).mean() > 0.5


def test_fills_differ_below_strength_1_alone(system: System, picture: str, mask: str) -> None:
    fills: tuple[Any, ...] = ("original", "fill", "noise", "nothing")
    below = [made(system, Inpaint(picture, mask, 0.75, fill=fill)) for fill in fills]
    assert all(not np.array_equal(below[i], below[j]) for i in range(4) for j in range(i))
    whole = [made(system, Inpaint(picture, mask, fill=fill)) for fill in fills]
    assert all(np.array_equal(whole[0], other) for other in whole)


def test_repaint_without_resamples_and_with_the_same_noise_is_another_blend(
    system: System, picture: str, mask: str
) -> None:
    """One walk, fresh noise for what is known: not the blend's picture, and no error however few the steps."""
    once = made(system, Inpaint(picture, mask, method="repaint", resamples=1))
    assert not np.array_equal(once, made(system, Inpaint(picture, mask)))
    with pytest.raises(UsageError, match="A jump of 10 steps has no room in 4 steps"):
        made(system, Inpaint(picture, mask, method="repaint"))


# ---- soft masks ------------------------------------------------------------------------------------------------------


def test_a_soft_mask_mixes_by_the_formula(system: System, picture: str, tmp_path: Path) -> None:
    width, height = system.spec.size
    grey = np.broadcast_to(np.linspace(0, 255, width).round().astype(np.uint8), (height, width)).copy()
    soft = Inpaint(picture, save(tmp_path / "grey.png", grey), soft=True)
    raw = made(system, replace(soft, paste=False)).astype(int)
    k, old = grey.astype(int)[:, :, None], load(picture).astype(int)
    exact = (k * raw + (255 - k) * old) / 255
    out = made(system, soft)
    assert np.abs(out - exact).max() <= 0.5
    assert np.array_equal(out[grey == 0], load(picture)[grey == 0]) and np.array_equal(
        out[grey == 255], raw[grey == 255]
    )
    hard = made(system, replace(soft, soft=False))
    assert np.array_equal(hard, np.where(grey[:, :, None] >= 128, raw, old))


def test_a_blur_fades_the_edge_and_leaves_what_is_far(system: System, picture: str, mask: str) -> None:
    sharp, faded = (made(system, Inpaint(picture, mask, blur=blur)) for blur in (0.0, 1.5))
    weight = feathered(load(mask), 1.5)
    raw = made(system, Inpaint(picture, mask, paste=False))
    assert np.array_equal(faded, mixed(raw, load(picture), weight)) and not np.array_equal(sharp, faded)
    assert (weight[0] == 0).all() and np.array_equal(faded[0], load(picture)[0])


@pytest.mark.parametrize("k", range(0, 256, 5))
def test_the_formula_is_rounded_and_its_ends_exact(k: int) -> None:
    new, old = (np.arange(256, dtype=np.uint8).reshape(16, 16, 1)[::step] for step in (1, -1))
    out = mixed(new, old, np.full((16, 16), k, dtype=np.uint8))
    assert np.array_equal(out, np.floor((k * new.astype(float) + (255.0 - k) * old) / 255 + 0.5).astype(np.uint8))
    assert k or np.array_equal(out, old)


# ---- regions ---------------------------------------------------------------------------------------------------------


def test_a_region_is_worked_on_at_the_model_s_size_and_put_back(system: System, tmp_path: Path) -> None:
    """A picture much larger than the model's keeps its size and all that is outside the mask."""
    side = system.spec.size[0]
    picture = save(tmp_path / "large.png", noise(3 * side + 5, 2 * side))
    mask = np.zeros((2 * side, 3 * side + 5), dtype=np.uint8)
    mask[4:12, 7:31] = 255
    source = Inpaint(picture, save(tmp_path / "hole.png", mask), region="masked", padding=3)
    out = made(system, source)
    assert out.shape == (2 * side, 3 * side + 5, 3)
    assert np.array_equal(out[mask == 0], load(picture)[mask == 0])
    assert (out[mask > 0] != load(picture)[mask > 0]).mean() > 0.5
    raw = made(system, replace(source, paste=False))
    box = around(mask > 0, 3, system.spec.size)
    outside = np.ones(mask.shape, bool)
    outside[box.top : box.bottom, box.left : box.right] = False
    assert np.array_equal(raw[outside], load(picture)[outside])
    assert (raw[~outside] != load(picture)[~outside]).mean() > 0.5


def test_where_the_region_lies() -> None:
    """The web UI's rule, by its worked cases: bounding box, padding, the canvas's shape, pushed back inside."""
    mask = np.zeros((100, 200), dtype=bool)
    mask[10:20, 150:190] = True
    assert around(mask, 0, (64, 32)) == (150, 5, 190, 25)  # 40 x 10 made 40 x 20
    assert around(mask, 8, (64, 64)) == (142, 0, 198, 56)  # 56 x 26 made 56 x 56, pushed down from -13
    assert around(mask, 0, (32, 64)) == (150, 0, 190, 80)
    assert around(mask, 200, (64, 64)) == (0, 0, 200, 100)  # no room for the shape: all there is
    one = np.zeros((1, 1), dtype=bool) | True
    assert around(one, 32, (64, 64)) == (0, 0, 1, 1)


# ---- ways to the canvas ----------------------------------------------------------------------------------------------


def test_resize_modes() -> None:
    wide = Image.fromarray(noise(40, 20))
    assert placed(wide, (40, 20), "crop") is wide
    cut = np.array(placed(wide, (20, 20), "crop"))
    assert np.array_equal(cut, np.array(wide)[:, 10:30])
    laid = np.array(placed(wide, (40, 40), "fill"))
    assert (
        np.array_equal(laid[10:30], np.array(wide)) and (laid[:10] == laid[10]).all() and (laid[30:] == laid[29]).all()
    )
    assert np.array_equal(np.array(placed(wide, (20, 20), "stretch")), np.array(wide.resize((20, 20), 1)))


def test_a_picture_that_would_be_huge_before_it_is_cut_is_refused() -> None:
    sliver = Image.new("RGB", (1, 8192))
    with pytest.raises(UsageError, match="1x8192 would become one of 512x4194304"):
        placed(sliver, (512, 512), "crop")
    assert placed(sliver, (512, 512), "fill").size == (512, 512)


def test_surroundings_reach_into_the_hole() -> None:
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:, :24], pixels[:, 24:] = (200, 0, 0), (0, 0, 100)
    hole = np.zeros((32, 48), dtype=bool)
    hole[8:24, 12:36] = True
    out = np.array(surroundings(Image.fromarray(pixels), hole))
    assert np.array_equal(out[~hole], pixels[~hole])
    assert out[16, 13, 0] > 150 > 50 > out[16, 34, 0] and out[16, 13, 2] < 30 < 70 < out[16, 34, 2]
    assert np.array(surroundings(Image.fromarray(pixels), np.ones_like(hole))).tolist() == [[[127] * 3] * 48] * 32
