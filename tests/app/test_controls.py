"""`--control` and `hvis control`: what a net sees, which net it is, when it acts, and what is said where it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from command_line import pixels
from PIL import Image
from refusals import left, refused
from tiny_pipelines import pipeline

from huggingvis.core.errors import UsageError
from huggingvis.core.request import Request
from huggingvis.recipes.controls import Said, parts_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PROMPT = "an astronaut riding a horse"
SHORT = ("--steps", 2, "--precision", "float32", "--size", 32, "--json")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ComfyUI's: a tiny model, ControlNets for edges (two bases) and scribbles, a T2I-Adapter for depth."""
    root = tmp_path_factory.mktemp("comfy")
    made = pipeline()
    made.save_pretrained(root / "models" / "diffusers" / "tiny-sd")
    nets = root / "models" / "controlnet"
    for name, width in (("control_v11p_sd15_canny", 32), ("diffusers_xl_canny", 64), ("control_v11p_scribble", 32)):
        torch.manual_seed(len(name))
        unet = made.unet if width == 32 else diffusers.UNet2DConditionModel.from_config(
            {**made.unet.config, "cross_attention_dim": width}
        )  # fmt: skip
        net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        _random(net).save_pretrained(nets / name)
    _random(diffusers.T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=2)).save_pretrained(
        root / "models" / "t2i_adapter" / "t2iadapter_depth"
    )
    return root


def _random(net: Any) -> Any:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


@pytest.fixture
def photo(hvis: Any) -> str:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48)).save("photo.png")
    return "photo.png"


def made(said: Any) -> np.ndarray:
    assert said.code == 0, said.err
    return pixels(said.document["pictures"][0]["path"])


def words(places: Path, *more: Any) -> list[Any]:
    return ["generate", PROMPT, "--models", places, "--model", "tiny-sd", *SHORT, *more]


# ---- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("canny:a.png", Said("canny", "", "a.png")),
        ("canny:a.png:0.8", Said("canny", "", "a.png", 0.8)),
        ("canny:a.png:0.8:0.0-0.6", Said("canny", "", "a.png", 0.8, 0.0, 0.6)),
        ("softedge:a.png:1", Said("soft_edges", "", "a.png")),
        ("openpose=net:a.png", Said("pose", "net", "a.png")),
        ("canny:a.png:.25-1", Said("canny", "", "a.png", 1.0, 0.25, 1.0)),
        ("canny=net.pth:/x/a.png:-1", Said("canny", "net.pth", "/x/a.png", -1.0)),
        ("Soft-Edges,widths=1,2,full=0.9=net:a.png", Said("soft_edges,widths=1,2,full=0.9", "net", "a.png")),
        ("canny,low=50=hf:owner/net:a.png:2", Said("canny,low=50", "hf:owner/net", "a.png", 2.0)),
        ("none=canny:a.png", Said("", "canny", "a.png")),
        ("canny.safetensors:/x/a.png:0.7", Said("", "canny.safetensors", "/x/a.png", 0.7)),
        (r"C:\nets\canny.pth:D:\a.png:0.7:0-0.5", Said("", r"C:\nets\canny.pth", r"D:\a.png", 0.7, 0.0, 0.5)),
        (r"canny:D:/a.png", Said("canny", "", "D:/a.png")),
        ("owner/canny:a.png", Said("", "owner/canny", "a.png")),
    ],
)
def test_the_parts_of_a_control(word: str, wanted: Said) -> None:
    assert parts_of(word) == wanted


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("canny", "--control takes a file and the picture that it reads"),
        ("canny:", "--control takes a file and the picture that it reads"),
        (":a.png", "--control takes a file and the picture that it reads"),
        ("cany:a.png", "neither a file 'cany' nor a way to prepare a picture of that name. Did you mean 'canny'"),
        ("canny,lo=3:a.png", "Did you mean '--low'"),
        ("canny:a.png:0.8:0.6-0.2", "from one part of the steps to a later one, such as 0.0-0.6; found '0.6-0.2'"),
        ("canny:a.png:0.8:0-7", "found '0-7'"),
        ("none:a.png", "tells no net: name its file, as in none=FILE:PICTURE"),
    ],
)
def test_what_is_no_control_is_refused(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parts_of(word)
    assert message in str(caught.value)


# ---- at work --------------------------------------------------------------------------------------------------------


def test_a_net_is_found_by_name_and_sees_what_hvis_control_shows(hvis: Any, places: Path, photo: str) -> None:
    shown = hvis(["control", "canny", photo, "--low", 50, "--size", 32, "-o", "edges.png", "--json"])
    assert shown.code == 0 and shown.document["size"] == [32, 32] and 0.0 < shown.document["bright"] < 0.5
    plain = made(hvis(words(places)))
    found = hvis(words(places, "--control", f"canny,low=50:{photo}:0.8"))
    assert not np.array_equal(made(found), plain)
    (use,) = found.document["request"]["adapters"]
    assert Path(use["path"]).name == "control_v11p_sd15_canny"  # not the one for another base
    assert (use["prepare"], use["weight"], use["image"], use["fit"]) == ("canny,low=50", 0.8, photo, "stretch")
    net = places / "models" / "controlnet" / "control_v11p_sd15_canny"
    given = hvis(words(places, "--control", f"none={net}:edges.png:0.8"))
    named = hvis(words(places, "--control", f"canny,low=50=control_v11p_sd15_canny:{photo}:0.8"))
    assert np.array_equal(made(given), made(found)) and np.array_equal(made(named), made(found))
    assert Request.from_dict(found.document["request"]).adapters[0].prepare == "canny,low=50"
    again = hvis(["generate", "--from", found.document["pictures"][0]["path"], "--models", places, "--model", "tiny-sd",
                  "--precision", "float32", "--json"])  # fmt: skip
    assert again.document["repeats"]["identical"] is True


def test_a_window_several_at_once_and_the_fit(hvis: Any, places: Path, photo: str) -> None:
    plain = made(hvis(words(places)))
    whole = made(hvis(words(places, "--control", f"scribble:{photo}")))
    part = hvis(words(places, "--control", f"scribble:{photo}:1:0.5-1"))
    assert not np.array_equal(made(part), whole) and not np.array_equal(made(part), plain)
    (use,) = part.document["request"]["adapters"]
    assert (use["start"], use["end"]) == (0.5, 1.0)
    assert np.array_equal(made(hvis(words(places, "--control", f"scribble:{photo}:0"))), plain)
    both = hvis(words(places, "--control", f"scribble:{photo}", "--control", f"canny:{photo}:0.5"))
    assert len(both.document["request"]["adapters"]) == 2 and not np.array_equal(made(both), whole)
    cropped = hvis(words(places, "--control", f"scribble:{photo}", "--control-fit", "crop"))
    assert cropped.document["request"]["adapters"][0]["fit"] == "crop" and not np.array_equal(made(cropped), whole)


def test_a_map_of_depth_by_a_t2i_adapter(hvis: Any, places: Path) -> None:
    Image.fromarray(np.linspace(500, 5000, 1024).astype(np.uint16).reshape(32, 32)).save("depth.png")
    near, far = (made(hvis(words(places, "--control", f"{way}=t2iadapter_depth:depth.png")))
                 for way in ("depth", "depth,invert=yes"))  # fmt: skip
    assert not np.array_equal(near, far)


def test_axes_and_columns_of_controls(hvis: Any, places: Path, photo: str) -> None:
    said = hvis(["grid", PROMPT, "--models", places, "--model", "tiny-sd", *SHORT, "--control", f"canny:{photo}",
                 "--x", "adapters.0.weight=0,0.5", "--y", "adapters.0.prepare=canny,scribble"])  # fmt: skip
    assert said.code == 0, said.err
    one, two, three, four = (pixels(row["pictures"][0]) for row in said.document["rows"])
    assert np.array_equal(one, three) and not np.array_equal(two, four)  # with a weight of 0 neither is seen
    Path("rows.csv").write_text(f"prompt,control\n{PROMPT},canny:{photo}:0.5\n{PROMPT},\n")
    rows = hvis(["batch", "rows.csv", "--models", places, "--model", "tiny-sd", *SHORT]).document["rows"]
    assert np.array_equal(pixels(rows[0]["pictures"][0]), two) and np.array_equal(pixels(rows[1]["pictures"][0]), one)


# ---- what is said where it cannot -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "code", "sentence"),
    [
        ("canny:absent.png", 3, "There is no file absent.png"),
        ("canny:notes.txt", 3, "notes.txt is not a PNG, JPEG or WebP picture"),
        ("photo.png:photo.png", 2, "photo.png is a picture, where --control expects the file of a net"),
        ("canny=photo.png:photo.png", 2, "photo.png is a picture, where --control expects the file of a net"),
        ("tiny-sd:photo.png", 2, "'tiny-sd' is here as a checkpoint, not as a ControlNet"),
        ("tile:photo.png", 2, "--control tile needs a net that reads such pictures, with 'tile' in its name"),
        ("diffusers_xl_canny:photo.png", 2, "made for a base whose text tokens have 64 numbers"),
        ("depth:colours.png", 2, "colours.png is in colours, but a map of depth has one grey for each distance"),
    ],
)
def test_mistakes_are_told_in_a_paragraph(
    control: str, code: int, sentence: str, hvis: Any, places: Path, photo: str
) -> None:
    Path("notes.txt").write_text("no picture")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save("colours.png")
    said = hvis(words(places, "--control", control))
    refused(said, code, sentence)
    assert "out" not in left()


def test_a_net_of_another_base_alone_is_named_with_the_reason(
    hvis: Any, places: Path, photo: str, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    shutil.copytree(
        places / "models" / "controlnet" / "diffusers_xl_canny", root / "models/controlnet/diffusers_xl_canny"
    )
    model = places / "models" / "diffusers" / "tiny-sd"
    said = hvis(["generate", PROMPT, "--models", root, "--model", model, "--control", f"canny:{photo}", *SHORT])
    refused(said, 2, "diffusers_xl_canny reads such pictures, but does not fit:", "text tokens", "canny=FILE:PICTURE")


def test_without_folders_the_file_is_asked_for(hvis: Any, places: Path, photo: str) -> None:
    model = places / "models" / "diffusers" / "tiny-sd"
    refused(hvis(["generate", PROMPT, "--model", model, "--control", f"canny:{photo}"]), 2,
            "no folder of --models was named. Name the file: --control canny=FILE:PICTURE")  # fmt: skip


def test_the_packaged_model_takes_no_net(hvis: Any, places: Path, photo: str) -> None:
    said = hvis(["generate", "a red star", "--models", places, "--control", f"scribble:{photo}"])
    refused(said, 2, "'tiny' takes no LoRAs, textual inversions or control nets")
    refused(hvis(["generate", "a red star", "--lora", "nowhere"]), 2, "'tiny' takes no LoRAs")  # not looked for


# ---- hvis control ---------------------------------------------------------------------------------------------------


def test_control_lists_and_shows(hvis: Any, photo: str) -> None:
    ways = hvis(["control", "--json"]).document["ways"]
    assert {"canny", "lines", "scribble", "soft_edges", "depth", "tile", "palette"} <= set(ways)
    said = hvis(["control", "soft-edges", photo, "--fit", "fill", "--size", "96x48"])
    assert said.code == 0 and said.out.startswith("out/00001-soft-edges-photo.png  (96x48 pixels")
    assert pixels("out/00001-soft-edges-photo.png").shape == (48, 96, 3)
    hvis(["control", "canny", photo, "--low", 5, "--high", 9, "-o", "flags.png"])
    said = hvis(["control", "canny,low=5,high=9", photo, "-o", "words.png", "--json"])
    assert said.document["numbers"] == {"low": 5.0, "high": 9.0} and said.document["how"] == "canny"
    assert (pixels("words.png") == pixels("flags.png")).all()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["cany", "photo.png"], 2, "Did you mean 'canny'"),
        (["canny"], 2, "Name the picture too, as in `hvis control canny photo.png`"),
        (["canny", "absent.png"], 3, "There is no file absent.png"),
        (["canny", "photo.png", "--low", "x"], 2, "'low' must be a number"),
        (["canny,lwo=5", "photo.png"], 2, "Did you mean '--low'"),
        (["canny", "photo.png", "--size", "0"], 2, "1 to 8192 pixels"),
        (["canny", "photo.png", "--fit", "croop"], 2, "Did you mean 'crop'"),
        (["canny", "photo.png", "-o", "no/such/a.txt"], 2, "Pictures are saved as"),
    ],
)
def test_mistakes_of_control(words: list[str], code: int, sentence: str, hvis: Any, photo: str) -> None:
    refused(hvis(["control", *words]), code, sentence)
    assert left() == ["photo.png"]


def test_old_records_of_adapters_are_read(hvis: Any) -> None:
    old = {"adapters": [{"path": "a", "weight": 0.5, "image": "b.png", "start": 0.0, "end": 1.0, "encoder": ""}]}
    use = Request.from_json(json.dumps(old)).adapters[0]
    assert (use.prepare, use.fit, use.weight) == ("", "stretch", 0.5)
