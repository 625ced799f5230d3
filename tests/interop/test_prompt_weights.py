"""What text towers make of weights, chunks and long prompts, beside arithmetic written out on transformers' own towers.

The sums here are the worked reference: ids by transformers' tokenizer, chunks counted by hand, states times weights,
the mean of each chunk restored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_walks import bound, diffusion
from tiny_pipelines import pipeline, pipeline_ldm, pipeline_pixart, pipeline_xl
from torch import Tensor

from huggingvis.adapters.textual_inversion import Embedding, TextualInversions
from huggingvis.core.request import Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.systems.prompt_reading import ClipReader, PromptConditioner, readers_of

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
START, END = 49406, 49407


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, System]:
    made = pipeline()
    return made, bound(made, tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, System]:
    made = pipeline_xl()
    return made, bound(made, tmp_path_factory.mktemp("xl"))


def asked(text: str, negative: str = "", emphasis: str = "original", **more: Any) -> Request:
    return Request(Prompt(text, negative, emphasis), sampling=Sampling(steps=4), **more)


def pieces(made: Any, text: str) -> list[int]:
    found: list[int] = made.tokenizer(text, add_special_tokens=False).input_ids
    return found


@torch.no_grad()
def chunk(tower: Any, weighed: list[tuple[int, float]], pad: int = END, layer: int | None = None) -> Tensor:
    """One chunk by hand: [1, 77, D]."""
    ids = [START, *(id for id, _ in weighed), END]
    row = torch.tensor([ids + [pad] * (77 - len(ids))])
    weights = torch.ones(77)
    for place, (_, weight) in enumerate(weighed, start=1):
        weights[place] = weight
    out = tower(row, output_hidden_states=True)
    z = out.last_hidden_state if layer is None else out.hidden_states[layer]
    before = z.mean()
    z = z * weights[None, :, None]
    return z * (before / z.mean())


def close(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) < 2e-5 * float(theirs.abs().max())


WEIGHED = "a (red:1.3) fox, [blue] ((sky))"
SPANS = [("a ", 1.0), ("red", 1.3), (" fox, ", 1.0), ("blue", 1 / 1.1), (" ", 1.0), ("sky", 1.1 * 1.1)]


def test_weights_multiply_states_and_the_mean_is_restored(sd1: tuple[Any, System]) -> None:
    made, system = sd1
    weighed = [(id, weight) for text, weight in SPANS for id in pieces(made, text)]
    assert [weight for _, weight in weighed] == [1.0, 1.3, 1.0, 1.0, 1 / 1.1, 1.1 * 1.1]
    expected = chunk(made.text_encoder, weighed)
    assert close(system.conditioner([asked(WEIGHED)])["tokens"], expected)
    assert not close(system.conditioner([asked("a red fox, blue sky")])["tokens"], expected)


def test_the_other_modes(sd1: tuple[Any, System]) -> None:
    made, system = sd1
    plain = system.conditioner([asked("a red fox, blue sky")])["tokens"]
    weights = torch.tensor([1.0, 1.0, 1.3, 1.0, 1.0, 1 / 1.1, 1.21, *[1.0] * 70])
    assert close(system.conditioner([asked(WEIGHED, emphasis="no-norm")])["tokens"], plain * weights[:, None])
    assert torch.equal(system.conditioner([asked(WEIGHED, emphasis="ignore")])["tokens"], plain)
    letters = chunk(made.text_encoder, [(id, 1.0) for id in pieces(made, WEIGHED)])
    assert close(system.conditioner([asked(WEIGHED, emphasis="none")])["tokens"], letters)


def test_weight_one_is_identity(sd1: tuple[Any, System]) -> None:
    _, system = sd1
    plain = system.conditioner([asked("a red fox")])
    for text in ("a (red:1.0) fox", "(a red fox:1)", "[(a:1.1)] red fox"):
        found = system.conditioner([asked(text)])
        if text.startswith("["):  # 1.1 / 1.1 is 1 but for the last bit
            assert close(found["tokens"], plain["tokens"])
        else:
            assert torch.equal(found["tokens"], plain["tokens"])


def test_a_long_prompt_is_read_in_chunks_that_end_at_commas(sd1: tuple[Any, System]) -> None:
    made, system = sd1
    text = "cat " * 60 + "dog, " + "(fox:1.5) " * 20 + "red " * 70 + "end"
    cat, dog, comma, fox, red, end = (pieces(made, word)[0] for word in ("cat", "dog", ",", "fox", "red", "end"))
    one = [(cat, 1.0)] * 60 + [(dog, 1.0), (comma, 1.0)]  # 62; thirteen foxes would fit, but the comma ends it
    two = [(fox, 1.5)] * 20 + [(red, 1.0)] * 55
    three = [(red, 1.0)] * 15 + [(end, 1.0)]
    expected = torch.cat([chunk(made.text_encoder, part) for part in (one, two, three)], dim=1)
    cond = system.conditioner([asked(text)])
    assert close(cond["tokens"], expected) and cond["tokens"].shape[1] == 231
    assert cond["negative.tokens"].shape[1] == 77
    assert not [note for note in system.conditioner.notes(asked(text)) if "longer" in note]


def test_break_begins_a_chunk_and_a_batch_is_filled_with_empty_ones(sd1: tuple[Any, System]) -> None:
    made, system = sd1
    expected = [chunk(made.text_encoder, [(id, 1.0) for id in pieces(made, word)]) for word in ("a cat", "a dog", "")]
    assert close(system.conditioner([asked("a cat BREAK a dog")])["tokens"], torch.cat(expected[:2], dim=1))
    both = system.conditioner([asked("a cat BREAK a dog"), asked("a cat")])["tokens"]
    assert close(both[1:], torch.cat([expected[0], expected[2]], dim=1))


def test_clip_skip_is_weighed_after_the_norm(sd1: tuple[Any, System]) -> None:
    made, system = sd1
    weighed = [(id, weight) for text, weight in (("a", 1.0), ("fox", 1.4)) for id in pieces(made, text)]
    ids = torch.tensor([[START, *(id for id, _ in weighed), END, *[END] * 73]])
    norm = next(m for name, m in made.text_encoder.named_modules() if name.endswith("final_layer_norm"))
    with torch.no_grad():
        z = norm(made.text_encoder(ids, output_hidden_states=True).hidden_states[-2])
    out = z * torch.tensor([1.0, 1.0, 1.4, *[1.0] * 74])[None, :, None]
    out = out * (z.mean() / out.mean())
    assert close(system.conditioner([asked("a (fox:1.4)", options={"clip_skip": "2"})])["tokens"], out)


def test_both_towers_of_xl(xl: tuple[Any, System]) -> None:
    made, system = xl
    weighed = [[(id, w) for text, w in part for id in pieces(made, text)]
               for part in ((("a", 1.0), ("red", 1.3), ("fox", 1.0)), (("sky", 1.2),))]  # fmt: skip
    parts = [
        torch.cat([chunk(made.text_encoder, one, layer=-2), chunk(made.text_encoder_2, one, pad=0, layer=-2)], dim=-1)
        for one in weighed
    ]
    cond = system.conditioner([asked("a (red:1.3) fox BREAK (sky:1.2)", "dark")])
    assert close(cond["tokens"], torch.cat(parts, dim=1))
    plain = system.conditioner([asked("a red fox", "dark")])
    assert torch.equal(cond["vector"], plain["vector"])  # pooled: the first chunk's, and no weight


def test_guidance_of_a_longer_prompt_is_that_of_each_by_itself(sd1: tuple[Any, System]) -> None:
    _, system = sd1
    request = asked("a cat BREAK a dog", "dark")
    cond, model = system.conditioner([request]), diffusion(system, request)
    x, t = torch.randn(1, 4, 8, 8), torch.tensor(0.5, dtype=torch.float64)
    with torch.no_grad():
        away = model.denoise(x, t, {"tokens": cond["negative.tokens"]}).x0
        to = model.denoise(x, t, {"tokens": cond["tokens"]}).x0
        found = model.guidance[0](model.denoise)(x, t, cond).x0
    expected = away + request.sampling.guidance_scale * (to - away)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_learnt_word_of_several_vectors_is_weighed_as_a_whole(sd1: tuple[Any, System]) -> None:
    _, system = sd1
    assert isinstance(system.conditioner, PromptConditioner)
    (reader,) = readers_of(system.conditioner.reader)
    assert isinstance(reader, ClipReader)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    learnt = TextualInversions(reader.tokens, {reader.name: reader.tower}, [Embedding("wombat", {"x": vectors})])
    reader.words = learnt
    try:
        plain = system.conditioner([asked("a wombat sky")])["tokens"]
        found = system.conditioner([asked("a (wombat:1.5) sky", emphasis="no-norm")])["tokens"]
        long = system.conditioner([asked("cat " * 73 + "wombat")])["tokens"]
    finally:
        reader.words = None
    weights = torch.tensor([1.0, 1.0, 1.5, 1.5, 1.5, *[1.0] * 72])
    assert close(found, plain * weights[:, None]) and long.shape[1] == 154


@pytest.mark.parametrize("build", [pipeline_pixart, pipeline_ldm])
def test_towers_that_read_one_row(build: Any, tmp_path: Path) -> None:
    system = bound(build(), tmp_path)
    plain = system.conditioner([asked("a cat and cubes", "dark")])
    found = system.conditioner([asked("a (cat:1.5) BREAK and cubes", "dark")])
    ratio = found["tokens"] / plain["tokens"]
    words = ratio[0, :, 0]
    heavy = (words - 1.5).abs() < 1e-4
    assert bool(heavy.any()) and bool(((ratio - words[:, None]).abs() < 1e-3).all())
    assert bool((heavy | ((words - 1.0).abs() < 1e-4)).all())
    same = system.conditioner([asked("a (cat:1) and cubes", "dark")])
    assert torch.equal(same["tokens"], plain["tokens"])
    longer = replace(asked("cat " * 400), prompt=Prompt("cat " * 400))
    assert any("is left out" in note for note in system.conditioner.notes(longer))
