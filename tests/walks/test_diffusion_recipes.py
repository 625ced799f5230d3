"""Recipes of chapter 4 beyond plain DDPM, on tiny pictures: they learn, load, draw, resume, and refuse in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train

from huggingvis.core.catalog import find_recipe
from huggingvis.core.errors import Cancelled, FileProblem, UsageError
from huggingvis.core.request import Canvas, Prompt, Request
from huggingvis.edits.generate import fingerprint, generate
from huggingvis.processes.learned_gamma import LearnedGamma
from huggingvis.recipes.denoiser_training import UNetSizes
from huggingvis.recipes.denoisers import Model
from huggingvis.recipes.loading import bind_run, measure_of
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.progress import Lines
from huggingvis.train.run import Run

UNET = {"channels": [16, 16], "blocks": 1, "attention": [0, 0], "middle": 0, "heads": 2}
SMALL = {"samples": 4, "sample_steps": 2, "sample_every": 10, "warmup": 0, "batch": 8, "net": UNET, "size": 8,
         "lr": 3e-3, "ema": 0.9}  # fmt: skip


@torch.no_grad()
def test_the_narrowest_net_hears_time_and_class() -> None:
    """Which are added to each channel; a norm of one channel in a group would take them away again."""
    sizes = UNetSizes((8, 8), 1, (0, 0), 0, 1)
    model = Model.fresh(sizes, ("linear", "eps"), (1, 4, 4), classes=("a", "b"), pixels=True)
    for parameter in model.net.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    x, one = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.eye(2)
    plain = model.net(x, torch.tensor([100.0]), {"vector": one[:1]})
    for clock, vector in ((100.0, one[1:]), (500.0, one[:1])):
        assert float((model.net(x, torch.tensor([clock]), {"vector": vector}) - plain).abs().max()) > 1e-3


def test_edm_learns_loads_and_draws(tmp_path: Path) -> None:
    run = train("edm", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data"), "steps": 30})
    losses = course(run, "validation.mse")
    assert losses[-1] < 0.9 * losses[0] and losses[0] < 3  # unit variance: a net that says nothing loses 1
    system = bind_run(run.path)
    assert (system.defaults.sampler, system.defaults.schedule, system.defaults.steps) == ("heun", "karras", 18)
    pictures = drawn(system, "3")
    assert pictures.shape == (2, 8, 8, 1) and np.array_equal(pictures, drawn(system, "3"))


def test_preconditioning_on_a_table(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "steps": 20, "process": "linear", "conditional": False}
    run = train("edm", tmp_path / "run", numbers)
    assert course(run, "validation.mse")[-1] < course(run, "validation.mse")[0]
    assert drawn(bind_run(run.path)).std() > 0


def test_noise_levels_weigh_as_asked(tmp_path: Path) -> None:
    """Of a net that is asked for v, the error of the noise: nearly nothing where there is little signal."""
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "steps": 20, "prediction": "v"}
    plain = course(train("ddpm", tmp_path / "plain", numbers), "validation.mse")
    run = train("ddpm", tmp_path / "run", {**numbers, "weighting": "min-snr"})
    losses = course(run, "validation.mse")
    assert losses[-1] < losses[0] and abs(losses[0] - plain[0]) > 0.01
    assert drawn(bind_run(run.path)).std() > 0
    with pytest.raises(UsageError, match="no choice for 'weighting' called 'min_snr'. Did you mean 'min-snr'"):
        train("ddpm", tmp_path / "wrong", {**numbers, "weighting": "min_snr"})


@pytest.mark.parametrize(
    ("recipe", "names", "said"),
    [
        ("edm", {"process": "flow"}, "ends in noise alone, where that is infinite"),
        ("edm", {"prediction": "eps"}, "only the prediction edm scales"),
        ("improved_ddpm", {"process": "flow", "prediction": "v"}, "the process flow has none"),
        ("improved_ddpm", {"prediction": "edm"}, "found edm"),
        ("improved_ddpm", {"loss": "bound", "weighting": "p2"}, "itself says what each noise level counts"),
        ("ddpm", {"process": "learned"}, "is what the recipe vdm trains by"),
        ("vdm", {"gamma_0": 6.0}, "rises from data to noise"),
        ("vdm", {"process": "flow"}, "the clean picture cannot be had from the noise"),
        ("noisy_classifier", {}, "name its run folder with --denoiser"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, recipe: str, names: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(recipe, tmp_path / "run", {"data": digits(tmp_path / "data"), "size": 8, "net": UNET, **names})


@pytest.mark.parametrize("loss", [{}, {"loss": "bound", "by_loss": True}])
def test_improved_ddpm_learns_loads_and_draws(tmp_path: Path, loss: dict[str, Any]) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "conditional": False, **loss}
    run = train("improved_ddpm", tmp_path / "run", {**numbers, "steps": 40})
    losses = course(run, "validation._bits_per_dim")
    assert losses[-1] < losses[0]
    system = bind_run(run.path)
    assert system.defaults.sampler == "ddpm"
    assert drawn(system).shape == (2, 8, 8, 1)
    assert_a_ledger(run)


def assert_a_ledger(run: Run) -> None:
    """The numbers by which every diffusion model of pictures is compared, bits as the sum of their parts."""
    picture = torch.full((2, 1, 8, 8), 20 / 127.5 - 1)
    told = measure_of(Run.open(run.path), torch.device("cpu")).each({"image": picture}, 3, 0)
    assert set(told) == {"bits_per_dim", "prior", "steps", "data", "mse"}
    assert all(each.shape == (2,) and bool(torch.isfinite(each).all()) for each in told.values())
    assert torch.allclose(told["bits_per_dim"], told["prior"] + told["steps"] + told["data"])
    assert bool((told["prior"] > 0).all()) and bool((told["steps"] > 0).all()) and bool((told["data"] > 0).all())


@pytest.mark.parametrize("numbers", [{}, {"learn_ends": True, "depth": 20}, {"process": "gamma-cosine"}])
def test_vdm_learns_loads_draws_and_tells_its_bits(tmp_path: Path, numbers: dict[str, Any]) -> None:
    run = train("vdm", tmp_path / "run", {**SMALL, "data": digits(tmp_path / "data"), "steps": 40, "gamma_lr": 0.02,
                                          "gamma_every": 1, **numbers})  # fmt: skip
    losses = course(run, "validation._bits_per_dim")
    assert losses[-1] < 0.9 * losses[0]
    parts = [course(run, f"validation.{part}")[-1] for part in ("prior", "steps", "data")]
    assert sum(parts) == pytest.approx(losses[-1], rel=1e-4)
    system = bind_run(run.path)
    learnt = {"learn_ends": {"gamma", "ends"}, "process": set()}.get(next(iter(numbers), ""), {"gamma"})
    assert system.parts.keys() == {"net"} | learnt and system.defaults.sampler == "ddpm"
    assert np.array_equal(drawn(system), drawn(system)) and drawn(system).shape == (2, 8, 8, 1)
    for sampler, schedule in (("ddim", "uniform"), ("dpm++2m", "logsnr"), ("heun", "karras")):
        sampling = replace(system.defaults, sampler=sampler, schedule=schedule, steps=3)
        assert generate(system, Request(canvas=Canvas(count=1), sampling=sampling))[0].pixels.shape == (8, 8, 1)
    assert_a_ledger(run)
    if "gamma" in learnt:
        found = LearnedGamma(learn_ends="ends" in learnt)
        for name, part in found.parts().items():
            part.load_state_dict(run.weights(name))
        found.requires_grad_(False)
        assert bool((found.gamma(torch.linspace(0, 1, 21, dtype=torch.float64)).diff() > 0).all())
        moved = found.shape.height - LearnedGamma().shape.height  # those of a fresh one are all alike
        assert float(moved.detach().abs().max()) > 0.1


def test_vdm_resumes_with_its_schedule(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "sample_every": 0, "gamma_every": 2}
    straight = train("vdm", tmp_path / "straight", {**numbers, "steps": 5})
    train("vdm", tmp_path / "broken", {**numbers, "steps": 3})
    assert_same_weights(straight, train("vdm", tmp_path / "broken", {**numbers, "steps": 5}, resume=True))


def test_improved_ddpm_resumes_with_its_memory_of_losses(tmp_path: Path) -> None:
    numbers = {**SMALL, "data": digits(tmp_path / "data"), "sample_every": 0, "by_loss": True}
    straight = train("improved_ddpm", tmp_path / "straight", {**numbers, "steps": 5})
    train("improved_ddpm", tmp_path / "broken", {**numbers, "steps": 2})
    assert_same_weights(straight, train("improved_ddpm", tmp_path / "broken", {**numbers, "steps": 5}, resume=True))
    kept = straight.checkpoints()[-1].tensors("objective")
    assert int(kept["simple.times.counts"].sum()) >= 35  # of 40 draws among 1000 knots, few were alike


def test_a_noisy_classifier_guides_a_plain_model(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", colour=False)
    numbers = {**SMALL, "data": data, "channels": 1, "conditional": False, "steps": 60, "sample_every": 0}
    denoiser = train("ddpm", tmp_path / "denoiser", numbers)
    small = {key: SMALL[key] for key in ("batch", "net", "size", "lr", "warmup")}
    run = train(
        "noisy_classifier",
        tmp_path / "run",
        {**{name: small[name] for name in small if name != "size"}, "denoiser": str(denoiser.path), "steps": 60,
         "sample_every": 20, "columns": 1, "sample_steps": 2},
    )  # fmt: skip
    assert Facts.of(run) == replace(Facts.of(denoiser), classes=("lying", "upright"))  # where no data are named
    assert course(run, "validation.cross_entropy")[-1] < 0.65
    system, base = bind_run(run.path), bind_run(denoiser.path)
    assert system.spec.card["classes"] == ["lying", "upright"] and system.spec.family == "noisy_classifier"

    def made(prompt: str, scale: float) -> np.ndarray:
        sampling = replace(system.defaults, steps=8, guidance_scale=scale)
        return np.stack([p.pixels for p in generate(system, Request(Prompt(prompt), Canvas(count=4), sampling))])

    plain = generate(base, Request(canvas=Canvas(count=4), sampling=replace(base.defaults, steps=8)))
    assert np.array_equal(made("upright", 0.0), np.stack([p.pixels for p in plain]))
    assert not np.array_equal(made("upright", 5.0), made("lying", 5.0))
    with pytest.raises(UsageError, match="no class called 'leaning'"):
        made("leaning", 1.0)


def test_analytic_dpm_fits_loads_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = digits(tmp_path / "data")
    numbers = {**SMALL, "data": data, "conditional": False, "steps": 40, "sample_every": 0}
    denoiser = train("ddpm", tmp_path / "denoiser", numbers)
    fit = find_recipe("analytic_dpm")
    config = fit.Config(denoiser=str(denoiser.path), pictures=16, times=12)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "show", stop)
        with pytest.raises(Cancelled, match="begins again"):
            fit.train(config, Setting(tmp_path / "run", progress=False))
    with pytest.raises(FileProblem, match="stopped before the end.*--resume"):
        bind_run(tmp_path / "run")
    capsys.readouterr()
    run = fit.train(config, Setting(tmp_path / "run", resume=True, progress=False))
    spoken = capsys.readouterr().err
    assert "step 1/12" in spoken and "step 12/12" in spoken
    system = bind_run(run.path)
    assert Facts.of(run) == Facts.of(denoiser)
    assert system.defaults.schedule == "optimal" and system.defaults.sampler == "ddpm"

    def made(**numbers: Any) -> np.ndarray:
        sampling = replace(system.defaults, steps=6, **numbers)
        return np.stack([p.pixels for p in generate(system, Request(canvas=Canvas(count=2), sampling=sampling))])

    assert made().shape == (2, 8, 8, 1) and np.array_equal(made(), made())
    assert not np.array_equal(made(), made(schedule="trailing"))
    model = system.generator(Request(sampling=replace(system.defaults, steps=6)))
    times = model.grid(model.process).times  # type: ignore[attr-defined]
    assert len(times) == 7 and float(times[0]) == pytest.approx(1) and float(times[-1]) == 0
    gammas = model.sampler.variance.gammas  # type: ignore[attr-defined]
    assert len(gammas) == 12 and gammas[-1] > gammas[0] > 0
    again = fit.train(replace(config, seed=1), Setting(tmp_path / "again", progress=False))
    marks = [fingerprint(bind_run(path)) for path in (denoiser.path, run.path, run.path, again.path)]
    assert len(set(marks)) == 3 and marks[1] == marks[2]  # what is kept of one fit is not taken for another's
