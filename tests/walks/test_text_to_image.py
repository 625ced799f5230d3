"""The first walk in miniature: autoencoder, text encoder, planner and U-Net, a little of each, bound, saved, scored."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import HvisError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.data.cache import ArrayCache
from huggingvis.data.sprites import COLOURS
from huggingvis.data.tint import recast, tinted
from huggingvis.data.world import World, held_out
from huggingvis.data.worldset import WorldSet
from huggingvis.edits.generate import CHUNK, generate, repeat
from huggingvis.nets.plan_map import NONE
from huggingvis.recipes.described_latents import CachedLatents, Shares
from huggingvis.recipes.image import latent_autoencoder, text_to_image
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.scene_evaluation import evaluate
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.text import planning, reading
from huggingvis.recipes.text_encoders import load_reader
from huggingvis.systems import tiny
from huggingvis.systems.judges.world import bind as bind_judge

COLOUR_NAMES = tuple(COLOURS)
SAMPLING = Sampling(steps=3, guidance_scale=2.0, seed=5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        World().image(World().layout(0))
    except HvisError as error:
        pytest.skip(f"pictures of the world need a colour emoji font: {error}")
    root = tmp_path_factory.mktemp("tiny")
    ae = latent_autoencoder.Config(
        layouts=32, latent_channels=4, channels=(16, 16), steps=12, batch=4, precision="fp32", adversary_from=0.5
    )
    latent_autoencoder.train(ae, Setting(root / "ae"))
    words = reading.Config(layouts=64, dim=32, depth=1, steps=100, batch=16, lr=5e-3, precision="fp32")
    reading.train(words, Setting(root / "reading"))
    places = planning.Config(
        str(root / "reading"), layouts=64, dim=16, depth=1, steps=60, batch=16, lr=3e-2, precision="fp32"
    )
    planning.train(places, Setting(root / "planning"))
    t2i = text_to_image.Config(
        autoencoder=str(root / "ae"),
        reading=str(root / "reading"),
        planning=str(root / "planning"),
        layouts=32,
        channels=(32, 32),
        heads=2,
        steps=30,
        batch=8,
        precision="fp32",
    )
    text_to_image.train(t2i, Setting(root / "t2i"))
    return root


def losses(run: Path, name: str) -> list[float]:
    import json

    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_every_stage_learns(runs: Path) -> None:
    from huggingvis.train.run import Run

    for stage in ("ae", "reading", "planning", "t2i"):
        assert Run.open(runs / stage).latest() is not None
    first, last = losses(runs / "reading", "loss.kind")
    assert last < 0.95 * first
    assert losses(runs / "planning", "loss.boxes")[-1] < 3.2  # at first log 65 = 4.17: a side may be anywhere
    first, last = losses(runs / "t2i", "validation.mse")[0], losses(runs / "t2i", "validation.mse")[-1]
    assert last <= first and losses(runs / "t2i", "loss.mse")[-1] < 2.1  # knowing nothing costs about 2


def test_kept_latents_are_those_of_this_autoencoder_and_these_layouts(runs: Path, tmp_path: Path) -> None:
    codec, (tokenizer, _) = text_to_image.load_codec(runs / "ae", torch.device("cpu")), load_reader(runs / "reading")
    further = copy.deepcopy(codec)
    with torch.no_grad():
        next(further.autoencoder.parameters()).add_(0.1)

    def latents(codec: KLLatents, **numbers: Any) -> np.ndarray:
        data = WorldSet(World(size=32, **numbers), 4, pictures=False)
        return np.asarray(CachedLatents(data, codec, tokenizer, ArrayCache(tmp_path), Shares()).latents)

    first = latents(codec)
    (entry,) = ArrayCache(tmp_path).entries()
    assert np.array_equal(latents(codec), first)
    assert [kept.key for kept in ArrayCache(tmp_path).entries()] == [entry.key]
    others = [latents(further), latents(codec, seed=1), latents(codec, lattice=8)]
    assert not any(np.array_equal(first, other) for other in others)
    assert len(ArrayCache(tmp_path).entries()) == 4


def test_a_run_draws_and_its_folder_draws_the_same(runs: Path, tmp_path: Path) -> None:
    system = bind_run(runs / "t2i")
    request = Request(Prompt("a red circle"), Canvas(count=2), SAMPLING)
    first, second = generate(system, request)
    assert first.size == (64, 64) and not np.array_equal(first.pixels, second.pixels)
    tiny.save(tmp_path / "model", system, {"note": "test"})
    again = generate(tiny.bind(tmp_path / "model"), request)[0]
    apart = np.abs(first.pixels.astype(int) - again.pixels.astype(int))
    assert apart.max() <= 8 and apart.mean() < 0.5  # the folder holds half precision


def test_the_plan_decides_what_is_seen_beside_the_noise(runs: Path) -> None:
    system = bind_run(runs / "t2i")
    model = system.generator(Request(Prompt("a fox"), sampling=SAMPLING))
    assert isinstance(model, Diffusion) and model.prior is not None
    cond = system.conditioner([Request(Prompt("a fox"))] * 2)
    plans = [model.prior(cond, SeedNoise([3, 4])) for _ in range(2)]
    assert torch.equal(plans[0]["concat"], plans[1]["concat"])
    assert plans[0]["concat"].shape == (2, 3 + 120 + 8, 8, 8)
    assert not plans[0]["negative.concat"].any()
    noisy = torch.randn(2, *model.shape)
    believed = []
    for plan in (torch.zeros(2, 131, 8, 8), torch.ones(2, 131, 8, 8)):
        belief = model.denoise(noisy, torch.tensor(0.9, dtype=torch.float64), {**plans[0], "concat": plan})
        assert isinstance(belief, Gaussian)
        believed.append(belief.x0)
    assert not torch.allclose(believed[0], believed[1])
    without = bind_run(_unplanned(runs)).generator(Request(Prompt("a fox"), sampling=SAMPLING))
    assert isinstance(without, Diffusion) and without.prior is not None
    assert not without.prior(cond, SeedNoise([3, 4]))["concat"].any()


def _unplanned(runs: Path) -> Path:
    """The run's folder, as one that was begun without a planner."""
    folder = runs / "unplanned"
    if not folder.exists():
        shutil.copytree(runs / "t2i", folder)
        config = folder / "config.toml"
        config.write_text(config.read_text().replace(f'planning = "{runs / "planning"}"', 'planning = ""'))
    return folder


def test_pictures_of_one_seed_do_not_depend_on_how_many_are_made(runs: Path) -> None:
    system = bind_run(runs / "t2i")
    many = generate(system, Request(Prompt("a fox"), Canvas(count=CHUNK + 1), SAMPLING))
    one = generate(system, Request(Prompt("a fox"), Canvas(count=1), SAMPLING))[0]
    assert np.abs(one.pixels.astype(int) - many[0].pixels.astype(int)).max() <= 2
    request = many[-1].request
    assert request is not None and many[-1].made["batch_index"] == CHUNK
    assert np.array_equal(repeat(system, request, CHUNK).pixels, many[-1].pixels)  # bit for bit


def test_the_condition_reaches_the_picture(runs: Path) -> None:
    system = bind_run(runs / "t2i")
    cond = system.conditioner([Request(Prompt("a fox")), Request(Prompt("一只狐狸"))])
    assert cond["tokens"].shape[0] == 2 and "negative.tokens" in cond
    assert not torch.allclose(cond["vector"][0], cond["negative.vector"][0])
    notes = system.conditioner.notes(Request(Prompt("a unicorn beside a fox")))
    assert any("unicorn" in note for note in notes)


def test_scores_come_with_floor_and_ceiling(runs: Path) -> None:
    drawn: list[int] = []
    score = evaluate(bind_run(runs / "t2i"), bind_judge(), total=12, sampling=SAMPLING, on_drawn=drawn.append)
    assert drawn == [12, 24]  # in one language after the other
    assert score.prompts == 12
    assert 0.0 <= score.model.accuracy["en"]["all"].value <= 1.0
    assert score.frechet["floor"].value < score.frechet["model"].value


def test_captions_for_the_reader_put_every_colour_to_everything() -> None:
    world = World(split="train")
    data = WorldSet(world, 400, pictures=False)
    tokenizer = TextTokenizer.learn(["a cat"], vocabulary=300)  # any: only the labels are looked at
    labels = reading.Captions(data, tokenizer, empty=0.0, tint=1.0).batch(0, 400)["colours"]  # [400, 4]
    plain: list[bool] = []
    shapes: set[tuple[str, str | None]] = set()
    for n, layout in enumerate(data.layouts):
        said = tinted(layout, n)
        assert [COLOUR_NAMES[i] if i >= 0 else None for i in labels[n, : len(said.things)]] == [
            thing.colour for thing in said.things
        ]
        assert all(thing.colour in world.caption(said) for thing in said.things if thing.colour)
        pairs = set(zip((thing.key for thing in layout.things), (thing.key for thing in said.things), strict=True))
        assert len(pairs) == len({before for before, _ in pairs}) == len({after for _, after in pairs})
        plain += [after.colour is None for before, after in zip(layout.things, said.things) if not before.colour]
        shapes |= {(after.sprite, after.colour) for before, after in zip(layout.things, said.things) if before.colour}
    assert 0.4 < sum(plain) / len(plain) < 0.6
    assert any(held_out(("colour", sprite, colour)) for sprite, colour in shapes if colour)


def test_wrong_captions_are_of_planned_pictures_only_and_leave_the_plan_as_it_is(runs: Path) -> None:
    """At a share of one every planned caption speaks of `recast` things; those without a plan say what is there."""
    codec = text_to_image.load_codec(runs / "ae", torch.device("cpu"))
    tokenizer = TextTokenizer.load(runs / "reading" / "tokenizer.json")
    data = WorldSet(World(size=64), 32, pictures=False)
    caches = ArrayCache(runs / "wrong")
    true, wrong = (
        CachedLatents(data, codec, tokenizer, caches, Shares(unplanned=0.5, wrong=share)).batch(0, 32)
        for share in (0.0, 1.0)
    )
    for name in ("x0", "kinds", "colours", "boxes"):
        assert torch.equal(true[name], wrong[name])
    planned = true["kinds"][:, 0] != NONE
    assert 8 < int(planned.sum()) < 24
    told = data.captions(0, 32, lambda layout, number: recast(layout, number, data.world.sprites))
    ids = tokenizer.ids(told)
    for row in range(32):
        expected = ids[row] if planned[row] else true["ids"][row]
        assert wrong["ids"][row][wrong["ids"][row] != 0].tolist() == expected[expected != 0].tolist()


def test_recast_layouts_have_as_many_things_in_the_same_places() -> None:
    world = World(split="train")
    figures = {s.id for s in world.sprites.shapes}
    same = 0
    for n in range(300):
        layout = world.layout(n)
        said = recast(layout, n, world.sprites)
        assert [thing.box for thing in said.things] == [thing.box for thing in layout.things]
        if len({t.sprite for t in said.things}) == len({t.sprite for t in layout.things}):  # two did not become one
            assert [t.sprite in figures for t in said.things] == [t.sprite in figures for t in layout.things]
        same += [t.sprite for t in said.things] == [t.sprite for t in layout.things]
        world.caption(said, "zh")
    assert 60 < same < 200
