"""What the first commands load: neither torch nor numpy, nor anything that is not needed to say what there is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "PIL", "safetensors", "tokenizers", "sentencepiece", "huggingface_hub", "einops", "emoji"}


def loaded(code: str) -> tuple[set[str], str]:
    """The modules that code adds to a fresh interpreter, and what it printed."""
    program = f"""
import json, runpy, sys
before = set(sys.modules)
try:
    {code}
except SystemExit as end:
    assert end.code in (0, None), end.code
print()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return set(json.loads(modules)), text


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_import_loads_nothing_but_the_package_itself() -> None:
    modules, _ = loaded("import huggingvis; huggingvis.__version__; dir(huggingvis)")
    own = {m.removeprefix("huggingvis.") for m in modules if m.startswith("huggingvis")}
    assert own == {"huggingvis", "core", "core.version", "train", "export"}
    assert tops(modules) - sys.stdlib_module_names == {"huggingvis"}


@pytest.mark.parametrize("name", ["catalog", "config", "flags", "request", "errors", "files", "machine"])
def test_the_torch_free_heart_needs_the_standard_library_only(name: str) -> None:
    modules, _ = loaded(f"import huggingvis.core.{name}")
    assert tops(modules) - sys.stdlib_module_names == {"huggingvis"}


@pytest.mark.parametrize("words", [["--help"], ["catalog", "--json"]])
def test_help_and_catalogue_load_neither_torch_nor_numpy(words: list[str]) -> None:
    modules, text = loaded(
        f"sys.argv = ['hvis', *{words!r}]; runpy.run_module('huggingvis.app.cli', run_name='__main__')"
    )
    assert tops(modules) & HEAVY == set()
    assert "generate" in text if words == ["--help"] else json.loads(text) is not None


def test_the_training_loop_loads_shards_only_where_nets_are_cut() -> None:
    modules, _ = loaded("import huggingvis.train.fit")
    assert {
        name for name in modules if name.startswith(("torch.distributed.fsdp", "torch.distributed.tensor"))
    } == set()


def test_folders_that_are_verbs_too_stay_both() -> None:
    code = """
    import huggingvis, huggingvis.train, types
    import huggingvis.export as folder
    assert callable(huggingvis.train) and isinstance(huggingvis.train, types.ModuleType)
    assert callable(folder) and folder is huggingvis.export and folder.__path__
    assert {'load', 'generate', 'train', 'evaluate', 'export', 'inspect', 'catalog'} <= set(dir(huggingvis))
    try:
        huggingvis.generat
    except AttributeError:
        print('refused')
"""
    _, text = loaded(code.strip())
    assert text.strip() == "refused"


def test_verbs_are_those_of_the_api() -> None:
    code = """
    import huggingvis
    from huggingvis import api
    assert huggingvis.load is api.load and huggingvis.generate is api.generate and huggingvis.catalog is api.catalog
    assert all(callable(getattr(api, verb)) for verb in huggingvis.__all__ if verb != '__version__')
    print('same')
"""
    assert loaded(code.strip())[1].strip() == "same"
