"""Pictures larger than the shipped model knows, by the walk that every picture takes; previews on the way."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from tiny_pipelines import pipeline_xl
from torch.nn import functional as F

import huggingvis as hv
from huggingvis.api import notes
from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.core.belief import Gaussian
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.protocols import Step
from huggingvis.core.request import Canvas, Prompt, Refine, Refiner, Request, Tiles
from huggingvis.core.system import System
from huggingvis.edits.generate import prepared
from huggingvis.edits.preview import Preview
from huggingvis.edits.refine import second
from huggingvis.edits.refiner import opened
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.taesd import bind_decoder

FOX = Prompt("a fox to the left of a pizza")


@pytest.fixture(scope="module")
def tiny() -> System:
    return hv.load("tiny", device="cpu")


def asked(system: System, steps: int = 4, **more: object) -> Request:
    return replace(Request(FOX, Canvas(), replace(system.defaults, steps=steps, seed=7)), **more)  # type: ignore[arg-type]


def reduced(picture: Picture, side: int) -> np.ndarray:
    x = torch.from_numpy(picture.to_signal())[None]
    return F.interpolate(x, (side, side), mode="area")[0].numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(4 / np.square(a - b).mean()))


def test_a_second_pass_of_the_shipped_model(tiny: System) -> None:
    """It shows the same things at the same places: the plan of the first pass is that of the second."""
    request = asked(tiny, 10, canvas=Canvas(count=2))
    plain = hv.generate(request, model=tiny)
    large = hv.generate(replace(request, refine=Refine(2.0, 5, 0.4)), model=tiny)
    assert [picture.size for picture in large] == [(128, 128)] * 2
    own = [psnr(reduced(large[i], 16), reduced(plain[i], 16)) for i in (0, 1)]
    other = psnr(reduced(large[0], 16), reduced(plain[1], 16))
    assert min(own) > 16.0 and min(own) > other + 2.0, (own, other)
    (again,) = hv.generate(replace(request, canvas=Canvas(count=1), refine=Refine(2.0, 5, 0.4)), model=tiny)
    assert np.abs(again.pixels.astype(int) - large[0].pixels).max() <= 2  # whatever the batch


def test_a_second_pass_goes_on_with_a_prompt_that_changes(tiny: System) -> None:
    """What changed in the first pass stays changed; what changes at 1.5 does so half way through the second."""
    request = asked(tiny, 4, prompt=Prompt("a [fox:pizza:0.5]"))
    (found,) = hv.generate(replace(request, refine=Refine(1.5, 4, 0.8)), model=tiny)
    (told,) = hv.generate(replace(request, refine=Refine(1.5, 4, 0.8, prompt="a pizza")), model=tiny)
    assert np.array_equal(found.pixels, told.pixels)
    (late,) = hv.generate(replace(request, refine=Refine(1.5, 4, 0.8, prompt="a [fox:pizza:1.5]")), model=tiny)
    assert not np.array_equal(late.pixels, told.pixels)


def test_a_second_pass_may_ask_for_more_than_the_first(tiny: System) -> None:
    """Each prompt that AND adds has a plan of its own, which nobody drew in the first pass."""
    request = asked(tiny, 2, refine=Refine(1.5, 2, 0.8, prompt="a fox AND a pizza :0.5"))
    (found,) = hv.generate(request, model=tiny)
    (one,) = hv.generate(replace(request, refine=Refine(1.5, 2, 0.8, prompt="a fox")), model=tiny)
    assert found.size == (96, 96) and not np.array_equal(found.pixels, one.pixels)


def test_a_schedule_that_ended_in_the_first_pass_does_not_begin_anew(tiny: System) -> None:
    twice = Refine(2.0, 4, 0.9)
    changing = Prompt("[a red heart:a blue heart:0.5] and [(dark:1.2)::1.5]", "[day:night:0.2]")
    for told in (changing, replace(changing, emphasis="none")):  # then brackets weigh nothing, but schedules hold
        seen = second(tiny, asked(tiny, 10, prompt=told, refine=twice)).prompt
        assert (seen.text, seen.negative) == ("a blue heart and [(dark:1.2)::2]", "night")
    own = replace(twice, prompt="[red:blue:1.5] heart", negative="[a:b:12]")
    seen = second(tiny, asked(tiny, 10, prompt=changing, refine=own)).prompt
    assert (seen.text, seen.negative) == ("[red:blue:2] heart", "[a:b:2]")


@pytest.mark.filterwarnings("ignore:The model was trained on pictures of")
def test_a_panorama_of_the_shipped_model(tiny: System) -> None:
    (wide,) = hv.generate(asked(tiny, canvas=Canvas(128, 64), tiles=Tiles()), model=tiny)
    (plain,) = hv.generate(asked(tiny, canvas=Canvas(128, 64)), model=tiny)
    assert wide.size == plain.size == (128, 64) and not np.array_equal(wide.pixels, plain.pixels)
    (said,) = notes(tiny, asked(tiny, canvas=Canvas(128, 64)))
    assert "at 128x64 it draws worse" in said and notes(tiny, asked(tiny, canvas=Canvas(128, 64), tiles=Tiles())) == ()
    whole, window = (hv.generate(asked(tiny, tiles=tiles), model=tiny)[0] for tiles in (None, Tiles()))
    assert np.array_equal(whole.pixels, window.pixels)


def test_edges_that_meet(tiny: System) -> None:
    """The step from the last column to the first is like one inside the picture."""
    (round_,) = hv.generate(asked(tiny, 8, tiles=Tiles(wrap_x=True, wrap_y=True)), model=tiny)
    x = round_.to_signal()

    def steps(axis: int) -> tuple[float, float]:
        jump = np.abs(x - np.roll(x, 1, axis)).mean(tuple(i for i in range(3) if i != axis))
        return float(jump[0]), float(np.delete(jump, 0).mean())

    for axis in (1, 2):
        across, inside = steps(axis)
        assert across < 2.5 * inside, (axis, across, inside)


@pytest.mark.filterwarnings("ignore:The model was trained on pictures of")
def test_tiles_of_the_autoencoder(tiny: System) -> None:
    request = asked(tiny, canvas=Canvas(128, 128))
    plain, one, many = (
        hv.generate(replace(request, canvas=Canvas(128, 128, vae_tile=side)), model=tiny)[0] for side in (0, 128, 64)
    )
    assert np.array_equal(plain.pixels, one.pixels)
    assert psnr(plain.to_signal(), many.to_signal()) > 25.0 and not np.array_equal(plain.pixels, many.pixels)


def test_a_refiner_takes_over(tmp_path: Path) -> None:
    pipeline_xl().save_pretrained(tmp_path / "base")
    system = bind_folder(tmp_path / "base", How())
    request = asked(system, refiner=Refiner(str(tmp_path / "base"), 0.5))
    (picture,) = hv.generate(request, model=system)
    assert str(picture.made["refiner"]).startswith("base ")


def test_a_refiner_is_let_go_by_a_request_without_one_and_with_its_model(tmp_path: Path) -> None:
    pipeline_xl().save_pretrained(tmp_path / "base")
    system, how = bind_folder(tmp_path / "base", How()), Refiner(str(tmp_path / "base"), 0.5)

    def kept(by: System) -> weakref.ref[torch.nn.Module]:
        second = opened(by, how)
        assert opened(by, how) is second
        return weakref.ref(second.parts["unet"])

    first = kept(system)
    gc.collect()
    assert first() is not None
    notes(system, asked(system))
    gc.collect()
    assert first() is None
    again = kept(system)
    del system
    gc.collect()
    assert again() is None


def test_a_refiner_in_use_is_read_once_whatever_others_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline_xl().save_pretrained(tmp_path / "base")
    system, other = (bind_folder(tmp_path / "base", How()) for _ in range(2))
    read: list[How] = []

    def bound(path: Path, how: How) -> System:
        read.append(how)
        return bind_folder(path, how)

    monkeypatch.setattr("huggingvis.edits.refiner.bind_folder", bound)
    monkeypatch.setattr("huggingvis.edits.generate.CHUNK", 1)
    by = Refiner(str(tmp_path / "base"), 0.5)
    made = prepared(system, asked(system, refiner=by, canvas=Canvas(count=3))).pictures()
    next(made)
    notes(system, asked(system))  # lets go of what is kept, but not of what is in use
    next(made)
    assert opened(other, by) is opened(system, by) and len(read) == 1
    next(made)
    other.parts["unet"].double()
    assert opened(other, by) is not opened(system, by)
    assert [how.dtype for how in read] == [torch.float32, torch.float64]


def test_a_refiner_goes_on_with_a_prompt_that_changes(tmp_path: Path) -> None:
    """A model that hands over to itself makes the same picture, where its sampler has no history."""
    pipeline_xl().save_pretrained(tmp_path / "base")
    system = bind_folder(tmp_path / "base", How())
    request = asked(system, 6, prompt=Prompt("a [cat:dog:0.3]"))
    request = replace(request, sampling=replace(request.sampling, sampler="euler"))

    def walked(**more: object) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        hv.generate(replace(request, **more), model=system, on_step=lambda step: seen.append(step.x))  # type: ignore[arg-type]
        return seen[-1]

    plain = walked()
    handed, other = walked(refiner=Refiner(str(tmp_path / "base"), 0.5)), walked(prompt=Prompt("a cat"))
    assert float((plain - handed).abs().max()) < 1e-5 < 1e-3 < float((plain - other).abs().max())


def test_what_makes_pictures_in_one_go_refuses(tiny: System) -> None:
    one_go = replace(tiny, generator=lambda request: object())  # type: ignore[arg-type,return-value]
    for part in ({"refine": Refine()}, {"tiles": Tiles()}):
        with pytest.raises(UsageError, match="in one go"):
            hv.generate(asked(tiny, **part), model=one_go)
    with pytest.raises(UsageError, match="vae_tile must be a multiple of 16"):
        hv.generate(asked(tiny, canvas=Canvas(vae_tile=20)), model=tiny)
    with pytest.raises(UsageError, match=r"tiles.overlap must be a number between 0 and 0.95"):
        hv.generate(asked(tiny, tiles=Tiles(overlap=1.0)), model=tiny)


# ---- previews --------------------------------------------------------------------------------------------------------


def test_previews_become_the_picture(tiny: System) -> None:
    """A fitted map, 2 pixels a latent: 25.9 dB from the finished picture of that size after 20 steps."""
    seen: list[tuple[int, list[Picture]]] = []
    preview = Preview(tiny, lambda pictures, step: seen.append((step.index, pictures)), every=4)
    pictures = hv.generate(asked(tiny, 10, canvas=Canvas(count=2)), model=tiny, on_step=preview)
    assert [index for index, _ in seen] == [3, 7, 9]
    near = [psnr(shown[0].to_signal(), reduced(pictures[0], 16)) for _, shown in seen]
    assert near == sorted(near) and near[-1] > 23.0, near
    with pytest.raises(UsageError, match="at least 1"):
        Preview(tiny, print, every=0)


@pytest.mark.parametrize("form", ["diffusers", "original"])
def test_a_tiny_decoder_is_that_of_diffusers(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderTiny(latent_channels=4).eval()
    if form == "diffusers":
        theirs.save_pretrained(tmp_path)
        path = tmp_path
    else:
        path = tmp_path / "taesd_decoder.safetensors"
        tensors = theirs.decoder.state_dict()
        names = {key: key.removeprefix("layers.").partition(".") for key in tensors}
        save_tensors(path, {f"{int(n) + 1}.{rest}": tensors[key] for key, (n, _, rest) in names.items()})
    z = torch.randn(1, 4, 6, 8)
    with torch.no_grad():
        assert float((bind_decoder(path).decode(z) - theirs.decode(z).sample).abs().max()) < 1e-5


def test_a_decoder_of_other_latents_is_refused(tiny: System, tmp_path: Path) -> None:
    diffusers.AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="of 4 channels, but 'tiny' has 16"):
        Preview(tiny, print, decoder=bind_decoder(tmp_path))
    save_tensors(tmp_path / "other.safetensors", {"a.weight": torch.zeros(2)})
    with pytest.raises(FileProblem, match="is no TAESD decoder"):
        bind_decoder(tmp_path / "other.safetensors")


def test_a_tiny_decoder_shows_latents(tmp_path: Path) -> None:
    pipeline_xl().save_pretrained(tmp_path / "base")
    diffusers.AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path / "tiny")
    system, shown = bind_folder(tmp_path / "base", How()), list[Picture]()
    preview = Preview(system, lambda pictures, step: shown.extend(pictures), decoder=bind_decoder(tmp_path / "tiny"))
    z = torch.zeros(2, 4, 8, 8)
    preview(Step(0, 1, 1.0, 0.0, z, Gaussian(z)))
    assert [picture.size for picture in shown] == [(64, 64)] * 2
