"""Control pictures against OpenCV's own bits, scipy and what can be counted by hand; how they come to a canvas."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.request import FITS, AdapterUse
from huggingvis.data.control_arrays import gaussian, sobel
from huggingvis.data.control_inputs.canny import Canny
from huggingvis.data.control_inputs.lines import Lines
from huggingvis.data.control_inputs.scribble import Scribble
from huggingvis.data.control_inputs.soft_edges import SoftEdges
from huggingvis.data.control_pictures import for_use, preparation, preparations, prepared

RNG = np.random.default_rng(0)
RANDOM = RNG.integers(0, 256, (13, 11, 3)).repeat(8, 0).repeat(8, 1).astype(np.int64)


def squares() -> np.ndarray:
    """Coloured squares with soft rims, the same on every machine. [104, 88, 3]."""
    x = np.pad(RANDOM, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return (sum(x[i : i + 104, j : j + 88] for i in range(3) for j in range(3)) // 9).astype(np.uint8)


def saved(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


# ---- edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "edges", "digest"),
    [(100, 200, 1620, "769344e4e542b996"), (50, 150, 1668, "b5ee216c5fd73c17"), (10, 400, 1391, "19b295258726d6b3")],
)
def test_canny_is_opencvs_to_the_bit(low: int, high: int, edges: int, digest: str) -> None:
    """`edges` and `digest` are of cv2.Canny(squares(), low, high), OpenCV 5.0.0."""
    found = Canny(low, high)(Image.fromarray(squares()))[:, :, 0] > 0
    assert int(found.sum()) == edges
    assert hashlib.blake2b(np.packbits(found).tobytes(), digest_size=8).hexdigest() == digest


def test_an_edge_goes_on_below_the_high_threshold_and_does_not_begin_there() -> None:
    x = np.zeros((40, 40, 3), np.uint8)
    x[:20, 20:] = 100  # a step of 4 * 100 where it is strong,
    x[20:, 20:] = 30  # and of 4 * 30 where it is weak
    both, strong = Canny(100, 200)(Image.fromarray(x)), Canny(200, 200)(Image.fromarray(x))
    assert (both[:, :, 0] > 0).any(axis=1).all() and not (strong[25:, :, 0] > 0).any()
    assert not Canny(100, 200)(Image.fromarray(x[25:])).any()
    assert (both > 0).sum(axis=(1, 2))[5] == 3  # one pixel wide, in three channels


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_blur_and_differences_are_scipys(sigma: float) -> None:
    x = squares().astype(np.float64)
    want = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="mirror", truncate=np.ceil(4 * sigma) / sigma)
    assert np.abs(gaussian(x, sigma) - want).max() < 1e-3
    for one, way in zip(sobel(x), (1, 0), strict=True):
        assert np.array_equal(one[:, :, 0], ndimage.sobel(x[:, :, 0], axis=way, mode="nearest"))


def test_lines_are_dark_strokes_and_bright_ones_are_not() -> None:
    x = np.full((40, 60, 3), 128, np.uint8)
    x[:, 15], x[:, 45] = 20, 236
    found = Lines()(Image.fromarray(x))[20, :, 0]
    assert found[15] > 250 and found[45] == 0
    assert found[[5, 30, 55]].tolist() == [0, 0, 0]


def test_scribbles_are_whole_strokes_of_black_and_white() -> None:
    bar = np.full((40, 60, 3), 250, np.uint8)
    bar[:, 30:34] = 10
    stroke = Scribble()(Image.fromarray(bar))[20, :, 0] > 0
    assert np.flatnonzero(stroke).tolist() == [30, 31, 32, 33]  # filled, where edges are its two sides
    assert (Canny()(Image.fromarray(bar))[20, :, 0] > 0).sum() == 2
    x = Image.fromarray(squares())
    found = Scribble()(x)
    assert set(np.unique(found).tolist()) == {0, 255}
    assert (Scribble(64.0)(x) > 0).mean() < (found > 0).mean()


@pytest.mark.parametrize("name", list(preparations()))
def test_every_kind_keeps_size_and_type_down_to_one_pixel(name: str, tmp_path: Path) -> None:
    for number, shape in enumerate(((1, 1, 3), (1, 17, 3), (23, 5, 3))):
        grey = RNG.integers(0, 256, shape[:2], dtype=np.uint8)[:, :, None].repeat(3, 2)
        found = prepared(saved(grey, tmp_path / f"{number}.png"), name, None)
        assert (found.shape, found.dtype) == (shape, np.dtype(np.uint8))
    flat = prepared(saved(np.full((9, 9, 3), 77, np.uint8), tmp_path / "flat.png"), name, None)
    assert len(np.unique(flat)) == 1  # nothing is found where nothing is


# ---- colours, greys and maps of others ------------------------------------------------------------------------------


def test_palettes_tiles_thresholds_and_negatives(tmp_path: Path) -> None:
    x = squares()
    path = saved(x, tmp_path / "a.png")
    palette = prepared(path, "palette,side=8", None)
    assert len(np.unique(palette.reshape(-1, 3), axis=0)) <= 13 * 11
    assert np.abs(palette[3::8, 3::8].astype(int) - RANDOM[3::8, 3::8]).mean() < 30
    assert np.array_equal(prepared(path, "tile,by=1", None), x)
    tile = prepared(path, "tile,by=8", None).astype(float)
    assert abs(tile.mean() - x.mean()) < 1.0 and tile.std() < x.std()
    assert np.array_equal(prepared(path, "blur,sigma=0", None), x)
    assert abs(float(prepared(path, "blur", None).mean()) - float(x.mean())) < 3.0
    assert np.array_equal(prepared(path, "invert", None), 255 - x)
    white = prepared(path, "threshold,above=100", None)
    assert np.array_equal(prepared(path, "threshold,above=100,invert=yes", None), 255 - white)
    assert np.array_equal(white[:, :, 0] > 0, np.asarray(Image.fromarray(x).convert("L")) > 100)


def test_depth_of_sixteen_bits_keeps_its_steps(tmp_path: Path) -> None:
    millimetres = np.linspace(500, 5000, 256).astype(np.uint16)[None].repeat(4, 0)  # near the camera first
    path = tmp_path / "depth.png"
    Image.fromarray(millimetres).save(path)
    near = prepared(path, "depth,invert=yes", None)[0, :, 0]
    assert near[0] == 255 and near[-1] == 0 and len(np.unique(near)) > 250
    assert np.array_equal(prepared(path, "depth", None)[0, :, 0], 255 - near)
    own = prepared(path, "depth,normalise=no", None)[0, :, 0]
    assert own[-1] == round(5000 / 65535 * 255)
    assert prepared(path, "depth,invert=yes", (128, 64)).shape == (64, 128, 3)
    with pytest.raises(UsageError, match="is in colours, but a map of depth has one grey"):
        prepared(saved(squares(), tmp_path / "photo.png"), "depth", None)


# ---- the canvas -----------------------------------------------------------------------------------------------------


def test_as_it_is_a_picture_comes_to_the_canvas_as_ever(tmp_path: Path) -> None:
    path = saved(squares(), tmp_path / "a.png")
    for words in ("", "none"):
        found = for_use(AdapterUse("net", image=str(path), prepare=words), (48, 32))
        plain = open_picture(path).to_pil().convert("RGB").resize((48, 32), Image.Resampling.LANCZOS)
        assert np.array_equal(found, Picture.from_pil(plain).to_signal()) and found.dtype == np.float32


def test_three_ways_to_fit(tmp_path: Path) -> None:
    x = np.zeros((40, 80, 3), np.uint8)
    x[:, :20], x[:, 60:], x[15:25, 35:45] = 255, 255, 128
    path = saved(x, tmp_path / "wide.png")
    stretch, crop, fill = (prepared(path, "", (40, 40), fit)[:, :, 0].astype(int) for fit in FITS)
    assert stretch[20, [2, 37]].min() > 250 and stretch[20, 20] > 90
    assert crop[20, [2, 37]].max() < 5 and (crop > 60).sum() == pytest.approx(100, abs=30)  # the middle, its own size
    assert fill[20, [2, 37]].min() > 250 and fill[0, 20] == fill[39, 0] == np.median(x[:, 0])
    assert np.array_equal(fill[:10], np.full((10, 40), 255))  # what is missing has the colour of the rim
    edges = prepared(path, "canny", (40, 40), "fill")
    assert not edges[:9].any() and edges[11:29].any()  # and is no edge itself
    with pytest.raises(UsageError, match="no way to fit a control picture called 'croop'"):
        prepared(path, "", (40, 40), "croop")


def test_words_of_a_preparation() -> None:
    assert preparation("canny,low=50,high=150") == Canny(50.0, 150.0)
    assert preparation("Soft-Edges,widths=1,2,full=0.5") == SoftEdges((1.0, 2.0), 0.5)
    assert preparation("") is None and preparation("none") is None
    for words, message in (("cany", "Did you mean 'canny'"), ("canny,hi=3", "Did you mean '--high'"),
                           ("canny,low=x", "'low' must be a number"), ("canny,low=300", "low <= high"),
                           ("none,low=1", "has no numbers"), ("tile,by=0", "between 1 and 256")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            preparation(words)


def test_pictures_of_the_library_are_prepared_too(tmp_path: Path) -> None:
    from huggingvis import api

    path = saved(squares(), tmp_path / "a.png")
    made = api.control("canny", path, numbers={"low": 50.0, "high": 150.0})
    assert isinstance(made, Picture) and int((made.pixels[:, :, 0] > 0).sum()) == 1668
