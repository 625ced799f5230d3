"""A folder of images as data: its three forms, every kind of picture, and everything that can be wrong with one."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.data.decode import Decoder, Unreadable
from huggingvis.data.folder import FolderOptions, Skip, open_folder

TESTDATA = os.environ.get("HUGGINGVIS_TESTDATA")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def options(size: int = 4, **changes) -> FolderOptions:
    return FolderOptions(Decoder(size), **changes)


def flat(path: Path, colour=RED, size=(4, 4), mode="RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def test_flat_folder_with_captions_beside(tmp_path):
    flat(tmp_path / "b.png", GREEN)
    flat(tmp_path / "a.PNG", RED)
    flat(tmp_path / "c.bmp", BLUE)
    (tmp_path / "a.txt").write_text("\ufeffa red square\n", encoding="utf-8")
    (tmp_path / "b.caption").write_text("绿色的 方块", encoding="utf-8")
    (tmp_path / "._b.png").write_bytes(b"macOS leaves these")
    folder = open_folder(tmp_path, options())
    assert folder.captions == ("a red square", "绿色的 方块", "") and folder.labels is None
    assert [path.name for path in folder.paths] == ["a.PNG", "b.png", "c.bmp"]
    assert folder.batch([2, 0])[:, 0, 0].tolist() == [list(BLUE), list(RED)]
    assert "1 images have no caption: c.bmp" in str(folder.report)


def test_class_folders_give_labels_and_recursion_can_be_refused(tmp_path):
    flat(tmp_path / "dog" / "1.png")
    flat(tmp_path / "cat" / "2.png")
    flat(tmp_path / "cat" / "young" / "3.png")
    deep = open_folder(tmp_path, options())
    assert deep.classes == ("cat", "dog") and deep.labels.tolist() == [0, 0, 1]
    shallow = open_folder(tmp_path, options(recursive=False))
    assert shallow.labels.tolist() == [0, 1] and "1 images in deeper folders left out" in str(shallow.report)
    flat(tmp_path / "top.png")
    assert open_folder(tmp_path, options(recursive=False)).paths == (tmp_path / "top.png",)
    assert len(open_folder(tmp_path, options())) == 4 and open_folder(tmp_path, options()).classes == ()
    memory = deep.in_memory()
    assert memory.images.shape == (3, 4, 4, 3) and memory.classes == ("cat", "dog") and memory.labels.dtype == np.int64


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_metadata_names_files_and_captions(tmp_path, form):
    flat(tmp_path / "pics" / "1.png", RED)
    flat(tmp_path / "2.png", GREEN)
    flat(tmp_path / "unnamed.png")
    rows = [("2.png", 'a "green",\u2028 one'), ("pics/1.png", "红")]
    if form == "jsonl":
        lines = [json.dumps({"file_name": f, "text": t}, ensure_ascii=False) for f, t in rows]
        text = "\n".join(lines) + "\n\n"
    else:
        text = "file_name,text\r\n" + "".join(f'{f},"{t.replace(chr(34), chr(34) * 2)}"\r\n' for f, t in rows)
    (tmp_path / f"metadata.{form}").write_bytes(text.encode("utf-8"))
    folder = open_folder(tmp_path, options())
    assert folder.captions == ('a "green",\u2028 one', "红")
    assert folder.batch([0, 1])[:, 0, 0].tolist() == [list(GREEN), list(RED)]
    assert f"1 images left out: metadata.{form} does not name them" in str(folder.report)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "1.png"}\n{"file', "line 2 is not JSON"),
        ("metadata.jsonl", '["1.png"]', "expected an object"),
        ("metadata.jsonl", '{"text": "no name"}', "line 1: expected `file_name`"),
        ("metadata.jsonl", "", "names no images"),
        ("metadata.jsonl", '{"file_name": "gone.png"}', "there is no such file"),
        ("metadata.jsonl", '{"file_name": "../../etc/hostname.png"}', "outside the folder"),
        ("metadata.csv", "path,text\n1.png,x\n", "has the columns path, text"),
    ],
)
def test_bad_metadata_is_named_with_its_line(tmp_path, name, text, message):
    flat(tmp_path / "1.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FileProblem, match=message):
        open_folder(tmp_path, options())


def test_empty_and_missing_folders_say_what_is_accepted(tmp_path):
    with pytest.raises(FileProblem, match="no files at all.*\\*.png, \\*.jpg, \\*.jpeg, \\*.webp"):
        open_folder(tmp_path, options())
    (tmp_path / "drawing.psd").write_bytes(b"x")
    with pytest.raises(FileProblem, match="it holds drawing.psd"):
        open_folder(tmp_path, options())
    with pytest.raises(FileProblem, match="There is no folder"):
        open_folder(tmp_path / "gone", options())
    with pytest.raises(FileProblem, match="is a file; expected a folder"):
        open_folder(tmp_path / "drawing.psd", options())
    with pytest.raises(UsageError, match="between 1 and 8192 pixels; found 0"):
        Decoder(0)


def test_corrupt_images_are_refused_or_skipped_by_name(tmp_path):
    flat(tmp_path / "good.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    for name in ("cut.png", "cut.jpg"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.webp").write_bytes(b"")
    with pytest.raises(FileProblem, match="4 image.s. cannot be used.*cut.jpg.*cut.png.*empty.webp.*text.png"):
        open_folder(tmp_path, options())
    folder = open_folder(tmp_path, options(on_corrupt=Skip()))
    assert len(folder) == 1 and folder.report.found == 5
    assert [problem.path.name for problem in folder.report.skipped] == ["cut.jpg", "cut.png", "empty.webp", "text.png"]
    assert "only one image (good.png)" in folder.report.warnings[0]
    (tmp_path / "good.png").unlink()
    with pytest.raises(FileProblem, match="None of the 4 images"):
        open_folder(tmp_path, options(on_corrupt=Skip()))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_decompression_bombs_are_refused_unread(tmp_path, side, recwarn):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(FileProblem, match="bomb.png.*decompression bomb"):
        open_folder(tmp_path, options())
    assert not recwarn.list


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    decode = Decoder(4)
    grey = flat(tmp_path / "grey.png", 77, mode="L")
    assert decode(grey)[0][0, 0].tolist() == [77, 77, 77] and Decoder(4, channels=1)(grey)[0].shape == (4, 4, 1)
    rgba = flat(tmp_path / "rgba.png", (255, 0, 0, 128), mode="RGBA")
    assert decode(rgba)[0][0, 0].tolist() == [255, 127, 127]  # red, half laid on white
    assert Decoder(4, background=(0, 0, 0))(rgba)[0][0, 0].tolist() == [128, 0, 0]
    la = flat(tmp_path / "la.png", (0, 0), mode="LA")
    assert decode(la)[0][0, 0].tolist() == [255, 255, 255]
    bilevel = flat(tmp_path / "bilevel.png", 1, mode="1")
    assert decode(bilevel)[0][0, 0].tolist() == [255, 255, 255]
    cmyk = flat(tmp_path / "cmyk.tif", (0, 255, 255, 0), mode="CMYK")
    assert decode(cmyk)[0][0, 0].tolist() == [255, 0, 0]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([*BLUE, *GREEN])
    palette.save(tmp_path / "palette.gif")
    palette.save(tmp_path / "clear.png", transparency=1)
    assert decode(tmp_path / "palette.gif")[0][0, 0].tolist() == list(GREEN)
    assert decode(tmp_path / "clear.png")[0][0, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    ramp = np.array([[0, 257, 32896, 65535]] * 4, dtype=np.uint16)
    for name in ("ramp.png", "ramp.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        assert Decoder(4)(tmp_path / name)[0][0, :, 0].tolist() == [0, 1, 128, 255]
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(Unreadable, match="range is not known"):
        Decoder(4)(tmp_path / "float.tif")


def test_animations_give_their_first_frame_and_say_so(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.webp", save_all=True, append_images=frames[1:], lossless=True)
    folder = open_folder(tmp_path, options())
    assert folder.batch([0, 1])[:, 0, 0].tolist() == [list(GREEN), list(GREEN)]
    assert "first of 3 frames used: a.gif; b.webp" in str(folder.report)


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (4, 4), RED)
    picture.paste(BLUE, (0, 0, 4, 2))  # blue above red as stored
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "turned.png", exif=exif)
    pixels = Decoder(4)(tmp_path / "turned.png")[0]
    assert pixels[0, 0].tolist() == list(RED) and pixels[3, 0].tolist() == list(BLUE)


def test_centre_crop_is_exact_and_resizing_is_antialiased(tmp_path):
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(Decoder(4)(tmp_path / "wide.png")[0], wide[:, 4:8])
    checks = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    small = Decoder(8)(tmp_path / "checks.png")[0].astype(int)
    assert abs(small - 127.5).max() <= 2  # without antialiasing this would be 0 or 255
    assert Decoder(8)(tmp_path / "wide.png")[1] == ("enlarged from 12 x 4",)


def test_what_does_not_fit_into_memory_is_decoded_on_demand(tmp_path):
    for i in range(3):
        flat(tmp_path / f"{i}.png", (i, 0, 0))
    kept, lazy = open_folder(tmp_path, options()), open_folder(tmp_path, options(memory=100))
    assert kept.pixels is not None and kept.pixels.nbytes == 3 * 48 and lazy.pixels is None
    assert np.array_equal(kept.batch([2, 1]), lazy.batch([2, 1]))
    assert np.array_equal(kept.in_memory().images, lazy.in_memory().images)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(FileProblem, match="1.png was readable when its folder was opened"):
        lazy.batch([1])


@pytest.mark.skipif(TESTDATA is None, reason="HUGGINGVIS_TESTDATA is not set: the real photos are not at hand")
def test_real_photos_open():
    folder = open_folder(Path(TESTDATA or "") / "images" / "photos", options(size=64))
    assert [path.stem for path in folder.paths] == ["astronaut", "camera", "chelsea"]
    assert folder.pixels.shape == (3, 64, 64, 3) and 90 < folder.pixels.mean() < 140
