"""The command line on full and read-only disks, and stopped by ctrl-C: it says so and leaves nothing half-written."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import FOX, SMALL_VAE
from PIL import Image
from refusals import left, places_that_refuse, refused, small_files


def test_a_folder_that_cannot_be_written_is_found_before_the_model_is_loaded(hvis: Any, tmp_path: Path) -> None:
    for place, word in places_that_refuse(tmp_path):
        refused(hvis(["generate", FOX, "--model", "a model that does not exist", "-o", place]), 3, word)
        refused(hvis(["train", "vae", "--data", "nothing known", "--run", place / "run"]), 3, word)
        refused(hvis(["data", "preview", "nothing known", "-o", place / "sheet.png"]), 3, word)
    assert left() == []


def test_a_full_disk_is_found_before_sampling(hvis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    for words in (["generate", FOX, "--model", "not looked for"], ["train", "vae", "--data", "not looked for"]):
        refused(hvis(words), 3, "1,000 free", "Free some space")
    assert left() == []


def test_a_disk_that_fills_up_while_saving_leaves_no_part_of_a_picture(hvis: Any, tiny_model: Path) -> None:
    with small_files(500):
        said = hvis(["generate", FOX, "--model", tiny_model, "--steps", 1])
    refused(said, 3, "Could not write", "larger than this system allows")
    assert left() in ([], ["out"])


def test_ctrl_c_while_sampling_keeps_what_is_finished(
    hvis: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis.app.screen import Screen

    def interrupt_at(most: int) -> None:
        @contextlib.contextmanager
        def progress(self: Screen, label: str, total: int) -> Iterator[Callable[[int], None]]:
            yield lambda done: signal.raise_signal(signal.SIGINT) if done > most else None

        monkeypatch.setattr(Screen, "progress", progress)

    words = ["generate", FOX, "--model", tiny_model, "-n", 9, "--steps", 2]
    interrupt_at(0)
    refused(hvis(words), 130, "Stopped while sampling", "no picture was finished")
    assert left() == []
    interrupt_at(16)
    said = hvis([*words, "--json"])
    refused(said, 130, "8 of 9 pictures are finished and stay in out")
    assert said.document["error"]["kind"] == "Cancelled"
    assert left("out") == [f"{i:05d}-a-fox-to-the-left.png" for i in range(1, 9)]


SMALL_DDPM = ["--size", "8", "--net.channels", "16,16", "--net.blocks", "1", "--net.attention", "0,1", "--net.heads",
              "2", "--batch", "2", "--samples", "2", "--sample-steps", "4", "--steps", "3"]  # fmt: skip


def test_drawing_samples_is_told_and_ctrl_c_leaves_it_off_and_loses_no_step(
    hvis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis.train.progress import Lines, Reporter

    fit = importlib.import_module("huggingvis.train.fit")
    reporter = fit.reporter
    told: list[str] = []

    class Interrupting(Reporter):
        def show(self, done: int, values: object) -> None:
            return

        def tell(self, what: str) -> None:
            told.append(what)
            if what == "drawing samples, step 2 of 4":
                signal.raise_signal(signal.SIGINT)

    words = ["train", "ddpm", "--data", f"folder:{_pictures(tmp_path)}", *SMALL_DDPM]
    silent = hvis([*words, "--run", "runs/whole", "--sample-every", 0])
    assert silent.code == 0 and "step 3/3  drawing samples\n" in silent.err
    monkeypatch.setattr(fit, "reporter", lambda first, last, asked, speaks: Lines(first, last, interval=0.0))
    assert "step 3/3  drawing samples, step 4 of 4\n" in hvis([*words, "--run", "runs/told", "--sample-every", 0]).err
    monkeypatch.setattr(fit, "reporter", lambda first, last, asked, speaks: Interrupting(first, last))
    said = hvis([*words, "--run", "runs/stopped", "--sample-every", 2])
    refused(said, 130, "Stopped after step 2 of 3", "To go on: hvis train --run runs/stopped --resume")
    assert "Resume this run folder" not in said.paragraph  # the command says it
    assert [what for what in told if what] == ["drawing samples", *(f"drawing samples, step {n} of 4" for n in (1, 2))]
    assert left("runs/stopped/samples") == [] and not [name for name in left() if name.endswith(".tmp")]
    monkeypatch.setattr(fit, "reporter", reporter)
    assert hvis(["train", "--run", "runs/stopped", "--resume"]).code == 0
    assert _weights("stopped", 3) == _weights("whole", 3)


def _pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(folder / f"{i}.png")
    return folder


def _weights(run: str, step: int) -> dict[str, bytes]:
    found = {p.name: p.read_bytes() for p in Path("runs", run, "checkpoints", f"step-{step:08d}").glob("*.safetensors")}
    assert found
    return found


def test_a_run_that_is_extended_goes_on_by_the_advice_given(
    hvis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis.train.progress import Reporter

    class Interrupting(Reporter):
        def show(self, done: int, values: object) -> None:
            if done == 3:
                signal.raise_signal(signal.SIGINT)

    fit = importlib.import_module("huggingvis.train.fit")
    reporter = fit.reporter
    words = ["train", "vae", "--data", f"folder:{_pictures(tmp_path)}", *SMALL_VAE, "--steps", 2, "--run", "runs/vae"]
    assert hvis(words).code == 0
    monkeypatch.setattr(fit, "reporter", lambda first, last, asked, speaks: Interrupting(first, last))
    said = hvis(["train", "--run", "runs/vae", "--resume", "--steps", 5])
    refused(said, 130, "Stopped after step 3 of 5", "To go on: hvis train --run runs/vae --resume --steps 5")
    monkeypatch.setattr(fit, "reporter", reporter)
    assert hvis(["train", "--run", "runs/vae", "--resume", "--steps", 5, "--json"]).document["from_step"] == 3


def test_ctrl_c_while_training_saves_and_resumes(hvis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingvis.train.progress import Reporter

    class Interrupting(Reporter):
        def show(self, done: int, values: object) -> None:
            if done == 2:
                signal.raise_signal(signal.SIGINT)

    fit = importlib.import_module("huggingvis.train.fit")
    reporter = fit.reporter
    words = ["train", "vae", "--data", f"folder:{_pictures(tmp_path)}", *SMALL_VAE, "--steps", 4]
    monkeypatch.setattr(fit, "reporter", lambda first, last, asked, speaks: Interrupting(first, last))
    said = hvis([*words, "--run", "runs/stopped"])
    refused(said, 130, "Stopped after step 2 of 4", "To go on: hvis train --run runs/stopped --resume")
    assert not [name for name in left() if name.endswith(".tmp")]
    monkeypatch.setattr(fit, "reporter", reporter)
    assert hvis([*words, "--run", "runs/stopped"]).code == 2
    assert hvis(["train", "--run", "runs/stopped", "--resume"]).code == 0
    assert hvis([*words, "--run", "runs/whole"]).code == 0
    assert _weights("stopped", 4) == _weights("whole", 4)
