"""Analytic-DPM: the best variance of every reverse step of a finished diffusion model, and the best times to step at.

Bao, Li, Zhu & Zhang 2022, "Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion
Probabilistic Models" (arXiv 2201.06503). Nothing is trained: the model looks at noisy training pictures once at each of
`times` noise levels, and the run folder keeps one number for each, `analytic.toml`. Generating from it with the sampler
ddpm takes these variances; the schedule `optimal` takes their best times. Book: chapter 4.

    hvis train analytic_dpm --run runs/analytic --data mnist --denoiser runs/digits
    hvis generate 7 --model runs/analytic --steps 10 --schedule optimal
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from huggingvis.core import config as records
from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import Cancelled, FileProblem
from huggingvis.core.request import Request
from huggingvis.core.sampler import Sampler
from huggingvis.core.system import System
from huggingvis.recipes.pixel_diffusion import bind_denoiser, data_of, pictures_of
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.samplers.analytic import Analytic, OptimalTimes, fit_analytic
from huggingvis.samplers.ancestral import Ancestral
from huggingvis.samplers.grids import LogSNR
from huggingvis.train.progress import reporter
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Analytic-DPM",
    "chapter": 4,
    "paper": "2201.06503",
    "files": ["samplers/analytic.py", "samplers/variances.py"],
    "built": "tests/walks/test_diffusion_recipes.py::test_analytic_dpm_fits_loads_and_draws",
    "exact": "tests/oracle/test_analytic_dpm.py::test_the_estimate_is_the_true_reverse_variance",
    "trained": "benchmarks/trained/analytic_dpm.json",
    "explained": None,
    "usable": None,
}
FILE = "analytic.toml"
OPTIMAL = "optimal"


@dataclass(frozen=True)
class Config:
    """Numbers of the fit.

    Attributes:
        denoiser: run folder of the diffusion model.
        data: pictures, as in trainings; empty: those that the model was trained on.
        root: folder in which standard data sets lie or are downloaded to; empty: the model's own.
        pictures: how many of them are looked at.
        batch: how many at a time.
        times: noise levels.
        seed: of the noise.
    """

    denoiser: str = ""
    data: str = ""
    root: str = ""
    pictures: int = 512
    batch: int = 64
    times: int = 100
    seed: int = 0


def train(config: Config, setting: Setting) -> Run:
    """Fit the variances into `setting`'s run folder."""
    data, root = data_of(config.denoiser, config.data, config.root)
    config = replace(config, data=data, root=root)
    source = pictures_of(config.denoiser, config.data, config.root, seed=config.seed)
    system, drawing = bind_denoiser(config.denoiser, source.facts, setting.device)
    model = drawing(Request(sampling=system.defaults))
    first = source.training.batch(0, min(config.pictures, len(source.training)))["image"].to(setting.device)
    cond = system.conditioner([Request()])  # any class

    def denoise(x: Tensor, t: Tensor) -> Belief:
        parts = [model.denoise(part, t, {k: v.expand(len(part), *v.shape[1:]) for k, v in cond.items()})
                 for part in x.split(config.batch)]  # fmt: skip
        return Gaussian(torch.cat([part.x0 for part in parts if isinstance(part, Gaussian)]))

    times = LogSNR(config.times)(model.process).times[:-1].flip(0)
    rng = torch.Generator(setting.device).manual_seed(config.seed)
    run = setting.begin("analytic_dpm", config)
    source.facts.keep(run)
    spoken = reporter(0, config.times, setting.progress, run.parallel.writes)
    try:
        found = fit_analytic(
            denoise, model.process, first, times, rng, limit=1.0, on_level=lambda done: spoken.show(done, {})
        )
    except KeyboardInterrupt:
        raise Cancelled("Stopped before all times were fitted; resumed, the fit begins again.") from None
    finally:
        spoken.close()
    records.save(found, run.path / FILE)
    run.log(config.times, {"gamma.first": found.gammas[0], "gamma.last": found.gammas[-1]})
    run.close()
    return run


def bind(config: Config, run: Run, device: torch.device) -> System:
    """The diffusion model, whose sampler ddpm takes the fitted variances and which knows the schedule `optimal`."""
    if not (run.path / FILE).is_file():
        raise FileProblem(
            f"{run.path} holds no fitted variances: its fit was stopped before the end. Do it again by "
            f"`hvis train --run {run.path} --resume`."
        )
    system, drawing = bind_denoiser(config.denoiser, Facts.of(run), device)
    variance = records.load(Analytic, run.path / FILE)
    gammas = nn.Parameter(torch.tensor(variance.gammas, dtype=torch.float64), requires_grad=False)

    def generator(request: Request) -> Diffusion:
        asked = request.sampling
        best = asked.schedule == OPTIMAL
        usual = replace(asked, schedule=system.defaults.schedule) if best else asked
        model = drawing(replace(request, sampling=usual))
        grid = OptimalTimes(asked.steps, variance) if best else model.grid
        return replace(model, sampler=_fitted(model.sampler, variance), grid=grid)

    return replace(
        system,
        spec=replace(system.spec, name=run.path.name, family="analytic_dpm"),
        parts={**system.parts, "variance": nn.ParameterDict({"gammas": gammas})},
        generator=generator,
        defaults=replace(system.defaults, sampler="ddpm", schedule=OPTIMAL, steps=20),
        limits=replace(system.limits, schedules=(*system.limits.schedules, OPTIMAL)),
    )


def _fitted(sampler: Sampler, variance: Analytic) -> Sampler:
    """Ancestral sampling with the fitted variances; other samplers as they are, since they have their own noise."""
    return Ancestral(variance) if isinstance(sampler, Ancestral) else sampler
