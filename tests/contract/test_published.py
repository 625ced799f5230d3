"""Published figures and peers: commands that train what a row says, figures that agree with each other, the page."""

from __future__ import annotations

import importlib
import io
import json
import math
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import digits, train
from torch import Tensor, nn

from huggingvis.core.catalog import systems
from huggingvis.core.media import Picture

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this copy has no benchmarks/")
TINY: dict[str, dict[str, Any]] = {
    "autoencoder": {"widths": (8,), "latent_dim": 2},
    "vae_50": {"widths": (8,), "latent_dim": 2},
    "cvae_quadrants_3": {"widths": (8, 8), "latent_dim": 2, "seen": 3},
    "cgan": {"net": {"noise": 8, "label": 8, "joint": 8, "picture": 8, "critic_label": 8, "critic_joint": 8}},
    "nice": {"net": {"width": 8, "depth": 1}},
}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which imports its neighbours; afterwards none of them is left."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module("published")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def test_planned_commands_train_what_their_rows_say(published: ModuleType) -> None:
    from huggingvis.core.catalog import find_recipe
    from huggingvis.core.config import from_dict
    from huggingvis.core.flags import parse

    parts = (published.ROWS, *(chapters.rows for chapters in published.EXPERIMENTS.values()))
    assert len(published.ALL) == sum(map(len, parts))  # no name twice
    told = published.plan()
    assert all(f"\n{name:<22} ~" in told for name in published.ALL)
    before: set[str] = set()
    for name, row in published.ALL.items():
        kind = find_recipe(row.recipe).Config
        words = shlex.split(published.planned(name))
        assert words[:5] == ["hvis", "train", row.recipe, "--run", f"runs/{name}"]
        assert parse(kind, words[5:]) == from_dict(kind, row.config)
        assert set(row.needs) <= before, f"{name} is built on {row.needs}, which do not stand before it"
        before.add(name)


def test_rows_are_measured_by_words_that_the_command_line_knows(published: ModuleType) -> None:
    from huggingvis.app.arguments import Parser
    from huggingvis.app.commands import evaluate
    from huggingvis.recipes.held_out import HeldOut

    measures = importlib.import_module("published_measures")
    parser = Parser(prog="hvis evaluate")
    evaluate.arguments(parser, [])
    for name, row in published.ALL.items():
        for words in row.evaluate:
            asked = measures.Asked(split="train", pictures=7, draws=3).words(row, words)
            how = evaluate.evaluator(parser.read([name, *asked]))
            if "--path-length" in words:
                assert asked == shlex.split(words), name  # no pictures to choose from
                continue
            assert vars(how)["pictures"].split.value == "train", name
            if isinstance(how, HeldOut):
                assert (how.pictures.limit, how.draws) == (7, 3), name


def _telling(figure: str) -> str:
    """Words of `hvis evaluate` without which a figure is not told; "" where any may do."""
    kind, _, number = figure.partition("_")
    known = {"swd": "--swd ", "path": "--path-length ", "probe": "--probe ", "accuracy": "--accuracy "}
    steps = f"--steps {number} " if number else "--frechet "
    return steps if kind == "frechet" else known.get(kind, "")


def test_experiments_are_of_rows_and_their_verdicts_can_go_both_ways(published: ModuleType) -> None:
    page, asked = importlib.import_module("experiment_page"), importlib.import_module("experiments")
    for experiment in (e for chapters in published.EXPERIMENTS.values() for e in chapters.experiments):
        named = {experiment.placed(item)[0] for item in experiment.order}
        assert named <= set(published.ALL) or experiment.curve
        assert len(experiment.order) != 1 and all(experiment.placed(item)[1] for item in experiment.order)
        assert experiment.order or experiment.commands
        for row, figure in map(experiment.placed, experiment.order) if named <= set(published.ALL) else ():
            words = [said for said in published.ALL[row].evaluate if _telling(figure) in f"{said} "]
            assert not _telling(figure) or len(words) == 1, (row, figure)
        for command, minutes in experiment.commands:
            script = shlex.split(command)
            assert minutes > 0 and (script[0] == "hvis" or (FOLDER.parent / script[1]).is_file()), command
    two = asked.Experiment(about="", asked="", taken="", expected="", figure="f", order=("a", "b"))

    def records(a: float, b: float, error: float | None) -> dict[str, Any]:
        result = {"a": a, "b": b}
        return {k: {"f": {"value": v, "error": error}} for k, v in result.items()}

    assert page.verdict(two, records(1.0, 2.0, None)) == "as expected"
    assert page.verdict(two, records(2.0, 1.0, 0.1)) == "not as expected: b is ahead of a"
    assert "by 1.4 standard errors only" in page.verdict(two, records(1.0, 1.2, 0.1))
    assert page.verdict(replace(two, more=True), records(1.0, 2.0, 0.1)) == "not as expected: b is ahead of a"
    alike = replace(two, alike=True)
    assert page.verdict(alike, records(1.0, 1.3, 0.1)) == "as expected"
    assert page.verdict(alike, records(1.5, 1.0, 0.1)) == "not as expected: a and b are 3.5 standard errors apart"
    assert page.verdict(alike, records(1.0, 1.1, None)) == "not as expected: a is not b"
    assert page.verdict(two, {"a": records(1.0, 1.0, None)["a"]}) == "open: b not on record yet"
    half = {**records(1.0, 1.0, None), "b": {}}
    assert page.verdict(two, half) == "open: b:f not measured yet"


def test_a_curve_is_on_the_page_with_its_numbers(
    published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, asked = importlib.import_module("experiment_page"), importlib.import_module("experiments")
    curves = importlib.import_module("experiment_curves")
    monkeypatch.setattr(curves, "CURVES", tmp_path)
    monkeypatch.setattr(curves, "HERE", tmp_path.parent)
    one = asked.Experiment(about="A", asked="b", taken="c", expected="d", commands=(("hvis", 1),), curve="it")
    chapters = asked.Chapters(title="t", figures="", rows={}, experiments=(one,), left_out=())

    def told() -> str:
        text: str = page.page(chapters, {}, published.planned)
        return text

    assert "Not measured yet" in told()
    rows = {"a": {"bits": {"mean": 1.5, "error": 0.25}, "of": "w", "seconds": 3.0}, "b": {"spread": 2.0}}
    (tmp_path / "it.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    assert "| | bits | spread |\n|---|---|---|\n| a | 1.5 ± 0.25 |  |\n| b |  | 2 |" in told()
    cells = [{"sampler": "x", "nfe": 5, "psnr": None, "frechet": 2.0}, {"sampler": "x", "nfe": 10, "frechet": 1.0}]
    (tmp_path / "it.json").write_text(json.dumps({"rows": cells}), encoding="utf-8")
    assert "| | frechet 5 | frechet 10 |\n|---|---|---|\n| x | 2 | 1 |" in told()
    points = [{"sampler": "x", "steps": 5, "frechet": 2.5, "seconds": 1.0}]
    (tmp_path / "it.json").write_text(json.dumps({"knob": "steps", "points": points}), encoding="utf-8")
    (tmp_path / "it.png").touch()
    assert f"| x 5 | 2.5 |\n\n![it]({tmp_path.name}/it.png)" in told()


def test_what_is_fitted_in_one_go_has_no_epochs(
    published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingvis.train.run import Run

    measures = importlib.import_module("published_measures")
    monkeypatch.setattr(measures, "measure", lambda row, run, asked: ({}, 0))
    run = Run.create(tmp_path / "run", {"recipe": "analytic_dpm", "config": {"batch": 64}})
    run.log(100, {"gamma.last": 1.0})
    asked = Namespace(split="validation", root=None, pictures=None, draws=None)
    assert published.figures("analytic_dpm", run, asked)["epochs"] is None


def test_the_page_is_that_of_the_records(published: ModuleType) -> None:
    records = published.recorded()
    assert set(records) <= set(published.ALL)
    assert published.PAGE.read_text(encoding="utf-8") == published.page(records), "run published.py table"
    for path, chapters in published.EXPERIMENTS.items():
        written = path.read_text(encoding="utf-8")
        assert written == published.experiments(chapters, records, published.planned), "run published.py table"


@pytest.mark.parametrize("name", TINY)
def test_a_run_is_measured(name: str, published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything the row compares is told, finite, and on the page; figures that say the same thing agree."""
    row = published.ROWS[name]
    alone = replace(row, evaluate=tuple(words for words in row.evaluate if "--judge" not in words))
    monkeypatch.setitem(published.ALL, name, alone)
    numbers = {"data": digits(tmp_path / "digits", count=60), "steps": 2, "batch": 4, "sample_every": 1}
    run = train(row.recipe, tmp_path / name, {**numbers, **TINY[name]})
    found = published.figures(name, run, Namespace(split="validation", root=None, pictures=50, draws=3))
    result = {key: figure["value"] for key, figure in found["result"].items()}
    assert set(row.paper) <= set(result) and found["pictures"] == (5 if name == "cgan" else 10)
    told = {**importlib.import_module("record_run").record(run.path), "published": found, "sheet": "benchmarks/x.png"}
    assert json.dumps(told, allow_nan=False)
    page = published.page({name: told})
    assert f"**{result[next(iter(row.paper))]:.5g}**" in page and page.count("not trained yet") >= len(published.ROWS)
    assert f"{row.curve}` from " in page and "](x.png)" in page
    if name == "nice":
        dims = 144
        assert result["log_density"] == pytest.approx(dims * (8 - result["bits_per_dim"]) * math.log(2), abs=0.02)
    if name == "autoencoder":
        assert result["pca"] < result["squared_error"]  # two components beat two steps


def test_a_training_of_chapter_4_is_measured(published: ModuleType, tmp_path: Path) -> None:
    net = {"channels": (8, 8), "attention": (0, 0), "blocks": 1}
    numbers = {"data": digits(tmp_path / "digits", count=60), "steps": 2, "batch": 4, "sample_every": 1, "net": net}
    run = train("vdm", tmp_path / "vdm", {**numbers, "samples": 2, "sample_steps": 2})
    threads = torch.get_num_threads()
    found = published.figures("vdm", run, Namespace(split="validation", root=None, pictures=5, draws=2))
    assert torch.get_num_threads() == threads
    bits = found["result"]["bits_per_dim"]
    assert found["pictures"] == 5 and 1.0 < bits["value"] < 20.0 and bits["error"] > 0
    told = {**importlib.import_module("record_run").record(run.path), "published": found}
    chapter = published.EXPERIMENTS[FOLDER / "foundations.md"]
    assert "2 steps, " in published.experiments(chapter, {"vdm": told}, published.planned)
    assert published.budget.__doc__ and published._placed("runs/vdm", tmp_path) == str(tmp_path / "vdm")


def test_budgets_are_of_rows_that_take_steps(published: ModuleType, tmp_path: Path) -> None:
    from huggingvis.core.catalog import find_recipe
    from huggingvis.core.config import from_dict
    from huggingvis.core.errors import UsageError

    for name, row in {row.recipe: (name, row) for name, row in published.ALL.items()}.values():
        if row.recipe in ("analytic_dpm", "gan_inversion"):
            with pytest.raises(UsageError, match=f"{row.recipe!r} takes no steps: it is fitted in one go"):
                published.budget(name, tmp_path)
        else:
            from_dict(find_recipe(row.recipe).Config, published.paced(name, tmp_path))


STYLES = {"size": 8, "latent_dim": 8, "mapping_layers": 2, "width": 8, "most": 8}
SMALL_ROWS: dict[str, tuple[dict[str, Any], tuple[str, ...], set[str]]] = {
    "dcgan": ({"width": 4, "latent_dim": 4}, ("--probe 20",), {"probe", "probe_of_pixels"}),
    "stylegan": (
        STYLES,
        ("--path-length 8", "--swd 5"),
        {"path_w", "path_z", "swd_8", "swd_mean", "swd_8_floor", "swd_mean_floor"},
    ),
    "vq_vae": (
        {
            "autoencoder": {"width": 16, "blocks": 1, "steps": 2, "batch": 4},
            "prior": {"dim": 16, "depth": 1, "heads": 2},
        },
        ("",),
        {"log_likelihood", "bits_per_dim", "autoencoder_perplexity", "autoencoder_bits_per_dim"},
    ),
}  # fmt: skip
"""Numbers of a run that is over at once, words that suit so few pictures, and the figures that these tell."""


@pytest.mark.parametrize("name", SMALL_ROWS)
def test_a_training_of_the_first_chapters_is_measured(
    name: str, published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, words, keys = SMALL_ROWS[name]
    row = replace(published.ALL[name], evaluate=words)
    monkeypatch.setitem(published.ALL, name, row)
    side = small.get("size", 12)
    numbers = {"data": digits(tmp_path / "digits", count=80, side=side), "steps": 2, "batch": 4, "sample_every": 1}
    run = train(row.recipe, tmp_path / name, {**numbers, **small})
    found = published.figures(name, run, Namespace(split="validation", root=None, pictures=None, draws=None))
    result = {key: figure["value"] for key, figure in found["result"].items()}
    assert set(result) == keys and json.dumps(found, allow_nan=False)
    assert found["pictures"] == {"dcgan": 13, "stylegan": 5, "vq_vae": 13}[name]
    own = {k: v for k, v in importlib.import_module("record_run").record(run.path).items() if k == "stages"}
    if name == "dcgan":
        assert result["probe_of_pixels"] > 0.9  # bars that lie or stand
    if name == "stylegan":
        assert result["path_z"] > 0 and 0 < result["swd_8_floor"] < result["swd_8"] == result["swd_mean"] < 10_000
    if name == "vq_vae":
        last = own["stages"]["autoencoder"]["held_out"]
        assert result["autoencoder_perplexity"] == pytest.approx(last["_perplexity"], abs=1e-4)
        assert result["autoencoder_bits_per_dim"] == pytest.approx(last["_bits_per_dim"], abs=1e-4)
        with pytest.raises(published.UsageError, match="no held-out '_purity'"):
            importlib.import_module("published_measures").held_out(run, ("autoencoder._purity",))


def test_an_inversion_is_measured_and_shown(
    published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record names the generator's run as the plan does, its sheet is its own, its figure that of its run."""
    keeper = importlib.import_module("record_run")
    root = tmp_path / "huggingvis"
    shutil.copytree(Path(keeper.ROOT) / "recipes", root / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for field, value in {"HERE": tmp_path / "benchmarks", "TRAINED": tmp_path / "benchmarks" / "trained"}.items():
        monkeypatch.setattr(keeper, field, value)
    data = digits(tmp_path / "digits", side=8)
    model = train("stylegan", tmp_path / "runs" / "stylegan", {**STYLES, "data": data, "steps": 1, "batch": 4})
    numbers = {"model": str(model.path), "data": data, "count": 2, "search": {"steps": 3}}
    recipe, path = importlib.import_module("huggingvis.recipes.adversarial.gan_inversion"), tmp_path / "runs" / "found"
    setting = importlib.import_module("huggingvis.recipes.setting").Setting(path, progress=False)
    run = recipe.train(importlib.import_module("huggingvis.core.config").from_dict(recipe.Config, numbers), setting)
    given = Namespace(split="validation", root=None, pictures=None, draws=None)
    found = published.figures("gan_inversion", run, given)
    told = keeper.prove(run.path, "gan_inversion", {"published": found}, root=root)
    assert found["result"]["psnr"]["value"] == pytest.approx(told["held_out"]["psnr"], abs=1e-4)
    assert " --model runs/stylegan " in told["command"] and told["sheet"] == "benchmarks/trained/gan_inversion.png"
    sheet = Image.open(tmp_path / told["sheet"])
    assert sheet.size == Image.open(run.samples / "inverted.png").size and sheet.height > 2 * recipe.CELL


def test_a_budget_is_told_stage_by_stage(
    published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {
        "autoencoder": {"width": 16, "blocks": 1, "steps": 40_000, "batch": 4, "quantiser": {"codes": 16}},
        "prior": {"dim": 16, "depth": 1, "heads": 2}, "steps": 80_000, "batch": 8,
    }  # fmt: skip
    row = replace(published.ALL["vq_vae"], data=digits(tmp_path / "digits"), numbers=numbers)
    monkeypatch.setitem(published.ALL, "vq_vae", row)
    monkeypatch.setattr(published, "SECONDS", 0.3)
    first, second = published.budget("vq_vae", tmp_path).splitlines()
    assert first.startswith("autoencoder: ") and "the planned 40,000 steps take " in first
    assert second.startswith("vq_vae: ") and "the planned 80,000 steps take " in second
    minutes = [float(line.partition(" steps take ")[2].split()[0]) for line in (first, second)]
    assert float(second.rpartition(" ")[2].rstrip(")")) == pytest.approx(sum(minutes), abs=0.11)


def test_a_row_is_told_from_another_recipes_run(published: ModuleType, tmp_path: Path) -> None:
    from huggingvis.core.errors import UsageError

    run = Namespace(config={"recipe": "vae"}, path=tmp_path)
    with pytest.raises(UsageError, match="was trained by 'vae', the row 'nice' is of 'nice'"):
        published.figures("nice", run, Namespace())


def test_a_record_tells_every_loss_and_every_stage(published: ModuleType, tmp_path: Path) -> None:
    from huggingvis.core.catalog import find_recipe
    from huggingvis.core.config import to_dict
    from huggingvis.train.run import Run

    run = Run.create(tmp_path / "whole", {"recipe": "gan", "config": to_dict(find_recipe("gan").Config())})
    run.log(50, {"critic": 1.0, "lr.critic": 0.1, "grad_norm.critic": 2.0, "alarm": "collapse", "seconds": 3.0})
    run.log(50, {"validation._rank": 0.5})
    Run.create(run.path / "first", {"stage": "first"}).log(40, {"loss": 2.0, "seconds": 4.0})
    told = importlib.import_module("record_run").record(run.path)
    assert told["seconds"] == 7.0 and told["steps"] == 50 and told["held_out"] == {"_rank": 0.5}
    assert told["curves"] == {"critic": [[50, 1.0]], "validation._rank": [[50, 0.5]]}
    assert told["stages"]["first"] == {"seconds": 4.0, "steps": 40, "held_out": {}, "curves": {"loss": [[40, 2.0]]}}


@pytest.mark.parametrize(("name", "shown"), [("cvae_quadrants_3", 4), ("cgan", 10), ("nice", 6)])
def test_a_run_becomes_its_proof(
    name: str, shown: int, published: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record, sheet and mark by one call, and the page finds them; the mark is written once, in the system's recipe."""
    keeper = importlib.import_module("record_run")
    recipe, root = published.ROWS[name].recipe, tmp_path / "huggingvis"
    shutil.copytree(Path(keeper.ROOT) / "recipes", root / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for field, value in {"HERE": tmp_path / "benchmarks", "TRAINED": tmp_path / "benchmarks" / "trained"}.items():
        monkeypatch.setattr(keeper, field, value)
    numbers = {"data": digits(tmp_path / "digits", count=60), "steps": 2, "batch": 4, "sample_every": 1}
    run = train(recipe, tmp_path / name, {**numbers, **TINY[name]})
    before = {system.name: system.trained for system in systems(root=root)}
    told = keeper.prove(run.path, name, {"published": {"row": name}}, root=root)
    after = {system.name: system.trained for system in systems(root=root)}
    owner = {"cvae_quadrants": "CVAE", "cgan": "CGAN", "nice": "NICE"}[recipe]
    assert {key for key in after if before[key] != after[key]} == (set() if before[owner] else {owner})
    assert after[owner]
    folder = tmp_path / "benchmarks" / "trained"
    assert published.recorded(folder) == {name: told} and told["sheet"] == f"benchmarks/trained/{name}.png"
    sheet = Image.open(folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size <= 150_000
    rows = np.asarray(sheet.convert("L"))[:, sheet.width // 2 :]
    edges = np.diff(np.concatenate([[0], (rows < 250).mean(1) > 0.5, [0]]).astype(int))
    heights = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    tile = importlib.import_module("run_sheet").CELL
    assert int((heights == tile).sum()) == shown  # rows of dark pictures, with white, or a line of words, between
    assert "trained by" in keeper.mark(recipe, folder / "other.json", root)  # nothing is overwritten
    assert systems(root=root) == systems(root=root) and (folder / f"{name}.json").read_text().count("\n") >= 8


def test_sheets_are_small_or_refused(published: ModuleType) -> None:
    sheets = importlib.import_module("run_sheet")
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    made = sheets.small(Picture(noise[:256, :256]))
    assert len(made) <= sheets.MOST_BYTES < 256 * 256 * 3
    few = noise[:100, :100]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sheets.small(Picture(few))))), few)
    with pytest.raises(ValueError, match="bytes in 16 colours"):
        sheets.small(Picture(noise))


# ---- peers -----------------------------------------------------------------------------------------------------------


def numbers_of(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_flows_of_both_sides_are_of_one_size(published: ModuleType) -> None:
    """To 3 %; and what normflows' density is to us is one: equal by its own parts."""

    flows = importlib.import_module("family_flows")
    from huggingvis.nets.flows.glow import GlowConfig, glow
    from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp

    shape = (1, 28, 28)
    pairs = (
        (glow(GlowConfig(**flows.SIZES["glow"]), shape), flows._glow()),
        (realnvp(RealNVPConfig(**flows.SIZES["realnvp"]), shape), flows._realnvp()),
    )
    for ours, theirs in pairs:
        assert numbers_of(ours) == pytest.approx(numbers_of(theirs), rel=0.03)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    theirs = pairs[1][1].double()
    z, log_det = theirs.inverse_and_log_det((x.double() + 1) / 2)
    normal = sum(prior.log_prob(part) for prior, part in zip(theirs.q0, z, strict=True))
    want: Tensor = normal + log_det - 784 * math.log(2)
    assert torch.allclose(flows.Density(theirs).log_prob(x.double()), want, atol=1e-6)


def test_autoencoders_of_both_sides_are_of_one_size_and_scored_alike(published: ModuleType) -> None:

    autoencoders, tasks = importlib.import_module("family_autoencoders"), importlib.import_module("family_task")
    from huggingvis.objectives.vae import VAE, Bernoulli
    from huggingvis.recipes.sources import Facts
    from huggingvis.recipes.variational import vae

    theirs = autoencoders._pythae_vae(tasks.Task(Path(), 4, 1e-3, 0)).eval()
    hidden, latent = autoencoders.HIDDEN, autoencoders.LATENT
    ours = vae.network(vae.Config(widths=(hidden,), latent_dim=latent), Facts("mnist", 1, 28, 1))
    assert numbers_of(ours) == numbers_of(theirs)
    wrapped = VAE(autoencoders.Moments(theirs.encoder), autoencoders.Logits(theirs.decoder), Bernoulli(), latent)
    x = torch.randint(0, 2, (3, 1, 28, 28), generator=torch.Generator().manual_seed(0)).float()
    q, told = wrapped.posterior(2 * x - 1), theirs.encoder(x)
    assert torch.allclose(q.mean, told.embedding) and torch.allclose(q.logvar, told.log_covariance)
    pixels = theirs.decoder(q.mean).reconstruction
    want = theirs.loss_function(pixels, x, q.mean, q.logvar, q.mean)[1]
    found = -wrapped.likelihood.log_prob(wrapped.decoder(q.mean), 2 * x - 1).mean()
    assert float(found.detach()) == pytest.approx(float(want.detach()), rel=1e-5)
