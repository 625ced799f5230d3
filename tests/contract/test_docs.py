"""The documents tell the truth: links lead somewhere, commands parse, signatures and numbers are the source's."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
from doc_pages import (
    COMMUNITY,
    EXAMPLES,
    FENCE,
    PAGES,
    READMES,
    REPOSITORY,
    SCORED,
    blocks,
    commands,
    named_files,
    placed,
    prose,
    targets,
    text_of,
)

from huggingvis import api
from huggingvis.core import catalog

NEEDS_TRAINING = {
    "src/huggingvis/weights/tiny/",
    "benchmarks/tiny_scene_accuracy.json",
}  # made by commands, not by hand


# ---- what the pages name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = (REPOSITORY / page).parent
    assert [t for t in targets(page, images=False) if not (here / t).exists()] == []


@pytest.mark.parametrize("page", READMES)
def test_the_picture_is_there(page: str) -> None:
    (picture,) = targets(page, images=True)
    assert (REPOSITORY / picture).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_that_are_named_exist(page: str) -> None:
    examples = set(placed(EXAMPLES))
    roots = (REPOSITORY, catalog.ROOT)
    gone = [n for n in named_files(page) - examples - NEEDS_TRAINING if not any((root / n).exists() for root in roots)]
    assert gone == []


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_parse(page: str) -> None:
    cli = importlib.import_module("huggingvis.app.cli")
    from huggingvis.app.arguments import Parser, hyphened, words_of
    from huggingvis.core.flags import parse

    for verb, *rest in commands(page):
        if verb == "--help":
            continue
        module = importlib.import_module(f"huggingvis.app.commands.{verb}")
        assert verb in cli.verbs()
        if rest[:1] == ["v_diffusion"]:  # the example recipe of CONTRIBUTING is not in the library
            rest[0] = "ddpm"
        parser = Parser(prog=f"hvis {verb}")
        module.arguments(parser, rest)
        parser.add_argument("--json", action="store_true")
        if "--help" in rest:
            continue
        args = parser.parse_args(hyphened(rest))
        if verb == "train" and args.recipe:
            recipe = catalog.find_recipe(args.recipe).Config
            parse(recipe, words_of(recipe, args))


def test_no_page_names_a_machine() -> None:
    private = re.compile(r"/(?:work|tmp|root|home)/|localhost|https?://(?!arxiv\.org|docs\.python\.org)")
    assert {page: found for page in PAGES if (found := private.findall(text_of(page)))} == {}


def test_errors_are_quoted_as_they_are(hvis: Any) -> None:
    for page in READMES:
        for body in blocks(page, "console"):
            calls = re.findall(r"^\$ hvis (.+)\n((?:[^$].*\n)+)", body, re.MULTILINE)
            assert len(calls) == 2
            for line, message in calls:
                said = hvis(shlex.split(line))
                assert (said.code != 0, said.paragraph) == (True, " ".join(message.split()))


def test_the_proofs_of_the_community_s_files_are_tests() -> None:
    rows = [line for line in text_of(COMMUNITY).splitlines() if line.startswith("| ") and "](" in line]
    assert len(rows) >= 13
    for row in rows:
        for name, target in re.findall(r"\[(\w+)\]\(([^)]+)\)", row):
            source = (REPOSITORY / COMMUNITY).parent.joinpath(target).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in source, row


# ---- the two READMEs ------------------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_parts() -> None:
    english, chinese = (text_of(page) for page in READMES)
    assert re.findall(r"^(#+) ", prose(READMES[0]), re.M) == re.findall(r"^(#+) ", prose(READMES[1]), re.M)
    assert [kind for kind, _ in FENCE.findall(english)] == [kind for kind, _ in FENCE.findall(chinese)]
    first, second = ({tuple(words[:1]) for words in commands(page)} for page in READMES)
    assert first == second
    assert len(re.findall(r"^\|", english, re.M)) == len(re.findall(r"^\|", chinese, re.M))


@pytest.mark.parametrize("page", READMES)
def test_the_python_of_the_readme_is_five_lines_that_fit_the_library(page: str) -> None:
    (body,) = blocks(page, "python")
    assert len([line for line in body.splitlines() if line.strip()]) <= 5
    tree = ast.parse(body)
    called = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    verbs = {n.func.attr: n for n in called if isinstance(n.func, ast.Attribute)}
    assert set(verbs) == {"generate", "export"}
    for name, call in verbs.items():
        keywords = {k.arg: None for k in call.keywords if k.arg}
        inspect.signature(getattr(api, name)).bind(*[None] * len(call.args), **keywords)


# ---- the design -----------------------------------------------------------------------------------------------------


def test_the_figure_of_the_layers_is_what_is_enforced() -> None:
    (figure,) = blocks("docs/architecture.md", "text")
    lines = [tuple(line.split()) for line in figure.splitlines()]
    tree = ast.parse((Path(__file__).parent / "test_layers.py").read_text(encoding="utf-8"))
    levels = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEVELS"
    )
    assert lines[::-1] == list(levels[:-1])


def shape_of(node: ast.FunctionDef) -> tuple[str, str]:
    return ast.unparse(node.args), ast.unparse(node.returns) if node.returns else ""


@pytest.mark.parametrize("file", sorted(placed("docs/architecture.md")))
def test_signatures_of_the_design_are_the_sources(file: str) -> None:
    source = {n.name: n for n in ast.parse(text_of(file)).body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    for told in ast.parse(placed("docs/architecture.md")[file]).body:
        assert isinstance(told, ast.ClassDef | ast.FunctionDef)
        true = source[told.name]
        if isinstance(told, ast.FunctionDef):
            assert isinstance(true, ast.FunctionDef) and shape_of(told) == shape_of(true)
            continue
        assert isinstance(true, ast.ClassDef)
        methods = {n.name: n for n in true.body if isinstance(n, ast.FunctionDef)}
        for method in (n for n in told.body if isinstance(n, ast.FunctionDef)):
            assert shape_of(method) == shape_of(methods[method.name]), f"{told.name}.{method.name}"
        mine, theirs = (
            [(ast.unparse(n.target), ast.unparse(n.annotation)) for n in node.body if isinstance(n, ast.AnnAssign)]
            for node in (told, true)
        )
        assert not mine or mine == theirs, told.name


# ---- the measured numbers -------------------------------------------------------------------------------------------


def scores() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "benchmarks" / "write_scores.py"))


def made_up(value: float) -> dict[str, Any]:
    rows = ("single", "two", "three", "count", "colour", "position", "all")
    interval = {"value": value, "low": value - 0.01, "high": value + 0.01, "level": 0.95, "n": 166}
    columns = dict.fromkeys(rows, interval)
    return {"accuracy": {"en": columns, "zh": columns}, "difference": {"zh": columns}}


def test_scores_are_written_between_the_markers() -> None:
    tool = scores()
    result = {
        "scene_accuracy": {"floor": made_up(0.05), "model": made_up(0.75), "ceiling": made_up(0.98)},
        "frechet": {"model": {"value": 1.234, "low": 1.2, "high": 1.3}},
        "prompts": 996,
        "seed": 3,
    }
    for page in SCORED:
        text = tool["filled"](text_of(page), tool["section"](result, tool["FORMS"][page]))
        assert tool["filled"](text, "again").count("again") == text_of(page).count("again") + 1
        inside = text.partition(tool["BEGIN"])[2].partition(tool["END"])[0]
        assert inside.count("0.980") >= 7 and "996" in inside and "hvis evaluate --prompts 996 --seed 3" in inside
        assert len({line.count("|") for line in inside.splitlines() if line.startswith("|")}) == 1
    assert set(tool["FORMS"]) == set(SCORED)


def test_measured_numbers_in_the_documents_are_those_of_the_result() -> None:
    tool = scores()
    path = REPOSITORY / tool["RESULT"]
    result = json.loads(path.read_text(encoding="utf-8"))
    stale = [p for p in SCORED if tool["filled"](text_of(p), tool["section"](result, tool["FORMS"][p])) != text_of(p)]
    assert stale == [], "run python benchmarks/write_scores.py"


def test_the_table_of_samplers_is_the_librarys() -> None:
    tool = runpy.run_path(str(REPOSITORY / "benchmarks" / "write_samplers.py"))
    assert text_of("docs/samplers.md") == tool["page"](), "run python benchmarks/write_samplers.py"
