"""Notes of other programs, written by `foreign_pictures` after their own rules, read back; and what no text may do."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_pictures import Graph, comfy_webp, exif_comment, infotext, png, stealth
from PIL import Image

from huggingvis.core.errors import FileProblem, HvisError
from huggingvis.core.media import Picture
from huggingvis.core.request import AdapterUse, Canvas, FromPicture, Prompt, Refine, Request, Sampling
from huggingvis.core.request_sampling import BY_CHANCE, OWN, RNGS
from huggingvis.export import dialects
from huggingvis.export.dialects import solvers
from huggingvis.export.dialects.reading import Reading, Wanted
from huggingvis.export.image import picture_facts, read_provenance, save
from huggingvis.export.infotext import Infotext, describe

NASTY = [
    "a fox",
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512",
    "a fox\nSteps: 20, Sampler: Euler a, CFG scale: 7\nand a pizza",
    'two\nlines, commas: colons, "quotes" and \\backslashes\\',
    "狐狸 🦊, café — naïve",
    "(red:1.2), [a:b:0.5], AND BREAK {x} <tag>",
    "tab\there",
    "",
]
SETTINGS = {"Steps": 20, "Sampler": "Euler a", "CFG scale": 7, "Seed": 1, "Size": "512x768"}


def reading(parameters: str) -> Reading:
    found = dialects.read({"parameters": parameters})
    assert found is not None
    return found


def test_every_program_is_asked() -> None:
    files = {path.stem for path in Path(dialects.__file__).parent.glob("*.py")} - {"__init__", "reading", "solvers"}
    assert files == set(dialects.PROGRAMS)


def test_reading_needs_no_torch() -> None:
    code = "import sys; from huggingvis.export import dialects; dialects.read({'parameters': 'a', 'prompt': '{}'}); " \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- A1111 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negative", ["", "blurry, text: bad", "two\nlines"])
@pytest.mark.parametrize("prompt", NASTY)
def test_prompts(prompt: str, negative: str) -> None:
    told = reading(infotext(prompt, negative, SETTINGS)).request
    assert (told.prompt.text, told.prompt.negative) == (prompt, negative)
    assert (told.canvas.width, told.canvas.height) == (512, 768)
    assert (told.sampling.steps, told.sampling.guidance_scale, told.sampling.seed) == (20, 7.0, 1)


def test_the_last_line_counts_from_three_pairs() -> None:
    two = reading("a fox\nSteps: 20, Seed: 1")
    assert two.request.prompt.text == "a fox\nSteps: 20, Seed: 1" and two.numbers == {}
    assert "no settings" in two.notes[0]
    assert reading("a fox\nSteps: 20, Seed: 1, Size: 8x8").request.prompt.text == "a fox"


def test_what_is_missing_is_what_the_web_ui_takes_it_for() -> None:
    told = reading(infotext("a", "", SETTINGS))
    assert told.request.sampling.rng == "philox"  # a GPU's
    assert told.request.sampling.schedule == "normal" and "clip_skip" not in told.request.options
    for source, rng in (("CPU", "cpu"), ("NV", "philox"), ("GPU", "philox")):
        assert reading(infotext("a", "", {**SETTINGS, "RNG": source})).request.sampling.rng == rng


@pytest.mark.parametrize("label", solvers.WEBUI)
def test_samplers_and_schedules(label: str) -> None:
    row = solvers.WEBUI[label]
    automatic = reading(
        infotext("a", "", {**SETTINGS, "Sampler": label, "Schedule type": "Automatic"})
    ).request.sampling
    assert (automatic.sampler, automatic.schedule, automatic.discard_penultimate) == (
        row.sampler, row.schedule, row.discard
    )  # fmt: skip
    chosen = reading(infotext("a", "", {**SETTINGS, "Sampler": label, "Schedule type": "SGM Uniform"})).request.sampling
    assert chosen.schedule == (row.schedule if row.fixed else "sgm-uniform")
    if not row.fixed:
        old = reading(infotext("a", "", {**SETTINGS, "Sampler": f"{label} Karras"})).request.sampling
        assert (old.sampler, old.schedule) == (row.sampler, "karras")


def test_unknown_solvers_and_brownian_noise_are_said() -> None:
    told = reading(infotext("a", "", {**SETTINGS, "Sampler": "DPM adaptive", "Schedule type": "Karras"}))
    assert told.request.sampling.sampler == OWN and "'DPM adaptive' has no counterpart" in told.notes[0]
    assert "Brownian tree" in reading(infotext("a", "", {**SETTINGS, "Sampler": "DPM++ SDE"})).notes[0]
    assert "'Foo' has no counterpart" in reading(infotext("a", "", {**SETTINGS, "Schedule type": "Foo"})).notes[0]


def test_everything_at_once() -> None:
    text = infotext("a <lora:detail:0.6> fox <lora:sub/style:1:0.5>", "bad", {
        **SETTINGS, "Seed": 9223372036854775807, "Model hash": "6ce0161689", "Model": "v1-5, pruned",
        "VAE hash": "735e4c3a44", "VAE": "vae-ft.safetensors", "Variation seed": 3, "Variation seed strength": 0.25,
        "Seed resize from": "512x512", "Denoising strength": 0.45, "Clip skip": 2, "ENSD": 31337,
        "Hires upscale": 1.5, "Hires steps": 11, "Hires upscaler": "Latent",
        "Lora hashes": "detail: 1fe7ab62a5c1, sub/style: aaebf6360f7d", "TI hashes": "easyneg: c74b4e810b03",
        "RNG": "NV", "Discard penultimate sigma": "True", "Tiling": "True", "Version": "v1.10.1",
    })  # fmt: skip
    told = reading(text)
    sampling = told.request.sampling
    assert sampling.seed == 2**63 - 1 and sampling.eta_noise_seed_delta == 31337
    assert (sampling.variation_seed, sampling.variation_strength, sampling.seed_resize) == (3, 0.25, (512, 512))
    assert sampling.discard_penultimate and told.request.options == {"clip_skip": "2"}
    assert told.request.refine is not None
    assert (told.request.refine.scale, told.request.refine.steps, told.request.refine.strength) == (1.5, 11, 0.45)
    assert told.request.prompt.text == "a fox"
    assert told.files == (
        Wanted("checkpoint", "v1-5, pruned", hash="6ce0161689"),
        Wanted("vae", "vae-ft.safetensors", hash="735e4c3a44"),
        Wanted("lora", "detail", 0.6, "1fe7ab62a5c1"),
        Wanted("lora", "sub/style", 0.5, "aaebf6360f7d"),
        Wanted("embedding", "easyneg", hash="c74b4e810b03"),
    )
    assert any("Tiling" in note for note in told.notes) and any("weight 1 on the text" in note for note in told.notes)


def test_pictures_that_it_began_with_are_asked_for() -> None:
    told = reading(infotext("a", "", {**SETTINGS, "Denoising strength": 0.6}))
    assert "give it with --image" in told.notes[0] and "with strength 0.6;" in told.notes[0]
    assert told.request.source is None and told.started == {"strength": 0.6}
    assert reading(infotext("a", "", {**SETTINGS, "Denoising strength": 0.6, "Hires upscale": 2})).started == {}


MASKED = {"Denoising strength": 0.75, "Mask mode": "Inpaint not masked", "Mask blur": 4, "Inpaint area": "Only masked",
          "Masked area padding": 16, "Masked content": "latent noise"}  # fmt: skip
"""As the web UI writes them, each only where it is not as ever."""


def test_a_mask_s_numbers_are_read_as_far_as_they_are_told() -> None:
    told = reading(infotext("a", "", {**SETTINGS, **MASKED, "Mask blur": 4, "Conditional mask weight": 1.0}))
    assert told.started == {
        "strength": 0.75, "region": "masked", "padding": 16, "blur": 4.0, "fill": "noise", "invert": True
    }  # fmt: skip
    (note,) = told.notes
    assert "with --image and --mask" in note
    assert "with strength 0.75, region masked, padding 16, blur 4, fill noise, invert yes;" in note
    for label, fill in (("original", "original"), ("fill", "fill"), ("latent nothing", "nothing")):
        assert reading(infotext("a", "", {**SETTINGS, **MASKED, "Masked content": label})).started["fill"] == fill
    odd = {**SETTINGS, **MASKED, "Masked content": "lama cleaner", "Conditional mask weight": 0.5}
    told = reading(infotext("a", "", odd))
    assert "fill" not in told.started and any("'lama cleaner' cannot be" in note for note in told.notes)
    assert any("by 0.5 (Conditional mask weight)" in note for note in told.notes)
    plain = reading(infotext("a", "", {**SETTINGS, "Denoising strength": 1, "Conditional mask weight": 1.0}))
    assert plain.started == {"strength": 1.0}  # which a net trained for masks has without any


def test_values_that_cannot_be_are_said_and_left_out() -> None:
    told = reading(
        infotext("a", "", {"Steps": "many", "CFG scale": 1e9, "Seed": -2, "Size": "axb", "Sampler": "Euler"})
    )
    assert told.request.sampling.steps == Sampling().steps and told.request.canvas == Canvas()
    for name in ("Steps", "CFG scale", "Seed", "Size"):
        assert any(note.startswith(f"{name} ") for note in told.notes)
    told = reading(infotext("a", "", {"Steps": 5, "Seed": -1, "Sampler": "Euler"}))  # a number that is yet to be drawn
    assert told.request.sampling.seed == BY_CHANCE and not any("Seed" in note for note in told.notes)


# ---- ours, through its text ------------------------------------------------------------------------------------------


def through_text(request: Request, **made: Any) -> Request:
    picture = Picture(np.zeros((48, 64, 3), np.uint8), request, {"model": "m", "version": "0.1", **made})
    return reading(str(describe(picture))).request


@pytest.mark.parametrize("prompt", NASTY)
def test_ours_through_the_text_is_ours(prompt: str) -> None:
    request = Request(
        Prompt(prompt, "bad: worse, worst\n狐狸"),
        Canvas(64, 48),
        Sampling("dpm++2m", "karras", 25, 6.5, seed=2**62, variation_seed=9, variation_strength=0.5),
    )
    assert through_text(request) == request


def test_ours_through_the_text_of_every_solver_and_source() -> None:
    from huggingvis.samplers import names

    for sampler in names.sampler_names():
        for schedule in ("karras", "logsnr", "normal", "uniform", "kl-optimal", "kl-optimal-open", "restart", "own"):
            asked = Request(Prompt("a"), Canvas(64, 48), Sampling(sampler, schedule, 9))
            assert through_text(asked).sampling == asked.sampling
    for schedule in names.schedule_names():
        asked = Request(Prompt("a"), Canvas(64, 48), Sampling("euler", schedule, 9))
        assert through_text(asked).sampling == asked.sampling
    for rng in RNGS:
        how = Sampling("ddim", "karras", 9, eta=0.5, rng=rng, seed_resize=(32, 40), discard_penultimate=True)
        asked = Request(Prompt("a"), Canvas(64, 48), how)
        assert through_text(asked).sampling == asked.sampling


def test_second_pass_and_clip_skip_through_the_text() -> None:
    asked = Request(
        Prompt("a"), Canvas(32, 24), Sampling("euler", "karras", 9), refine=Refine(scale=2.0, steps=5, strength=0.4),
        options={"clip_skip": "2"},
    )  # fmt: skip
    assert through_text(asked) == asked


def test_what_our_text_says() -> None:
    request = Request(
        Prompt("a fox"), Canvas(64, 48, 4), Sampling(OWN, OWN, 9, seed=7), FromPicture("in.png", 0.5),
        adapters=(AdapterUse("loras/style.safetensors", 0.8),),
    )  # fmt: skip
    made = {
        "model": "v1-5", "model_hash": "6ce0161689b3853acaa03779ec93eafe75a02f4ced", "version": "0.1",
        "batch_index": 2, "sampler": "plms", "schedule": "leading",
        "files": [{"kind": "lora", "path": "loras/style.safetensors", "sha256": "ab" * 32, "a1111": "aaebf6360f7d"},
                  {"kind": "vae", "path": "vae/ft.safetensors", "sha256": "735e4c3a447a3255"}],
    }  # fmt: skip
    text = str(describe(Picture(np.zeros((48, 64, 3), np.uint8), request, made)))
    assert text == (
        "a fox <lora:style:0.8>\nSteps: 9, Sampler: PLMS, Schedule type: leading, CFG scale: 5, Seed: 9, Size: 64x48, "
        "Model hash: 6ce0161689, Model: v1-5, Denoising strength: 0.5, RNG: CPU, "
        'Lora hashes: "style: aaebf6360f7d", VAE hash: 735e4c3a44, VAE: ft.safetensors, Version: huggingvis 0.1'
    )
    told = reading(text)
    assert told.files[1:] == (Wanted("vae", "ft.safetensors", hash="735e4c3a44"),
                              Wanted("lora", "style", 0.8, "aaebf6360f7d"))  # fmt: skip
    assert told.request.prompt.text == "a fox" and told.request.sampling.seed == 9


def test_a_variation_says_its_seed_once_and_its_own_variation_seed() -> None:
    asked = Sampling(seed=7, variation_seed=100, variation_strength=0.2)
    picture = Picture(np.zeros((8, 8, 3), np.uint8), Request(Prompt("a"), sampling=asked), {"batch_index": 3})
    settings = describe(picture).settings
    assert (settings["Seed"], settings["Variation seed"], settings["Variation seed strength"]) == ("7", "103", "0.2")


def test_seeds_that_are_to_be_drawn_are_no_mistakes() -> None:
    told = reading(infotext("a", "", {**SETTINGS, "Seed": -1, "Variation seed": -1, "Variation seed strength": 0.2}))
    assert (told.request.sampling.seed, told.request.sampling.variation_seed) == (-1, -1)
    assert not any("seed" in note for note in told.notes)


# ---- ComfyUI ---------------------------------------------------------------------------------------------------------


def usual(sampler: str = "euler_ancestral", scheduler: str = "karras", **more: Any) -> Graph:
    g = Graph()
    model = g.node("CheckpointLoaderSimple", ckpt_name="sd15/dream.safetensors")
    lora = g.node("LoraLoader", model=model, clip=[model[0], 1], lora_name="style.safetensors", strength_model=0.7,
                  strength_clip=0.7)  # fmt: skip
    clip = g.node("CLIPSetLastLayer", clip=[lora[0], 1], stop_at_clip_layer=-2)
    positive = g.node("CLIPTextEncode", clip=clip, text="a red fox, (snow:1.2)")
    negative = g.node("CLIPTextEncode", clip=clip, text="blurry")
    latent = more.pop("latent", None) or g.node("EmptyLatentImage", width=512, height=768, batch_size=2)
    inputs = {"model": lora, "positive": positive, "negative": negative, "latent_image": latent, "seed": 8566257,
              "steps": 30, "cfg": 6.5, "sampler_name": sampler, "scheduler": scheduler, "denoise": 1.0}  # fmt: skip
    made = g.node("KSampler", **{**inputs, **more})
    g.node("SaveImage", images=g.node("VAEDecode", samples=made, vae=g.node("VAELoader", vae_name="ft.safetensors")))
    return g


ORDER = {
    "KSampler": ("seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "CLIPTextEncode": ("text",), "EmptyLatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",), "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "VAELoader": ("vae_name",), "CLIPSetLastLayer": ("stop_at_clip_layer",),
}  # fmt: skip


def assert_usual(told: Reading | None) -> None:
    assert told is not None and told.program == "ComfyUI"
    assert told.request.prompt == Prompt("a red fox, (snow:1.2)", "blurry")
    sampling = told.request.sampling
    assert (sampling.sampler, sampling.schedule, sampling.steps) == ("euler-a", "karras", 30)
    assert (sampling.guidance_scale, sampling.seed, sampling.rng) == (6.5, 8566257, "comfy")
    assert told.request.canvas == Canvas(512, 768) and told.request.options == {"clip_skip": "2"}
    assert set(told.files) == {Wanted("checkpoint", "sd15/dream.safetensors"), Wanted("lora", "style.safetensors", 0.7),
                               Wanted("vae", "ft.safetensors")}  # fmt: skip


def test_comfy_names_the_parts_of_a_model_in_several_files() -> None:
    g = Graph()
    clip = g.node("DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="clip_g.safetensors", type="sdxl")
    words = g.node("CLIPTextEncode", clip=clip, text="a fox")
    made = g.node("KSampler", model=g.node("UNETLoader", unet_name="xl/net.safetensors"), positive=words,
                  negative=words, latent_image=g.node("EmptyLatentImage", width=64, height=64), seed=1, steps=2,
                  cfg=5, sampler_name="euler", scheduler="normal", denoise=1.0)  # fmt: skip
    g.node("SaveImage", images=g.node("VAEDecode", samples=made, vae=g.node("VAELoader", vae_name="ft.safetensors")))
    order = {**ORDER, "UNETLoader": ("unet_name",), "DualCLIPLoader": ("clip_name1", "clip_name2", "type")}
    for texts in ({"prompt": json.dumps(g.nodes)}, {"workflow": json.dumps(g.drawn(order))}):
        told = dialects.read(texts)
        assert told is not None and sorted((file.kind, file.name) for file in told.files) == [
            ("checkpoint", "xl/net.safetensors"), ("text-encoder", "clip_g.safetensors"),
            ("text-encoder", "clip_l.safetensors"), ("vae", "ft.safetensors"),
        ]  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "itxt", "ztxt"])
def test_comfy_graph_in_png(tmp_path: Path, kind: str) -> None:
    path = png(tmp_path / "a.png", {"prompt": json.dumps(usual().nodes), "workflow": "{}"}, kind=kind)
    told = read_provenance(path).reading
    assert_usual(told)
    assert told is not None and told.notes == ()


def test_comfy_graph_in_webp(tmp_path: Path) -> None:
    assert_usual(read_provenance(comfy_webp(tmp_path / "a.webp", usual().nodes, {"nodes": []})).reading)


def test_comfy_drawing(tmp_path: Path) -> None:
    told = read_provenance(png(tmp_path / "a.png", {"workflow": json.dumps(usual().drawn(ORDER))})).reading
    assert_usual(told)
    assert told is not None and "Only the drawing" in told.notes[-1]


def test_nodes_of_a_drawing_that_are_switched_off_are_passed_by() -> None:
    drawn = usual().drawn(ORDER)
    (lora,) = (node for node in drawn["nodes"] if node["type"] == "LoraLoader")
    lora["mode"] = 4
    for slot in lora["inputs"]:
        slot["type"] = {"model": "MODEL", "clip": "CLIP"}[slot["name"]]
    told = dialects.read({"workflow": json.dumps(drawn)})
    assert told is not None and all(file.kind != "lora" for file in told.files)
    assert Wanted("checkpoint", "sd15/dream.safetensors") in told.files


def test_comfy_advanced_sampler_links_and_unknown_nodes() -> None:
    g = Graph()
    model = g.node("CheckpointLoaderSimple", ckpt_name="a.safetensors")
    odd = g.node("FreeU_V2", model=model, b1=1.3)
    words = g.node("PrimitiveString", value="a fox")
    encoded = g.node("CLIPTextEncode", clip=[model[0], 1], text=words)
    control = g.node("ControlNetApplyAdvanced", positive=encoded, negative=encoded, strength=0.8, image=[
        "99", 0], control_net=g.node("ControlNetLoader", control_net_name="canny.safetensors"))  # fmt: skip
    joined = g.node("ConditioningCombine", conditioning_1=control, conditioning_2=control)
    made = g.node("KSamplerAdvanced", model=odd, positive=joined, negative=g.node("ConditioningZeroOut",
                  conditioning=encoded), latent_image=g.node("EmptySD3LatentImage", width=640, height=512),
                  noise_seed=g.node("PrimitiveInt", value=77), steps=20, cfg=5, sampler_name="dpm_2", scheduler="beta",
                  start_at_step=4, end_at_step=10000, add_noise="enable")  # fmt: skip
    g.node("PreviewImage", images=g.node("VAEDecode", samples=made, vae=[model[0], 2]))
    told = dialects.read({"prompt": json.dumps(g.nodes)})
    assert told is not None
    assert told.request.prompt == Prompt("a fox", "") and told.request.sampling.seed == 77
    assert told.request.sampling.schedule == "beta-index" and told.request.sampling.discard_penultimate
    assert told.request.canvas == Canvas(640, 512)
    assert Wanted("controlnet", "canny.safetensors", 0.8) in told.files
    notes = " ".join(told.notes)
    assert "FreeU_V2" in notes and "ConditioningCombine" in notes and "from step 4" in notes


def test_comfy_second_pass_and_from_a_picture() -> None:
    g = usual()
    first = next(name for name, node in g.nodes.items() if node["class_type"] == "KSampler")
    larger = g.node("LatentUpscaleBy", samples=[first, 0], upscale_method="bislerp", scale_by=1.5)
    inputs = {**g.nodes[first]["inputs"], "latent_image": larger, "denoise": 0.55, "steps": 14}
    second = g.node("KSampler", **inputs)
    decode = next(node for node in g.nodes.values() if node["class_type"] == "VAEDecode")
    decode["inputs"]["samples"] = second
    told = dialects.read({"prompt": json.dumps(g.nodes)})
    assert told is not None and told.request.refine is not None
    assert (told.request.refine.scale, told.request.refine.steps, told.request.refine.strength) == (1.5, 14, 0.55)
    assert told.request.canvas == Canvas(512, 768) and told.request.sampling.steps == 30
    g = Graph()
    pixels = g.node("LoadImage", image="cat.png")
    latent = g.node("VAEEncode", pixels=pixels, vae=["99", 0])
    g.nodes = {**g.nodes, **{f"1{name}": node for name, node in usual(latent=latent, denoise=0.6).nodes.items()}}
    for node in g.nodes.values():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and value != latent and value != pixels:
                node["inputs"][key] = [f"1{value[0]}", value[1]]
    told = dialects.read({"prompt": json.dumps(g.nodes)})
    assert told is not None and any("cat.png" in note and "strength 0.6" in note for note in told.notes)
    assert told.started == {"strength": 0.6}


@pytest.mark.parametrize("label", solvers.COMFY)
def test_comfy_samplers(label: str) -> None:
    told = dialects.read({"prompt": json.dumps(usual(label, "normal").nodes)})
    assert told is not None and told.request.sampling.sampler == solvers.COMFY[label].sampler
    assert told.request.sampling.discard_penultimate == solvers.COMFY[label].discard


def test_comfy_graphs_that_go_round_end() -> None:
    g = usual()
    for node in g.nodes.values():
        for key in node["inputs"]:
            if isinstance(node["inputs"][key], list):
                node["inputs"][key] = ["9", 0]
    dialects.read({"prompt": json.dumps(g.nodes)})


def test_a_graph_without_a_known_sampler_leaves_the_word_to_the_text() -> None:
    graph = {"1": {"class_type": "FluxThing", "inputs": {"images": ["1", 0]}}}
    told = dialects.read({"prompt": json.dumps(graph), "parameters": infotext("a fox", "", SETTINGS)})
    assert told is not None and told.program == "A1111's web UI"
    assert dialects.read({"prompt": json.dumps(graph)}) is None


# ---- InvokeAI --------------------------------------------------------------------------------------------------------


def test_invoke_3(tmp_path: Path) -> None:
    model = {"key": "1", "name": "dreamshaper", "hash": "blake3:00aa11", "base": "sd-1", "type": "main"}
    told = {
        "app_version": "5.4.2", "generation_mode": "txt2img", "positive_prompt": "a fox", "negative_prompt": "",
        "width": 768, "height": 432, "seed": 356120443, "rand_device": "cpu", "cfg_scale": 7.5,
        "cfg_rescale_multiplier": 0.7, "steps": 50, "scheduler": "dpmpp_2m_k", "clip_skip": 1, "model": model,
        "vae": {"model_name": "sd-vae-ft-mse", "base_model": "sd-1"}, "controlnets": [], "ipAdapters": [],
        "loras": [{"model": {**model, "name": "detail"}, "weight": 0.6},
                  {"lora": {"model_name": "old", "base_model": "sd-1"}, "weight": 0.75}],
        "seamless_x": True,
    }  # fmt: skip
    found = read_provenance(png(tmp_path / "a.png", {"invokeai_metadata": json.dumps(told)}, kind="itxt")).reading
    assert found is not None and found.program == "InvokeAI"
    sampling = found.request.sampling
    assert (sampling.sampler, sampling.schedule, sampling.rng) == ("dpm++2m", "karras", "invoke")
    assert (sampling.guidance_rescale, sampling.seed, sampling.steps) == (0.7, 356120443, 50)
    assert found.request.canvas == Canvas(768, 432) and found.request.options == {"clip_skip": "2"}
    assert found.files == (Wanted("checkpoint", "dreamshaper"), Wanted("vae", "sd-vae-ft-mse"),
                           Wanted("lora", "detail", 0.6), Wanted("lora", "old", 0.75))  # fmt: skip
    assert found.notes == ("Not understood, and left out: seamless_x (InvokeAI).",)


def test_invoke_2_and_1(tmp_path: Path) -> None:
    image = {"prompt": [{"prompt": "a robot [blurry, text]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5,
             "threshold": 0, "perlin": 0, "height": 512, "width": 640, "seed": 1618033988, "seamless": False,
             "hires_fix": False, "type": "txt2img", "postprocessing": None, "sampler": "k_lms",
             "variations": []}  # fmt: skip
    two = {"model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "model_hash": "cc6cb27103417325",
           "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.5", "image": image}  # fmt: skip
    one = '"a robot [blurry, text]" -s 50 -S 1618033988 -W 640 -H 512 -C 7.5 -A k_lms'
    for texts in ({"sd-metadata": json.dumps(two), "Dream": one}, {"Dream": one}, {"Dream": one.replace('"', "")}):
        found = read_provenance(png(tmp_path / "a.png", texts)).reading
        assert found is not None
        assert found.request.prompt == Prompt("a robot", "blurry, text") and found.request.canvas == Canvas(640, 512)
        assert found.request.sampling == replace(
            Sampling(), sampler="lms", schedule="own", steps=50, guidance_scale=7.5, seed=1618033988
        )
        assert found.notes == ()
    files = dialects.read({"sd-metadata": json.dumps(two)})
    assert files is not None and files.files == (Wanted("checkpoint", "stable-diffusion-1.5", hash="cc6cb27103417325"),)


# ---- NovelAI and hidden texts ----------------------------------------------------------------------------------------

NOVEL = {
    "Title": "AI generated image", "Description": "1girl, {silver hair}", "Software": "NovelAI",
    "Source": "Stable Diffusion XL C1E1DE52",
    "Comment": json.dumps({"prompt": "1girl, {silver hair}", "steps": 28, "height": 1216, "width": 832, "scale": 5.0,
                           "uncond_scale": 1.0, "cfg_rescale": 0.2, "seed": 1234567890, "n_samples": 1,
                           "noise_schedule": "karras", "sampler": "k_euler_ancestral", "sm": True,
                           "uc": "lowres, bad", "signed_hash": "x"}),
}  # fmt: skip


def assert_novel(found: Reading | None) -> None:
    assert found is not None and found.program == "NovelAI"
    assert found.request.prompt == Prompt("1girl, {silver hair}", "lowres, bad")
    sampling = found.request.sampling
    assert (sampling.sampler, sampling.schedule, sampling.steps) == ("euler-a", "karras", 28)
    assert (sampling.seed, sampling.guidance_scale, sampling.guidance_rescale) == (1234567890, 5.0, 0.2)
    assert found.request.canvas == Canvas(832, 1216)
    assert any("braces" in note for note in found.notes) and found.notes[-1].endswith("left out: sm (NovelAI).")


def test_novelai(tmp_path: Path) -> None:
    assert_novel(read_provenance(png(tmp_path / "a.png", NOVEL)).reading)


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_texts_in_the_lowest_bits(tmp_path: Path, alpha: bool, packed: bool) -> None:
    if alpha or packed:
        comment = json.dumps({"prompt": "1girl", "steps": 9, "seed": 5})
        told = {"Software": "NovelAI", "Comment": comment}
        found = read_provenance(stealth(tmp_path / "n.png", json.dumps(told), alpha=alpha, packed=packed)).reading
        assert found is not None and found.request.sampling.steps == 9
    text = infotext("狐狸 a fox", "bad", SETTINGS)
    found = read_provenance(stealth(tmp_path / "a.png", text, alpha=alpha, packed=packed)).reading
    assert found is not None and found.request.prompt == Prompt("狐狸 a fox", "bad")


def test_a_hidden_text_that_is_cut_is_none(tmp_path: Path) -> None:
    path = stealth(tmp_path / "a.png", infotext("a fox", "", SETTINGS))
    image = Image.open(path).crop((0, 0, 12, 48))
    image.save(tmp_path / "cut.png")
    with pytest.raises(FileProblem, match="does not say how it was made"):
        read_provenance(tmp_path / "cut.png")


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
@pytest.mark.parametrize(
    ("head", "encoding"), [(b"UNICODE\0", "utf-16-be"), (b"UNICODE\0", "utf-16-le"), (b"\0" * 8, "utf-8")]
)
def test_user_comments(tmp_path: Path, name: str, head: bytes, encoding: str) -> None:
    text = infotext("a fox, 狐狸", "bad", SETTINGS)
    found = read_provenance(exif_comment(tmp_path / name, text, head, encoding))
    assert found.infotext == text
    assert found.reading is not None and found.reading.request.prompt == Prompt("a fox, 狐狸", "bad")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a1111_reads_what_we_write(tmp_path: Path, name: str) -> None:
    """Their reader: `parameters` of a PNG; of others UserComment, UNICODE and UTF-16 BE by piexif."""
    request = Request(Prompt("a fox, 狐狸", "bad"), Canvas(64, 48), Sampling("euler-a", "karras", 9))
    path = save(Picture(np.zeros((48, 64, 3), np.uint8), request, {"model": "m"}), tmp_path / name)
    with Image.open(path) as image:
        if name == "a.png":
            text = image.text["parameters"]  # type: ignore[attr-defined]
        else:
            comment = image.getexif().get_ifd(0x8769)[0x9286]
            assert comment[:8] == b"UNICODE\0"
            text = comment[8:].decode("utf-16-be")
    assert Infotext.parse(text).prompt == "a fox, 狐狸" and "Sampler: Euler a, Schedule type: Karras" in text
    assert read_provenance(path).request() == request


def test_facts_tell_the_reading(tmp_path: Path) -> None:
    facts = picture_facts(png(tmp_path / "a.png", {"parameters": infotext("a", "", {**SETTINGS, "Model": "m"})}))
    assert facts["program"] == "A1111's web UI" and facts["request"]["sampling"]["sampler"] == "euler-a"
    assert facts["files"] == [{"kind": "checkpoint", "name": "m", "weight": 1.0, "hash": ""}]
    json.dumps(facts)


# ---- whatever is in them ---------------------------------------------------------------------------------------------


GRAPH, DRAWING = json.dumps(usual().nodes), json.dumps(usual().drawn(ORDER))


def _bad(rng: random.Random) -> dict[str, str]:
    """A text of a kind, damaged somewhere."""
    sources = {
        "parameters": infotext(rng.choice(NASTY), rng.choice(NASTY), {
            **SETTINGS, "Size": rng.choice(["9x9", "x", "1e5x1", "0x0"]),
            "Hires upscale": rng.choice(["2", "nan", "-1"]),
            "Lora hashes": rng.choice(["a", ":", "a: b, : c,,"]), "ENSD": rng.choice(["1e400", "7", "x"])}),
        "prompt": GRAPH, "workflow": DRAWING, "Comment": NOVEL["Comment"],
        "invokeai_metadata": json.dumps({"positive_prompt": 3, "loras": [1, {"model": "x"}], "seed": [], "model": 4,
                                         "width": {}, "height": "a", "clip_skip": None, "steps": True}),
        "sd-metadata": json.dumps({"image": {"prompt": [1, {"prompt": None}], "steps": "x"}}),
        "Dream": "a 'fox -s 3 -S", "Software": "NovelAI",
    }  # fmt: skip
    kept = {name: text for name, text in sources.items() if rng.random() < 0.4}
    return {name: _damaged(text, rng) if name != "Software" else text for name, text in kept.items()}


def _damaged(text: str, rng: random.Random) -> str:
    how, at = rng.randrange(5), rng.randrange(len(text) + 1)
    if how == 0:
        return text[:at]
    if how == 1:
        return (
            text[:at]
            + rng.choice(["\0", '"', "{", "[", "]", ":", ",", "\n", "\ud83e\udd8a", "9" * 400, "-"])
            + text[at:]
        )
    if how == 2:
        return "".join(rng.sample(text, len(text)))
    if how == 3:
        return text.replace(rng.choice('0123456789"{}:'), rng.choice(["", "null", "-1", "1e999", "[]", "NaN"]))
    return text


def test_no_text_makes_it_fail() -> None:
    rng = random.Random(0)
    found = 0
    for _ in range(2000):
        told = dialects.read(_bad(rng))
        if told is not None:
            found += 1
            told.request.to_json()
            assert all(isinstance(note, str) for note in told.notes)
    assert found > 1000


def test_long_texts_take_no_time() -> None:
    for text in (
        "a " * 200_000,
        " " * 200_000 + "x",
        "Steps: " * 50_000,
        '"' * 100_000,
        'k: "' * 50_000,
        "[" * 100_000,
    ):
        assert dialects.read({"parameters": f"a\n{text}"}) is not None
    assert dialects.read({"prompt": "[" * 100_000, "workflow": '{"a":' * 100_000}) is None


def test_truncated_files_are_explained(tmp_path: Path) -> None:
    whole = png(tmp_path / "a.png", {"parameters": infotext("a", "", SETTINGS)}).read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        (tmp_path / "b.png").write_bytes(whole[: rng.randrange(len(whole))])
        try:
            read_provenance(tmp_path / "b.png").request()
        except HvisError as error:
            assert str(error)
