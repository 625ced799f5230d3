"""Style-based generators on tiny pictures: they learn, load again, draw the same from the same seed, and resume."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, course, digits, drawn, folder, train
from torch import Tensor, nn

import huggingvis as hv
from huggingvis.checkpoints.io import load
from huggingvis.core import config as records
from huggingvis.core.errors import HvisError, UsageError
from huggingvis.core.objective import Turn
from huggingvis.edits.explore.invert import not_reached, told
from huggingvis.edits.gan_inversion import Search, invert
from huggingvis.nets.stylegan import StyleGenerator
from huggingvis.objectives.augment import Augment, Strengths
from huggingvis.objectives.stylegan import Adaptive, StyleGAN
from huggingvis.recipes.adversarial import gan_inversion
from huggingvis.recipes.adversarial.stylegan import Config, generator, sizes, slowed
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts

SMALL = {"size": 8, "batch": 8, "lr": 5e-3, "latent_dim": 8, "mapping_layers": 2, "width": 8, "most": 8}


def test_stylegan_learns_loads_and_draws(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", side=8)
    run = train("stylegan", tmp_path / "run", {**SMALL, "data": data, "steps": 40, "sample_every": 20, "ema": 0.9})
    for key in ("critic._spread", "critic._signs", "r1.penalty", "path.penalty", "validation.critic"):
        assert course(run, key) and np.isfinite(course(run, key)).all(), key
    assert sorted(p.name for p in run.samples.iterdir()) == [f"step-{n:08d}.png" for n in (20, 40)]
    system = bind_run(run.path)
    assert system.spec.size == (8, 8) and system.spec.family == "stylegan"
    pictures = drawn(system, count=8)
    assert pictures.shape == (8, 8, 8, 1) and np.array_equal(pictures, drawn(system, count=8))
    assert not np.array_equal(pictures[0], pictures[1])
    assert np.abs(drawn(system, count=1, seed=4)[0].astype(int) - pictures[1]).max() <= 1
    assert abs(pictures.mean() - 72.5) < 45  # the pictures' mean; a fresh generator's is about 127
    net = system.parts["generator"]
    assert isinstance(net, StyleGenerator) and float(net.w_avg.abs().max()) > 0
    with torch.no_grad():
        own = net.decode(net.mapping(torch.randn(1, 8, generator=torch.Generator().manual_seed(0))))
    assert float(invert(net, own, search=Search(steps=150)).psnr) > 40


@pytest.mark.parametrize(
    "numbers",
    [
        {"net": {"kind": "StyleGAN1"}, "conditional": True},
        {"augment": {"kind": "Adaptation", "kimg": 0.1, "target": -2.0}, "flip": True},
    ],
    ids=["the first, of classes", "the second, adapting"],
)
def test_stylegan_resumes_to_the_same_bits(tmp_path: Path, numbers: dict[str, object]) -> None:
    numbers = {**SMALL, "sample_every": 0, "data": folder(tmp_path / "data"), **numbers}
    straight = train("stylegan", tmp_path / "straight", {**numbers, "steps": 6})
    train("stylegan", tmp_path / "broken", {**numbers, "steps": 3})
    assert_same_weights(straight, train("stylegan", tmp_path / "broken", {**numbers, "steps": 6}, resume=True))
    system = bind_run(straight.path)
    assert drawn(system).shape == (2, 8, 8, 3)
    if "conditional" in numbers:
        assert not np.array_equal(drawn(system, "upright"), drawn(system, "lying"))
        assert course(straight, "path.penalty") == []
    else:
        kept = straight.checkpoints()[-1].tensors("objective")
        # every mean sign is above -2, so p rose once, at the fourth step: by 8 pictures x 4 steps of 100
        assert float(kept["augment_p"]) == pytest.approx(0.32)
        assert float(kept["signs"][1]) == 16 and "judged" not in kept  # the two steps after it


class Known(nn.Module):
    """A critic that tells the sign of a picture's mean."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.mean((1, 2, 3))


def adapting(batch: int) -> StyleGAN:
    torch.manual_seed(0)
    net = generator(Config(latent_dim=4, mapping_layers=1, width=4, most=4), Facts("none", 8, 8, 3))
    unchanged = Augment(Strengths(blit=0.0, geometry=0.0, colour=0.0))
    game = StyleGAN(net, Known(), augment=unchanged, adaptive=Adaptive(batch, target=0.3, every=4, kimg=1.0))
    game.augment_p.fill_(0.5)
    return game


def on_two_ranks(games: list[StyleGAN], batches: list[Tensor], steps: range) -> None:
    """Critic turns of two processes, each on its half of batches [2 B, C, H, W], as threads that meet in `reduce`."""
    meeting, told = Barrier(2, timeout=60), [torch.zeros(0), torch.zeros(0)]

    def play(rank: int) -> None:
        def reduce(x: Tensor) -> Tensor:
            told[rank] = x.clone()
            meeting.wait()
            mean = (told[0] + told[1]) / 2
            meeting.wait()
            return mean

        game = games[rank]
        for step in steps:
            batch = {"image": batches[step].chunk(2)[rank]}
            game.critic_loss(batch, step, torch.Generator().manual_seed(step))
            game.after(critic_turn(game), step, params={}, batch=batch, reduce=reduce)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(play, rank) for rank in (0, 1)]:
            done.result()


def critic_turn(game: StyleGAN) -> Turn:
    return next(turn for turn in game.turns(0) if turn.name == "critic")


def test_processes_adapt_alike_and_a_checkpoint_holds_what_all_of_them_saw() -> None:
    """Rank 0 alone finds signs of 1 throughout; both together 1/4, below the target, until the last four steps."""
    mixed = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    pictures = [signs[:, None, None, None].expand(-1, 3, 8, 8) for signs in (*[mixed] * 4, *[mixed.abs()] * 4)]
    ranks, again = [adapting(8), adapting(8)], [adapting(8), adapting(8)]
    on_two_ranks(ranks, pictures, range(3))
    for game, later in zip(ranks, again):
        assert game.signs.tolist() == [3.0, 12.0] and game.judged.tolist() == [0.0, 0.0]  # 3 steps of 2 and 8, halved
        later.load_state_dict(ranks[0].state_dict())
    for pair in (ranks, again):
        on_two_ranks(pair, pictures, range(3, 4))
        assert [float(game.augment_p) for game in pair] == pytest.approx([0.5 - 0.032] * 2)  # 8 x 4 of 1000 pictures
        on_two_ranks(pair, pictures, range(4, 8))
        assert [float(game.augment_p) for game in pair] == pytest.approx([0.5] * 2)


def test_held_out_pictures_are_inverted(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", side=8)
    model = train("stylegan", tmp_path / "model", {**SMALL, "data": data, "steps": 4, "sample_every": 0})
    numbers = {"model": str(model.path), "data": data, "count": 2}
    psnr = []
    for space in ("W", "WPlus"):
        config = records.from_dict(gan_inversion.Config, {**numbers, "search": {"space": {"kind": space}, "steps": 30}})
        run = gan_inversion.train(config, Setting(tmp_path / space, progress=False))
        psnr += course(run, "validation.psnr")
        assert load(run.path / "styles.safetensors")["ws"].shape == (2, 4, 8)
        assert (run.samples / "inverted.png").is_file()
    assert psnr[1] > psnr[0] > 5  # a style for each layer reaches further
    for wrong, said in (("", "Which generator"), (str(tmp_path / "nothing"), "nothing")):
        with pytest.raises(HvisError, match=said):
            gan_inversion.train(gan_inversion.Config(model=wrong), Setting(tmp_path / "no"))


def test_a_search_that_ends_too_early_is_not_blamed_on_the_picture(tmp_path: Path) -> None:
    data = digits(tmp_path / "data", side=8)
    model = hv.load(train("stylegan", tmp_path / "run", {**SMALL, "data": data, "steps": 20, "sample_every": 0}).path)
    own = hv.generate("", model=model, seed=3)
    _, short = hv.explore("invert", model, own, numbers={"steps": 2, "lr": 1e-6})
    _, long = hv.explore("invert", model, own, numbers={"steps": 150, "space": {"kind": "WPlus"}})
    assert short.record["not_reached"] == [1] and long.record["not_reached"] == []
    assert "What 2 steps found for picture 1 is" in short.notes[0] and "more steps" in short.notes[0]
    assert long.notes == () and long.record["psnr_db"][0] > short.record["psnr_db"][0] + 3
    assert long.tensors["ws"].shape == (1, 4, 8)


def test_pictures_that_were_not_reached_are_named() -> None:
    """Draws 1 apart, but one that is 3 from the next: further than 3 is too far."""
    draws = torch.zeros(4, 1, 1, 2)
    draws[:, 0, 0, 0] = torch.tensor([0.0, 1.0, 2.0, 5.0])
    x = torch.zeros(3, 1, 1, 2)
    found = x + torch.tensor([2.9, 3.1, 0.0])[:, None, None, None] * torch.tensor([0.0, 1.0])
    assert not_reached(found, x, draws) == [2]
    assert told([2, 3], 9).startswith("What 9 steps found for picture 2, 3 is further from it than any of 16 draws")


def test_sizes_follow_the_pictures() -> None:
    facts = Facts("mnist", 10, 32, 1, ("a", "b"))
    found = sizes(Config(width=16, most=48, conditional=True), facts)
    assert found.widths == (48, 48, 32, 16) and found.resolution == 32 and found.classes == 2
    assert Config(batch=32).penalties(32).r1 == pytest.approx(0.0064)
    for side, near in ((28, "16 or 32"), (6, "8 or 16")):
        with pytest.raises(UsageError, match=f"power of 2.*found {side}.*--size {near}"):
            sizes(Config(), Facts("mnist", 10, side, 1))


def test_lazy_players_are_slowed() -> None:
    """16 steps of a critic with R1 on top count as 17 (1912.04958, App. B)."""
    optim = slowed(0.002, 16, True)
    assert optim.lr == pytest.approx(0.002 * 16 / 17) and optim.betas == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert slowed(0.002, 8, False).lr == 0.002
