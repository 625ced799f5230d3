"""The command line: every verb as a user calls it, on a small model with random weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import FOX, SHORT, pixels
from PIL import Image
from safetensors.torch import save_file

from huggingvis import __version__
from huggingvis.app.screen import size_of
from huggingvis.core.catalog import recipes


def test_help_names_every_verb_and_version_is_the_packages(hvis: Any) -> None:
    said = hvis(["--help"])
    verbs = [line.split()[0] for line in said.out.partition("Verbs:\n")[2].partition("\n\n")[0].splitlines()]
    assert said.code == 0
    assert verbs == [
        "batch", "catalog", "compare", "control", "data", "describe", "doctor", "evaluate", "explain", "explore",
        "generate", "grid", "inspect", "models", "prompt", "train",
    ]  # fmt: skip
    assert all(hvis([verb, "--help"]).code == 0 for verb in verbs)
    assert hvis(["--version"]).out == f"hvis {__version__}\n"
    assert hvis([]).out == said.out


def test_train_then_generate_evaluate_and_remove_a_run(hvis: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 255 - 60 * i)).save(tmp_path / "photos" / f"{i}.png")
    numbers = ["--data", f"folder:{tmp_path / 'photos'}", "--size", "8", "--widths", "16,16", "--latent-dim", "4",
               "--likelihood", "gaussian", "--sample_every", "2", "--batch", "4"]  # fmt: skip
    said = hvis(["train", "vae", *numbers, "--steps", 2, "--resume", "--json"])
    assert said.code == 0, said.err
    assert "nothing to go on with in runs/vae yet" in said.err
    assert said.document["run"] == "runs/vae" and said.document["last"]["step"] == 2
    assert said.document["config"]["widths"] == [16, 16]
    assert said.document["from_step"] == 0
    more = hvis(["train", "vae", "--run", "runs/vae", "--resume", "--steps", 4, "--json"])
    assert more.code == 0, more.err
    assert more.document["last"]["step"] == 4 and more.document["config"]["latent_dim"] == 4
    assert more.document["from_step"] == 2 and "nothing to go on with" not in more.err
    again = hvis(["train", "--run", "runs/vae", "--resume"])
    first, disk, _ = again.out.splitlines()
    assert again.code == 0 and "runs/vae was finished already, at step 4: nothing was trained" in first
    assert first.endswith("hvis train --run runs/vae --resume --steps 8") and "Trained" not in again.out
    taken = sum(path.stat().st_size for path in Path("runs/vae/checkpoints").rglob("*") if path.is_file())
    assert disk.startswith(f"2 checkpoints take {size_of(taken)} in runs/vae/checkpoints; ")
    assert "Trained vae in runs/vae: from step 4 to 5, " in hvis([*first.split(": ")[-1].split()[1:-1], 5]).out
    made = hvis(["generate", "", "--model", "runs/vae", "--json"]).document["pictures"][0]
    assert pixels(made["path"]).shape == (8, 8, 3)
    again = hvis(["generate", "--from", made["path"], "--json"])
    assert again.document["repeats"]["identical"], again.err
    losses = hvis(["evaluate", "runs/vae", "--json", "-o", "result.json"]).document
    assert losses["step"] == 5 and losses == json.loads(Path("result.json").read_text())
    assert losses["held_out_losses"]
    (listed,) = hvis(["models", "list", "--json"]).document["runs"]
    assert (listed["path"], listed["recipe"], listed["step"]) == ("runs/vae", "vae", 5)
    refused = hvis(["models", "remove", "vae"])
    assert refused.code == 2 and "--yes" in refused.paragraph and Path("runs/vae").exists()
    removed = hvis(["models", "remove", "vae", "--yes", "--json"])
    assert removed.document["bytes"] == listed["bytes"] and not any(Path("runs").iterdir())


def test_train_explains_the_numbers_of_a_recipe(hvis: Any) -> None:
    said = hvis(["train", "ddpm", "--help"])
    words = " ".join(said.out.split())
    assert said.code == 0 and "hvis train ddpm" in said.out
    assert "--sample-every N steps between sample grids and validations. (default 1000)" in words
    assert "--net.channels N,… width of each level, finest first; multiples of 8. (default 64,128,128)" in words


def test_catalogue_by_system_axis_and_chapter(hvis: Any) -> None:
    records = hvis(["catalog", "--json"]).document
    assert {"name", "chapter", "paper", "files", "built", "exact", "trained", "explained", "usable"} <= set(records[0])
    chapter = records[0]["chapter"]
    some = hvis(["catalog", "--chapter", chapter, "--json"]).document
    assert some == [record for record in records if record["chapter"] == chapter]
    nets = hvis(["catalog", "guidance", "--json"]).document
    assert "ClassifierFree" in [entry["name"] for entry in nets]
    line = next(line for line in hvis(["catalog", "guidance"]).out.splitlines() if line.startswith("ClassifierFree "))
    assert "2207.12598" in line
    head, *rows = hvis(["catalog"]).out.splitlines()
    assert head.split() == ["chapter", "name", "paper", "proven"]
    papers = {record["name"]: row[head.index("paper") : head.index("proven")].strip()
              for record, row in zip(records, rows, strict=True)}  # fmt: skip
    assert papers["Autoencoder"] == "doi 10.1126/science.1127647" and papers["CVAE"] == "Sohn, Lee & Yan 2015"
    assert papers["DDIM"] == "arXiv 2010.02502" and papers["LMS"] == ""
    assert "chapters that have something" in hvis(["catalog", "--chapter", "99"]).paragraph


def test_the_catalogue_lists_what_can_be_trained(hvis: Any) -> None:
    rows = hvis(["catalog", "recipes", "--json"]).document
    assert {row["name"]: row["group"] for row in rows}.items() >= {"ddpm": "diffusion", "vae": "variational"}.items()
    assert {row["name"] for row in rows} == set(recipes())
    head, *lines = hvis(["catalog", "recipes", "--chapter", 4]).out.splitlines()
    assert "what it is" in head and any(line.startswith("edm ") for line in lines)
    assert not any(line.startswith("vae ") for line in lines)
    asked = hvis(["train"]).err
    assert "hvis catalog recipes" in asked and all(f"{row['group']}: " in asked for row in rows)
    assert all(re.search(rf"\b{row['name']}\b", asked) for row in rows)


def test_the_catalogue_lists_the_words_that_no_prompt_is_told_it_lacks(hvis: Any) -> None:
    from huggingvis.data.backgrounds import NAMED
    from huggingvis.data.captions import RELATION_FORMS
    from huggingvis.data.sprites import COLOURS, objects_v1
    from huggingvis.data.vocabulary import unknown_words

    rows = hvis(["catalog", "words", "--json"]).document
    assert {row["id"] for row in rows} >= {*objects_v1().ids, *COLOURS, *NAMED, *RELATION_FORMS, "1", "4", "big"}
    said = [text for row in rows for text in (*row["en"], row.get("plural", ""), *row["zh"])]
    assert [text for text in said if unknown_words(objects_v1(), re.sub("[AB]", "", text))] == []
    fox = next(row for row in rows if row["id"] == "fox")
    assert fox == {"kind": "animal", "id": "fox", "en": ["fox"], "plural": "foxes", "zh": ["狐狸"]}
    head, *lines = hvis(["catalog", "words"]).out.splitlines()
    assert head.split() == ["kind", "English", "Chinese"]
    assert "relation    A to the left of B" in "\n".join(lines)
    assert next(line for line in lines if " star " in line).split() == ["shape", "star", "星星；五角星"]
    assert "--chapter" in hvis(["catalog", "words", "--chapter", 5]).paragraph


def test_catalogue_of_names(hvis: Any) -> None:
    """Every name of a sampler and a schedule has a row, and its proof is a test that exists."""
    from huggingvis.samplers.names import SAMPLERS, SCHEDULES

    for axis, rows in (("samplers", SAMPLERS), ("schedules", SCHEDULES)):
        told = [row for row in hvis(["catalog", axis, "--json"]).document if row["name"]]
        assert [row["name"] for row in told] == [row.name for row in rows]
        for row in told:
            file, _, test = row["proof"].partition("::")
            assert f"def {test}(" in (Path(__file__).parents[2] / file).read_text(encoding="utf-8"), row["name"]
            if "slope" in row:  # a method of fourth order is not yet quite one at these numbers of steps
                assert row["slope"] == pytest.approx(row["order"], abs=0.45) and 1e-3 < row["error"] < 0.2
            assert ("slope" in row) is (axis == "samplers" and not row["stochastic"])


def test_the_table_of_samplers_is_one_table(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingvis.recipes import sampler_facts

    monkeypatch.setattr(sampler_facts, "STEPS", (4, 8))  # its numbers are measured by `test_catalogue_of_names`
    lines = hvis(["catalog", "samplers"]).out.splitlines()
    table = lines[: lines.index("")]
    starts = [table[0].index(head) for head in ("A1111", "ComfyUI", "diffusers", "order", "slope", "error@20", "test")]
    assert all(line[start - 1] == " " and line[start] != "" for line in table for start in starts)
    row = next(line for line in table if line.startswith("dpm++2m ")).split("  ")
    assert [cell.strip() for cell in row if cell.strip()][:5] == ["dpm++2m", "DPM++ 2M", "dpmpp_2m",
                                                                 "DPMSolverMultistepScheduler", "2"]  # fmt: skip
    assert lines[-1].startswith("In Python also: ") and "LearnedSteps" in lines[-1]


def test_preview_shows_a_folder_and_its_truth(hvis: Any, tmp_path: Path) -> None:
    for name, level in (("cats", 40), ("dogs", 200)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (20, 16), (level, i, 0)).save(tmp_path / "pets" / name / f"{i}.png")
    said = hvis(["data", "preview", f"folder:{tmp_path / 'pets'}", "-n", 9, "-o", "sheet.png", "--json"])
    assert said.code == 0, said.err
    assert sorted(item["class"] for item in said.document["items"]) == ["cats", "cats", "dogs", "dogs"]
    assert pixels("sheet.png").shape[1] == 2 * 192 + 3 * 8


def test_preview_shows_the_world_with_boxes(hvis: Any) -> None:
    from huggingvis.data.artwork import emoji_font_path

    if emoji_font_path() is None:
        pytest.skip("no colour-emoji font is installed")
    said = hvis(["data", "preview", "world", "-n", 3, "--json"])
    assert said.code == 0, said.err
    items = said.document["items"]
    assert len(items) == 3 and all(len(thing["box"]) == 4 for item in items for thing in item["things"])
    magenta = (pixels(said.document["sheet"]) == (255, 0, 255)).all(-1).sum()
    assert magenta > 300  # the outlines of three boxes at least


def test_doctor_tells_what_is_here(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from huggingvis.app.commands import doctor

    monkeypatch.setattr(doctor, "TIMES", 1)
    facts = hvis(["doctor", "--json"]).document
    assert facts["packages"]["torch"] == torch.__version__ and facts["huggingvis"] == __version__
    times = facts["devices"][0]["ms_of_512x512_product"]
    assert facts["devices"][0]["device"] == "cpu" and times["float32"] > 0
    assert facts["folders"]["output"]["free"] > 0
    assert "cpu" in hvis(["doctor"]).out


def test_doctor_says_what_optional_parts_are_for(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each extra of the project has a meaning; one that is absent is no fault, and one command adds it."""
    import tomllib

    from huggingvis.app.commands import doctor

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"])
    monkeypatch.setattr(doctor, "_extras", lambda: {"book": {"matplotlib": None}, "test": {"pytest": "9"}})
    monkeypatch.setattr(doctor, "_fonts", lambda: dict.fromkeys(doctor.FONTS))
    monkeypatch.setattr(doctor, "TIMES", 1)
    said = hvis(["doctor"])
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "book building the book: not installed (matplotlib)" in lines and "missing" not in said.out
    assert "test the library's own tests: installed" in lines
    assert sum("pip install" in line for line in lines) == 1 and "[NAME]" in said.out
    assert any(line.startswith("Chinese not found; only needed to") for line in lines)


def test_inspect_reads_checkpoints_and_pictures(hvis: Any, tiny_model: Path) -> None:
    facts = hvis(["inspect", tiny_model / "unet.safetensors", "--json"]).document
    assert (
        facts["format"] == "safetensors" and set(facts["dtypes"]) == {"F16", "F32", "I8"} and len(facts["sha256"]) == 64
    )
    path = hvis(["generate", FOX, "--model", tiny_model, "--json", *SHORT]).document["pictures"][0]["path"]
    told = hvis(["inspect", path, "--json"]).document
    assert told["request"]["prompt"]["text"] == FOX and told["made"]["batch_index"] == 0
    assert told["parameters"].startswith(FOX)
    assert FOX in hvis(["inspect", path]).out
    assert hvis(["inspect", "judge-world", "--json"]).document["format"] == "model folder"


def test_inspect_describes_model_and_run_folders(hvis: Any, tiny_model: Path, tmp_path: Path) -> None:
    model = hvis(["inspect", tiny_model, "--json"]).document
    assert (model["format"], model["name"], model["family"], model["size"]) == (
        "model folder",
        "small",
        "tiny",
        [32, 32],
    )
    sizes = {path.stem: path.stat().st_size for path in tiny_model.glob("*.safetensors")}
    assert {name: part["bytes"] for name, part in model["parts"].items()} == sizes
    assert model["bytes"] == sum(sizes.values()) and model["parts"]["unet"]["numbers"] > 1000
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    numbers = ["--data", f"folder:{tmp_path / 'photos'}", "--size", "8", "--widths", "8", "--latent-dim", "2",
               "--likelihood", "gaussian", "--sample-every", "0", "--batch", "2"]  # fmt: skip
    assert hvis(["train", "vae", *numbers, "--steps", 1, "--run", "runs/mine"]).code == 0
    run = hvis(["inspect", "runs/mine", "--json"]).document
    assert (run["format"], run["recipe"], run["steps"], run["asked"]["size"]) == ("run folder", "vae", 1, 8)
    assert run["parts"] and "vae" in hvis(["inspect", "runs/mine"]).out
    assert hvis(["models", "--json"]).document == hvis(["models", "list", "--json"]).document
    made = hvis(["generate", "--model", "runs/mine", "-n", 2, "--grid", "--json"]).document
    assert [made["pictures"][0]["path"], made["grid"]] == ["out/00001-mine.png", "out/00003-grid-mine.png"]
    assert pixels(made["grid"]).shape == (128 + 16, 2 * (128 + 8) + 8, 3)
    assert hvis(["inspect", tmp_path / "photos"]).code == 3


def test_preferences_are_read_and_flags_go_before_them(
    hvis: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text(f'device = "cpu"\nmodel = "{tiny_model}"\noutput = "kept"\n')
    monkeypatch.setenv("HVIS_CONFIG", str(settings))
    assert hvis(["generate", FOX, *SHORT]).out.startswith("kept/00001-")
    assert hvis(["generate", FOX, "-o", "there", *SHORT]).out.startswith("there/00001-")
    settings.write_text('devise = "cpu"\n')
    said = hvis(["generate", FOX])
    assert said.code == 2 and "'device'" in said.paragraph and "mine.toml" in said.paragraph
    monkeypatch.setenv("HVIS_CONFIG", str(tmp_path / "absent.toml"))
    assert hvis(["doctor"]).code == 3


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = "import sys; from huggingvis.app.cli import main; sys.exit(main(['catalog', 'metrics']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_fault_of_ours_is_an_apology_with_the_way_to_its_traceback(
    hvis: Any, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    from huggingvis import api

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("left and right were swapped")

    monkeypatch.setattr(api, "inspect", broken)
    said = hvis(["inspect", tiny_model / "unet.safetensors", "--json"])
    assert said.code == 70 and said.document["error"]["exit_code"] == 70
    assert "HVIS_TRACEBACK=1" in said.paragraph and "swapped" in said.paragraph and "Traceback" not in said.err
    monkeypatch.setenv("HVIS_TRACEBACK", "1")
    assert "Traceback" in hvis(["inspect", "x"]).err


def test_evaluate_explains_its_table_and_how_many_prompts_there_were(hvis: Any) -> None:
    said = hvis(["evaluate", "--prompts", 1])
    assert said.code == 0, said.err
    assert "floor: " in said.out and "ceiling: " in said.out
    assert "6 prompts in each language, not 1" in said.paragraph


def test_a_refusal_names_the_flag_that_mends_it(hvis: Any, tmp_path: Path) -> None:
    sizes = hvis(["train", "ddpm", "--run", str(tmp_path / "run"), "--net.channels", "16,32", "--net.blocks", 1])
    assert sizes.code == 2 and "`--net.channels 32,64 --net.attention 0,1`" in " ".join(sizes.paragraph.split())
    device = hvis(["generate", "a red star", "--device", "meta"])
    assert (
        device.code == 2 and "..`" not in device.paragraph and ". `hvis doctor`" in " ".join(device.paragraph.split())
    )
    lora = tmp_path / "lora.safetensors"
    save_file({"unet.mid_block.to_q_lora.down.weight": torch.zeros(4, 8)}, lora)
    model = hvis(["generate", "a red star", "--model", str(lora)])
    assert model.code == 3 and "as a LoRA (--lora)" in " ".join(model.paragraph.split())
