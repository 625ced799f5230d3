"""The catalogue reads the library without importing it; every claim of a system has a proof that exists."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from huggingvis.core import catalog
from huggingvis.core.errors import HvisError, MissingExtra, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = ("command", "seed", "seconds", "machine", "versions")


# ---- what a proof must be -------------------------------------------------------------------------------------------


def proof_problem(repository: Path, mark: str, proof: str) -> str | None:
    """What is wrong with the proof of a mark, or None."""
    path, _, rest = proof.partition("::")
    file = repository / path.partition("#")[0]
    if not file.is_file():
        return f"{path} does not exist"
    if mark == "explained":
        return None if file.suffix in (".md", ".html") and file.stat().st_size else f"{path} is no page with text"
    if file.suffix == ".json":
        return _result_problem(file)
    if mark == "trained":
        return f"{path} is no JSON result"
    return _test_problem(file, rest)


def _result_problem(file: Path) -> str | None:
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"{file.name} is no JSON: {error}"
    missing = [key for key in KEYS if not isinstance(result, dict) or result.get(key) in (None, "", {})]
    if missing:
        return f"{file.name} lacks {', '.join(missing)}"
    return None if type(result["seed"]) is int else f"{file.name} has the seed {result['seed']!r}"


def _test_problem(file: Path, names: str) -> str | None:
    if file.suffix != ".py" or not names:
        return f"{file.name}::{names} is no test id"
    node: ast.AST = ast.parse(file.read_text(encoding="utf-8"))
    for name in ("", *names.partition("[")[0].split("::")):
        if name:
            body = getattr(node, "body", [])
            node = next((part for part in body if getattr(part, "name", None) == name), ast.Pass())
        if isinstance(node, ast.Pass):
            return f"{file.name} has no {name}"
        if any(_always_skips(mark) for mark in _marks(node)):
            return f"{file.name}::{names} is skipped or expected to fail, whatever happens"
    return None if getattr(node, "name", "").startswith("test_") else f"{file.name}::{names} is no test"


def _marks(node: ast.AST) -> Iterator[ast.expr]:
    """Decorators, `pytestmark`, and calls that stand in the body itself, not under a condition."""
    yield from getattr(node, "decorator_list", [])
    for part in getattr(node, "body", []):
        if isinstance(part, ast.Assign) and any(getattr(t, "id", "") == "pytestmark" for t in part.targets):
            yield from part.value.elts if isinstance(part.value, ast.List | ast.Tuple) else [part.value]
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            yield part.value


def _always_skips(mark: ast.expr) -> bool:
    call = mark if isinstance(mark, ast.Call) else None
    name = ast.unparse(call.func if call else mark).rpartition(".")[2]
    if name == "skip":
        return True
    if name not in ("skipif", "xfail"):
        return False
    conditions = call.args if call else []
    return all(isinstance(c, ast.Constant) and c.value for c in conditions)  # none at all: unconditional


# ---- the library as it is -------------------------------------------------------------------------------------------


def test_every_proof_of_every_system_exists() -> None:
    problems = [
        f"{record.files[0]}: {mark}: {problem}"
        for record in catalog.systems()
        for mark, proofs in record.marks().items()
        for proof in proofs
        if (problem := proof_problem(REPOSITORY, mark, proof))
    ]
    assert problems == []


def test_every_file_of_every_system_exists() -> None:
    missing = [f for record in catalog.systems() for f in record.files if not (catalog.ROOT / f).is_file()]
    assert missing == []


def test_names_are_unique() -> None:
    names = [record.name for record in catalog.systems()]
    assert len(names) == len(set(names))
    for axis in catalog.AXES:
        aliases = [alias for entry in catalog.entries(axis) for alias in entry.aliases]
        assert len(aliases) == len(set(aliases)), axis


def test_every_file_of_an_axis_says_what_it_is() -> None:
    silent = []
    for axis in catalog.AXES:
        for path in sorted((catalog.ROOT / axis).rglob("*.py")):
            head = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if not path.name.startswith("_") and not (head and len(head) >= 20):
                silent.append(path.relative_to(catalog.ROOT).as_posix())
    assert silent == []


@pytest.mark.parametrize("axis", catalog.AXES)
def test_every_entry_can_be_found_and_is_what_the_source_says(axis: str) -> None:
    for entry in catalog.entries(axis):
        stem = entry.module.rpartition(".")[2]
        try:
            found = catalog.find(axis, f"{stem}.{entry.name}")
        except MissingExtra:
            continue
        assert isinstance(found, type) == (entry.kind == "class"), entry
        for alias in entry.aliases:
            assert catalog.find(axis, alias.upper()) is found


def test_reading_the_catalogue_imports_none_of_it() -> None:
    code = (
        "import sys; from huggingvis.core import catalog; catalog.entries(); catalog.systems(); catalog.recipes();"
        "print(*sorted(m for m in sys.modules if m.startswith('huggingvis.') or m in ('torch', 'numpy')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    allowed = {"core", "core.catalog", "core.config", "core.errors", "core.files", "core.version", "train", "export"}
    assert set(loaded) <= {f"huggingvis.{name}" for name in allowed}


# ---- the rules themselves, on a small library -----------------------------------------------------------------------

SAMPLER = '''"""Two samplers. Song et al. 2020, arXiv 2010.02502. Book chapter: sampling."""
from abc import ABC, abstractmethod
from typing import Protocol
ALIASES = {"dpm++2m": "Multi", "k_multi": "Multi"}
class Base(ABC): pass
class Half:
    @abstractmethod
    def step(self): ...
class Shape(Protocol[int]): pass
class _Hidden: pass
class Multi(Base):
    """Second order.
    Really.

    Lu et al., arXiv:2211.01095, not 5371.78 or 1980.50; chapter D."""
def grid(n):
    return n
'''
RECIPE = '''"""Denoising diffusion."""
SYSTEM = {"name": "DDPM", "chapter": 4, "paper": "2006.11239", "files": ["samplers/two.py"], "exact": "t.py::test_a"}
raise RuntimeError("a catalogue that imports is no catalogue")
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "huggingvis"
    for name, text in {"samplers/two.py": SAMPLER, "recipes/diffusion/ddpm.py": RECIPE}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_entries_are_the_public_final_classes_and_functions(library: Path) -> None:
    multi, grid = catalog.entries("samplers", root=library)
    assert (multi.name, multi.kind, multi.module) == ("Multi", "class", "huggingvis.samplers.two")
    assert (multi.doc, multi.arxiv, multi.chapter) == ("Second order. Really.", ("2211.01095",), "D")
    assert multi.aliases == ("dpm++2m", "k_multi")
    assert (grid.name, grid.kind, grid.arxiv, grid.chapter) == ("grid", "function", ("2010.02502",), "sampling")
    assert catalog.names("samplers", root=library) == ("dpm++2m", "k_multi", "grid")


def test_all_decides_what_is_public(library: Path) -> None:
    (library / "samplers" / "one.py").write_text('__all__ = ["_Odd"]\nclass Even: pass\n')
    assert [e.name for e in catalog.entries("samplers", root=library)] == ["Multi", "grid"]


def test_unknown_names_suggest_the_nearest(library: Path) -> None:
    with pytest.raises(UsageError, match=r"no axis called 'sampler'.*'samplers'"):
        catalog.entries("sampler")
    with pytest.raises(UsageError, match=r"'dpm\+2m'.*'dpm\+\+2m'"):
        catalog.find("samplers", "dpm+2m", root=library)
    with pytest.raises(UsageError, match=r"no recipe called 'dppm'.*'ddpm'"):
        catalog.find_recipe("dppm", root=library)
    (library / "samplers" / "three.py").write_text('"""Another."""\nclass Multi: pass\n')
    catalog._axis_entries.cache_clear()
    with pytest.raises(UsageError, match=r"three\.Multi, two\.Multi"):
        catalog.find("samplers", "multi", root=library)


def test_a_system_is_read_from_its_recipe(library: Path) -> None:
    (record,) = catalog.systems(root=library)
    assert record.files == ("recipes/diffusion/ddpm.py", "samplers/two.py")
    assert record.marks() == dict.fromkeys(catalog.MARKS, ()) | {"exact": ("t.py::test_a",)}
    assert catalog.systems(4, root=library) == catalog.systems("4", root=library) == (record,)
    assert catalog.systems(5, root=library) == catalog.systems("5", root=library) == ()
    assert json.loads(json.dumps(record.to_dict()))["paper"] == "2006.11239"
    assert catalog.recipes(root=library)["ddpm"].chapter == "diffusion"


def test_a_system_may_stand_on_any_axis_and_have_several_proofs(library: Path) -> None:
    file = library / "guidance" / "cfg.py"
    file.parent.mkdir()
    file.write_text(
        '"""Guidance."""\nSYSTEM = {"name": "CFG", "chapter": 5, "exact": ["t.py::a", "t.py::b"], "built": None}'
    )
    (record,) = catalog.systems(5, root=library)
    assert (record.files, record.exact, record.built) == (("guidance/cfg.py",), ("t.py::a", "t.py::b"), ())
    assert [one.name for one in catalog.systems(root=library)] == ["DDPM", "CFG"]


def test_several_systems_may_share_a_file_and_what_binds_one_may_declare_it(library: Path) -> None:
    file = library / "systems" / "stable.py"
    file.parent.mkdir()
    file.write_text('SYSTEM = [{"name": "One", "chapter": 5, "built": "t.py::a"}, {"name": "Two", "chapter": 5}]')
    one, two = catalog.systems(5, root=library)
    assert (one.name, one.built, two.name, two.built) == ("One", ("t.py::a",), "Two", ())
    assert one.files == two.files == ("systems/stable.py",)


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ('[{"name": "X", "chapter": 1}, {"nam": "Y"}]', "'nam'"),
        ('{"name": "X", "chapter": 1, "bilt": "t"}', "'built'"),
        ('{"name": "X", "chapter": 1, "exact": 3}', "'exact.0'"),
        ("dict(a=1)", "plain literal"),
        ("[]", "a table"),
        ('{"name": "X"}', "needs 'chapter'"),
    ],
)
def test_a_wrong_record_names_its_file(library: Path, literal: str, message: str) -> None:
    (library / "recipes" / "diffusion" / "wrong.py").write_text(f"SYSTEM = {literal}\n")
    with pytest.raises(HvisError, match=r"recipes/diffusion/wrong\.py") as caught:
        catalog.systems(root=library)
    assert message in str(caught.value)


TESTS = """
import pytest
def test_good(): assert 1
def helper(): pass
@pytest.mark.skip(reason="later")
def test_skipped(): assert 1
@pytest.mark.skipif(True, reason="later")
def test_true(): assert 1
@pytest.mark.xfail
def test_fails(): assert 0
@pytest.mark.skipif(not data(), reason="no data")
def test_conditional(): assert 1
def test_body():
    pytest.skip("never")
def test_inner():
    if not data():
        pytest.skip("no data")
class TestAll:
    pytestmark = [pytest.mark.skip]
    def test_in(self): assert 1
"""
RESULT = {
    "command": "hvis train ddpm",
    "seed": 0,
    "seconds": 3.5,
    "machine": "2 cores",
    "versions": {"torch": "2.13.0"},
}


@pytest.mark.parametrize(
    ("mark", "proof", "problem"),
    [
        ("exact", "t.py::test_good", None),
        ("exact", "t.py::test_good[a-b::c]", None),
        ("usable", "t.py::test_conditional", None),
        ("built", "t.py::test_inner", None),
        ("exact", "t.py", "no test id"),
        ("exact", "u.py::test_good", "does not exist"),
        ("exact", "t.py::test_gone", "no test_gone"),
        ("exact", "t.py::helper", "is no test"),
        ("exact", "t.py::test_skipped", "skipped"),
        ("exact", "t.py::test_true", "skipped"),
        ("exact", "t.py::test_fails", "expected to fail"),
        ("exact", "t.py::test_body", "skipped"),
        ("exact", "t.py::TestAll::test_in", "skipped"),
        ("trained", "good.json", None),
        ("built", "good.json", None),
        ("trained", "t.py::test_good", "no JSON result"),
        ("trained", "no_seed.json", "lacks seed"),
        ("trained", "no_command.json", "lacks command"),
        ("trained", "text_seed.json", "has the seed"),
        ("trained", "torn.json", "is no JSON"),
        ("explained", "page.md#part", None),
        ("explained", "t.py::test_good", "no page"),
    ],
)
def test_a_proof_that_proves_nothing_is_found_out(tmp_path: Path, mark: str, proof: str, problem: str | None) -> None:
    (tmp_path / "t.py").write_text(TESTS)
    (tmp_path / "page.md").write_text("# A page")
    (tmp_path / "good.json").write_text(json.dumps(RESULT))
    (tmp_path / "no_seed.json").write_text(json.dumps({k: v for k, v in RESULT.items() if k != "seed"}))
    (tmp_path / "no_command.json").write_text(json.dumps(RESULT | {"command": ""}))
    (tmp_path / "text_seed.json").write_text(json.dumps(RESULT | {"seed": "0"}))
    (tmp_path / "torn.json").write_text("{")
    found = proof_problem(tmp_path, mark, proof)
    assert found is None if problem is None else problem in str(found)
