"""One thing to hold: what `hv.load` gives has the same verbs for every model of chapters 1 to 3, or says it has not."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from doc_pages import blocks
from small_runs import digits, folder, train
from torch import Tensor

import huggingvis as hv
from huggingvis import api
from huggingvis.core.catalog import recipes
from huggingvis.core.errors import UsageError
from huggingvis.core.system import System

PAGE = "docs/models-in-python.md"
SMALL = {"steps": 2, "batch": 4, "sample_every": 0}
CODER = {**SMALL, "widths": [16], "latent_dim": 4}
STAGE = {"quantiser": {"kind": "Averaged", "codes": 16, "dim": 4}, "width": 8, "blocks": 1, "steps": 2, "batch": 4}
ALL, DRAWS = ("sample", "encode", "decode", "log_prob"), ("sample", "decode")
SYSTEMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "autoencoder": (("sample", "encode", "decode"), CODER),
    "vae": (ALL, CODER),
    "cvae": (ALL, CODER),
    "cvae_quadrants": ((), CODER),
    "vq_vae": (ALL, {**SMALL, "autoencoder": STAGE, "prior": {"dim": 16, "depth": 1, "heads": 2}}),
    "gan": (DRAWS, {**SMALL, "latent_dim": 4, "hidden": [16], "critic": "leaky", "critic_hidden": [16]}),
    "cgan": (DRAWS, {**SMALL, "net": {"noise": 8, "label": 8, "joint": 16, "picture": 16}}),
    "dcgan": (DRAWS, {**SMALL, "latent_dim": 4, "width": 4}),
    "pggan": (DRAWS, {**SMALL, "latent_dim": 4, "width": 4, "most": 8, "fade": 4, "settle": 4}),
    "stylegan": (DRAWS, {**SMALL, "size": 8, "latent_dim": 8, "mapping_layers": 1, "width": 4, "most": 8}),
    "nice": (ALL, {**SMALL, "net": {"couplings": 2, "width": 16, "depth": 1}}),
    "realnvp": (ALL, {**SMALL, "net": {"levels": 1, "width": 8, "blocks": 0}}),
    "glow": (ALL, {**SMALL, "net": {"levels": 1, "depth": 2, "width": 8}}),
}
MAKES_NO_MODEL = {"gan_inversion"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digits(tmp_path_factory.mktemp("data"), side=12)


@pytest.fixture(scope="module")
def vae(data: str, tmp_path_factory: pytest.TempPathFactory) -> System:
    return hv.load(train("vae", tmp_path_factory.mktemp("held") / "vae", {**CODER, "data": data}).path, device="cpu")


def test_every_recipe_of_the_three_chapters_is_walked() -> None:
    known = {name for name, it in recipes().items() if it.chapter in ("variational", "adversarial", "flow")}
    assert known == SYSTEMS.keys() | MAKES_NO_MODEL


@pytest.mark.parametrize("recipe", SYSTEMS)
def test_a_model_has_its_verbs_and_names_them_where_it_lacks_one(recipe: str, data: str, tmp_path: Path) -> None:
    expected, numbers = SYSTEMS[recipe]
    model = hv.load(train(recipe, tmp_path / recipe, {"data": data, **numbers}).path, device="cpu")
    (width, height), channels = model.spec.size, model.spec.channels
    x = torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert model.verbs == expected
    asked: dict[str, Callable[[Tensor], Tensor]] = {
        "encode": model.encode,
        "decode": model.decode,
        "log_prob": model.log_prob,
    }
    for verb in asked.keys() - set(expected):
        has = ", ".join(expected) or "none of the others. This model completes pictures"
        with pytest.raises(UsageError, match=f"has no {verb}; it has {has}"):
            asked[verb](x)
    if "sample" not in expected:
        with pytest.raises(UsageError, match="hvis explore complete PICTURE"):
            model.sample()
        return
    drawn = model.sample(2, seed=5)
    assert drawn.shape == (2, channels, height, width) and float(drawn.abs().max()) <= 1
    same = hv.generate("", model=model, count=2, seed=5)
    assert [p.pixels.tolist() for p in model.pictures(drawn)] == [p.pixels.tolist() for p in same]
    assert model.sample(1, seed=-1).shape == (1, channels, height, width)
    if "log_prob" in expected:
        nats = model.log_prob(x)
        assert nats.shape == (3,) and bool(nats.isfinite().all())
    if "encode" in expected:
        z = model.encode(x)
        again = model.decode(z)
        assert again.shape == x.shape and float(again.abs().max()) <= 1
        assert torch.equal(model.encode(x.double()), z)
        wrong = z[..., None]
        with pytest.raises(UsageError, match=r"Expected latents \[B, .*found " + re.escape(str(list(wrong.shape)))):
            model.decode(wrong)
        if not z.is_floating_point():
            with pytest.raises(UsageError, match="16 entries of a codebook, whole ones, found torch.float32"):
                model.decode(z / 2)
        if recipe in ("nice", "realnvp", "glow"):
            assert torch.allclose(again, x, atol=1e-4)


def test_a_class_is_named_as_in_a_prompt(data: str, tmp_path: Path) -> None:
    photos = folder(tmp_path / "data", colour=False)
    numbers = {**CODER, "data": photos, "size": 8, "channels": 1, "steps": 20, "lr": 1e-2}
    model = hv.load(train("cvae", tmp_path / "cvae", numbers).path, device="cpu")
    z = model.encode(model.signals([tmp_path / "data" / "upright" / "000.png"]))

    def told(prompt: str) -> tuple[Tensor, Tensor]:
        return model.sample(1, prompt, seed=1), model.decode(z, prompt)

    for one, other in zip(told("upright"), told("lying"), strict=True):
        assert not torch.equal(one, other)
    with pytest.raises(UsageError, match="upright"):
        model.sample(1, "uprigt")


def test_pictures_of_another_shape_are_refused_in_words(vae: System) -> None:
    for wrong in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 12, 12), torch.zeros(1, 12, 12)):
        with pytest.raises(UsageError, match=r"Expected pictures \[B, 1, 12, 12\].*found \[.*`signals`"):
            vae.encode(wrong)
    with pytest.raises(UsageError, match="at least one picture"):
        vae.signals([])
    with pytest.raises(UsageError, match="count"):
        vae.sample(0)
    with pytest.raises(UsageError, match="without words or classes"):
        vae.sample(1, "a fox")


def test_samples_are_asked_for_by_the_names_that_generate_knows(tiny_model: Path) -> None:
    model = hv.load(tiny_model, device="cpu")
    numbers: dict[str, Any] = {"steps": 3, "sampler": "euler-a", "cfg": 2.5, "negative": "a cat"}
    x = model.sample(2, "a fox", seed=4, **numbers)
    same = hv.generate("a fox", model=model, count=2, seed=4, **numbers)
    assert [p.pixels.tolist() for p in model.pictures(x)] == [p.pixels.tolist() for p in same]
    assert not torch.equal(x, model.sample(2, "a fox", seed=4))
    for wrong, told in (
        ({"sampler": "Euler a"}, "euler-a"),
        ({"stepps": 3}, "steps"),
        ({"size": 64}, "hv.generate takes everything"),
        ({"sampler": 3}, "sampler"),
    ):
        with pytest.raises(UsageError, match=told):
            model.sample(1, "a fox", **wrong)


def test_a_latent_diffusion_encodes_by_its_codec(tiny_model: Path) -> None:
    model = hv.load(tiny_model, device="cpu")
    x = model.sample(1, "a fox", seed=2)
    assert model.verbs == ("sample", "encode", "decode")
    assert model.decode(model.encode(x)).shape == x.shape == (1, 3, 32, 32)
    assert torch.equal(model.encode(x.double()), model.encode(x))
    wide = torch.zeros(1, 3, 16, 24)
    assert model.decode(model.encode(wide)).shape == wide.shape
    with pytest.raises(UsageError, match=r"\[B, 3, H, W\], H and W multiples of 4, .*found \[1, 3, 37, 41\]"):
        model.encode(torch.zeros(1, 3, 37, 41))
    with pytest.raises(UsageError, match=r"Expected latents \[B, 2, any, any\] .*found \[1, 3, 8, 8\]. `encode`"):
        model.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match="'a fox' would change nothing"):
        model.decode(model.encode(x), "a fox")
    assert np.array_equal(model.pictures(x)[0].pixels, hv.generate("a fox", model=model, seed=2)[0].pixels)


def test_folders_that_are_verbs_tell_of_the_verb() -> None:
    assert inspect.signature(hv.train) == inspect.signature(api.train)
    told = pydoc.plain(pydoc.render_doc(hv.train))
    assert 'hv.train("vae", "runs/vae"' in told and "(recipe: 'str', run: 'str | Path'" in told
    assert hv.export.__doc__ is not None and "numbered files" in hv.export.__doc__
    assert isinstance(hv.train, ModuleType) and hv.train.fit.__name__ == "huggingvis.train.fit"  # still the folder


@pytest.mark.parametrize("name", ["steps", "batch"])
def test_numbers_that_train_nothing_are_refused_as_on_the_command_line(name: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be 1 or more, found 0"):
        hv.train("vae", tmp_path / "run", {"data": data, name: 0})
    assert not (tmp_path / "run").exists()


def test_the_page_of_models_in_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "photos" / "all", side=32)
    for file in (tmp_path / "photos").rglob("*.png"):
        file.rename(tmp_path / "photos" / f"{file.parent.name}-{file.name}")
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(PAGE, "python"))
    assert text.count('"steps": 2000') == 1
    few = text.replace('"steps": 2000', '"steps": 3, "batch": 4, "widths": [16]')
    names: dict[str, Any] = {}
    exec(compile(few, PAGE, "exec"), names)
    said = capsys.readouterr().out
    assert "('sample', 'encode', 'decode', 'log_prob')" in said and "2 ways of 5 steps" in said
    assert tuple(names["z"].shape) == (8, 32) and tuple(names["halfway"].shape) == (8, 3, 32, 32)
    assert len(list(Path("out").glob("*.png"))) == 16
