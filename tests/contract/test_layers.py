"""Imports go strictly downward, folders on one level never import each other, and only recipes and above ask the world.

Read from the source: imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from huggingvis.core.catalog import ROOT

REPOSITORY = Path(__file__).resolve().parents[2]
LEVELS = (
    ("core",),
    ("nets", "processes"),
    ("guidance", "samplers", "adapters", "codecs", "scenes"),
    ("objectives", "data", "train", "metrics", "checkpoints"),
    ("systems",),
    ("runtime",),
    ("edits", "export"),
    ("recipes",),
    ("api",),
    ("app",),
    ("__init__", "__main__"),
)
LEVEL = {folder: level for level, folders in enumerate(LEVELS) for folder in folders}
# Folders that see less than their level would allow.
ONLY = {"samplers": {"core", "processes"}, "guidance": {"core", "processes"}, "train": {"core"}}
# Below recipes nobody reads argv or the environment; these modules may, because a launcher speaks to them by it.
MAY_ASK = {"train/parallel.py"}
ASKS = {"argv", "environ", "environb", "getenv", "getenvb", "argparse"}
# Distributions whose import name is not their own.
IMPORT_NAMES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "pyav": "av",
    "python-multipart": "multipart",
}


@cache
def sources(root: Path) -> tuple[tuple[str, ast.Module], ...]:
    """(path below root, syntax tree) of every Python file; parsed once for all rules."""
    paths = sorted(root.rglob("*.py"))
    return tuple((path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    """Millions of syntax nodes would stay, and the collector of garbage would look through them in all later tests."""
    yield
    sources.cache_clear()


def imports(file: str, tree: ast.AST, package: str = "huggingvis") -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file; `from huggingvis import x` gives `huggingvis.x`."""
    here = [package, *file.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (parent, node.module or "") if part)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == package else [module]
            yield from ((node.lineno, name) for name in names)


def folder_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def layer_faults(root: Path) -> list[str]:
    faults = []
    for file, tree in sources(root):
        mine = folder_of(file)
        if mine not in LEVEL:
            faults.append(f"{file}: the folder {mine} has no level")
            continue
        for line, module in imports(file, tree):
            parts = module.split(".")
            if parts[0] != "huggingvis" or len(parts) < 2:
                continue
            other = parts[1]
            if other == mine or other == "__version__":
                continue
            if other not in LEVEL or LEVEL[other] >= LEVEL[mine] or other not in ONLY.get(mine, {other}):
                faults.append(f"{file}:{line}: {mine} imports {module}")
    return faults


def circle(root: Path) -> list[str]:
    """Modules that import each other in a ring, the first of them again at the end; none: empty. Packages' own files
    hand names on, and are left out."""
    known = {file.removesuffix(".py").replace("/", "."): (file, tree) for file, tree in sources(root)}
    graph: dict[str, set[str]] = {}
    for name, (file, tree) in known.items():
        found = {module.removeprefix("huggingvis.") for _, module in imports(file, tree)}
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module):
            found |= {f"{str(node.module).removeprefix('huggingvis.')}.{alias.name}" for alias in node.names}
        graph[name] = (found & known.keys()) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def asking_faults(root: Path) -> list[str]:
    faults = []
    for file, tree in sources(root):
        if LEVEL.get(folder_of(file), 0) >= LEVEL["recipes"] or file in MAY_ASK:
            continue
        for node in ast.walk(tree):
            owner = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""
            asked = {node.attr} if isinstance(node, ast.Attribute) and owner in ("os", "sys") else set()
            if isinstance(node, ast.ImportFrom) and node.module in ("os", "sys", "argparse"):
                asked = {alias.name for alias in node.names} | {node.module}
            elif isinstance(node, ast.Import):
                asked = {alias.name for alias in node.names}
            faults += [f"{file}:{node.lineno}: {name}" for name in sorted(asked & ASKS)]  # type: ignore[attr-defined]
    return faults


def extra_faults(root: Path, runtime: set[str], extras: set[str]) -> list[str]:
    """Unknown libraries anywhere; modules with an extra at their top that another module imports at its own top."""
    faults, heavy, tops = [], set(), []
    for file, tree in sources(root):
        dotted = "huggingvis." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for line, module in imports(file, tree):
            name = module.split(".")[0]
            if name not in runtime | extras | {"huggingvis"} | sys.stdlib_module_names:
                faults.append(f"{file}:{line}: {name} is no dependency and no extra of pyproject.toml")
        for statement in tree.body:
            found = list(imports(file, ast.Module([statement], [])))
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            if any(module.split(".")[0] in extras - runtime for _, module in found):
                heavy.add(dotted)
            joined = [f"{module}.{alias.name}" for _, module in found for alias in statement.names]
            tops += [(file, line, module) for line, module in found]
            tops += [(file, statement.lineno, module) for module in joined]
    faults += [f"{file}:{line}: imports {m}, which needs an extra, at its top" for file, line, m in tops if m in heavy]
    return faults


def declared(*, test_only: tuple[str, ...] = ("test", "book")) -> tuple[set[str], set[str]]:
    """Import names of the run-time dependencies and of the extras that the library itself may use."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        plain = {re.split(r"[\s<>=!~;\[]", requirement)[0].lower() for requirement in requirements}
        return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in plain}

    optional = project["optional-dependencies"]
    extras = {name for extra, held in optional.items() if extra not in test_only for name in names(held)}
    return names(project["dependencies"]), extras | {"tensorboard"}  # written to where it happens to be installed


# ---- the library as it is -------------------------------------------------------------------------------------------


def test_imports_go_strictly_downward() -> None:
    assert layer_faults(ROOT) == []


def test_no_file_imports_one_that_imports_it() -> None:
    assert circle(ROOT) == []


def test_nobody_below_recipes_reads_argv_or_environment() -> None:
    assert asking_faults(ROOT) == []


def test_libraries_are_declared_and_extras_wait_until_they_are_used() -> None:
    assert extra_faults(ROOT, *declared()) == []


def test_the_entry_points_need_only_the_standard_library_at_their_tops() -> None:
    light = ["__init__.py", "core/__init__.py", "core/catalog.py", "core/config.py", "core/flags.py", "core/request.py",
             "core/errors.py", "app/__init__.py", "app/cli.py"]  # fmt: skip
    found = []
    for file in light:
        path = ROOT / file
        for statement in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else ():
            for line, module in imports(file, statement) if isinstance(statement, ast.Import | ast.ImportFrom) else ():
                if module.split(".")[0] not in {"huggingvis"} | sys.stdlib_module_names:
                    found.append(f"{file}:{line}: {module}")
    assert found == []


# ---- the rules themselves, on a small library -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("core/a.py", "from huggingvis.nets import unet", "core/a.py:1: core imports huggingvis.nets"),
        ("nets/a.py", "def f():\n    import huggingvis.processes.vp", "nets/a.py:2: nets imports"),
        ("samplers/a.py", "from ..nets import unet", "samplers/a.py:1: samplers imports huggingvis.nets"),
        ("train/a.py", "from huggingvis import samplers", "train/a.py:1: train imports huggingvis.samplers"),
        ("odd/a.py", "", "odd/a.py: the folder odd has no level"),
        ("systems/judges/a.py", "from ...runtime import x", "systems/judges/a.py:1: systems imports"),
        ("api/making.py", "from huggingvis.app import cli", "api/making.py:1: api imports huggingvis.app"),
        ("samplers/a.py", "from huggingvis.processes import vp\nfrom .b import c\nimport huggingvis", ""),
        ("app/cli.py", "from huggingvis import __version__, api\nfrom huggingvis.core import x", ""),
    ],
)
def test_layer_rule(tmp_path: Path, file: str, text: str, fault: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    found = layer_faults(tmp_path)
    assert len(found) == bool(fault) and all(one.startswith(fault) for one in found)


@pytest.mark.parametrize(
    ("file", "text", "count"),
    [
        ("nets/a.py", "import os\nos.environ.get('A'); os.getenv('B')", 2),
        ("data/a.py", "from sys import argv", 1),
        ("core/a.py", "import argparse", 1),
        ("core/a.py", "from argparse import ArgumentParser", 1),
        ("train/parallel.py", "import os\nos.environ['RANK']", 0),
        ("app/a.py", "import sys\nsys.argv", 0),
        ("nets/a.py", "import os\nos.replace('a', 'b')", 0),
    ],
)
def test_asking_rule(tmp_path: Path, file: str, text: str, count: int) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert len(asking_faults(tmp_path)) == count


def test_circle_rule(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("from huggingvis.core.b import x")
    (tmp_path / "core" / "b.py").write_text("from huggingvis.core import c")
    assert circle(tmp_path) == []
    (tmp_path / "core" / "c.py").write_text("def f():\n    from huggingvis.core.a import y")
    sources.cache_clear()
    assert {*circle(tmp_path)} == {"core.a", "core.b", "core.c"}


def test_extra_rule(tmp_path: Path) -> None:
    texts = {
        "a.py": "import gradio", "b.py": "from huggingvis.app import a", "c.py": "import huggingvis.app.a",
        "d.py": "def f():\n    from huggingvis.app import a", "e.py": "import diffusers", "f.py": "import torch, json",
    }  # fmt: skip
    (tmp_path / "app").mkdir()
    for file, text in texts.items():
        (tmp_path / "app" / file).write_text(text)
    found = extra_faults(tmp_path, {"torch"}, {"gradio"})
    assert sorted(fault.split(":")[0] for fault in found) == ["app/b.py", "app/c.py", "app/e.py"]
