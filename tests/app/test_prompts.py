"""Prompts on the command line: explained, expanded, with styles and LoRAs by name; what is wrong is pointed at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import FOX, pixels
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import pipeline, pipeline_pixart

from huggingvis.codecs.prompt_styles import read_styles, styled
from huggingvis.codecs.prompt_templates import Wildcards, expand, has_gaps, never_closed
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Prompt, Request, check
from huggingvis.export.image import read_provenance

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SHORT = ("--steps", 3)


@pytest.fixture
def lists(tmp_path: Path) -> Wildcards:
    folder = tmp_path / "lists"
    (folder / "animals").mkdir(parents=True)
    (folder / "colour.txt").write_text("red\n# a comment\n\n3::blue\n", encoding="utf-8")
    (folder / "animals" / "cat.txt").write_text("a {big|small} cat\n", encoding="utf-8")
    (folder / "animals" / "dog.txt").write_text("a __colour__ dog\n", encoding="utf-8")
    (folder / "颜色.txt").write_text("红色\n", encoding="utf-8-sig")
    (folder / "loop.txt").write_text("__loop__\n", encoding="utf-8")
    (folder / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    return Wildcards(folder)


def many(text: str, lists: Wildcards | None = None, count: int = 400) -> dict[str, int]:
    found: dict[str, int] = {}
    for seed in range(count):
        made = expand(text, seed, lists)
        found[made] = found.get(made, 0) + 1
    return found


def test_choices() -> None:
    assert set(many("a {red|blue|} fox")) == {"a red fox", "a blue fox", "a  fox"}
    weighed = many("{3::a|b}", count=2000)
    assert 0.71 < weighed["a"] / 2000 < 0.79  # 3 in 4, by three deviations
    assert set(many("{2$$a|b|c}")) == {f"{x}, {y}" for x in "abc" for y in "abc" if x != y}
    assert set(many("{2$$ and $$a|b}")) == {"a and b", "b and a"}
    assert {len(one.split(", ")) for one in many("{1-3$$a|b|c}")} == {1, 2, 3}
    assert {len(one.split(", ")) for one in many("{2-$$a|b|c}")} == {2, 3}
    assert set(many("{9$$a|b}")) == {"a, b", "b, a"}
    assert set(many("{a {x|y}|b}")) == {"a x", "a y", "b"}
    assert expand("a {fox} \\{b|c\\} {", 1) == "a {fox} \\{b|c\\} {" and not has_gaps("a {fox} {")
    assert expand("{a|b|c} {a|b|c}", 7) == expand("{a|b|c} {a|b|c}", 7)


def test_lists(lists: Wildcards) -> None:
    colours = many("a __colour__ fox", lists)
    assert set(colours) == {"a red fox", "a blue fox"} and colours["a blue fox"] > 2 * colours["a red fox"]
    assert set(many("__animals/cat__", lists)) == {"a big cat", "a small cat"} == set(many("__cat__", lists))
    assert set(many("__animals/*__", lists)) == {"a big cat", "a small cat", "a red dog", "a blue dog"}
    assert set(many("{2$$__colour__}", lists)) == {"red, blue", "blue, red"}
    assert expand("__颜色__的狐狸", 0, lists) == "红色的狐狸"
    assert expand("a __colour__", 0) == "a __colour__"  # nobody said where lists are
    with pytest.raises(UsageError, match="no wildcard called 'color'. Did you mean 'colour'"):
        expand("__color__", 0, lists)
    with pytest.raises(UsageError, match="one of them names itself"):
        expand("a __loop__", 0, lists)
    with pytest.raises(FileProblem, match="has no words"):
        expand("__empty__", 0, lists)
    with pytest.raises(UsageError, match="All weights of a choice are 0"):
        expand("{0::a|0::b}", 0)
    with pytest.raises(FileProblem, match="no folder"):
        Wildcards(lists.folder / "absent")


def test_styles(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text(
        'name,prompt,negative_prompt\nfilm,"{prompt}, 35mm",digital\nplain,"flat, bold",\n', encoding="utf-8-sig"
    )
    styles = read_styles(path)
    assert styled("a fox", "dark", ["film", "plain"], styles) == ("a fox, 35mm, flat, bold", "dark, digital")
    assert styled("a fox", "", ["film"], styles) == ("a fox, 35mm", "digital")
    with pytest.raises(UsageError, match="no style called 'filn'. Did you mean 'film'"):
        styled("a fox", "", ["filn"], styles)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileProblem, match="begins with name,prompt,negative_prompt"):
        read_styles(path)


# ---- the verbs -------------------------------------------------------------------------------------------------------


def test_explained_for_stable_diffusion(hvis: Any) -> None:
    text = "a (red:1.3) [fox:cat:0.5] BREAK sky <lora:ink:0.8> AND a hat :0.5"
    told = hvis(["prompt", "explain", text, "--model", "clip", "--steps", 4, "--json"]).document
    first, second = told["prompt"]["reads"]
    assert (first["steps"], second["steps"]) == ([1, 2, 3], [4])
    (one, two), hat = first["parts"][0]["chunks"], first["parts"][1]
    assert [(token["text"], token["weight"]) for token in one["tokens"]] == [("a", 1.0), ("red", 1.3), ("fox", 1.0)]
    assert [token["text"] for token in two["tokens"]] == ["sky"] and two["room"] == 75
    assert hat["weight"] == 0.5 and second["parts"][0]["chunks"][0]["tokens"][2]["text"] == "cat"
    assert told["tags"] == [{"tag": "<lora:ink:0.8>", "kind": "lora", "name": "ink"}]
    said = hvis(["prompt", "explain", "cat " * 70 + ", " + "dog " * 9, "--model", "clip"])
    assert "chunk 2: 9 of 75 tokens, 4 brought here by a comma" in said.out
    assert "a|b" not in said.out and "prompt, every step" in said.out


def test_explained_without_torch() -> None:
    code = (
        "import sys\nfrom huggingvis.app.cli import main\n"
        "assert main(['prompt', 'explain', 'a (fox:1.2)', '--model', 'clip']) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_is_letters_for_want_of_lists_is_said(hvis: Any, tmp_path: Path) -> None:
    gap = "__animal__ is read as words: name the folder of such lists with --wildcards."
    for words in (["a __animal__"], ["a fox", "--negative", "__animal__"]):
        said = hvis(["prompt", "explain", *words, "--model", "clip", "--json"])
        assert said.document["notes"] == [gap] and gap in said.paragraph
        assert gap in hvis(["prompt", "expand", *words]).paragraph
    (tmp_path / "animal.txt").write_text("fox\n")
    said = hvis(["prompt", "explain", "a __animal__", "--model", "clip", "--wildcards", tmp_path, "--json"])
    assert said.document["notes"] == []
    said = hvis(["prompt", "explain", "a {fox", "--model", "clip", "--json"])
    assert "is never closed" in said.document["notes"][0]


def test_explained_for_the_model_that_ships(hvis: Any) -> None:
    said = hvis(["prompt", "explain", "一只(红色:1.4)的[狐狸|披萨] blorp", "--steps", 6])
    assert said.code == 0 and "红×1.4 色×1.4" in said.out and "steps 1 to 2, 4, 6 of 6" in said.out
    assert "does not know the word 'blorp'" in said.paragraph


def test_explained_for_a_folder(hvis: Any, tmp_path: Path) -> None:
    pipeline_pixart().save_pretrained(tmp_path / "pixart")
    told = hvis(["prompt", "explain", "a (cat:1.2)", "--model", tmp_path / "pixart", "--json"]).document
    (chunk,) = told["prompt"]["reads"][0]["parts"][0]["chunks"]
    assert {token["weight"] for token in chunk["tokens"]} == {1.0, 1.2}


def test_expanded_on_the_command_line(hvis: Any, lists: Wildcards) -> None:
    words = ["prompt", "expand", "a __colour__ {fox|cat}", "--wildcards", lists.folder, "--seed", 3, "-n", 2, "--json"]
    told = hvis(words).document
    assert [one["seed"] for one in told] == [3, 4]
    assert [one["prompt"] for one in told] == [expand("a __colour__ {fox|cat}", seed, lists) for seed in (3, 4)]
    assert hvis(words[:-1]).out.splitlines()[0] == f"3: {told[0]['prompt']}"


def test_a_brace_that_is_never_closed_is_pointed_at(hvis: Any, tiny_model: Path) -> None:
    assert [never_closed(text) for text in ("a {b|c} {", "{a {b|c}", r"\{a", "{a}}", "a")] == [8, 0, None, None, None]
    for words in (["prompt", "explain", "a {2$$a|b fox"],
                  ["generate", "a {2$$a|b fox", "--model", tiny_model, "--steps", 1]):  # fmt: skip
        said = hvis(words)
        assert said.code == 0 and "(Letter 3 of the prompt.)" in said.paragraph
        assert "'{' is never closed" in said.paragraph


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prompt", "explain", "a (cat:1.2.3) dog"], "'1.2.3' was found"),
        (["prompt", "explain", "(" * 200], "more than 100 deep"),
        (["prompt", "explane", "a"], "Did you mean 'explain'"),
        (["prompt", "expand", "a", "--wildcards", "absent"], "There is no folder absent"),
        (["prompt", "expand", "a", "--style", "film"], "Name it with --styles"),
        (["prompt", "explain", "a", "--emphasis", "orignal"], "Did you mean 'original'"),
        (["generate", "a (cat:1..2) dog", "--model", "{model}"], "'1..2' was found"),
        (["generate", "a <lora:absent:1>", "--model", "{model}"], "no LoRA called 'absent': no folder of models"),
        (["generate", "a <lora:absent:much>", "--model", "{model}"], "a weight in it is no number"),
        (["generate", "a fox", "--emphasis", "loud", "--model", "{model}"], "no emphasis called 'loud'"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], sentence: str, hvis: Any, tiny_model: Path) -> None:
    said = hvis([str(word).replace("{model}", str(tiny_model)) for word in words])
    assert said.code in (2, 3) and sentence in said.paragraph
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_the_record_holds_what_was_drawn_and_what_was_typed(hvis: Any, tiny_model: Path, lists: Wildcards) -> None:
    styles = lists.folder / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\nneat,"{prompt}, neat",mess\n')
    words = [
        "generate",
        "a {fox|pizza} of __colour__",
        "--wildcards",
        lists.folder,
        "--style",
        "neat",
        "--styles",
        styles,
    ]
    told = hvis([*words, "--model", tiny_model, "--seed", 5, "-n", 3, "--json", *SHORT]).document
    assert [one["seed"] for one in told["pictures"]] == [5, 6, 7]
    for one in told["pictures"]:
        request = read_provenance(Path(one["path"])).request()
        expected = expand("a {fox|pizza} of __colour__, neat", one["seed"], lists)
        assert request.prompt.text == expected and request.prompt.negative == "mess"
        assert request.prompt.written == "a {fox|pizza} of __colour__" and request.prompt.styles == ("neat",)
        assert request.sampling.seed == one["seed"]
    again = hvis(["generate", "--from", told["pictures"][1]["path"], "--model", tiny_model, "--json"]).document
    assert again["repeats"]["identical"]
    lines = dict(line.split("  ", 1) for line in hvis(["inspect", told["pictures"][0]["path"]]).out.splitlines())
    assert lines["typed"].strip() == "a {fox|pizza} of __colour__" and lines["styles"].strip() == "neat"


def test_a_plain_prompt_is_one_request(hvis: Any, tiny_model: Path) -> None:
    told = hvis(["generate", FOX, "--model", tiny_model, "-n", 2, "--json", *SHORT]).document
    assert told["request"]["prompt"] == {
        "text": FOX, "negative": "", "emphasis": "original", "written": "", "written_negative": "", "styles": [],
    }  # fmt: skip
    assert told["request"]["canvas"]["count"] == 2
    said = hvis(["generate", "a __colour__ fox", "--model", tiny_model, *SHORT])
    assert "__colour__ is read as words" in said.paragraph


def test_old_records_still_read() -> None:
    old = Request.from_dict({"version": 1, "prompt": {"text": "a fox", "negative": "dark"}})
    assert old.prompt == Prompt("a fox", "dark") and check(old) == old
    with pytest.raises(UsageError, match="no emphasis called 'norm'"):
        check(Request(Prompt("a", emphasis="norm")))


def test_a_tag_loads_the_lora_of_its_name(hvis: Any, tmp_path: Path) -> None:
    pipeline().save_pretrained(tmp_path / "sd")
    g = torch.Generator().manual_seed(0)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.lora_down.weight": torch.randn(4, 32, generator=g),
               f"{name}.lora_up.weight": torch.randn(32, 4, generator=g)}  # fmt: skip
    save_tensors(tensors, "ink.safetensors", {"ss_base_model_version": "sd_v1"})
    words = ["--model", tmp_path / "sd", "--precision", "float32", "--json", *SHORT]
    by_tag = hvis(["generate", "a cat <lora:ink:0.5>", *words]).document
    by_flag = hvis(["generate", "a cat ", "--lora", "ink.safetensors:0.5", *words]).document
    one, other = (pixels(told["pictures"][0]["path"]) for told in (by_tag, by_flag))
    assert np.array_equal(one, other)
    (use,) = by_tag["request"]["adapters"]
    assert Path(use["path"]).name == "ink.safetensors" and use["weight"] == 0.5 and not by_tag["notes"]
    again = hvis(["generate", "--from", by_tag["pictures"][0]["path"], *words[:-2]]).document
    assert again["repeats"]["identical"]
    told = hvis(["generate", "a cat <lora:ink:0.5:0.25>", *words]).document["request"]["adapters"]
    assert (told[0]["text_weight"], told[0]["weight"]) == (0.5, 0.25)
    kept = hvis(["generate", "--from", by_tag["pictures"][0]["path"], "a dog", *words]).document
    assert kept["request"]["adapters"] == []
