"""Prompts that change and prompts that AND joins, over whole walks: each equals the same walk put together by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_walks import bound, diffusion
from tiny_pipelines import pipeline, start
from torch import Tensor

from huggingvis.core.belief import Belief, Gaussian
from huggingvis.core.diffusion import compose
from huggingvis.core.errors import UsageError
from huggingvis.core.grid import Grid
from huggingvis.core.noise import ReplayNoise, SeedNoise
from huggingvis.core.request import Canvas, FromPicture, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.core.text_memory import remembering
from huggingvis.edits.generate import generate, notes
from huggingvis.systems import tiny

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 6


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> System:
    return bound(pipeline(), tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def own(tiny_model: Path) -> System:
    return tiny.bind(tiny_model)


def asked(text: str, negative: str = "", sampler: str = "euler", **more: Any) -> Request:
    return Request(Prompt(text, negative), sampling=Sampling(sampler, "uniform", STEPS, 4.0), **more)


@torch.inference_mode()
def walked(system: System, request: Request, x: Tensor | None = None) -> Tensor:
    model = diffusion(system, request)
    grid = model.grid(model.process.pace)
    noise = ReplayNoise([start()])
    cond = model.condition(system.conditioner([request]), SeedNoise([0]))
    first = model.start(1, grid, noise) if x is None else x
    return model.walk(first, grid, cond, noise=noise)


@torch.inference_mode()
def by_hand(system: System, texts: list[tuple[str, str]], sampler: str = "euler") -> Tensor:
    """Step i under the i-th prompt and negative prompt, every step a walk of its own."""
    requests = [asked(*text, sampler=sampler) for text in texts]
    model = diffusion(system, requests[0])
    grid = model.grid(model.process.pace)
    x = model.start(1, grid, ReplayNoise([start()]))
    for i, request in enumerate(requests):
        own = diffusion(system, request)
        one = Grid(grid.times[i : i + 2], None if grid.clocks is None else grid.clocks[i : i + 1])
        x = own.walk(x, one, system.conditioner([request]), noise=ReplayNoise([]))
    return x


def same(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


def test_a_prompt_that_changes_is_two_prompts_one_after_another(sd1: System) -> None:
    # after 3 of 6 steps: steps 0 to 3 read the first word, as the web UI counts
    expected = by_hand(sd1, [("a cat", "")] * 4 + [("a dog", "")] * 2)
    assert same(walked(sd1, asked("a [cat:dog:0.5]")), expected)
    assert same(walked(sd1, asked("a [cat:dog:3]")), expected)
    assert not same(walked(sd1, asked("a cat")), expected)


def test_words_take_turns(sd1: System) -> None:
    texts = [("a cat", ""), ("a cat", ""), ("a dog", ""), ("a cat", ""), ("a dog", ""), ("a cat", "")]
    assert same(walked(sd1, asked("a [cat|dog]")), by_hand(sd1, texts))


def test_a_negative_prompt_changes_too(sd1: System) -> None:
    texts = [("a cat", "dark")] * 3 + [("a cat", "blur")] * 3
    assert same(walked(sd1, asked("a cat", "[dark:blur:2]")), by_hand(sd1, texts))


def test_a_sampler_of_two_calls_reads_one_prompt_a_step(sd1: System) -> None:
    expected = by_hand(sd1, [("a cat", "")] * 4 + [("a dog", "")] * 2, sampler="heun")
    assert same(walked(sd1, asked("a [cat:dog:0.5]", sampler="heun")), expected)


@torch.inference_mode()
def test_and_is_composable_diffusion(sd1: System) -> None:
    """A loop written out: the belief at each step is neg + w sum_i w_i (cond_i - neg)."""
    request = asked("a cat AND a dog :0.6 AND a hat :-0.3", "dark")
    model = diffusion(sd1, request)
    grid = model.grid(model.process.pace)
    texts = ("a cat", "a dog", "a hat")
    tokens = [sd1.conditioner([asked(text, "dark")]) for text in texts]

    def belief(x: Tensor, t: Tensor) -> Belief:
        clock = {} if grid.clocks is None else {"clock": grid.clock_table(x)[float(t)]}
        away = model.denoise(x, t, {"tokens": tokens[0]["negative.tokens"], **clock})
        assert isinstance(away, Gaussian)
        to = [model.denoise(x, t, {"tokens": one["tokens"], **clock}).x0 for one in tokens]
        total = sum(w * (x0 - away.x0) for w, x0 in zip((1.0, 0.6, -0.3), to, strict=True))
        return replace(away, x0=away.x0 + 4.0 * total)

    x, state = model.start(1, grid, ReplayNoise([start()])), model.sampler.init()
    with model.process.walked(grid.times):
        for t, s in grid.pairs():
            x, state = model.sampler.step(belief, model.process, x, t, s, state, ReplayNoise([]))
    assert same(walked(sd1, request), x)


def test_what_is_remembered_of_a_text_changes_with_it(sd1: System) -> None:
    expected = walked(sd1, asked("a [cat|dog] AND a [fox:hat:2]"))
    with remembering(sd1.parts["unet"]):
        assert torch.equal(walked(sd1, asked("a [cat|dog] AND a [fox:hat:2]")), expected)


def test_and_with_words_that_change(sd1: System) -> None:
    texts = [("a cat AND a dog :0.5", "")] * 4 + [("a cat AND a hat :0.5", "")] * 2
    assert same(walked(sd1, asked("a cat AND a [dog:hat:0.5] :0.5")), by_hand(sd1, texts))


def test_weights_of_one_prompt_and_of_two_of_the_same(sd1: System) -> None:
    half = walked(sd1, asked("a cat :0.5 AND a cat :0.5"))
    assert same(half, walked(sd1, asked("a cat")))


def test_pictures_of_one_batch_change_alike(own: System, tmp_path: Path) -> None:
    request = asked("a [fox:pizza:0.5] AND a fox :0.5", canvas=Canvas(count=3))
    together = generate(own, request)
    for i, picture in enumerate(together):
        alone = generate(own, replace(request, canvas=Canvas(), sampling=replace(request.sampling, seed=i)))[0]
        assert abs(picture.pixels.astype(int) - alone.pixels.astype(int)).max() <= 1
    plain = generate(own, asked("a fox"))[0]
    assert abs(plain.pixels.astype(int) - together[0].pixels.astype(int)).max() > 1


def test_from_a_picture_steps_are_counted_from_the_first_that_is_walked(own: System, tmp_path: Path) -> None:
    generate(own, asked("a fox"))[0].to_pil().save(tmp_path / "fox.png")
    source = FromPicture(str(tmp_path / "fox.png"), 0.5)
    made = [
        generate(own, asked(text, source=source))[0].pixels for text in ("a [fox:pizza:3]", "a fox", "a [fox:pizza:1]")
    ]
    assert (made[0] == made[1]).all()  # three of six steps are walked, 0 to 2: the change after step 3 never comes
    assert (made[2] != made[1]).any()


def test_the_web_uis_language_is_read_by_the_model_that_ships(own: System) -> None:
    conditioner = own.conditioner
    assert isinstance(conditioner, tiny.TinyConditioner)
    plain = conditioner([asked("一只狐狸在披萨的左边")])
    slots = own.parts["text"].config.slots
    weighed = conditioner([asked("一只(狐狸:1.5)在披萨的左边")])
    ratio = weighed["tokens"] / plain["tokens"]
    assert torch.equal(weighed["tokens"][:, :slots], plain["tokens"][:, :slots])
    assert sorted({round(float(r), 3) for r in ratio[0, :, 0]}) == [1.0, 1.5]
    full = conditioner([asked("一只（狐狸）在披萨的左边")])  # full-width brackets are letters
    assert full["tokens"].shape[1] > plain["tokens"].shape[1] or not torch.equal(full["tokens"], plain["tokens"])
    for text in ("a fox to the left of a pizza", ""):
        old = conditioner.read([text])
        new = conditioner([asked(text)])
        assert all(torch.equal(old[key], new[key]) for key in old)


def test_notes_point_at_letters(own: System, sd1: System) -> None:
    said = notes(own, asked("a (fox to the left <lora:ink:0.8> of a pizza"))
    assert any("never closed" in note and note.endswith("^") for note in said)
    assert any("<lora:ink:0.8> in the prompt is no word" in note for note in said)
    assert not any("lora" in note and "does not know the word" in note for note in said)
    said = notes(sd1, asked("a cat", "dark) <hypernet:x:1>"))
    assert any("of the negative prompt." in note for note in said) and any("hypernet" in note for note in said)


def test_pictures_of_different_changing_prompts_are_refused(sd1: System) -> None:
    with pytest.raises(UsageError, match="cannot be made at once"):
        sd1.conditioner([asked("a [cat:dog:0.5]"), asked("a cat")])
    with pytest.raises(UsageError, match="cannot be made at once"):
        sd1.conditioner([asked("a cat"), asked("a cat AND a dog")])
    assert sd1.conditioner([asked("a (cat:1.2)"), asked("a dog")])["tokens"].shape[0] == 2


def test_a_condition_without_steps_is_told_the_first_reading(sd1: System) -> None:
    request = asked("a [cat:dog:0.5]")
    model, plain = diffusion(sd1, request), diffusion(sd1, asked("a cat"))
    x, t = start(), torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        found = compose(model.denoise, model.guidance)(x, t, sd1.conditioner([request]))
        expected = compose(plain.denoise, plain.guidance)(x, t, sd1.conditioner([asked("a cat")]))
    assert torch.equal(found.x0, expected.x0)
