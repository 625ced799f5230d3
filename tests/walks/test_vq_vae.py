"""VQ-VAE on tiny pictures: both stages learn, the run loads again, draws the same from the same seed, and resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

import huggingvis as hv
from huggingvis.core import config as records
from huggingvis.core.errors import UsageError
from huggingvis.core.flags import parse
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.objectives.vq_vae import VQVAE, VectorQuantised
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.recipes.token_stage import (
    FSQ,
    LFQ,
    Averaged,
    ByGradient,
    CollapseWatch,
    TokenStage,
    begin_at_mean,
    fresh,
)
from huggingvis.recipes.variational import vq_vae
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.run import Run

STAGE = {"width": 16, "blocks": 1, "steps": 60, "batch": 8, "lr": 4e-3, "quantiser": {"kind": "Averaged", "codes": 16}}
SMALL = {
    "autoencoder": STAGE, "prior": {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.0}, "batch": 8, "steps": 40,
    "lr": 1e-2, "warmup": 0, "ema": 0.9, "sample_every": 20,
}  # fmt: skip


def folder(path: Path, classes: tuple[str, ...] = ("upright", "lying"), colour: bool = False) -> str:
    """24 pictures of 8 x 8: a bright bar at one of four places, upright or lying."""
    for i in range(24):
        pixels = np.full((8, 8, 3), 20, np.uint8)
        bar = slice(1 + i // 2 * 2 % 6, 3 + i // 2 * 2 % 6)
        pixels[(slice(None), bar) if i % 2 == 0 else (bar, slice(None))] = (240, 180, 60) if colour else 230
        place = path / classes[i % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:03d}.png")
    return f"folder:{path}"


def train(path: Path, numbers: Mapping[str, Any], resume: bool = False) -> Run:
    config = records.from_dict(vq_vae.Config, {"size": 8, **numbers})
    return vq_vae.train(config, Setting(path, resume=resume, progress=False))


def course(run: Run, key: str) -> list[float]:
    return [record[key] for record in run.metrics() if key in record]


def drawn(system: System, prompt: str = "", count: int = 2, seed: int = 3) -> np.ndarray:
    request = Request(Prompt(prompt), Canvas(count=count), replace(system.defaults, seed=seed))
    return np.stack([p.pixels for p in generate(system, request)])


def test_vq_vae_learns_loads_and_draws(tmp_path: Path) -> None:
    run = train(tmp_path / "run", {**SMALL, "data": folder(tmp_path / "data")})
    stage = Run.open(run.path / "autoencoder")
    uniform, bits = course(stage, "validation._bits_per_dim"), course(run, "validation._bits_per_dim")
    assert uniform[-1] < uniform[0]
    assert bits[-1] < uniform[-1]  # codes of a prior that learnt cost less than log K each
    assert course(run, "validation._nats")[-1] < 4 * np.log(16)
    assert all(1 <= used <= 16 for used in course(stage, "loss._perplexity"))
    sheets = [p.name for part in (stage, run) for p in sorted(part.samples.iterdir())]
    assert sheets == [f"step-000000{n}.png" for n in (20, 40, 60, 20, 40)]
    system = bind_run(run.path)
    assert system.spec.size == (8, 8) and system.spec.card["classes"] == ["lying", "upright"]
    first = drawn(system, "upright")
    assert first.shape == (2, 8, 8, 3) and np.array_equal(first, drawn(system, "Upright"))
    assert np.abs(drawn(system, "upright", count=1, seed=4)[0].astype(int) - first[1]).max() <= 1
    assert any(not np.array_equal(drawn(system, "upright", 4, s), drawn(system, "lying", 4, s)) for s in (0, 9))
    with pytest.raises(UsageError, match="8 x 8 pixels and no other"):
        generate(system, Request(canvas=Canvas(width=16, height=16)))
    model = system.generator(Request())
    assert isinstance(model, VQVAE)
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    assert model.encode(x).shape == (2, 2, 2) and model.decode(model.encode(x)).shape == x.shape
    assert bool((model.log_prob(x) < 0).all())


def test_vq_vae_resumes_to_the_same_bits(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "flip": True, "autoencoder": {**STAGE, "steps": 6}}
    straight = train(tmp_path / "straight", {**numbers, "steps": 6})
    train(tmp_path / "broken", {**numbers, "steps": 2})
    again = train(tmp_path / "broken", {**numbers, "steps": 6}, resume=True)
    for a, b in ((straight.path, again.path), (straight.path / "autoencoder", again.path / "autoencoder")):
        one, two = (Run.open(path).checkpoints()[-1] for path in (a, b))
        assert one.step == two.step and one.names() == two.names()
        for name in one.names():
            first, second = one.tensors(name), two.tensors(name)
            assert [key for key in first if not torch.equal(first[key], second[key])] == []


QUANTISERS = [
    {"kind": "ByGradient", "codes": 16, "dim": 4}, {"kind": "FSQ", "levels": [4, 4]}, {"kind": "LFQ", "bits": 4},
]  # fmt: skip


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda q: q["kind"])
@pytest.mark.parametrize("likelihood", ["grey", "gaussian"])
def test_other_quantisers_and_pixels(tmp_path: Path, quantiser: dict[str, Any], likelihood: str) -> None:
    stage = {**STAGE, "quantiser": quantiser, "likelihood": likelihood, "steps": 30}
    numbers = {**SMALL, "autoencoder": stage, "channels": 1, "conditional": False, "steps": 4}
    run = train(tmp_path / "run", {**numbers, "data": folder(tmp_path / "data")})
    losses = course(Run.open(run.path / "autoencoder"), "validation.reconstruction")
    assert losses[-1] < losses[0] and course(run, "validation._bits_per_dim") == []
    system = bind_run(run.path)
    assert drawn(system).shape == (2, 8, 8, 1)
    with pytest.raises(UsageError, match="without words or classes"):
        drawn(system, "upright")


@pytest.mark.parametrize("net", ["residual", "latent"])
def test_bfloat16(tmp_path: Path, net: str) -> None:
    stage = {**STAGE, "net": net, "steps": 12, "halvings": 1}
    data = folder(tmp_path / "data", colour=True)
    run = train(tmp_path / "run", {**SMALL, "data": data, "autoencoder": stage, "steps": 6, "precision": "bf16"})
    told = Run.open(run.path / "autoencoder")
    assert course(told, "validation.reconstruction")[-1] < 10 and course(told, "loss._perplexity")[-1] > 1.5
    weights = told.weights("autoencoder")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert weights["quantiser.codebook"].dtype == torch.float32 and float(weights["quantiser.usage"].sum()) > 0.1
    assert drawn(bind_run(run.path), "lying").shape == (2, 8, 8, 3)


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_a_run_goes_to_diffusers_and_back(hvis: Any, tmp_path: Path, likelihood: str) -> None:
    import diffusers

    stage = {**STAGE, "net": "latent", "likelihood": likelihood, "steps": 5, "halvings": 1}
    data = folder(tmp_path / "data", colour=True)
    run = train(tmp_path / "run", {**SMALL, "data": data, "autoencoder": stage, "steps": 2})
    said = hvis(["models", "save", run.path, "saved/vq", "--json"])
    assert said.code == 0, said.err
    there = Path(json.loads(said.out)["path"])
    assert sorted(p.name for p in there.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    theirs = diffusers.VQModel.from_pretrained(there, low_cpu_mem_usage=False)
    ours, again = bind_run(run.path), hv.load(there, device="cpu")
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    codes = ours.encode(x)
    with torch.no_grad():
        kept = ours.decode(codes)
        assert torch.allclose(theirs(x).sample.clamp(-1, 1), kept.clamp(-1, 1), atol=1e-5)
    assert again.spec.size == (8, 8) and torch.equal(again.encode(x), codes)
    assert torch.allclose(again.decode(codes), kept.clamp(-1, 1), atol=1e-5)
    assert "saved/vq is there already" in hvis(["models", "save", run.path, "saved/vq"]).err


@pytest.mark.parametrize(
    ("stage", "place", "word"),
    [
        ({}, "x", "--autoencoder.net latent"),
        ({"net": "latent", "likelihood": "grey"}, "x", "chances of white"),
        ({"net": "latent", "quantiser": {"kind": "FSQ", "levels": [4, 4]}}, "x", "FiniteScalarQuantiser"),
        ({"net": "latent"}, "x.safetensors", "written as a folder"),
    ],
    ids=["residual", "grey", "no codebook", "one file"],
)
def test_what_diffusers_has_no_class_for_is_not_saved(tmp_path: Path, stage: Any, place: str, word: str) -> None:
    numbers = {**SMALL, "data": folder(tmp_path / "data"), "autoencoder": {**STAGE, **stage, "steps": 1}, "steps": 1}
    model = bind_run(train(tmp_path / "run", numbers).path)
    with pytest.raises(UsageError, match=word):
        hv.save(model, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]


@pytest.mark.parametrize("likelihood", ["logistic", "gaussian", "grey"])
def test_the_decoder_begins_at_the_mean_of_the_pictures(likelihood: Literal["logistic", "gaussian", "grey"]) -> None:
    torch.manual_seed(0)
    config = TokenStage(width=16, likelihood=likelihood)
    model = fresh(config, Facts("", 1, 8, 3))
    x = torch.tensor([-0.8, 0.1, 0.6])[:, None, None] + 0.3 * torch.rand(64, 3, 8, 8)
    objective, rng = VectorQuantised(model.autoencoder, model.likelihood), torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = float(objective.validate({"image": x}, rng)["reconstruction"])
        begin_at_mean(model, x)
        after = float(objective.validate({"image": x}, rng)["reconstruction"])
        shown = model.decode(model.encode(x)).mean((0, 2, 3))
    assert after < before - 0.05 and torch.allclose(shown, x.mean((0, 2, 3)), atol=0.15)


def test_quantisers_are_chosen_by_name() -> None:
    words = ["--autoencoder.quantiser", "FSQ", "--autoencoder.quantiser.levels", "7,5"]
    assert parse(vq_vae.Config, words).autoencoder.quantiser == FSQ((7, 5))
    sizes = [choice().build().size for choice in (Averaged, ByGradient, FSQ, LFQ)]
    assert sizes == [512] * 4
    with pytest.raises(UsageError, match="FSQ"):
        parse(vq_vae.Config, ["--autoencoder.quantiser", "FSK"])


def test_numbers_that_do_not_go_together_leave_no_folder(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", classes=("all",))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"size": 10}, "multiple of 4, found 10"),
        ({"autoencoder": {**STAGE, "quantiser": {"kind": "FSQ", "levels": [1]}}}, "2 values or more"),
        ({"prior": {"dim": 10, "heads": 4}}, "multiple of its heads"),
        ({"data": f"folder:{tmp_path / 'data' / 'all'}", "conditional": True}, "no classes to condition on"),
    ]
    for numbers, message in wrong:
        with pytest.raises(UsageError, match=message):
            train(tmp_path / "run", {**SMALL, "data": data, **numbers})
        assert not (tmp_path / "run").exists()


def test_a_collapsed_codebook_is_named_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "run", {})
    for step, used, said in ((500, 2.0, True), (500, 60.0, False), (250, 2.0, False), (510, 2.0, False)):
        CollapseWatch(512)(TrainStep(step, 1000, {"loss._perplexity": used}, {}, None, None, run))  # type: ignore[arg-type]
        heard = capsys.readouterr().err
        assert ("step 500: Codebook collapse: the pictures of a batch share 2.0 of 512 codes" in heard) is said
        assert (heard != "") is ("FSQ" in heard) is said
    (record,) = run.metrics()
    assert (record["step"], record["trouble"].partition(":")[0]) == (500, "Codebook collapse")
