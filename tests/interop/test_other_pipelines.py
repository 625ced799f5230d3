"""PixArt and the first latent diffusion model beside diffusers' pipelines: latents after 20 steps within 1e-4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pipeline_walks import assert_close, bound, latents
from tiny_pipelines import NEGATIVE, PROMPT, SD1_SOLVER, drawn, pipeline_ldm, pipeline_pixart, pixart, start
from torch import Tensor

from huggingvis.codecs.bert_tokens import BERTTokens
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import OWN, Canvas, FromPicture, Prompt, Request, Sampling
from huggingvis.edits.generate import generate, notes, possible
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.pixart import PIPELINES, SHAPES, trained_sizes

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 20
SPELT = f"  {PROMPT.title()} "  # capitals and spaces, which captions had not
MANY = {"sample_size": 128, "use_additional_conditions": True}


def request(**more: Any) -> Request:
    own = {"sampling": Sampling(OWN, OWN, STEPS, 4.5), "prompt": Prompt(SPELT, NEGATIVE)}
    return Request(**{**own, **more})


def pixart_latents(made: Any, **more: Any) -> Tensor:
    told = {"prompt": SPELT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 4.5,
            "use_resolution_binning": False, "clean_caption": False}  # fmt: skip
    found: Tensor = made(**{**told, **more}, output_type="latent").images
    return found


@pytest.mark.parametrize("name", PIPELINES)
def test_pixart(name: str, tmp_path: Path) -> None:
    made = pipeline_pixart(name)
    system = bound(made, tmp_path)
    assert_close(latents(system, request(), [start()]), pixart_latents(made, latents=start()))
    assert (system.defaults.steps, system.defaults.guidance_scale) == (20, 4.5)
    cond = system.conditioner([request()])
    assert cond["tokens"].shape == (1, PIPELINES[name], 20) and cond["tokens_mask"].sum() < 60


@pytest.mark.parametrize("name", ["ddim", "pndm", "euler", "euler_a", "dpm++2m_karras"])
def test_pixart_by_another_solver(name: str, tmp_path: Path) -> None:
    table = {"beta_schedule": "linear", "beta_end": 0.02}
    made = pipeline_pixart(scheduler={
        "ddim": lambda: diffusers.DDIMScheduler(**table, clip_sample=False),
        "pndm": lambda: diffusers.PNDMScheduler(**table, skip_prk_steps=True),
        "euler": lambda: diffusers.EulerDiscreteScheduler(**table),
        "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**table),
        "dpm++2m_karras": lambda: diffusers.DPMSolverMultistepScheduler(**table, use_karras_sigmas=True),
    }[name]())  # fmt: skip
    system = bound(made, tmp_path)
    theirs = pixart_latents(made, latents=start(), generator=torch.Generator().manual_seed(3))
    assert_close(latents(system, request(), [start(), *drawn(3, STEPS)]), theirs)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (24, 8)])
def test_pixart_of_many_sizes_is_told_which(width: int, height: int, tmp_path: Path) -> None:
    made = pipeline_pixart(transformer=pixart(**MANY))
    system = bound(made, tmp_path)
    x = drawn(5, 1, (1, 4, height // 2, width // 2))[0]
    theirs = pixart_latents(made, latents=x, width=width, height=height)
    asked = request(canvas=Canvas(width, height))
    assert_close(latents(system, asked, [x]), theirs)
    told = system.conditioner([asked])["vector"]
    assert torch.equal(told, torch.tensor([[height, width, height / width]]))


def test_pixart_without_prompts_and_without_guidance(tmp_path: Path) -> None:
    made = pipeline_pixart()
    system = bound(made, tmp_path)
    theirs = pixart_latents(made, latents=start(), prompt="", negative_prompt="")
    assert_close(latents(system, request(prompt=Prompt()), [start()]), theirs)
    theirs = pixart_latents(made, latents=start(), guidance_scale=1.0)
    asked = request(sampling=Sampling(OWN, OWN, STEPS, 1.0))
    assert_close(latents(system, asked, [start()]), theirs)


def test_pixart_from_a_picture(tmp_path: Path) -> None:
    """diffusers has no such pipeline: its own parts, one after another."""
    made = pipeline_pixart()
    system = bound(made, tmp_path / "model")
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    x = torch.from_numpy(values).permute(2, 0, 1)[None] / 127.5 - 1
    first, second = drawn(3, 2)
    ours = latents(system, request(source=FromPicture(str(tmp_path / "picture.png"), 0.6)), [first, second])

    law, scheduler = made.vae.encode(x).latent_dist, made.scheduler
    z = 0.18215 * (law.mean + law.std * first)
    scheduler.set_timesteps(STEPS)
    clocks = scheduler.timesteps[STEPS - int(0.6 * STEPS) :]
    tokens, mask, away, away_mask = made.encode_prompt(SPELT, negative_prompt=NEGATIVE)
    theirs = scheduler.add_noise(z, second, clocks[:1])
    with torch.no_grad():
        for clock in clocks:
            eps = made.transformer(
                torch.cat([theirs, theirs]), torch.cat([away, tokens]), clock.expand(2),
                encoder_attention_mask=torch.cat([away_mask, mask]), return_dict=False,
            )[0][:, :4]  # fmt: skip
            theirs = scheduler.step(eps[:1] + 4.5 * (eps[1:] - eps[:1]), clock, theirs).prev_sample
    assert_close(ours, theirs)


def test_pixart_makes_pictures_and_says_which_sizes_it_knows(tmp_path: Path) -> None:
    system = bound(pipeline_pixart(transformer=pixart(**MANY)), tmp_path)
    asked = request(canvas=Canvas(40, 12), sampling=Sampling(OWN, OWN, 2, 4.5))
    (picture,) = generate(system, asked)
    assert picture.to_pil().size == (40, 12)
    (said,) = notes(system, asked)
    assert "nearest size that the model was trained on is 448x144 pixels; at 40x12" in said
    assert notes(system, request(canvas=Canvas(448, 144))) == ()
    with pytest.raises(UsageError, match="multiple"):
        possible(system, request(canvas=Canvas(42, 12)))
    with pytest.raises(UsageError, match="clip_skip"):
        possible(system, request(options={"clip_skip": "2"}))
    assert set(system.parts) == {"transformer", "vae", "text_encoder"}


def test_pixart_says_what_of_a_prompt_is_not_read(tmp_path: Path) -> None:
    system = bound(pipeline_pixart(), tmp_path)
    (said,) = system.conditioner.notes(request(prompt=Prompt("horse " * 200 + "Moon")))
    assert said.endswith("moon' is left out.")


def test_shapes_are_theirs() -> None:
    from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha as theirs

    for side, table in ((1024, theirs.ASPECT_RATIO_1024_BIN), (512, theirs.ASPECT_RATIO_512_BIN),
                        (256, theirs.ASPECT_RATIO_256_BIN)):  # fmt: skip
        assert trained_sizes(side) == tuple((int(width), int(height)) for height, width in table.values())
    assert len(SHAPES) == 33


# ---- the first latent diffusion model --------------------------------------------------------------------------------

LDM_SOLVERS: dict[str, Any] = {
    "ddim": lambda: diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False),
    "pndm": lambda: diffusers.PNDMScheduler(**SD1_SOLVER, skip_prk_steps=True),
}


@pytest.mark.parametrize("name", LDM_SOLVERS)
def test_ldm(name: str, tmp_path: Path) -> None:
    made = pipeline_ldm(scheduler=LDM_SOLVERS[name]())
    system = bound(made, tmp_path)
    assert_close(latents(system, request(prompt=Prompt(PROMPT)), [start()]), ldm_latents(made, latents=start()))


def test_ldm_makes_pictures(tmp_path: Path) -> None:
    system = bound(pipeline_ldm(), tmp_path)
    (picture,) = generate(system, request(canvas=Canvas(10, 14), sampling=Sampling(OWN, OWN, 2, 5.0)))
    assert picture.to_pil().size == (10, 14)
    (said,) = system.conditioner.notes(request(prompt=Prompt("horse " * 200)))
    assert "longer than this model reads" in said


def ldm_latents(made: Any, **more: Any) -> Tensor:
    """Latents of a pipeline that gives only pictures: what it hands to its autoencoder, in the scale of the net."""
    seen: list[Tensor] = []
    decode = made.vqvae.decode

    def watched(z: Tensor) -> Any:
        seen.append(z)
        return decode(z)

    made.vqvae.decode = watched
    made(PROMPT, num_inference_steps=STEPS, guidance_scale=4.5, height=64, width=64, output_type="pt", **more)
    return seen[0] * made.vqvae.config.scaling_factor


def test_berts_vocabulary_is_read_from_either_file(tmp_path: Path) -> None:
    made = pipeline_ldm()
    made.tokenizer.save_pretrained(tmp_path / "fast")
    tokens = BERTTokens.load(tmp_path / "fast")
    assert not (tmp_path / "fast/vocab.txt").exists() and tokens.size == len(made.tokenizer)
    want = made.tokenizer(SPELT, padding="max_length", max_length=77, truncation=True).input_ids
    assert tokens.ids([SPELT])[0].tolist() == [want]
    assert BERTTokens.load(tmp_path / "fast/tokenizer.json").ids([SPELT])[0].tolist() == [want]
    for text in ("{", "[]", '{"model": {"type": "BPE", "vocab": {"a": 0}}}', '{"model": {"vocab": {"a": 3}}}'):
        (tmp_path / "fast/tokenizer.json").write_text(text)
        with pytest.raises(FileProblem, match=r"tokenizer\.json"):
            BERTTokens.load(tmp_path / "fast")


# ---- what does not fit together --------------------------------------------------------------------------------------


def test_parts_that_lack_or_do_not_fit_are_named(tmp_path: Path) -> None:
    pipeline_pixart().save_pretrained(tmp_path / "pixart")
    pipeline_ldm().save_pretrained(tmp_path / "ldm")
    for folder, part in (("pixart", "text_encoder"), ("ldm", "vqvae")):
        index = tmp_path / folder / "model_index.json"
        whole = json.loads(index.read_text())
        index.write_text(json.dumps({**whole, part: [None, None]}))
        with pytest.raises(FileProblem, match=f"no '{part}'"):
            bind_folder(tmp_path / folder, How())
        index.write_text(json.dumps(whole))
    (tmp_path / "pixart/text_encoder").rename(tmp_path / "t5")
    (tmp_path / "ldm/bert").rename(tmp_path / "pixart/text_encoder")
    (tmp_path / "t5").rename(tmp_path / "ldm/bert")
    for folder in ("pixart", "ldm"):
        with pytest.raises(FileProblem, match="reads by"):
            bind_folder(tmp_path / folder, How())


def test_t5_is_not_computed_in_float16(tmp_path: Path) -> None:
    system = bound(pipeline_pixart().to(torch.float16), tmp_path)
    assert system.parts["text_encoder"].token.weight.dtype == torch.bfloat16
    assert next(system.parts["transformer"].parameters()).dtype == torch.float16
    system = bind_folder(tmp_path, How(dtype=torch.float16))
    assert system.parts["text_encoder"].token.weight.dtype == torch.bfloat16
