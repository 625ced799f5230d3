"""Fields of a request by name, rows of files, axes of grids: what they are read as, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from huggingvis.core.axes import Axis, cells_of
from huggingvis.core.errors import FileProblem, HvisError, UsageError
from huggingvis.core.request import AdapterUse, Canvas, FromPicture, Inpaint, Prompt, Request, Unsaid
from huggingvis.core.request_fields import files_of, names, place_of, with_field
from huggingvis.core.row_files import read_rows, words_of_line

FOX = Request(Prompt("a fox", "no fox"), adapters=(AdapterUse("a.safetensors", 0.5),))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("sampling.steps", 30, Request(FOX.prompt, sampling=Unsaid(steps=30))),
        ("steps", "30", Request(FOX.prompt, sampling=Unsaid(steps=30))),
        ("--Steps", 30.0, Request(FOX.prompt, sampling=Unsaid(steps=30))),
        ("cfg", "7", Request(FOX.prompt, sampling=Unsaid(guidance_scale=7.0))),
        ("cfg_scale", 7, Request(FOX.prompt, sampling=Unsaid(guidance_scale=7.0))),
        ("Guidance-Interval", "0,0.5", Request(FOX.prompt, sampling=Unsaid(guidance_interval=(0.0, 0.5)))),
        ("guidance_interval", [0, 0.5], Request(FOX.prompt, sampling=Unsaid(guidance_interval=(0.0, 0.5)))),
        ("size", "96x64", Request(FOX.prompt, Canvas(96, 64))),
        ("size", " 96 × 64 ", Request(FOX.prompt, Canvas(96, 64))),
        ("size", (96, 64), Request(FOX.prompt, Canvas(96, 64))),
        ("size", "96", Request(FOX.prompt, Canvas(96, 96))),
        ("width", "none", Request(FOX.prompt)),
        ("n", 3, Request(FOX.prompt, Canvas(count=3))),
        ("negative_prompt", "dark", Request(Prompt("a fox", "dark"))),
        ("prompt", "none", Request(Prompt("none", "no fox"))),
        ("prompt:fox", "red cat", Request(Prompt("a red cat", "no red cat"))),
        ("image", "a.png", Request(FOX.prompt, source=FromPicture("a.png"))),
        ("clip_skip", 2, Request(FOX.prompt, options={"clip_skip": "2"})),
        ("options.database", "mnist", Request(FOX.prompt, options={"database": "mnist"})),
    ],
)
def test_a_field_is_set_by_what_people_call_it(name: str, value: Any, wanted: Request) -> None:
    found = with_field(Request(FOX.prompt), name, value)
    assert found == wanted
    assert with_field(FOX, name, value).adapters == FOX.adapters  # nothing else changes


def test_search_and_replace_keeps_how_the_prompt_is_read() -> None:
    told = Prompt("a red fox", "no fox", "no-norm", written="a {red|blue} fox", styles=("ink",))
    found = with_field(Request(told), "prompt:fox", "cat").prompt
    assert found == Prompt("a red cat", "no cat", "no-norm", styles=("ink",))


@pytest.mark.parametrize(("name", "styles"), [("prompt", ()), ("negative", ("ink",))])
def test_of_words_that_are_set_nothing_was_typed_otherwise(name: str, styles: tuple[str, ...]) -> None:
    typed = {"written": "a {red|blue} fox", "written_negative": "{dark|dim}"}
    found = with_field(Request(Prompt("a red fox", "dark", "no-norm", styles=("ink",), **typed)), name, "b").prompt
    assert (found.emphasis, found.written, found.written_negative, found.styles) == ("no-norm", "", "", styles)


def test_parts_that_are_there_are_changed_in_their_place() -> None:
    assert with_field(FOX, "adapters.0.weight", "-1").adapters == (AdapterUse("a.safetensors", -1.0),)
    started = with_field(with_field(FOX, "image", "a.png"), "strength", 0.3)
    assert started.source == FromPicture("a.png", 0.3)
    masked = with_field(started, "mask", "m.png")
    assert masked.source == Inpaint("a.png", "m.png", 1.0)
    assert list(files_of(masked)) == ["a.png", "m.png", "a.safetensors"]


def test_every_value_of_the_record_has_a_name() -> None:
    assert {"sampling.seed", "seed", "refine.scale", "source.strength", "cfg", "size"} <= set(names())
    assert place_of("steps") == "sampling.steps"  # the first part of the record that has one, not the second pass
    for name in names():
        assert place_of(name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stpes", 3, "no field of a request called 'stpes'. Did you mean 'steps'"),
        ("steps", "many", "'sampling.steps' must be a whole number, but 'many' was found"),
        ("steps", 2.5, "must be a whole number"),
        ("prompt:dog", "x", "'dog' is to be replaced, but is in neither prompt"),
        ("adapters.1.weight", 1, "adapter 1, counted from 0, but the request has 1 of them"),
        ("adapters.0.wait", 1, "no field of a request"),
        ("strength", 0.5, "about a picture to start from, and there is none"),
        ("size", "large", "width and height in pixels, such as 96x64"),
        ("size", "9" * 5000, "width and height in pixels, such as 96x64"),
    ],
)
def test_what_no_request_has_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_field(FOX, name, value)
    assert message in str(caught.value)


# ---- files of rows --------------------------------------------------------------------------------------------------


def test_lines_are_prompts_flags_or_both() -> None:
    assert words_of_line("  a dog's nose -- and a ball ") == {"prompt": "a dog's nose -- and a ball"}
    told = {"prompt": "a red fox", "steps": "20", "cfg_scale": "7", "negative_prompt": "dark, blurry"}
    assert words_of_line('--prompt "a red fox" --steps 20 --cfg_scale=7 --negative_prompt "dark, blurry"') == told
    assert words_of_line("--prompt a red fox --steps 20 --cfg_scale 7 --negative_prompt dark, blurry") == told
    assert words_of_line("a red fox --lora a:0.5 --lora b") == {"prompt": "a red fox", "lora": ["a:0.5", "b"]}
    assert words_of_line("--prompt x --tiling --seed -1") == {"prompt": "x", "tiling": "", "seed": "-1"}
    assert words_of_line("{a fox|a cat} in snow") == {"prompt": "{a fox|a cat} in snow"}
    assert words_of_line("{}|") == {"prompt": "{}|"}
    with pytest.raises(UsageError, match="Call the file .jsonl"):
        words_of_line(' {"prompt": "a fox", "steps": 20}')


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.txt", "\ufeff# all\n\na fox\n  \n--prompt b --steps 2\r\n",
         [(3, {"prompt": "a fox"}), (5, {"prompt": "b", "steps": "2"})]),
        ("a.csv", 'prompt,steps,#note\n"a fox, red",5,x\n\n,7,\n',
         [(2, {"prompt": "a fox, red", "steps": "5"}), (4, {"steps": "7"})]),
        ("a.csv", "prompt;steps\na, b;5\n", [(2, {"prompt": "a, b", "steps": "5"})]),
        ("a.csv", 'prompt,seed\n"two\nlines",1\nc,2\n', [(2, {"prompt": "two\nlines", "seed": "1"}),
                                                        (4, {"prompt": "c", "seed": "2"})]),
        ("a.tsv", "prompt\tsteps\na, b\t5\n", [(2, {"prompt": "a, b", "steps": "5"})]),
        ("a.jsonl", '{"prompt": "a", "sampling": {"steps": 3}, "seed": null}\n\n"b"\n',
         [(1, {"prompt": "a", "sampling": {"steps": 3}}), (3, {"prompt": "b"})]),
        ("a.json", '["a", {"prompt": "b"}]', [(1, {"prompt": "a"}), (2, {"prompt": "b"})]),
    ],
)  # fmt: skip
def test_rows_of_files(name: str, text: str, wanted: list[Any], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert [(row.number, dict(row.values)) for row in read_rows(tmp_path / name)] == wanted


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"\n# nothing\n", "holds no request"),
        ("a.txt", b"a fox\xff", "is no text in UTF-8: byte 5"),
        ("a.txt", b"a\n--prompt a dog's nose --steps 3", "line 2: a quotation mark or apostrophe is opened"),
        ("a.csv", b"prompt,steps\na,b,c\n", "line 2: 3 cells for 2 columns"),
        ("a.csv", b'prompt\n"a\n', "line 2"),
        ("a.csv", b"prompt,prompt\n", "the column 'prompt' is there twice"),
        ("a.csv", b"prompt,,steps\n", "a column has no name"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n', "line 2: expected JSON"),
        ("a.jsonl", b"3\n", "row 1: expected a request"),
        ("a.json", b'{"prompt": "a"}', "should hold a list of requests"),
        ("a.xlsx", b"", "no kind of file of requests called '.xlsx'"),
    ],
)
def test_files_that_hold_no_rows_are_refused(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(HvisError) as caught:
        read_rows(tmp_path / name)
    assert message in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileProblem, match=r"There is no file absent\.csv"):
        read_rows("absent.csv")


# ---- axes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "values"),
    [
        ("steps=5,10,20", "steps", ("5", "10", "20")),
        ("seed=1-4", "seed", ("1", "2", "3", "4")),
        ("seed=4..1", "seed", ("4", "3", "2", "1")),
        ("steps=1-10 (+3)", "steps", ("1", "4", "7", "10")),
        ("steps=10-1 (-3), 40", "steps", ("10", "7", "4", "1", "40")),
        ("cfg=1..7:4", "cfg", ("1", "3", "5", "7")),
        ("cfg=0-1 [5]", "cfg", ("0", "0.25", "0.5", "0.75", "1")),
        ("cfg=0-1 (+0.25)", "cfg", ("0", "0.25", "0.5", "0.75", "1")),
        ("steps=1..4:7", "steps", ("1", "2", "3", "4")),
        ("cfg=7.5", "cfg", ("7.5",)),
        ("prompt:fox,cat", "prompt:fox", ("fox", "cat")),
        ('prompt:fox,"a cat, red"', "prompt:fox", ("fox", "a cat, red")),
        ("prompt=a 1-4 score,b", "prompt", ("a 1-4 score", "b")),
        ("sampler=ddim,dpm++2m", "sampler", ("ddim", "dpm++2m")),
        ("lora=style:0.5,style:1", "lora", ("style:0.5", "style:1")),
    ],
)
def test_axes_are_read(words: str, name: str, values: tuple[str, ...]) -> None:
    assert Axis.parse(words) == Axis(name, values)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("steps", "An axis is a field and its values"),
        ("cfg:1,2", "An axis is a field and its values"),
        ("steps=", "has no values"),
        ("prompt:", "takes the words to look for first"),
        ("steps=1-9 (-2)", "never arrives"),
        ("seed=0-100000000", "100,000,001 values"),
        ("cfg=0..1:99999", "99,999 values"),
    ],
)
def test_axes_that_are_none_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Axis.parse(words)
    assert message in str(caught.value)


def test_cells_run_along_x_first_and_z_last() -> None:
    x, y, z = Axis.parse("steps=1,2"), Axis.parse("seed=3,4"), Axis.parse("prompt:a,b")
    cells = cells_of((x, y, z))
    assert [tuple(cell[name] for name in ("steps", "seed", "prompt:a")) for cell in cells[:5]] == [
        ("1", "3", "a"), ("2", "3", "a"), ("1", "4", "a"), ("2", "4", "a"), ("1", "3", "b")]  # fmt: skip
    assert x.labels() == ("steps 1", "steps 2") and z.labels() == ("a", "b")
    with pytest.raises(UsageError, match="called 'steps'"):
        cells_of((x, None, Axis.parse("--Steps=3")))
    many = Axis.parse("seed=1-40")
    with pytest.raises(UsageError, match=r"40 x 2 x 40 = 3,200 cells.*--most-cells 3200"):
        cells_of((many, x, Axis.parse("cfg=1..9:40")))
    assert len(cells_of((many, x), most=80)) == 80
