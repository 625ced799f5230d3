"""The examples of CONTRIBUTING are files that work: their tests pass, and the catalogue finds them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import (
    COMMUNITY,
    EXAMPLES,
    REPOSITORY,
    blocks,
    placed,
    text_of,
)

from huggingvis.core import catalog


def loaded(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Path]:
    """The example files in a tree of their own; those of the library can be imported by their names."""
    before = set(sys.modules)
    for name, body in placed(EXAMPLES).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    for name in placed(EXAMPLES):
        if name.startswith("src/"):
            assert not (REPOSITORY / name).exists(), f"{name} is in the library now: choose another example"
            loaded(name.removeprefix("src/").removesuffix(".py").replace("/", "."), tmp_path / name)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("huggingvis.") and getattr(sys.modules[name], "__file__", "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_the_examples_pass_their_own_tests(examples: Path) -> None:
    ran = 0
    for name in placed(EXAMPLES):
        if name.startswith("tests/"):
            for key, function in vars(loaded(f"example_{ran}", examples / name)).items():
                if key.startswith("test_"):
                    room = examples / f"room-{ran}"
                    room.mkdir()
                    function(**({"tmp_path": room} if "tmp_path" in inspect.signature(function).parameters else {}))
                    ran += 1
    assert ran == 3


def test_the_catalogue_finds_the_examples(examples: Path) -> None:
    root = examples / "src" / "huggingvis"
    (sampler,) = catalog.entries("samplers", root=root)
    assert (sampler.name, sampler.arxiv, sampler.chapter) == ("DPMSolverPP2S", ("2211.01095",), "4")
    assert sampler.aliases == ("dpm++2s",)
    assert [entry.name for entry in catalog.entries("metrics", root=root)] == ["l1"]
    (record,) = catalog.systems(root=root)
    assert (record.name, record.paper) == ("v-diffusion", "2202.00512")
    for file in record.files[1:]:
        assert (catalog.ROOT / file).is_file()
    for proof in (proof for proofs in record.marks().values() for proof in proofs):
        file, _, test = proof.partition("::")
        there = placed(EXAMPLES).get(file) or text_of(file)
        assert f"def {test}(" in there


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_example_of_the_community_s_files_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with a small model and a safety checker that refuses nothing."""
    from tiny_pipelines import pipeline

    from huggingvis.checkpoints.safety_checker_files import SAFETY
    from huggingvis.nets.clip_vision import CLIPVisionConfig
    from huggingvis.nets.safety_checker import SafetyChecker, SafetyConfig

    pipeline().save_pretrained(tmp_path / "model")
    net = SafetyChecker(SafetyConfig(CLIPVisionConfig(8, 4, 3, 8, 2, 2, 12, projection=6)))
    net.thresholds.data.fill_(2.0)
    SAFETY.write(net, tmp_path / "safety_checker")
    monkeypatch.chdir(tmp_path)
    *_, body = blocks(COMMUNITY, "python")  # the first needs adapters: tests/app/test_short_forms.py
    exec(compile(body, COMMUNITY, "exec"), {})
    assert [path.name for path in sorted(Path("served").iterdir())] == ["00001.png", "00002.png"]
    assert Path("copy/model_index.json").is_file() and "copy.safetensors is" in capsys.readouterr().out
