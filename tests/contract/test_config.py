"""Configurations: dataclass, dict, TOML and flags hold the same, and mistakes are explained by the field's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from huggingvis.core import config, flags
from huggingvis.core.errors import FileProblem, UsageError


@dataclass(frozen=True)
class Adam:
    lr: float = 1e-3  #: learning rate
    betas: tuple[float, float] = (0.9, 0.999)
    nesterov: bool = False


@dataclass(frozen=True)
class Vp:
    beta_max: float = 20.0


@dataclass(frozen=True)
class Flow:
    shift: float = 1.0


@dataclass(frozen=True)
class Base:
    seed: int = 0  #: start of the noise


@dataclass(frozen=True)
class Sample(Base):
    steps: int = 1000  #: optimiser steps
    #: where the pictures are,
    #: one folder
    folder: Path = Path("data/set")
    optim: Adam = Adam(lr=0.01)
    process: Vp | Flow = Vp()
    ema: Adam | None = None
    clip: float | None = 1.0
    name: str | None = "a name"
    mode: Literal["small", "large"] = "small"
    sizes: tuple[int, ...] = (1, 2)
    limit: int | str = 3
    weights: Mapping[str, float] = field(default_factory=dict)
    flip: bool = True
    stages: tuple[Vp | Flow, ...] = ()
    label: str = ""


CHANGED = Sample(
    seed=-3, steps=7, folder=Path("a b/ü"), optim=Adam(1e-05, (0.5, 0.1 + 0.2), True), process=Flow(3.0), ema=Adam(),
    clip=None, name=None, mode="large", sizes=(), limit="all", weights={"kl.x": 1e-6}, flip=False,
    stages=(Flow(), Vp(0.1)), label='line one\n"two" 中文 \\ none',
)  # fmt: skip


@pytest.mark.parametrize("value", [Sample(), CHANGED])
def test_dict_and_toml_round_trips_lose_nothing(value: Sample, tmp_path: Path) -> None:
    assert config.from_dict(Sample, config.to_dict(value)) == value
    assert config.from_toml(Sample, config.to_toml(value)) == value
    path = config.save(value, tmp_path / "config.toml")
    assert config.load(Sample, path) == value
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]


def test_flags_say_everything_a_record_can_hold() -> None:
    words = [
        "--seed", "-3", "--steps", "7", "--folder=a b/ü", "--optim.lr", "1e-5",
        "--optim.betas", "0.5,0.30000000000000004", "--optim.nesterov", "--process", "Flow", "--process.shift", "3",
        "--ema", "{}", "--clip", "none", "--name", "none", "--mode", "large",
        "--sizes", "", "--limit", "all", "--weights", '{"kl.x" = 1e-6}', "--no-flip",
        "--stages", '[{kind = "Flow"}, {kind = "Vp", beta_max = 0.1}]', "--label", CHANGED.label,
    ]  # fmt: skip
    assert flags.parse(Sample, words) == CHANGED


def test_missing_keys_keep_the_base_and_the_parents_default() -> None:
    assert config.from_dict(Sample, {"optim": {"nesterov": True}}).optim == Adam(0.01, (0.9, 0.999), True)
    assert flags.parse(Sample, ["--optim.lr=2"], base=CHANGED).optim == Adam(2.0, CHANGED.optim.betas, True)
    assert flags.parse(Sample, ["--weights.kl", "0.5", "--weights.rec", "2"]).weights == {"kl": 0.5, "rec": 2.0}
    assert flags.parse(Sample, ["--ema.lr", "0.5"]).ema == Adam(0.5)
    assert flags.parse(Sample, ["--flip", "--steps", "5"]) == Sample(steps=5)
    assert flags.parse(Sample, ["--flip", "no", "--limit", "5"]) == Sample(flip=False, limit=5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"stepz": 3}, ["stepz", "'steps'"]),
        ({"optim": {"learn": 1}}, ["optim", "'learn'"]),
        ({"optim": {"lr": "fast"}}, ["'optim.lr' of Sample", "a number", "'fast'"]),
        ({"steps": 1.5}, ["'steps'", "whole number", "1.5"]),
        ({"steps": True}, ["'steps'", "whole number", "True"]),
        ({"flip": 1}, ["'flip'", "true or false"]),
        ({"mode": "smal"}, ["mode", "'smal'", "'small'"]),
        ({"process": {"kind": "Flo"}}, ["process", "'Flow'"]),
        ({"optim": {"betas": [1]}}, ["'optim.betas'", "list of 2"]),
        ({"sizes": [1, "x"]}, ["'sizes.1'", "whole number"]),
        ({"stages": [{"shift": 1}]}, ["stages.0", "kind", "Vp, Flow"]),
        ({"limit": None}, ["'limit'", "a whole number or a text"]),
        ({"optim": 10**400}, ["'optim'", "table of Adam"]),
        ({"clip": 10**400}, ["'clip'", "a number"]),
    ],
)
def test_a_wrong_value_is_explained(data: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        config.from_dict(Sample, data)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stepz", "3"], "--steps"),
        (["--steps"], "needs a value: a whole number"),
        (["--steps", "--flip"], "needs a value"),
        (["--steps", "ten"], "must be a whole number, but 'ten'"),
        (["steps=3"], "Expected a flag"),
        (["--no-flip=true"], "takes no value"),
        (["--sizes", "1,b"], "'sizes.1'"),
        (["--weights", "{a"], "TOML"),
        (["--process", "Vq"], "'process' must be a table of Vp"),
        (["--ema", "none", "--ema.lr", "1"], "cannot be set together"),
    ],
)
def test_a_wrong_flag_is_explained(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        flags.parse(Sample, words)
    assert message in str(caught.value)


def test_a_field_without_default_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Needs:
        path: Path

    with pytest.raises(UsageError, match="needs 'path': a path"):
        flags.parse(Needs, [])


def test_the_words_none_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="read back as no value"):
        config.to_toml(Sample(name="none"))
    damaged = tmp_path / "config.toml"
    damaged.write_text("steps = ")
    with pytest.raises(FileProblem, match=r"config\.toml"):
        config.load(Sample, damaged)
    damaged.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileProblem, match="UTF-8"):
        config.load(Sample, damaged)
    with pytest.raises(FileProblem, match=r"absent\.toml"):
        config.load(Sample, tmp_path / "absent.toml")


def test_help_comes_from_the_comments_of_the_fields() -> None:
    assert flags.meanings(Sample) == {
        "seed": "start of the noise",
        "steps": "optimiser steps",
        "folder": "where the pictures are, one folder",
    }
    known = {flag.name: flag for flag in flags.flags(Sample)}
    assert list(known)[:5] == ["seed", "steps", "folder", "optim", "optim.lr"]
    assert known["optim.lr"].meaning == "learning rate (default 0.01)"
    assert {"process.beta_max", "process.shift"} <= set(known)
    assert known["process.beta_max"].option == "--process.beta-max" and known["process.beta_max"].takes == "X"


def test_help_comes_from_the_attributes_of_the_docstring() -> None:
    @dataclass(frozen=True)
    class Sizes:
        """Sizes of a net.

        Attributes:
            width: of every layer,
                in channels.
            depth: layers: the more, the slower.

        Not an attribute: this line.
        """

        width: int = 8
        depth: int = 2

    assert flags.meanings(Sizes) == {"width": "of every layer, in channels.", "depth": "layers: the more, the slower."}
    assert flags.flags(Sizes)[0].meaning == "of every layer, in channels. (default 8)"
