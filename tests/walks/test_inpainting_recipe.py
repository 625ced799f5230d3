"""The recipe of nets that fill holes: it begins as its base to the bit, its holes are reproducible, and it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from source_pictures import STEPS, box_mask, load, noise, save

from huggingvis.core.errors import HvisError, UsageError
from huggingvis.core.layout import Box
from huggingvis.core.request import Canvas, FromPicture, Inpaint, Outpaint, Prompt, Request, Sampling, Source
from huggingvis.core.shapes import channels_last
from huggingvis.data.holes import hole
from huggingvis.data.world import World
from huggingvis.edits.generate import generate
from huggingvis.recipes.image import inpainting
from huggingvis.recipes.loading import bind_run
from huggingvis.recipes.masked_latents import shown
from huggingvis.recipes.setting import Setting
from huggingvis.systems import tiny
from huggingvis.train.run import Run


def request(source: Source | None) -> Request:
    return Request(Prompt("a red circle"), Canvas(), Sampling(steps=STEPS, guidance_scale=2.0), source)


def last_loss(run: Run) -> float:
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return float([row["loss.mse"] for row in rows if "loss.mse" in row][-1])


def test_the_widened_net_begins_as_its_base(tiny_model: Path) -> None:
    parts = tiny.load_parts(tiny_model, torch.device("cpu"))
    net, g = channels_last(inpainting.widened(parts.unet).eval()), torch.Generator().manual_seed(0)  # as `bind` has it
    c = parts.unet.config
    assert net.config.concat_channels == c.concat_channels + 1 + c.in_channels
    x, clock = torch.randn(2, c.in_channels, 8, 8, generator=g), torch.tensor([0.3, 0.9])
    cond = {"tokens": torch.randn(2, 2, 16, generator=g), "vector": torch.randn(2, 16, generator=g)}
    cond["tokens_mask"] = torch.ones(2, 2, dtype=torch.bool)
    picture, holes = torch.randn(2, 3, 32, 32, generator=g), torch.ones(2, 1, 32, 32)
    holes[:, :, :, :13] = 0
    beside = shown(parts.codec, picture, holes, c.concat_channels)
    assert (
        beside.shape[1] == net.config.concat_channels
        and beside[0, c.concat_channels, 0].tolist() == [0, 0, 0, 0.75] + [1.0] * 4
    )
    with torch.no_grad():
        assert torch.equal(net(x, clock, {**cond, "concat": beside}), parts.unet(x, clock, cond))


def test_holes_are_reproducible_and_of_every_kind() -> None:
    things = [Box(0.25, 0.25, 0.5, 0.5)]
    made = [hole(64, things, 0, "train", i) for i in range(300)]
    assert all(m.any() for m in made)
    assert all(np.array_equal(m, hole(64, things, 0, "train", i)) for i, m in enumerate(made[:20]))
    shares = np.array([m.mean() for m in made])
    assert 0.02 < (shares == 1).mean() < 0.1 and 0.25 < shares.mean() < 0.5
    assert hole(64, [], 1).any()


def test_a_training_learns_and_its_run_fills_holes(tiny_model: Path, tmp_path: Path) -> None:
    try:
        World().image(World().layout(0))
    except HvisError as error:
        pytest.skip(f"pictures of the world need a colour emoji font: {error}")
    config = inpainting.Config(str(tiny_model), size=32, layouts=32, steps=40, batch=16, lr=5e-3, precision="fp32")
    first = last_loss(inpainting.train(replace(config, steps=1), Setting(tmp_path / "first")))
    run = inpainting.train(config, Setting(tmp_path / "run"))
    assert last_loss(run) < 0.85 * first  # the mean of all steps
    system = bind_run(run.path)
    picture, mask = save(tmp_path / "in.png", noise(32, 32)), save(tmp_path / "mask.png", box_mask(32, 32))
    out = generate(system, request(Inpaint(picture, mask)))[0].pixels
    known = load(mask) == 0
    assert np.array_equal(out[known], load(picture)[known]) and (out[~known] != load(picture)[~known]).mean() > 0.5
    ways = [Inpaint(picture, mask, method="blend"), Inpaint(picture, mask, method="repaint", jump=2, resamples=2)]
    assert all(not np.array_equal(generate(system, request(way))[0].pixels, out) for way in ways)
    assert generate(system, request(Outpaint(picture, left=8)))[0].size == (40, 32)
    with pytest.raises(UsageError, match="was trained to fill holes and sees a picture"):
        generate(system, request(None))
    with pytest.raises(UsageError, match="give it a mask"):
        generate(system, request(FromPicture(picture)))
