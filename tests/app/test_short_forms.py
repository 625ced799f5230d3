"""`hv.generate` with adapters and pictures beside its words makes the request that the command line makes."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from doc_pages import COMMUNITY, blocks
from PIL import Image
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import pipeline

import huggingvis as hv
from huggingvis import api
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import possible
from huggingvis.recipes.batch_rows import rows_of
from huggingvis.systems.saving import save_file

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PROMPT, STEPS = "an astronaut riding a horse", 2
SHORT = Sampling("dpm++2m", "karras", STEPS, 7.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a LoRA, a ControlNet, a word, a picture and a mask."""
    folder = tmp_path_factory.mktemp("short")
    made = pipeline()
    made.save_pretrained(folder / "model")
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{layer}.lora_down.weight": torch.ones(4, 32), f"{layer}.lora_up.weight": torch.ones(32, 4)}
    save_tensors(lora, folder / "style.safetensors")
    torch.manual_seed(0)
    diffusers.ControlNetModel.from_unet(made.unet, conditioning_embedding_out_channels=(4, 6)).save_pretrained(
        folder / "canny"
    )
    save_tensors({"emb_params": torch.ones(1, 32)}, folder / "wombat.safetensors")
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "in.png")
    Image.fromarray(np.uint8(255) * (np.indices((16, 16))[0] > 8)).save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def system(place: Path) -> System:
    return hv.load(place / "model", precision="float32")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lora", "style.safetensors:0.5"], {"lora": {"style.safetensors": 0.5}}),
        (["--lora", "style.safetensors:0.5", "--lora", "style.safetensors"],
         {"lora": ["style.safetensors:0.5", Path("style.safetensors")]}),
        (["--embedding", "wombat.safetensors"], {"embedding": "wombat.safetensors"}),
        (["--control", "canny:in.png:0.7"], {"control": ("canny", Path("in.png"), 0.7)}),
        (["--control", "canny:in.png"], {"control": ["canny:in.png"]}),
        (["--image", "in.png", "--strength", 0.5], {"image": "in.png", "strength": 0.5}),
        (["--image", "in.png", "--mask", "mask.png"], {"image": Path("in.png"), "mask": "mask.png"}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The prompt does not call")
def test_the_request_is_the_command_line_s(
    words: list[Any], told: dict[str, Any], hvis: Any, place: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    said = hvis(["generate", PROMPT, "--model", "model", "--steps", STEPS, "--seed", 3, "--json", "--precision",
                 "float32", *words])  # fmt: skip
    assert said.code == 0, said.err
    sampling = Sampling("own", "own", STEPS, system.defaults.guidance_scale)
    (picture,) = hv.generate(PROMPT, model=system, sampling=sampling, seed=3, **told)
    assert picture.request is not None and picture.request.to_dict() == said.document["request"]
    with Image.open(said.document["pictures"][0]["path"]) as image:
        assert np.array_equal(np.asarray(image), picture.pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_lines_of_the_page_run(
    place: Path, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(system, "model.safetensors")
    for name in ("one", "two"):
        shutil.copy(place / "style.safetensors", f"{name}.safetensors")
    torch.save({"string_to_param": {"*": torch.ones(1, 32)}, "name": "wombat-toy"}, "wombat-toy.pt")
    shutil.copy(place / "canny/diffusion_pytorch_model.safetensors", "canny.safetensors")
    for name, file in (("in", "edges"), ("in", "photo"), ("mask", "hole")):
        shutil.copy(place / f"{name}.png", f"{file}.png")
    body = blocks(COMMUNITY, "python")[0]
    made: list[Any] = []
    known = hv.load("model.safetensors", precision="float32")
    small = replace(system, spec=replace(known.spec, size=system.spec.size))  # a single file says no size: 512 pixels

    def quick(*words: Any, model: str, **more: Any) -> Any:
        assert model == "model.safetensors"
        return api.generate(*words, model=small, sampling=SHORT, **more)

    monkeypatch.setattr(hv, "generate", lambda *a, **k: made.extend(quick(*a, **k)))
    exec(compile(body, COMMUNITY, "exec"), {})
    assert [len(picture.request.adapters) for picture in made] == [2, 1, 1, 0]


def test_what_does_not_go_together_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(UsageError, match="a picture to start from, and there is none: name it as 'image'"):
        hv.generate(PROMPT, model="no/such/model", mask="mask.png")
    with pytest.raises(UsageError, match="`image` must be the path of a picture file, found a ndarray"):
        hv.generate(PROMPT, model="no/such/model", image=np.zeros((4, 4, 3)))
    with pytest.raises(UsageError, match=r"is a LoRA: give it with --lora FILE:WEIGHT \(`lora` in Python\)"):
        hv.generate(PROMPT, model="no/such/model", control=("style.safetensors", "in.png"))
    with pytest.raises(UsageError, match="takes a file and the picture that it reads"):
        hv.generate(PROMPT, model="no/such/model", control="canny")
    with pytest.raises(FileProblem, match="There is no file absent.png"):
        hv.generate(PROMPT, model="no/such/model", image="absent.png")
    with pytest.raises(UsageError, match="no field of a request called 'stepz'. Did you mean 'steps'"):
        hv.generate(PROMPT, model="no/such/model", stepz=3)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"lora": {"style.safetensors": "strong"}}, "weight of style.safetensors must be a number such as 0.8, but 's"),
        ({"control": ("canny", "in.png", None)}, "weight of canny must be a number such as 0.8, but None was found"),
        ({"refine": 2.0}, "`refine` is a part of a request, .* but 2.0 was found. .*: refine.scale, "),
        ({"options": 3}, "but 3 was found. One field of it is said alone by its own name: options.NAME"),
        ({"control": [3]}, "or a file, the picture that it reads and a weight, .*; found 3"),
        ({"set": {"database": "mnist"}}, "`set` takes a name and a value, .*; found {'database'.* is called `options`"),
        (
            {"wildcards": ["colours"]},
            r"`wildcards` is a folder of lists such as colour.txt, but \['colours'\] was found",
        ),
    ],
)
def test_values_of_another_kind_are_explained(told: dict[str, Any], message: str, place: Path) -> None:
    with contextlib.chdir(place), pytest.raises(UsageError, match=message):
        hv.generate(PROMPT, model="no/such/model", **told)


@pytest.mark.parametrize("wrong", [Request("a fox"), Request(Prompt(PROMPT), sampling=7)])  # type: ignore[arg-type]
def test_a_request_of_other_things_is_explained(wrong: Request) -> None:
    for asked in (lambda: hv.generate(wrong, model="no/such/model"), lambda: rows_of([wrong]),
                  lambda: hv.grid(wrong, x="steps=1,2", model="no/such/model")):  # fmt: skip
        with pytest.raises(UsageError, match="of Request must be a table of"):
            asked()


def test_none_names_nothing() -> None:
    """So a row of JSON has it, and a call that passes on what it was given."""
    named = ("lora", "embedding", "control", "image_encoder", "control_fit", "wildcards", "style", "styles", "set")
    assert rows_of([dict.fromkeys(named) | {"prompt": PROMPT}]) == rows_of([{"prompt": PROMPT}])


def test_numbers_are_asked_for_by_the_names_of_batches(system: System) -> None:
    (short,) = hv.generate(PROMPT, model=system, steps=1, cfg=2, negative="rain", sampler="Euler a", size=16, seed=5)
    own = replace(system.defaults, steps=1, guidance_scale=2.0, sampler="euler-a", seed=5)
    assert short.request is not None
    assert (short.request.prompt, short.request.canvas) == (Prompt(PROMPT, "rain"), Canvas(16, 16))
    assert short.request.sampling == own
    (again,) = hv.generate(short.request, model=system, seed=6)
    assert again.request == replace(short.request, sampling=replace(own, seed=6))


def test_a_request_without_numbers_has_the_model_s_own(system: System) -> None:
    def asked(sampling: Sampling) -> Sampling:
        return possible(system, Request(Prompt(PROMPT), sampling=sampling)).sampling

    own = system.defaults
    assert own.guidance_scale != Sampling().guidance_scale
    assert possible(system, Request(Prompt(PROMPT))).sampling == own
    assert possible(system, Request.from_dict({"prompt": {"text": PROMPT}})).sampling == own
    assert asked(replace(Request().sampling, seed=9)) == replace(own, seed=9)
    assert asked(Sampling()) == Sampling()
    (row,) = rows_of([Request(Prompt(PROMPT))])
    assert row.request.with_own(system.defaults).sampling == own


def test_a_seed_of_minus_one_is_drawn_once_and_recorded(system: System, hvis: Any) -> None:
    pair = hv.generate(PROMPT, model=system, steps=1, seed=-1, count=2)
    assert pair[0].request is not None
    seed = pair[0].request.sampling.seed
    assert seed > 0 and [picture.made["seed"] for picture in pair] == [seed, seed + 1]
    rows = rows_of([{"prompt": PROMPT, "seed": -1}, Request(Prompt(PROMPT), sampling=Sampling(seed=-1))])
    assert len({seed, *(row.request.sampling.seed for row in rows)}) == 3
    (streamed,) = api.stream(system, Request(Prompt(PROMPT), sampling=Sampling(steps=1, seed=-1, variation_seed=-1)))
    assert streamed.request is not None
    assert streamed.request.sampling.seed == streamed.made["seed"] > 0 < streamed.request.sampling.variation_seed


def test_gaps_are_drawn_as_on_the_command_line(hvis: Any, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/colour.txt").write_text("red\nblue\ngreen\nwhite\n")
    words = "a {big|small} __colour__ star"
    told = hvis(["prompt", "expand", words, "--wildcards", tmp_path / "lists", "--seed", 4, "-n", 5, "--json"])
    rows = rows_of([{"prompt": words, "wildcards": tmp_path / "lists", "seed": 4, "count": 5}])
    assert [row.request.prompt.text for row in rows] == [one["prompt"] for one in told.document]
    assert [row.request.sampling.seed for row in rows] == [4, 5, 6, 7, 8]
    assert {(row.request.prompt.written, row.request.canvas.count) for row in rows} == {(words, 1)}
    assert len(rows_of(["a {red|red}"])) == len(rows_of([Request(Prompt("a {red|blue}"))])) == 1


def test_variations_share_a_seed_whether_their_words_are_drawn_or_not() -> None:
    plain = Sampling(seed=4, variation_seed=9, variation_strength=0.2)
    told = {"seed": 4, "variation_seed": 9, "variation_strength": 0.2, "count": 3}
    rows = rows_of([{"prompt": "a {big|small} star", **told}])
    assert [row.request.sampling.seeds(0) for row in rows] == [plain.seeds(i) for i in range(3)]


def test_words_on_top_of_a_record_are_filled_and_have_no_other_history() -> None:
    record = Request(Prompt("a red fox", written="a {red|blue} fox", styles=("film",)))
    for words in ({"prompt": "a {big|big} dog"}, {"prompt": {"text": "a {big|big} dog"}}):
        (row,) = rows_of([words], base=record)
        assert row.request.prompt == Prompt("a big dog", written="a {big|big} dog")
    (row,) = rows_of([{"negative": "{dark|dark}"}], base=record)
    assert row.request.prompt == Prompt("a red fox", "dark", written="a red fox", written_negative="{dark|dark}")
    (row,) = rows_of([{"seed": 3}], base=record)
    assert row.request.prompt == record.prompt
    (row,) = rows_of([record.to_dict()])
    assert row.request.prompt == record.prompt


@pytest.mark.parametrize("count", [0, 10**9])
def test_the_count_is_looked_at_before_words_are_drawn(count: int) -> None:
    for words in ("a fox", "a {red|blue} fox"):
        with pytest.raises(UsageError, match=f"count must be between 1 and 10000, found {count}"):
            hv.generate(words, model="no/such/model", count=count)


def test_how_a_model_is_loaded_is_said_where_it_is_loaded(place: Path, system: System) -> None:
    with pytest.raises(UsageError, match="'precision' says how a model is loaded, but this one is loaded already"):
        hv.generate(PROMPT, model=system, precision="float32")
    with pytest.raises(FileProblem, match="absent"):
        hv.generate(PROMPT, model=place / "model", precision="float32", vae="absent.safetensors")
    with pytest.raises(UsageError, match="`vae` says how models are loaded, for all rows"):
        rows_of([{"prompt": "a", "vae": "v.safetensors"}])
    assert "negative=" in str(hv.generate.__doc__)


def test_a_loaded_model_stays_on_its_device(system: System) -> None:
    elsewhere = replace(system, device=torch.device("cuda", 1))
    for verb in (hv.load, lambda model, device: hv.generate(PROMPT, model=model, device=device)):
        with pytest.raises(
            UsageError, match="loaded already, on cuda:1, and stays there; 'cpu' was asked for. Load it"
        ):
            verb(elsewhere, device="cpu")
    assert hv.load(elsewhere) is hv.load(elsewhere, device="auto") is elsewhere
    assert hv.load(system, device="cpu") is system


def test_what_is_read_as_letters_is_noted_of_negative_prompts_and_in_rows() -> None:
    gap = "__mood__ is read as words: name the folder of such lists with wildcards=FOLDER."
    for row in (
        {"prompt": "a", "negative": "__mood__"},
        "a __mood__ fox",
        {"prompt": {"text": "a", "negative": "__mood__"}},
    ):
        assert rows_of([row])[0].notes == (gap,)
    assert rows_of([Request(Prompt("a __mood__ fox"))])[0].notes == ()


def test_styles_are_asked_for_as_on_the_command_line(tmp_path: Path) -> None:
    table = tmp_path / "styles.csv"
    table.write_text('name,prompt,negative_prompt\nfilm,"{prompt}, grain",digital\n')
    (row,) = rows_of([{"prompt": "a fox", "style": "film", "styles": str(table)}])
    assert row.request.prompt == Prompt("a fox, grain", "digital", written="a fox", styles=("film",))
    (row,) = rows_of([{"style": ["film"], "styles": table}], base=Request(Prompt("a fox")))
    assert row.request.prompt.text == "a fox, grain"
    (row,) = rows_of([{"prompt": {"text": "a fox", "styles": ["film"]}}])
    assert row.request.prompt == Prompt("a fox", styles=("film",))
    with pytest.raises(UsageError, match="'film' is in a table of styles: name its file too"):
        rows_of([{"prompt": "a fox", "style": "film"}])
    with pytest.raises(UsageError, match="The style itself is called `style`"):
        rows_of([{"prompt": "a fox", "styles": ["film"]}])
