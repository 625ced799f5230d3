"""Captions as bits: a small model learns what it sees, says it, goes on bit for bit and explains what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from refusals import refused
from small_runs import assert_same_weights, course, folder, picture, train

import huggingvis as hv
from huggingvis.codecs.words import learn_words
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.recipes.describing import open_describer
from huggingvis.recipes.loading import evaluation_of, measure_of
from huggingvis.train.run import Run

SAYS = ("an upright bar", "one lying bar, there")
SMALL: dict[str, Any] = {
    "eyes": "fresh", "size": 16, "words": 6, "batch": 16, "warmup": 10, "ema": 0.9, "scale": 1.0, "samples": 4,
    "sample_steps": 8, "sample_every": 0, "net": {"dim": 32, "depth": 1, "heads": 2},
}  # fmt: skip


def captioned(path: Path, count: int = 16) -> str:
    """A folder of upright and lying bars, each with what it shows in a text beside it."""
    path.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(picture(i % 2, i // 2, 16, colour=True)).save(path / f"{i:03d}.png")
        (path / f"{i:03d}.txt").write_text(SAYS[i % 2])
    return f"folder:{path}"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("captions")
    return train(
        "bit_captions", place / "run", {**SMALL, "data": captioned(place / "data"), "steps": 120, "sample_every": 40}
    )


def test_it_says_what_it_sees(taught: Run, tmp_path: Path) -> None:
    losses = course(taught, "validation.mse")
    assert losses[-1] < 0.1 < losses[0]
    files: list[Path] = []
    for label in (0, 1, 0):
        files.append(tmp_path / f"{len(files)}.png")
        Image.fromarray(picture(label, 2, 16, colour=True)).save(files[-1])
    said = hv.describe(files, taught.path, count=2)
    assert said == [[SAYS[label]] * 2 for label in (0, 1, 0)]
    assert hv.describe(Picture.from_pil(Image.open(files[1])), taught.path) == [[SAYS[1]]]
    written = (taught.samples / "step-00000120.txt").read_text().splitlines()
    assert len(written) == 4 and all("bar" in line for line in written)


def test_a_sentence_is_its_seed_s_whatever_is_asked_beside_it(taught: Run) -> None:
    say = open_describer(taught.path, torch.device("cpu"))
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert say(x, SeedNoise([4, 5, 6]))[1:] == say(x[1:], SeedNoise([5, 6]))


def test_it_is_measured(taught: Run) -> None:
    evaluation = evaluation_of(taught, torch.device("cpu"))
    assert evaluation is not None and set(evaluation.record["said"]) == {"words_shared"}
    share = evaluation.record["said"]["words_shared"]
    assert share["value"] > 0.8 > share["by_chance"]
    batch = {"image": torch.zeros(2, 3, 16, 16), "caption": list(SAYS)}
    measure = measure_of(taught, torch.device("cpu"))
    assert measure.each(batch, 2, 0)["mse"].shape == (2,)
    with pytest.raises(UsageError, match="no captions to compare with"):
        measure.each({"image": batch["image"]}, 2, 0)


def test_the_world_s_truth_is_told(tmp_path: Path) -> None:
    numbers = {**SMALL, "eyes": "world", "size": 64, "data": "world:40", "steps": 2, "words": 20, "batch": 4}
    run = train("bit_captions", tmp_path / "run", numbers)
    assert run.checkpoints()[-1].names() == ["net", "net.ema", "net.optim"]  # lent eyes stay where they are
    evaluation = evaluation_of(run, torch.device("cpu"))
    assert evaluation is not None
    said = evaluation.record["said"]
    assert set(said) == {"words_shared", "named", "true"} and said["true"]["value"] == 0.0


@pytest.mark.parametrize("eyes", ["fresh", "world"])
def test_it_goes_on_bit_for_bit(tmp_path: Path, eyes: str) -> None:
    numbers = {**SMALL, "data": captioned(tmp_path / "data"), "eyes": eyes}
    straight = train("bit_captions", tmp_path / "straight", {**numbers, "steps": 4})
    train("bit_captions", tmp_path / "broken", {**numbers, "steps": 2})
    assert_same_weights(straight, train("bit_captions", tmp_path / "broken", {**numbers, "steps": 4}, resume=True))


def test_what_is_looked_at_once_is_what_is_looked_at_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {**SMALL, "data": captioned(tmp_path / "data"), "eyes": "world", "steps": 3, "sample_every": 1}
    once = train("bit_captions", tmp_path / "once", numbers)
    monkeypatch.setattr("huggingvis.recipes.captioned.KEPT", 0)
    always = train("bit_captions", tmp_path / "always", numbers)
    assert course(always, "validation.mse") == pytest.approx(course(once, "validation.mse"), rel=1e-3)


def test_changed_captions_do_not_go_on(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": captioned(tmp_path / "data"), "steps": 2}
    run = train("bit_captions", tmp_path / "run", numbers)
    before = (run.path / "words.json").read_bytes()
    (tmp_path / "data" / "000.txt").write_text("something else")
    with pytest.raises(UsageError, match="The captions have changed"):
        train("bit_captions", tmp_path / "run", {**numbers, "steps": 4}, resume=True)
    assert (run.path / "words.json").read_bytes() == before
    learn_words(["other words", "of another run"], 50, 6).save(run.path / "words.json")
    with pytest.raises(FileProblem, match="does not fit"):
        open_describer(run.path, torch.device("cpu"))


def test_silent_pictures_are_left_out_and_long_captions_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = captioned(tmp_path / "data")
    (tmp_path / "data" / "003.txt").write_text(" ")
    (tmp_path / "data" / "004.txt").write_text("一根竖着的棒在图片的右边")
    run = train("bit_captions", tmp_path / "run", {**SMALL, "data": data, "steps": 1})
    said = capsys.readouterr().err
    assert "1 pictures have no caption" in said and "1 of 15 captions have more than 6 words" in said
    assert evaluation_of(run, torch.device("cpu")) is not None


def test_by_command(taught: Run, hvis: Any) -> None:
    for label in (0, 1):
        Image.fromarray(picture(label, 1, 16, colour=True)).save(f"{label}.png")
    words = ["--data", captioned(Path("data")), "--size", 16, "--eyes", "fresh", "--steps", 1, "--batch", 4]
    trained = hvis(["train", "bit_captions", "--run", "run", *words, "--net.dim", 16, "--net.depth", 1])
    assert trained.out.endswith("Sentences of pictures: hvis describe PICTURE --model run\n")
    assert hvis(["describe", "0.png", "--model", taught.path]).out == f"{SAYS[0]}\n"
    said = hvis(
        ["describe", "0.png", "1.png", "--model", taught.path, "--count", 2, "--seed", 7, "--steps", 6, "--json"]
    )
    assert [row["said"] for row in said.document] == [
        [{"seed": seed, "text": SAYS[label]} for seed in (7, 8)] for label in (0, 1)
    ]


def test_what_cannot_be_is_refused(taught: Run, tmp_path: Path, hvis: Any) -> None:
    Image.new("RGB", (16, 16)).save("a.png")
    Path("b.png").write_text("no picture")
    train("vae", tmp_path / "vae", {"data": folder(tmp_path / "bars"), "steps": 1, "batch": 4, "size": 8})
    run = ["--model", taught.path]
    refused(hvis(["describe"]), 2, "Name the pictures")
    refused(hvis(["describe", "a.png"]), 2, "Name a run that describes pictures")
    refused(hvis(["describe", "b.png", *run]), 3, "is not a PNG, JPEG or WebP picture")
    refused(hvis(["describe", "none.png", *run]), 3, "none.png")
    refused(hvis(["describe", "a.png", "--model", tmp_path / "vae"]), 2, "says nothing of pictures")
    refused(hvis(["describe", "a.png", *run, "--count", 0]), 2, "--count must be a whole number of at least 1")
    refused(hvis(["describe", "a.png", *run, "--sampler", "dimm"]), 2, "ddim")
    refused(hvis(["describe", "a.png", *run, "--seed", 2**63]), 2, "from a seed of 0 to")
    for number, sentence in (
        ({"size": 20}, "multiple of 8, found 20. Ask for --size"),
        ({"samples": 0}, "1 picture or more"),
        ({"net": {"depth": 0}}, "a block or more"),
    ):
        with pytest.raises(UsageError, match=sentence):
            train("bit_captions", tmp_path / "no", {**SMALL, "data": captioned(tmp_path / str(sentence)), **number})
    with pytest.raises(UsageError, match="no captions to learn from"):
        train("bit_captions", tmp_path / "none", {**SMALL, "data": folder(tmp_path / "plain"), "steps": 1})
    with pytest.raises(UsageError, match="left and right"):
        train("bit_captions", tmp_path / "flip", {**SMALL, "data": f"folder:{tmp_path}", "flip": True})
    with pytest.raises(UsageError, match="multiple of 4 and of its heads"):
        train("bit_captions", tmp_path / "net", {**SMALL, "data": "world:4", "net": {"dim": 30}})
