"""Retrieval-augmented diffusion: a denoiser that looks at pictures like the one it is to make.

Blattmann, Rombach, Oktay, Müller & Ommer 2022, "Retrieval-Augmented Diffusion Models" (arXiv 2204.11824). Features of
the k nearest neighbours of each training picture in a database are tokens of the U-Net's cross-attention, so what the
pictures show stays in the database, which can be exchanged after the training. The paper's features are CLIP's; here
they are those of a judge, by name. Book: chapter 4, "Models with a memory".

    hvis train rdm --run runs/rdm --data folder:photos --size 64 --neighbours 4
    hvis generate --model runs/rdm
    hvis generate --model runs/rdm --set database=folder:paintings --set neighbours=2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import final

import torch
from torch import Tensor

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.classes import ANY
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Generative, Measure, OnStep
from huggingvis.core.request import Request
from huggingvis.core.sampler import Sampler
from huggingvis.core.system import System, canvas_of
from huggingvis.data.cache import ArrayCache
from huggingvis.data.neighbours import nearest
from huggingvis.data.standard import Split
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.metrics.features import Features
from huggingvis.nets.unet import UNet
from huggingvis.objectives.denoise import Denoising
from huggingvis.objectives.retrieval import neighbours
from huggingvis.recipes import retrieval
from huggingvis.recipes.classes import with_any
from huggingvis.recipes.denoiser_training import DenoiserTraining
from huggingvis.recipes.denoisers import Model, Shell, system
from huggingvis.recipes.picture_training import Sets, Updates, begin, fit_pictures, open_pictures, restored
from huggingvis.recipes.pixel_diffusion import model as plain_model
from huggingvis.recipes.retrieval import (
    AskedClass,
    Databases,
    Index,
    Retrieving,
    codes_of,
    features_by_name,
    features_of,
    indexed,
    neighbours_asked,
)
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts, Pictures, Source, open_split
from huggingvis.samplers.grids import Schedule
from huggingvis.samplers.names import sampler_of, schedule_asked, schedule_of
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Retrieval-augmented diffusion",
    "chapter": 4,
    "paper": "2204.11824",
    "files": ["objectives/retrieval.py", "data/neighbours.py", "recipes/retrieval.py", "nets/unet.py"],
    "built": "tests/walks/test_rdm.py::test_rdm_learns_loads_and_draws_from_another_database",
    "exact": "tests/oracle/test_rdm.py::test_neighbours_are_those_of_brute_force",
    "trained": "benchmarks/trained/rdm.json",
    "explained": None,
    "usable": None,
}
INDEX = "database.safetensors"


@dataclass(frozen=True)
class Config(DenoiserTraining):
    """Numbers of the training.

    Attributes:
        neighbours: pictures that are looked at for each one.
        database: pictures to look them up among, named as `data` is; empty: the training pictures themselves.
        entries: pictures of the database at most, evenly spaced.
        features: what makes pictures near: world (the judge that ships), digits:FILE (a LeNet-5), or pixels.
        empty: share of examples without neighbours, for classifier-free guidance.
        conditional: no; classes are asked for by pictures of them in the database.
    """

    neighbours: int = 4
    database: str = ""
    entries: int = 20_000
    features: str = "world"
    conditional: bool | None = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional:
            raise UsageError(
                "This model is told neighbours instead of classes: it draws a class by looking at pictures of it in a "
                "database whose pictures have classes. Train without --conditional."
            )
        if self.neighbours < 1 or self.entries <= self.neighbours:
            raise UsageError(
                f"Neighbours are 1 or more and found among more entries than that, found {self.neighbours} among "
                f"{self.entries}. A model without neighbours is the recipe ddpm."
            )
        if not (any(self.net.attention) or self.net.middle):
            raise UsageError(
                "Neighbours are looked at where the U-Net has attention, and it is off at every level. Turn it on at "
                "one of them, as in --net.middle 1."
            )


def model(config: Config, facts: Facts, width: int) -> Model:
    """The model with fresh weights, which looks at tokens of `width`."""
    plain = plain_model(config, facts)
    net = UNet(replace(plain.net.config, tokens_dim=width))
    return replace(plain, net=net)


def objective(trained: Model) -> Denoising:
    """What is minimised: batches have `x0`, `neighbours` and `told`."""
    return Denoising(trained.net, trained.process, trained.prediction, trained.times, condition=neighbours)


@final
@dataclass(frozen=True, eq=False)
class Surrounded:
    """`Batches` of `x0` [B, C, S, S] with the codes of its `neighbours` [B, k, D], rows of `codes` [N, D] by `table`
    [pictures, k], and `told` [B], whether it may look at them: all but the share `empty`.
    """

    pictures: Pictures
    table: Tensor
    codes: Tensor
    empty: float = 0.0

    def batch(self, index: int, size: int) -> Batch:
        places = self.pictures.places(index, size)
        near = self.codes[self.table[torch.from_numpy(places)]]  # [B, k, D]
        told = with_any(torch.zeros(size, dtype=torch.long), self.empty, index) != ANY
        return {
            "x0": self.pictures.images(places, self.pictures.mirrored(index, size)),
            "neighbours": near,
            "told": told,
        }


def surrounded(config: Config, run: Run, source: Source, look: Features) -> tuple[Sets, Index]:
    """Training and held-out pictures with the neighbours of each, and the database, which the run folder keeps.

    A training picture that is in the database is no neighbour of its own.
    """
    training, held_out = (_features(config, run, pictures, look) for pictures in (source.training, source.held_out))
    index, own = _index(config, run, source.training, training, look)
    codes, k = index.memory(index.centre).codes, config.neighbours
    near = nearest(codes_of(training, index.centre), codes, k, skip=own)  # [N, k]
    near_held_out = nearest(codes_of(held_out, index.centre), codes, k)
    return Sets(
        Surrounded(source.training, near, codes, config.empty), Surrounded(source.held_out, near_held_out, codes)
    ), index


def train(config: Config, setting: Setting) -> Run:
    """Index the database and train the U-Net in `setting`'s run folder."""
    source = open_pictures(config)
    run = begin(setting, "rdm", config, source)
    sets, index = surrounded(config, run, source, features_by_name(config.features, setting.device))
    memory, fresh = index.memory(index.centre), model(config, source.facts, index.features.shape[1])

    def draw(on_step: OnStep) -> Tensor:
        usual = sampler_of(fresh.usual.sampler), schedule_of(fresh.usual.schedule, config.sample_steps)
        shown = _diffusion(fresh, *usual, ClassifierFree(1.0), fresh.shape)
        noise = SeedNoise(range(config.samples))
        looking = Retrieving(shown, memory, config.neighbours, shown.device)
        return looking.sample(config.samples, {}, noise=noise, on_step=on_step)

    updates = Updates(config.optim, config.averages)
    return fit_pictures(config, setting, run, objective(fresh), sets, draw=draw, updates=updates)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; prompts are classes of the database, or empty.

    Options of a request: `database`, a source of pictures or another run's database file, and `neighbours`, a count.
    """
    facts = Facts.of(run)
    databases = _databases(config, run, facts, device)
    trained = model(config, facts, databases.own.features.shape[1])
    restored(trained.net, run, "net", device)
    plain = system(trained, run.path.name, facts, Shell("rdm", Pixels()))

    def generator(request: Request) -> Generative:
        s, (width, height) = request.sampling, canvas_of(request, plain.spec)
        guidance = ClassifierFree(s.guidance_scale, s.guidance_rescale, s.guidance_interval)
        shape = (facts.channels, height, width)
        inner = _diffusion(trained, sampler_of(s.sampler, s.eta), schedule_asked(s), guidance, shape)
        return Retrieving(inner, databases(request), neighbours_asked(request, config.neighbours), device)

    return replace(
        plain,
        conditioner=AskedClass(databases),
        generator=generator,
        limits=replace(plain.limits, options=retrieval.OPTIONS),
    )


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The training loss of a run, with neighbours from its own database."""
    facts = Facts.of(run)
    databases = _databases(config, run, facts, device)
    trained = model(config, facts, databases.own.features.shape[1])
    restored(trained.net, run, "net", device)
    memory, look = databases(Request()), databases.look()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        x = batch["image"]
        codes = codes_of(look(x).float().cpu(), databases.own.centre)
        told = torch.ones(len(x), dtype=torch.bool, device=x.device)
        near = {"neighbours": memory.near(codes, config.neighbours).to(x.device), "told": told}
        return objective(trained).measure({"x0": x, **near}, draws, seed)

    return Measure(each, "mse: the mean squared error of the network's prediction, over times as in training", draws=10)


def _diffusion(
    trained: Model, sampler: Sampler, grid: Schedule, guidance: ClassifierFree, shape: tuple[int, int, int]
) -> Diffusion:
    """The diffusion model, guided away from what it makes without neighbours."""
    plain = trained.diffusion(sampler, grid, guidance, shape)
    return replace(plain, guidance=(guidance, *plain.guidance))


def _features(config: Config, run: Run, pictures: Pictures, look: Features) -> Tensor:
    """The features of all of `pictures`, [N, D], kept in the run folder."""
    made_of = {
        "features": config.features,
        "data": pictures.facts.data,
        "items": blake2b(pictures.items.tobytes()).hexdigest(),
    }
    kept = ArrayCache(run.path / "cache")
    return torch.tensor(kept.get_or_make(made_of, lambda: {"x": features_of(pictures, look).numpy()})["x"])


def _index(config: Config, run: Run, training: Pictures, seen: Tensor, look: Features) -> tuple[Index, Tensor | None]:
    """The database, kept in the run folder, and the row in it of each training picture, -1 for none."""
    own = None
    if config.database:
        found = open_split(config.database, Split.TRAIN, training.facts.view, root=config.root)
        pictures = found.some(config.entries)
        seen = _features(config, run, pictures, look)
    else:
        pictures = training.some(config.entries)
        places = torch.arange(len(pictures)) * len(training) // len(pictures)  # as `some` spaces them
        own = torch.full((len(training),), -1)
        own[places] = torch.arange(len(pictures))
        seen = seen[places]
    index = indexed(pictures, seen, config.features)
    if run.parallel.writes:
        index.save(run.path / INDEX)
    return index, own


def _databases(config: Config, run: Run, facts: Facts, device: torch.device) -> Databases:
    look = cache(lambda: features_by_name(config.features, device))
    return Databases(Index.load(run.path / INDEX), facts.view, config.root, look)
