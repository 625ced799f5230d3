"""The Request: JSON loses nothing, and every impossible value is refused in one sentence that names it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import (
    MAX_SEED,
    VERSION,
    AdapterUse,
    Canvas,
    FromPicture,
    Inpaint,
    Limits,
    Outpaint,
    Prompt,
    Refine,
    Request,
    Sampling,
    check,
    count_words,
)

FOX = Request(Prompt("a fox to the left of a pizza"))
FULL = Request(
    Prompt("一只狐狸 🦊 \n 'quoted' none", "blurry"),
    Canvas(128, None, 4),
    Sampling("euler", "karras", 7, 1 / 3, 0.7, (0.1, 0.9), 1.0, MAX_SEED - 3),
    FromPicture("in.png", 1.0),
    Refine(1.5, 3, 0.1),
    (AdapterUse("a.safetensors", -0.5), AdapterUse("b.safetensors")),
)


HOLE = replace(FOX, source=Inpaint("in.png", "hole.png", 0.5, "repaint", "masked", 8, True, 2.5, "noise", True, False))
GROWN = replace(FOX, source=Outpaint("in.png", 1, 2, 3, 4, 0.5, "blend", "blur", 2, False, 3, 4))


@pytest.mark.parametrize("request_", [FOX, FULL, HOLE, GROWN])
def test_json_round_trip_loses_nothing(request_: Request) -> None:
    assert Request.from_json(request_.to_json()) == request_
    assert json.loads(request_.to_json())["version"] == VERSION
    assert check(request_) == request_


def test_records_of_before_sources_had_more_fields_are_read() -> None:
    old = '{"version": 1, "source": {"kind": "%s", "path": "a.png", %s"strength": 0.5}}'
    assert Request.from_json(old % ("FromPicture", "")).source == FromPicture("a.png", 0.5)
    assert Request.from_json(old % ("Inpaint", '"mask": "b.png", ')).source == Inpaint("a.png", "b.png", 0.5)


def test_short_json_takes_the_defaults() -> None:
    assert Request.from_json('{"prompt": {"text": "a fox to the left of a pizza"}}') == FOX


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"promt": {}}', "'prompt'"),
        ('{"sampling": {"step": 3}}', "'steps'"),
        ('{"version": 2}', "newer huggingvis"),
        ('{"version": true}', "version True"),
        ('{"prompt": "a fox"}', "'prompt' of Request must be a table of Prompt"),
        ('{"sampling": {"steps": "20"}}', "'sampling.steps' of Request must be a whole number"),
        ('{"source": {"strength": 0.5}}', "says which: FromPicture, Inpaint, Outpaint"),
        ('{"source": {"kind": "FromPicture", "strength": 0.5}}', "needs 'source.path'"),
        ("[1]", "must be a table"),
    ],
)
def test_a_wrong_record_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Request.from_json(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"prompt": "\\'])
def test_a_text_that_is_no_json_is_a_file_problem(text: str) -> None:
    with pytest.raises(FileProblem, match="does not parse"):
        Request.from_json(text)


def test_nan_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="finite"):
        replace(FOX, sampling=Sampling(guidance_scale=float("nan"))).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": Prompt("")}, "prompt is empty"),
        ({"prompt": Prompt(" \n\t ")}, "prompt is empty"),
        ({"prompt": Prompt("word " * 10_000)}, "10,000 words, but at most 1,000"),
        ({"prompt": Prompt("狐" * 10_000)}, "10,000 words, but at most 1,000"),
        ({"prompt": Prompt("x" * 10_001)}, "10,001 characters, but at most 10,000"),
        ({"prompt": Prompt("fox", "word " * 1001)}, "negative prompt has 1,001 words"),
        ({"prompt": Prompt("fox\0")}, "'\\x00'"),
        ({"prompt": Prompt("fox\udcff")}, "'\\udcff'"),
        ({"prompt": Prompt(None)}, "'prompt.text' of Request must be a text"),  # type: ignore[arg-type]
        ({"canvas": Canvas(0, 64)}, "width must be between 8 and 8192 pixels, found 0"),
        ({"canvas": Canvas(64, 100_000)}, "height must be between 8 and 8192 pixels, found 100000"),
        ({"canvas": Canvas(-64)}, "width"),
        ({"canvas": Canvas(130)}, "multiple of 8 pixels, found 130. Nearest: 128 or 136"),
        ({"canvas": Canvas(count=0)}, "count must be between 1 and 10000, found 0"),
        ({"canvas": Canvas(count=10_001)}, "count"),
        ({"sampling": Sampling(steps=0)}, "steps must be between 1 and 10000, found 0"),
        ({"sampling": Sampling(steps=10_001)}, "steps"),
        ({"sampling": Sampling(steps=2.0)}, "'sampling.steps'"),  # type: ignore[arg-type]
        ({"sampling": Sampling(guidance_scale=float("nan"))}, "guidance_scale must be a number"),
        ({"sampling": Sampling(guidance_scale=float("inf"))}, "guidance_scale"),
        ({"sampling": Sampling(guidance_scale=-1.0)}, "guidance_scale"),
        ({"sampling": Sampling(guidance_rescale=1.1)}, "guidance_rescale"),
        ({"sampling": Sampling(guidance_interval=(0.9, 0.1))}, "guidance_interval must rise"),
        ({"sampling": Sampling(guidance_interval=(0.0, float("nan")))}, "guidance_interval"),
        ({"sampling": Sampling(eta=-0.1)}, "eta"),
        ({"sampling": Sampling(seed=-1)}, "seed must be between 0"),
        ({"sampling": Sampling(seed=2**63)}, "seed"),
        ({"sampling": Sampling(seed=MAX_SEED), "canvas": Canvas(count=2)}, "seed plus count"),
        ({"sampling": Sampling(sampler="")}, "sampler"),
        ({"source": FromPicture("", 0.5)}, "source.path"),
        ({"source": FromPicture("a.png", -0.1)}, "source.strength must be a number between 0 and 1, found -0.1"),
        ({"source": Inpaint("a.png", "", 1.0)}, "source.mask must name a file"),
        ({"source": Inpaint("a.png", "b.png", padding=-1)}, "source.padding must be between 0 and 8192 pixels"),
        ({"source": Inpaint("a.png", "b.png", blur=float("inf"))}, "source.blur must be a number"),
        ({"source": Inpaint("a.png", "b.png", resamples=0)}, "source.resamples must be between 1"),
        ({"source": Inpaint("a.png", "b.png", jump=0)}, "source.jump must be between 1"),
        ({"source": Inpaint("a.png", "b.png", fill="blurred")}, "'source.fill'"),  # type: ignore[arg-type]  # no such fill
        ({"source": Outpaint("a.png")}, "grow by no pixel at any side"),
        ({"source": Outpaint("a.png", left=-1)}, "source.left must be between 0"),
        ({"source": Outpaint("a.png", top=8, strength=0.0)}, "source.strength must be above 0"),
        ({"refine": Refine(scale=float("nan"))}, "refine.scale"),
        ({"refine": Refine(steps=0)}, "refine.steps"),
        ({"adapters": (AdapterUse("a"), AdapterUse("b", float("nan")))}, "adapters.1.weight"),
    ],
)
def test_an_impossible_value_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(replace(FOX, **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_states_its_own_limits() -> None:
    limits = Limits(multiple=16, side=512, samplers=("ddim", "euler", "dpm++2m"), prompt_required=False)
    assert check(Request(), limits) == Request()
    with pytest.raises(UsageError, match="'euler'"):
        check(replace(FOX, sampling=Sampling("eular")), limits)
    with pytest.raises(UsageError, match="Nearest: 496 or 512"):
        check(replace(FOX, canvas=Canvas(504)), limits)


def test_words_are_counted_as_people_count_them() -> None:
    assert count_words("a fox,  to the\nleft") == 5
    assert count_words("一只红色的 fox") == 6
    assert count_words("") == 0
