"""Pictures to files and back: provenance, names, full and read-only disks, contact sheets."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from huggingvis.codecs.prompt_styles import read_styles
from huggingvis.core.errors import FileProblem, NumericalTrouble, UsageError
from huggingvis.core.files import explain, write_atomically, write_new
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.request import Canvas, FromPicture, Prompt, Request, Sampling
from huggingvis.export.image import read_provenance, save, save_numbered, slugify
from huggingvis.export.infotext import Infotext, describe

REQUEST = Request(
    Prompt("a fox to the left of a pizza\n狐狸, (red:1.2)", "blurry, text"),
    Canvas(24, 16, count=4),
    Sampling(sampler="dpm++2m", schedule="karras", steps=20, guidance_scale=4.5, seed=7),
    FromPicture("in.png", 0.5),
)
MADE = {
    "batch_index": 2,
    "backend": "cpu eager",
    "model": "tiny, v1",
    "model_hash": "0123456789abcdef",
    "version": "0.1",
}


def picture(request: Request | None = REQUEST, channels: int = 3) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, channels), dtype=np.uint8)
    return Picture(pixels, request, MADE if request else {})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_gives_back_pixels_request_and_making(tmp_path, channels):
    path = save(picture(channels=channels), tmp_path / "a.png")
    assert np.array_equal(open_picture(path).pixels, picture(channels=channels).pixels)
    found = read_provenance(path)
    assert found.request() == REQUEST and found.made == MADE
    assert json.loads(found.request_json or "")["sampling"]["seed"] == 7
    with Image.open(path) as image:
        assert isinstance(image, PngImagePlugin.PngImageFile)
        assert set(image.text) == {"huggingvis", "parameters"}


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".webp", ".PNG"])
def test_other_formats_carry_the_same(tmp_path, extension):
    first = save(picture(), tmp_path / "a.png")
    path = save(picture(), tmp_path / f"b{extension}")
    found = read_provenance(path)
    assert found.request() == REQUEST and found.made == MADE and found.infotext == read_provenance(first).infotext
    if extension != ".webp":
        with Image.open(save(picture(channels=4), tmp_path / f"c{extension}")) as image:
            assert image.mode == ("RGBA" if extension == ".PNG" else "RGB")


def test_parameters_text_is_what_the_community_reads(tmp_path):
    text = read_provenance(save(picture(), tmp_path / "a.png")).infotext or ""
    assert text.split("\n") == [
        "a fox to the left of a pizza",
        "狐狸, (red:1.2)",
        "Negative prompt: blurry, text",
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 9, Size: 24x16, "
        'Model hash: 0123456789, Model: "tiny, v1", Denoising strength: 0.5, RNG: CPU, Version: huggingvis 0.1',
    ]
    parsed = Infotext.parse(text)
    assert parsed == describe(picture()) and parsed.settings["Model"] == "tiny, v1"
    assert parsed.prompt == REQUEST.prompt.text and parsed.negative_prompt == REQUEST.prompt.negative


def test_names_without_a_label_stay_and_every_labelled_name_reads_back():
    from huggingvis.samplers import names

    for row in names.SAMPLERS:
        for schedule in names.SCHEDULES:
            how = Sampling(sampler=row.name, schedule=schedule.name)
            settings = describe(Picture(picture().pixels, Request(sampling=how))).settings
            assert names.split_label(settings["Sampler"]) == (row.name, None)
            assert type(names.schedule_of(settings["Schedule type"], 4)) is type(schedule.make(4))
    assert describe(Picture(picture().pixels, Request(sampling=Sampling(sampler="new")))).settings["Sampler"] == "new"


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "settings"),
    [
        ("just words: two, three: four", "just words: two, three: four", "", 0),
        ("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1", "a cat", "", 4),
        ("Negative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 1", "", "dog", 3),
        ('a\nNegative prompt: b\nc\nSteps: 1, Seed: 2, Lora hashes: "x: 12, y: 34", Version: v1', "a", "b\nc", 4),
        ("", "", "", 0),
    ],
)
def test_infotext_of_other_tools_parses(text, prompt, negative, settings):
    parsed = Infotext.parse(text)
    assert (parsed.prompt, parsed.negative_prompt, len(parsed.settings)) == (prompt, negative, settings)
    if settings == 4 and negative:
        assert parsed.settings["Lora hashes"] == "x: 12, y: 34"


def test_pictures_of_other_tools_and_bare_ones(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png", pnginfo=chunks)
    found = read_provenance(tmp_path / "other.png")
    assert found.request_json is None and found.made == {}
    assert found.request().prompt == Prompt("a cat") and found.request().sampling.sampler == "euler-a"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", "a cat")
    Image.new("RGB", (4, 4)).save(tmp_path / "titled.png", pnginfo=chunks)
    with pytest.raises(FileProblem, match="was not made by this library.*Title .'a cat'"):
        read_provenance(tmp_path / "titled.png").request()
    with pytest.raises(FileProblem, match="neither a `huggingvis` record nor a `parameters` text"):
        read_provenance(save(picture(None), tmp_path / "bare.png"))
    for name in ("bare.jpg", "bare.webp"):
        with pytest.raises(FileProblem, match="does not say how it was made"):
            read_provenance(save(picture(None), tmp_path / name))
    for record in ("{", '{"format": 1}', "[]"):
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("huggingvis", record)
        Image.new("RGB", (4, 4)).save(tmp_path / "broken.png", pnginfo=chunks)
        with pytest.raises(FileProblem, match="record in .*broken.png is damaged"):
            read_provenance(tmp_path / "broken.png")
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("huggingvis", '{"format": 2, "request": {}, "made": {}}')
    Image.new("RGB", (4, 4)).save(tmp_path / "newer.png", pnginfo=chunks)
    with pytest.raises(FileProblem, match="has format 2; this version reads format 1"):
        read_provenance(tmp_path / "newer.png")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_truncated_files_are_found(tmp_path, share, extension):
    path = save(picture(), tmp_path / f"a{extension}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for read in (read_provenance, open_picture):
        with pytest.raises(FileProblem, match=f"a\\{extension} is (damaged|not a PNG)"):
            read(path)


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileProblem, match="There is no file"):
        read_provenance(tmp_path / "gone.png")
    with pytest.raises(FileProblem, match="it is a folder"):
        read_provenance(tmp_path)


def test_a_request_too_long_for_jpeg_goes_into_png(tmp_path):
    long = Picture(picture().pixels, Request(Prompt("word " * 10_000)), {})
    with pytest.raises(UsageError, match="Save it as .png"):
        save(long, tmp_path / "a.jpg")
    assert os.listdir(tmp_path) == []
    assert read_provenance(save(long, tmp_path / "a.png")).request() == long.request


def test_numbered_names_follow_on_and_never_overwrite(tmp_path):
    out = tmp_path / "new" / "out"
    assert save_numbered(picture(), out, REQUEST.prompt.text).name == "00001-a-fox-to-the-left.png"
    (out / "00006-something.txt").write_text("mine")
    assert save_numbered(picture(), out, "a fox to the left").name == "00007-a-fox-to-the-left.png"
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: save_numbered(picture(), out, "../狐狸 / PIZZA!"), range(12)))
    assert len(set(paths)) == 12 and all(path.name.endswith("-狐狸-pizza.png") for path in paths)
    assert len(os.listdir(out)) == 15 and not any(name.endswith(".tmp") for name in os.listdir(out))
    assert write_new(paths[0], lambda file: file.write(b"x")) is None and paths[0].stat().st_size > 1
    assert slugify("!!!") == "" and len(slugify("w" * 300)) == 40 and slugify("x" * 30 + " " + "y" * 30) == "x" * 30
    (tmp_path / "file").write_text("")
    with pytest.raises(FileProblem, match="is a file; expected a folder"):
        save_numbered(picture(), tmp_path / "file", "x")


def test_writing_is_all_or_nothing_on_a_full_disk(tmp_path):
    path = save(picture(), tmp_path / "a.png")
    before = path.read_bytes()

    def into_a_full_disk(file):
        file.write(b"half")
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"more")

    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    for write in (write_atomically, write_new):
        target = path if write is write_atomically else tmp_path / "new.png"
        with pytest.raises(FileProblem, match="the disk is full: free some space") as caught:
            write(target, into_a_full_disk)
        assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before


def test_a_size_limit_of_the_system_leaves_nothing(tmp_path):
    code = (
        "import numpy as np, pathlib, sys\n"
        "from huggingvis.core.errors import FileProblem\n"
        "from huggingvis.core.media import Picture\n"
        "from huggingvis.export.image import save\n"
        "noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)\n"
        "try:\n    save(Picture(noise), pathlib.Path(sys.argv[1]) / 'a.png')\n"
        "except FileProblem as error:\n    print(error)\n"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))  # noqa: E731
    command = [sys.executable, "-c", code, str(tmp_path)]
    told = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True).stdout
    assert "larger than this system allows" in told and os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "folder.png", "it is a folder"),
        (tmp_path / "file" / "a.png", "is a file, not a folder"),
        (tmp_path / f"{'w' * 300}.png", "name is too long"),
    ):
        with pytest.raises(FileProblem, match=message):
            save(picture(), path)
    with pytest.raises(UsageError, match=".png, .jpg, .jpeg, .webp; found '.gif'"):
        save(picture(), tmp_path / "a.gif")
    with pytest.raises(UsageError, match="found '.gif'"):
        save(picture(), tmp_path / "new" / "a.gif")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]
    save(picture(), tmp_path / "new" / "below" / "a.png")  # its folders are made, once there is something for them
    assert (tmp_path / "new" / "below" / "a.png").is_file()


@pytest.fixture
def read_only_folder():
    """A folder nobody may write to; root, who may write everywhere, becomes an ordinary user meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        save(picture(), Path(name) / "a.png")
        os.chmod(name, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        yield Path(name)
        if root:
            os.seteuid(0)
        os.chmod(name, 0o755)


def test_a_read_only_folder_is_said_so(read_only_folder):
    before = (read_only_folder / "a.png").read_bytes()
    for write in (
        lambda: save(picture(None), read_only_folder / "a.png"),
        lambda: save_numbered(picture(), read_only_folder, "a"),
        lambda: save_numbered(picture(), read_only_folder / "sub", "a"),
    ):
        with pytest.raises(FileProblem, match="may not be written to: choose another folder"):
            write()
    assert os.listdir(read_only_folder) == ["a.png"] and (read_only_folder / "a.png").read_bytes() == before


def test_why_a_file_could_not_be_read_is_said(tmp_path):
    for path, why in ((tmp_path / "gone.csv", "there is no such file"), (tmp_path, "it is a folder")):
        with pytest.raises(FileProblem, match=f"Could not read {path}: {why}") as told:
            read_styles(path)
        assert "Nothing was changed" not in str(told.value)
    closed = explain(PermissionError(errno.EACCES, "denied"), Path("a"), "read")
    assert str(closed) == "Could not read a: it may not be read: change its permissions, or those of its folder."


def test_saved_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE(save(picture(), tmp_path / "a.png").stat().st_mode) == mode


def test_picture_checks_its_pixels_and_signals_round_trip():
    pixels = picture().pixels
    assert np.array_equal(Picture.from_signal(picture().to_signal()).pixels, pixels)
    assert picture().to_signal().shape == (3, 16, 24) and abs(picture().to_signal()).max() <= 1
    levels = Picture.from_signal(np.array([[[-2.0, -1.0, 0.0, 1.0, 9.0]]])).pixels
    assert levels.ravel().tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(NumericalTrouble, match="holds 2 values that are NaN or infinite, of 12"):
        Picture.from_signal(np.array([np.nan, np.inf] + [0.0] * 10).reshape(3, 2, 2))
    for bad in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UsageError, match="A picture is uint8"):
            Picture(bad)
    with pytest.raises(ValueError, match="read-only"):
        picture().pixels[0, 0] = 0
    assert picture().size == (24, 16)


def test_a_picture_says_what_it_is_and_shows_itself_in_a_notebook() -> None:
    made = Picture(np.zeros((4, 6, 3), np.uint8), Request(Prompt("a fox")), {"seed": 7})
    assert repr([made]) == "[<Picture 6x4 of 'a fox', seed 7>]"
    assert repr(Picture(np.zeros((4, 6), np.uint8))) == "<Picture 6x4>"
    assert Image.open(io.BytesIO(made._repr_png_())).size == (6, 4)
