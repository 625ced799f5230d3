"""Files of requests on the command line and in Python: each row made once, faults told, stopped and gone on with."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import FOX, pixels
from refusals import left, refused, small_files
from safetensors.torch import save_file as save_tensors

from huggingvis import api
from huggingvis.api.loading import Loading
from huggingvis.app.arguments import Parser
from huggingvis.app.commands import generate
from huggingvis.app.preferences import preferences
from huggingvis.app.rows import RowReader
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError
from huggingvis.core.request import AdapterUse, Canvas, FromPicture, Inpaint, Prompt, Refiner, Request, Sampling, Unsaid
from huggingvis.core.system import System
from huggingvis.export.image import read_provenance
from huggingvis.recipes.addresses import WHOLE, Identities, address
from huggingvis.recipes.batch_rows import rows_of
from huggingvis.recipes.models import Wishes
from huggingvis.recipes.row_places import rows_in

ROWS = "prompt,seed,size,cfg\na fox,7,48x32,2\na pizza,8,,\n"


def write(name: str, text: str) -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def states(said: Any) -> list[str]:
    return [row["state"] for row in said.document["rows"]]


def test_a_table_is_made_row_by_row_on_top_of_the_flags(hvis: Any, tiny_model: Path) -> None:
    table = write("rows.csv", ROWS)
    said = hvis(["batch", table, "--model", tiny_model, "--steps", 2, "--negative", "dark", "-o", "new", "--json"])
    assert said.code == 0, said.err
    first, second = said.document["rows"]
    assert (said.document["made"], first["row"], second["row"]) == (2, 2, 3)
    one, two = (read_provenance(row["pictures"][0]).request() for row in (first, second))
    assert one == Request(Prompt("a fox", "dark"), Canvas(48, 32), Sampling(steps=2, seed=7, guidance_scale=2.0))
    assert (two.prompt.text, two.sampling.seed, two.canvas) == ("a pizza", 8, Canvas())
    assert pixels(first["pictures"][0]).shape == (32, 48, 3)
    assert Path(first["pictures"][0]).name == f"00002-a-fox-{first['address']}.png"
    # the numbers that no row says are the model's own, as `generate` has them
    alone = hvis(
        ["generate", "a pizza", "--seed", 8, "--model", tiny_model, "--steps", 2, "--negative", "dark", "--json"]
    )
    assert alone.document["request"] == two.to_dict()
    assert np.array_equal(pixels(alone.document["pictures"][0]["path"]), pixels(second["pictures"][0]))


def test_what_is_there_is_not_made_again_and_no_model_is_loaded_for_it(
    hvis: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = write("rows.txt", f"{FOX}\n--prompt {FOX} --seed 1\n{FOX}\n")
    words = ["batch", lines, "--model", tiny_model, "--steps", 1, "--json"]
    said = hvis(words)
    assert states(said) == ["made", "made", "kept"]  # the third is the first
    assert said.document["rows"][2]["pictures"] == said.document["rows"][0]["pictures"]
    first, second = (Path(row["pictures"][0]) for row in said.document["rows"][:2])
    before, stamp = first.read_bytes(), first.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(api, "load", lambda *what, **how: pytest.fail("a model is loaded"))
        assert states(hvis(words)) == ["kept"] * 3
    second.unlink()
    write("rows.txt", f"# other places, other numbers\n--prompt {FOX} --seed 1\n\n{FOX}\n")
    changed = hvis(words)
    assert states(changed) == ["made", "kept"]
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (before, stamp)
    assert states(hvis([*words[:-2], 2, "--json"])) == ["made", "made"]  # other steps are other pictures


def test_pictures_of_another_format(hvis: Any, tiny_model: Path) -> None:
    lines = write("rows.txt", FOX)
    words = ["batch", lines, "--model", tiny_model, "--steps", 1, "-n", 2, "--format", "jpeg", "--json"]
    said = hvis(words)
    paths = [Path(path) for path in said.document["rows"][0]["pictures"]]
    assert [path.suffix for path in paths] == [".jpg"] * 2 and paths[0].read_bytes()[:2] == b"\xff\xd8"
    assert states(hvis(words)) == ["kept"]
    assert states(hvis([*words, "--format", "png"])) == ["made"]
    sheet = hvis(["grid", FOX, "--model", tiny_model, "--steps", 1, "--x", "seed=1", "--format", "webp", "--json"])
    assert sheet.document["grid"].endswith(".webp") and sheet.document["rows"][0]["pictures"][0].endswith(".webp")
    assert hvis(["batch", write("rows.csv", "prompt,format\na,webp\n"), "--model", tiny_model]).code == 2


def test_pictures_of_a_row_that_draws_words_have_a_seed_each(hvis: Any, tiny_model: Path) -> None:
    lines = write("rows.txt", "a {fox|pizza}\n")
    said = hvis(["batch", lines, "--model", tiny_model, "--steps", 1, "-n", 3, "--json"])
    made = [read_provenance(row["pictures"][0]) for row in said.document["rows"]]
    assert [one.made["seed"] for one in made] == [0, 1, 2]
    alone = hvis(["generate", "a {fox|pizza}", "--model", tiny_model, "--steps", 1, "-n", 3, "--json"])
    prompts = [read_provenance(one["path"]).request().prompt for one in alone.document["pictures"]]
    assert [one.request().prompt for one in made] == prompts


def test_pictures_are_of_the_kind_of_file_that_is_asked_for(hvis: Any, tiny_model: Path) -> None:
    lines = write("rows.txt", FOX)
    words = ["batch", lines, "--model", tiny_model, "--steps", 1, "--json", "--format"]
    assert states(hvis([*words, "webp"])) == ["made"] and states(hvis([*words, "webp"])) == ["kept"]
    said = hvis([*words, "jpeg"])
    assert states(said) == ["made"]
    assert sorted(p.suffix for p in Path("out").iterdir()) == [".jpg", ".json", ".webp"]
    assert read_provenance(said.document["rows"][0]["pictures"][0]).request().prompt.text == FOX
    refused(hvis(["batch", write("rows.csv", "prompt,format\na fox,webp\n")]), 2, "'format' is said once for all rows")


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    values = {"strength": 0.5, "mask": str(picture), "prompt:fox": "cat", "image": str(picture), "prompt": FOX}
    (row,) = rows_of([values])
    assert row.request.prompt.text == FOX.replace("fox", "cat")
    assert row.request.source == Inpaint(str(picture), str(picture), 0.5)
    assert rows_of([dict(reversed(values.items()))])[0] == row


def test_files_beside_the_request_count_as_what_they_hold(tmp_path: Path) -> None:
    vae = tmp_path / "vae.safetensors"
    found = []
    for data in (b"one", b"two", b"one"):
        vae.write_bytes(data)
        found.append(address(Request(Prompt(FOX)), "model", {"vae": vae}, Identities()))
    assert found[0] == found[2] != found[1]
    moved = vae.rename(tmp_path / "moved.safetensors")
    assert address(Request(Prompt(FOX)), "model", {"vae": moved}, Identities()) == found[0]

    def refined(path: Path) -> str:
        return address(Request(Prompt(FOX), refiner=Refiner(str(path))), "model", {}, Identities())

    first = refined(moved)
    again = moved.rename(tmp_path / "refiner.safetensors")
    assert refined(again) == first
    again.write_bytes(b"two")
    assert refined(again) != first


def test_of_a_large_file_the_size_and_pieces_from_end_to_end_count(tmp_path: Path) -> None:
    size, path = 2 * WHOLE, tmp_path / "large.safetensors"

    def holding(at: int, size: int = size) -> str:
        with path.open("wb") as file:
            file.truncate(size)
            file.seek(at)
            file.write(b"x")
        return Identities()(path)

    assert len({holding(at) for at in (0, size // 2 + 60_000, size - 1)} | {holding(0, size + 1)}) == 4
    assert holding(20_000) == holding(20_001)  # between two pieces


def test_the_address_is_of_what_files_hold_and_not_of_their_names(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "moved")
    lines = write("rows.txt", FOX)
    words = ["batch", lines, "--steps", 1, "--json", "--model"]
    assert states(hvis([*words, tiny_model])) == ["made"]
    assert states(hvis([*words, model])) == ["kept"]
    weights = next(model.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert states(hvis([*words, model])) == ["made"]


def test_the_address_is_of_the_data_that_options_name_too(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    data.mkdir()

    def of(word: str) -> str:
        return address(Request(Prompt(FOX), options={"database": word}), "m", {}, Identities())

    (data / "a.png").write_bytes(b"one")
    first = of(f"folder:{data}")
    (data / "a.png").write_bytes(b"two")
    assert of(f"folder:{data}") != first
    (data / "a.png").write_bytes(b"one")
    assert of(f"folder:{data.rename(tmp_path / 'moved')}") == first != of(str(tmp_path / "moved"))


def test_files_are_looked_for_beside_the_rows_and_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, names in ((there, "ab"), (here, "bc")):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.png").write_bytes(b"")
    monkeypatch.chdir(here)
    rows = [{"prompt": "a.png", "image": f"{name}.png"} for name in "abc"]
    (there / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = rows_of("../there/rows.jsonl")
    paths = [row.request.source.path for row in made if row.request.source]
    assert [Path(path) for path in paths] == [Path("../there/a.png"), Path("../there/b.png"), Path("c.png")]
    assert {row.request.prompt.text for row in made} == {"a.png"}
    (there / "rows.csv").write_text("control,lora\ncanny:a.png:0.7,b.png:0.5;c.png\n")
    assert rows_in("../there/rows.csv")[0].values == {
        "control": "canny:../there/a.png:0.7", "lora": "../there/b.png:0.5;c.png"
    }  # fmt: skip


def test_python_reads_what_the_command_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, n in (("a", 4), ("b", 2)):
        layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
        lora = {f"{layer}.lora_down.weight": torch.ones(n, 32), f"{layer}.lora_up.weight": torch.ones(32, n)}
        save_tensors(lora, f"{name}.safetensors")
    record = Request(Prompt("a red fox", written="a {red|blue} fox"), Canvas(64), Sampling("ddim", "karras", 4, 2.0))
    lines = [
        {"request": record.to_dict()}, {"request": {"prompt": {"text": "a"}, "sampling": {"steps": 20}}},
        {"prompt": "b", "lora": "a.safetensors:0.5;b.safetensors:0.7"}, {"prompt": "b", "lora": {"a.safetensors": 0.5}},
        {"prompt": "c", "set": "database=mnist;k=2", "n": 2}, {"prompt": "{c|c}", "n": 2, "seed": 3, "model": "other"},
        {"prompt": "d", "sampling": {"seed": 4}, "cfg": 5}, {"request": {"prompt": {"text": "e"}, "source": None}},
        {"prompt": "f", "lora": None, "image_encoder": None, "style": None, "set": None, "width": None},
        {"prompt": "g", "size": [96, 64], "guidance_interval": [0, 0.5], "seed_resize": [8, 8]},
    ]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    parser = Parser(prog="hvis batch")
    generate.arguments(parser, [])
    command = RowReader(parser.read([]), preferences(), Screen(json=True)).rows(rows_in("rows.jsonl"))
    assert rows_of("rows.jsonl") == command
    assert command[0].request == record
    assert [use.weight for use in command[2].request.adapters] == [0.5, 0.7]


def test_words_that_are_no_files_stay_as_they_are(tmp_path: Path) -> None:
    for folder in ("canny", "1", "anime", "0.7"):
        (tmp_path / folder).mkdir()
    for name in ("edges.png", "a=b.png", "s.safetensors", "net.safetensors"):
        (tmp_path / name).write_bytes(b"")
    row = {
        "control": ["canny:edges.png:0.7", "none=net.safetensors:edges.png:1:0-0.6", "net.safetensors:a=b.png"],
        "lora": "s.safetensors:1;anime:0.7", "image": "a=b.png", "prompt": {"text": "1", "styles": ["anime"]},
        "options": {"database": "folder:1", "canny": "b" * 300}, "set": "database=folder:canny", "prompt:path": "1",
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert rows_in(tmp_path / "rows.jsonl")[0].values == row | {
        "control": [f"canny:{tmp_path}/edges.png:0.7", f"none={tmp_path}/net.safetensors:{tmp_path}/edges.png:1:0-0.6",
                    f"{tmp_path}/net.safetensors:{tmp_path}/a=b.png"],
        "lora": f"{tmp_path}/s.safetensors:1;{tmp_path}/anime:0.7", "image": f"{tmp_path}/a=b.png",
        "options": {"database": f"folder:{tmp_path}/1", "canny": "b" * 300}, "set": f"database=folder:{tmp_path}/canny",
    }  # fmt: skip


def test_python_says_how_models_are_loaded(tiny_model: Path, tmp_path: Path) -> None:
    rows, folder = [{"prompt": FOX, "steps": 1}], tmp_path / "out"
    (first,) = api.batch(rows, folder, model=tiny_model, device="cpu").outcomes
    (other,) = api.batch(rows, folder, model=tiny_model, vae="absent.safetensors").outcomes
    assert first.state == "made" and other.state == "failed" and "leave out --vae" in str(other.error)
    assert first.address != other.address
    assert set(Loading.__annotations__) == {field.name for field in fields(Wishes)}


def test_an_address_stays_what_it_is_while_nothing_of_the_picture_changes(tmp_path: Path) -> None:
    """A new field of the record, as usual, must not make every picture of every batch anew."""
    from huggingvis.recipes.addresses import Identities, address

    (tmp_path / "a.png").write_bytes(b"a picture")
    source = FromPicture(str(tmp_path / "a.png"), 0.5)
    full = Request(Prompt("a fox"), Canvas(64), Sampling(steps=7), source, adapters=(AdapterUse("absent", 0.5),))

    def of(request: Request, model: str = "m", **how: str) -> str:
        return address(request, model, how, Identities())

    assert of(full) == "eefe75dd6a38" and of(Request(Prompt("a fox"))) == "ddc1221d018d"
    others = [of(full), of(replace(full, sampling=Unsaid())), of(replace(full, sampling=Unsaid(steps=7))),
              of(full, "n"), of(full, vae="v"), of(replace(full, source=replace(source, strength=0.6))),
              of(replace(full, options={"a": "b"}))]  # fmt: skip
    assert len({*others}) == len(others)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    moved = replace(full, source=replace(source, path=str(tmp_path / "b.png")))
    assert of(moved) == others[0]
    (tmp_path / "b.png").write_bytes(b"another picture")
    assert of(moved) != others[0]


def test_rows_that_are_wrong_are_told_together_before_a_model_is_loaded(hvis: Any) -> None:
    table = write("rows.csv", "prompt,steps,image\na,x,\nb,0,\nc,3,absent.png\nd,4,\n")
    said = hvis(["batch", table, "--model", "not looked for", "-o", "new"])
    refused(said, 2, "3 of 4 requests cannot be made; nothing was begun.",
            "line 2: column 'steps': 'steps' must be a whole number, but 'x' was found.",
            "line 3: steps must be between 1 and 10000, found 0",
            "line 4: There is no file absent.png")  # fmt: skip
    assert left() == ["rows.csv"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "prompt,stpes\na,3\n",
            "line 2: column 'stpes': There is no flag or field of a request called 'stpes'. Did you",
        ),
        (
            "prompt,stpes\na,3\nb,4\nc,4\n",
            "3 of 3 requests cannot be made; nothing was begun. line 2 and 2 more: column",
        ),
        ("prompt,device\na,cpu\n", "'device' is said once for all rows: give --device to the command"),
        ("prompt,size\na,big\n", "column 'size': --size takes width and height"),
        ("prompt,prompt:dog\na fox,cat\n", "'dog' is to be replaced, but is in neither prompt"),
        ("prompt,refine.scale\na fox,99\n", "refine.scale must be a number between 1 and 16"),
        ("prompt,hires\na fox,96\n", "how many times larger the second pass is, as in --hires 2; found 96."),
    ],
)
def test_columns_that_are_none(text: str, sentence: str, hvis: Any) -> None:
    refused(hvis(["batch", write("rows.csv", text), "--model", "not looked for"]), 2, sentence)


def test_a_row_that_fails_does_not_stop_the_rest(hvis: Any, tiny_model: Path) -> None:
    lines = [{"prompt": FOX, "sampling": {"steps": 1}}, {"prompt": FOX, "size": "33x32"}, {"prompt": FOX, "seed": 2},
             {"prompt": FOX, "model": "absent"}, {"prompt": "", "model": "absent"}]  # fmt: skip
    file = write("rows.jsonl", "\n".join(map(json.dumps, lines)))
    said = hvis(["batch", file, "--model", tiny_model, "--steps", 2, "--json"])
    assert said.code == 1 and states(said) == ["made", "failed", "made", "failed", "failed"]
    assert "line 2 failed: width must be a multiple of 8 pixels, found 33" in said.paragraph
    assert said.paragraph.count("no model or run folder") == 1 and "line 5 failed: as line 4." in said.paragraph
    assert "3 rows of 5 failed" in said.document["error"]["message"]
    assert "no model or run folder called 'absent'" in said.document["rows"][3]["error"]
    summary = json.loads(Path("out/rows.summary.json").read_text())
    assert [row["state"] for row in summary["rows"]] == states(said) and summary["failed"] == 3
    assert summary["rows"][1]["error"].startswith("width must be a multiple")
    assert len(list(Path("out").glob("*.png"))) == 2


def test_each_model_is_loaded_once_and_the_rows_keep_their_order(
    hvis: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    record = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**record, "name": "other"}))
    load = api.load
    loaded: list[str] = []

    def noted(model: Path | str, **how: Any) -> System:
        loaded.append(Path(model).name)
        return load(model, **how)

    monkeypatch.setattr(api, "load", noted)
    rows = [{"prompt": FOX, "model": str(m), "seed": n} for n, m in enumerate((other, tiny_model, other, tiny_model))]
    file = write("rows.json", json.dumps(rows))
    said = hvis(["batch", file, "--steps", 1, "--json"])
    assert said.code == 0 and loaded == ["other", "small"]
    made = [read_provenance(row["pictures"][0]).made for row in said.document["rows"]]
    assert [(one["model"], one["seed"]) for one in made] == [("other", 0), ("small", 1), ("other", 2), ("small", 3)]


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(
    hvis: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis.app.screen import Screen

    @contextlib.contextmanager
    def progress(self: Screen, label: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda done: signal.raise_signal(signal.SIGINT) if done == 5 else None

    lines = write("rows.txt", "".join(f"{FOX} --seed {n}\n" for n in range(4)))
    words = ["batch", lines, "--model", tiny_model, "--steps", 2, "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "progress", progress)
        said = hvis(words)
    assert said.code == 130 and states(said) == ["made", "made", "left", "left"]
    assert "The same command goes on from there" in said.paragraph
    assert [name for name in left("out") if not name.endswith(".png")] == ["rows.summary.json"]
    assert states(hvis(words)) == ["kept", "kept", "made", "made"]


def test_several_pictures_of_a_row_and_a_row_half_made(hvis: Any, tiny_model: Path) -> None:
    words = ["batch", write("rows.txt", FOX), "--model", tiny_model, "--steps", 1, "-n", 3, "--json"]
    (row,) = hvis(words).document["rows"]
    paths = [Path(path) for path in row["pictures"]]
    assert [path.name.rpartition(row["address"])[2] for path in paths] == [".png", "-2.png", "-3.png"]
    kept, lost = paths[0].stat().st_mtime_ns, pixels(paths[1])
    paths[1].unlink()
    (again,) = hvis(words).document["rows"]
    assert again["state"] == "made" and again["pictures"] == row["pictures"]
    assert paths[0].stat().st_mtime_ns == kept and np.array_equal(pixels(paths[1]), lost)
    assert read_provenance(paths[1]).made["seed"] == 1 and not np.array_equal(pixels(paths[2]), lost)


def test_without_metadata_nothing_tells_of_the_prompt(hvis: Any, tiny_model: Path) -> None:
    said = hvis(["batch", write("rows.txt", FOX), "--model", tiny_model, "--steps", 1, "--no-metadata", "--json"])
    (path,) = map(Path, said.document["rows"][0]["pictures"])
    assert path.name == f"00001-{said.document['rows'][0]['address']}.png"
    assert b"fox" not in path.read_bytes()


def test_a_disk_that_fills_up_ends_the_batch(hvis: Any, tiny_model: Path) -> None:
    lines = write("rows.txt", f"{FOX}\n{FOX} --seed 1\n")
    with small_files(500):
        said = hvis(["batch", lines, "--model", tiny_model, "--steps", 1])
    refused(said, 3, "Could not write", "larger than this system allows")
    assert left("out") == []


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["absent.txt"], 3, "There is no file absent.txt"),
        ([], 2, "required: FILE"),
        (["rows.txt", "--model", "absent"], 2, "There is no model or run folder called 'absent'"),
        (["rows.txt", "--from", "a.png"], 2, "leave out --from and --grid"),
        (["rows.txt", "--grid"], 2, "`hvis grid` makes labelled sheets"),
    ],
)
def test_mistakes_of_the_command(words: list[str], code: int, sentence: str, hvis: Any) -> None:
    write("rows.txt", FOX)
    said = hvis(["batch", *words])
    assert said.code == code and sentence in said.paragraph and "Traceback" not in said.err


def test_in_python(hvis: Any, tiny_model: Path) -> None:
    system = api.load(tiny_model, device="cpu")
    base = Request(sampling=Sampling(steps=1, guidance_scale=2.0))
    told: list[str] = []
    two = Request(Prompt(FOX), sampling=Sampling(steps=2))
    rows: list[str | Request | Mapping[str, Any]] = [FOX, {"prompt": FOX, "seed": 3}, two, {"prompt": ""}]
    done = api.batch(rows, "out", model=system, base=base, on_row=lambda outcome: told.append(outcome.state))
    assert told == ["made"] * 3 + ["failed"] and [o.state for o in done.outcomes] == told
    assert "The prompt is empty" in str(done.outcomes[3].error)
    assert str(done).startswith("4 rows: 3 made, 1 failed, in")
    requests = [read_provenance(path).request() for path in done.paths]
    assert [(r.sampling.steps, r.sampling.seed) for r in requests] == [(1, 0), (1, 3), (2, 0)]
    assert api.batch(rows[:3], "out", model=system, base=base).count("kept") == 3
    own = api.batch([FOX], "own", model=system)
    assert read_provenance(own.paths[0]).request().sampling == system.defaults
    with pytest.raises(UsageError, match="row 2: There is no field of a request called 'step'"):
        api.batch([FOX, {"prompt": FOX, "step": 3}], "out", model=system)
    with pytest.raises(UsageError, match="A row is a prompt, a Request or a table of values; found int"):
        api.batch([3], "out", model=system)  # type: ignore[list-item]
