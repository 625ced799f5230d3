"""Outpainting on the smallest model: the picture stays to the bit in the middle of its new canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_pictures import STEPS, load, noise, save

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Canvas, Inpaint, Outpaint, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import generate, notes
from huggingvis.systems import tiny


@pytest.fixture(scope="module")
def system(tiny_model: Path) -> System:
    return tiny.bind(tiny_model)


@pytest.fixture
def picture(tmp_path: Path, system: System) -> str:
    return save(tmp_path / "picture.png", noise(*system.spec.size))


def request(source: Any, **canvas: int) -> Request:
    return Request(Prompt("a red circle"), Canvas(**canvas), Sampling(steps=STEPS, guidance_scale=2.0), source)


def made(system: System, source: Any, **canvas: int) -> np.ndarray:
    return generate(system, request(source, **canvas))[0].pixels


@pytest.mark.parametrize(
    "numbers",
    [
        {"left": 16},
        {"right": 5, "bottom": 3},  # not what the model takes: made up and cut off
        {"left": 7, "right": 9, "top": 16, "bottom": 1, "method": "repaint", "jump": 2, "resamples": 2},
        {"top": 16, "ground": "blur", "strength": 0.75},
        {"top": 16, "ground": "noise", "strength": 0.75},
    ],
)
def test_a_picture_grows_to_any_side(numbers: dict[str, Any], system: System, picture: str) -> None:
    source = Outpaint(picture, **numbers)
    out, old = made(system, source), load(picture)
    h, w, _ = old.shape
    assert out.shape == (source.top + h + source.bottom, source.left + w + source.right, 3)
    assert np.array_equal(out[source.top : source.top + h, source.left : source.left + w], old)


def test_the_picture_itself_stays(system: System, picture: str) -> None:
    """Beyond the seam; within it old fades into new along a line, and the raw decode changes everything."""
    old, side = load(picture), system.spec.size[0]
    seamed = made(system, Outpaint(picture, right=16, seam=8))
    assert np.array_equal(seamed[:, : side - 8], old[:, : side - 8])
    assert (seamed[:, side - 8 : side] != old[:, side - 8 :]).mean() > 0.5
    raw = made(system, Outpaint(picture, right=16, seam=8, paste=False)).astype(float)
    share = (np.arange(1, 9) / 9)[None, :, None]
    mixed = share * raw[:, side - 8 : side] + (1 - share) * old[:, side - 8 :]
    assert np.abs(seamed[:, side - 8 : side] - mixed).max() <= 1.0  # the share in 255ths, then the pixel
    assert (raw[:, : side - 8] != old[:, : side - 8]).mean() > 0.5


def test_outpainting_is_inpainting_of_a_grown_canvas(system: System, picture: str, tmp_path: Path) -> None:
    width, height = system.spec.size
    grown = np.pad(load(picture), ((0, 0), (16, 16), (0, 0)), mode="edge")
    mask = np.pad(np.zeros((height, width), np.uint8), ((0, 0), (16, 16)), constant_values=255)
    source = Inpaint(save(tmp_path / "grown.png", grown), save(tmp_path / "mask.png", mask))
    ours = made(system, Outpaint(picture, left=16, right=16))
    assert np.array_equal(ours, made(system, source, width=width + 32, height=height))


def test_sizes_that_cannot_be_are_told(system: System, picture: str) -> None:
    with pytest.raises(UsageError, match="Leave the size out"):
        made(system, Outpaint(picture, left=16), width=system.spec.size[0])
    most = system.limits.side
    with pytest.raises(UsageError, match=f"would grow to .* draws at most {most} a side"):
        made(system, Outpaint(picture, left=most))
    assert any("96x" in note or "at " in note for note in notes(system, request(Outpaint(picture, left=16))))
