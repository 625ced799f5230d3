"""Adapters that a request names, on whole systems, beside diffusers' pipelines with the same files."""

from __future__ import annotations

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors
from tiny_pipelines import NEGATIVE, PROMPT, pipeline, pipeline_xl, start, text, tokenizer
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.protocols import Step
from huggingvis.core.request import OWN, AdapterUse, Canvas, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import fingerprint, generate, notes, prepared
from huggingvis.edits.task import Task
from huggingvis.systems.attaching import lora
from huggingvis.systems.attachments import Attachments, Bench
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS = 8
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT_LAYER = "text_model.encoder.layers.1.mlp.fc1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def system(model: Path) -> System:
    return bind_folder(model, How())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def asked(*adapters: AdapterUse, prompt: str = PROMPT) -> Request:
    return Request(Prompt(prompt, NEGATIVE), sampling=Sampling(OWN, OWN, STEPS, 7.5), adapters=adapters)


@torch.inference_mode()
def latents(system: System, request: Request) -> Tensor:
    assert system.adapts is not None
    generator = system.generator(request)
    with system.adapts(request, 1, generator) as more:
        cond = {**system.conditioner([request]), **more}
        return Task(system, request, generator, 1, cond, ReplayNoise([start()])).from_noise()


def theirs(made: Any, **more: Any) -> Tensor:
    told = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 7.5}
    found: Tensor = made(**{**told, **more}, latents=start(), output_type="latent").images
    return found


def assert_close(ours: Tensor, reference: Tensor) -> None:
    assert float((ours - reference).abs().max()) <= 1e-4 * max(1.0, float(reference.abs().max()))


def a_lora(path: Path, width: int = 32) -> Path:
    """In kohya's spelling, of one layer of the U-Net and one of the text tower."""
    g = torch.Generator().manual_seed(0)
    layers = {"lora_unet_" + LAYER: (32, width), "lora_te_" + TEXT_LAYER: (64, 32)}
    tensors = {}
    for layer, (out, into) in layers.items():
        name = layer.replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, into, generator=g)
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, 4, generator=g)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_tensors(tensors, path)
    return path


def merged(made: Any, path: Path, weight: float) -> Any:
    """The pipeline with W + weight alpha/r up down in the two layers, by hand."""
    tensors = load_file(path)
    nets = {"lora_unet_" + LAYER: made.unet, "lora_te_" + TEXT_LAYER: made.text_encoder}
    for layer, net in nets.items():
        name = layer.replace(".", "_")
        path_in_net = layer.split("_", 2)[2]
        names = dict(net.named_modules())
        module = names.get(path_in_net) or names[path_in_net.removeprefix("text_model.")]
        delta = tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"] * (2.0 / 4)
        module.weight.data += weight * delta
    return made


def test_a_lora_changes_what_the_reference_changes_and_leaves_no_bit_behind(system: System, tmp_path: Path) -> None:
    path = a_lora(tmp_path / "style.safetensors")
    before = latents(system, asked())
    ours = latents(system, asked(AdapterUse(str(path), 0.7)))
    assert_close(ours, theirs(merged(pipeline(), path, 0.7)))
    assert float((ours - before).abs().max()) > 1e-2
    assert torch.equal(latents(system, asked()), before)
    assert torch.equal(latents(system, asked(AdapterUse(str(path), 0.0))), before)
    assert system.adapts is not None and system.adapts.notes(asked(AdapterUse(str(path)))) == ()


def test_what_a_request_does_not_name_is_let_go(system: System, tmp_path: Path) -> None:
    one, two = (a_lora(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    attachments = system.adapts
    assert isinstance(attachments, Attachments)

    def opened(path: Path) -> weakref.ref[Any]:
        with attachments(asked(AdapterUse(str(path))), 1):
            return weakref.ref(attachments._opened[str(path)][2])

    first = opened(one)
    gc.collect()
    assert first() is not None and opened(one)() is first()
    assert opened(two)() is not None
    gc.collect()
    assert first() is None
    with attachments(asked(), 1):
        assert not attachments._opened


def test_requests_that_wait_read_their_adapters_once(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A, B, A, prepared before the first is made; who is never made, or is made, lets go of its file."""
    read: list[Path] = []

    def opened(path: Path, bench: Bench) -> Any:
        read.append(path)
        return lora_opened(path, bench)

    lora_opened = lora.opened
    monkeypatch.setattr(lora, "opened", opened)
    one, two, never = (a_lora(tmp_path / f"{name}.safetensors") for name in ("one", "two", "never"))
    ready = [prepared(system, asked(AdapterUse(str(path)))) for path in (one, two, one, never)]
    del ready[-1]
    gc.collect()
    for one_of_them in ready:
        list(one_of_them.pictures())
    assert read == [one, two, never]
    attachments = system.adapts
    assert isinstance(attachments, Attachments) and [*attachments._opened] == [str(one)]


def test_a_lora_of_xl_changes_both_towers_as_in_diffusers(tmp_path: Path) -> None:
    """In kohya's spelling, `te1` and `te2`, read by diffusers' own loader."""
    made, g = pipeline_xl(), torch.Generator().manual_seed(0)
    made.save_pretrained(tmp_path / "xl")
    system = bind_folder(tmp_path / "xl", How())
    layers = {f"lora_te{number}_text_model_encoder_layers_0_self_attn_{side}_proj": (width, width)
              for number, width in ((1, 32), (2, 48)) for side in ("q", "out")}  # fmt: skip
    layers["lora_unet_" + LAYER.replace(".", "_")] = (32, 80)
    tensors = {}
    for name, (out, into) in layers.items():
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, into, generator=g)
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, 4, generator=g)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_tensors(tensors, tmp_path / "whole.safetensors")
    made.load_lora_weights(tmp_path / "whole.safetensors")
    whole = latents(system, asked(AdapterUse(str(tmp_path / "whole.safetensors"))))
    assert_close(whole, theirs(made))
    for part in ("te1", "te2", "unet"):
        rest = {name: x for name, x in tensors.items() if not name.startswith(f"lora_{part}_")}
        save_tensors(rest, tmp_path / f"{part}.safetensors")
        without = latents(system, asked(AdapterUse(str(tmp_path / f"{part}.safetensors"))))
        assert float((whole - without).abs().max()) > 1e-3


def test_two_loras_add_up(system: System, tmp_path: Path) -> None:
    path = str(a_lora(tmp_path / "a.safetensors"))
    once = latents(system, asked(AdapterUse(path, 1.0)))
    assert_close(latents(system, asked(AdapterUse(path, 0.25), AdapterUse(path, 0.75))), once)


def test_a_lora_of_another_base_is_refused(system: System, tmp_path: Path) -> None:
    path = a_lora(tmp_path / "wide.safetensors", width=48)
    with pytest.raises(FileProblem, match=r"wide\.safetensors"):
        latents(system, asked(AdapterUse(str(path))))


def test_an_embedding_of_xl_is_read_by_both_towers_as_in_diffusers(tmp_path: Path) -> None:
    made, g = pipeline_xl(), torch.Generator().manual_seed(3)
    made.save_pretrained(tmp_path / "xl")
    system = bind_folder(tmp_path / "xl", How())
    vectors = {"clip_l": torch.randn(2, 32, generator=g), "clip_g": torch.randn(2, 48, generator=g)}
    save_tensors(vectors, tmp_path / "wombat.safetensors")
    for part, tower, tokens in (
        ("clip_l", made.text_encoder, made.tokenizer),
        ("clip_g", made.text_encoder_2, made.tokenizer_2),
    ):
        made.load_textual_inversion(vectors[part], token="<wombat>", text_encoder=tower, tokenizer=tokens)
    reference = theirs(made, prompt="a photograph of <wombat>")
    whole = asked(AdapterUse(str(tmp_path / "wombat.safetensors")), prompt="a photograph of wombat")
    assert_close(latents(system, whole), reference)
    for part, vector in vectors.items():
        save_tensors({**vectors, part: vector * 0.5}, tmp_path / "other.safetensors")
        half = asked(AdapterUse(str(tmp_path / "other.safetensors")), prompt="a photograph of other")
        assert float((latents(system, half) - reference).abs().max()) > 1e-3


def test_an_embedding_is_a_word_of_the_prompt(system: System, tmp_path: Path) -> None:
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    save_tensors({"emb_params": vectors}, tmp_path / "wombat.safetensors")
    made = pipeline()
    made.load_textual_inversion({"<wombat>": vectors}, token="<wombat>")
    reference = theirs(made, prompt="a photograph of <wombat>")
    use = AdapterUse(str(tmp_path / "wombat.safetensors"))
    assert_close(latents(system, asked(use, prompt="a photograph of wombat")), reference)
    plain = latents(system, asked(prompt="a photograph of wombat"))
    assert float((plain - reference).abs().max()) > 1e-2


def controlnet() -> diffusers.ControlNetModel:
    torch.manual_seed(7)
    net = diffusers.ControlNetModel.from_unet(pipeline().unet, conditioning_embedding_out_channels=(4, 6))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net.eval()


@pytest.mark.parametrize(("start_at", "end_at"), [(0.0, 1.0), (0.25, 0.75)])
def test_a_controlnet_reads_a_picture(
    start_at: float, end_at: float, system: System, tmp_path: Path, picture: Path
) -> None:
    net = controlnet()
    net.save_pretrained(tmp_path / "control")
    made = pipeline("StableDiffusionControlNetPipeline", controlnet=net)
    part = {"control_guidance_start": start_at, "control_guidance_end": end_at}
    scale = {"controlnet_conditioning_scale": 0.8, "height": 16, "width": 16}
    reference = theirs(made, image=Image.open(picture), **scale, **part)
    use = AdapterUse(str(tmp_path / "control"), 0.8, str(picture), start_at, end_at)
    before = latents(system, asked())
    ours = latents(system, asked(use))
    assert_close(ours, reference)
    assert float((ours - before).abs().max()) > 1e-2
    assert torch.equal(latents(system, asked()), before)


def test_a_controlnet_without_a_picture_asks_for_one(system: System, tmp_path: Path) -> None:
    controlnet().save_pretrained(tmp_path / "control")
    with pytest.raises(UsageError, match="is a ControlNet, which reads a picture"):
        latents(system, asked(AdapterUse(str(tmp_path / "control"))))


def test_what_is_no_adapter_is_refused_by_what_it_is(system: System, model: Path) -> None:
    with pytest.raises(FileProblem, match="is a model as a diffusers folder, which does not go on top of a model"):
        latents(system, asked(AdapterUse(str(model))))


def image_encoder() -> transformers.CLIPVisionModelWithProjection:
    torch.manual_seed(4)
    config = transformers.CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, patch_size=8,
                                           num_attention_heads=2, image_size=16, projection_dim=24)  # fmt: skip
    return transformers.CLIPVisionModelWithProjection(config).eval()


def test_an_ip_adapter_is_shown_a_picture(system: System, tmp_path: Path, picture: Path) -> None:
    tower, g = image_encoder(), torch.Generator().manual_seed(6)
    tower.save_pretrained(tmp_path / "image_encoder")
    made = pipeline()
    widths = [m.to_k.out_features for name, m in made.unet.named_modules() if name.endswith("attn2")]
    proj = {"proj.weight": (4 * 32, 24), "proj.bias": (4 * 32,), "norm.weight": (32,), "norm.bias": (32,)}
    tensors = {f"image_proj.{k}": torch.randn(shape, generator=g) for k, shape in proj.items()}
    for n, width in enumerate(widths):
        for leaf in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * n + 1}.{leaf}.weight"] = torch.randn(width, 32, generator=g)
    save_tensors(tensors, tmp_path / "ip-adapter.safetensors")
    wide = Image.fromarray(np.random.default_rng(2).integers(0, 256, (24, 41, 3), dtype=np.uint8))
    wide.save(picture)
    use = AdapterUse(str(tmp_path / "ip-adapter.safetensors"), 0.6, str(picture))
    before = latents(system, asked())
    ours = latents(system, asked(use))
    made.load_ip_adapter(str(tmp_path), subfolder="", weight_name="ip-adapter.safetensors", image_encoder_folder=None)
    made.set_ip_adapter_scale(0.6)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    with torch.no_grad():
        seen = tower(processor(images=wide, return_tensors="pt").pixel_values).image_embeds
    embeds = torch.stack([torch.zeros_like(seen), seen])  # [2, 1, E]: the negative half first
    assert_close(ours, theirs(made, ip_adapter_image_embeds=[embeds]))
    assert float((ours - before).abs().max()) > 1e-2
    assert torch.equal(latents(system, asked()), before)


def test_pictures_of_a_batch_carry_their_adapters(system: System, tmp_path: Path, picture: Path) -> None:
    controlnet().save_pretrained(tmp_path / "control")
    path = a_lora(tmp_path / "style.safetensors")
    uses = (AdapterUse(str(path), 0.5), AdapterUse(str(tmp_path / "control"), 1.0, str(picture)))
    request = replace(asked(*uses), canvas=Canvas(count=3))
    many = generate(system, request)
    assert len(many) == 3 and many[0].request == request
    alone = generate(system, replace(request, canvas=Canvas(count=1)))
    apart = np.abs(many[0].pixels.astype(int) - alone[0].pixels.astype(int)).max()
    assert apart <= 1


def test_an_adapter_that_fails_leaves_the_nets_as_they_were(system: System, tmp_path: Path) -> None:
    controlnet().save_pretrained(tmp_path / "control")
    style = AdapterUse(str(a_lora(tmp_path / "style.safetensors")))
    before = latents(system, asked())
    for missing in ("", str(tmp_path / "absent.png")):
        with pytest.raises((FileProblem, UsageError)):
            latents(system, asked(style, AdapterUse(str(tmp_path / "control"), 1.0, missing)))
        assert torch.equal(latents(system, asked()), before)


def test_a_walk_that_is_stopped_leaves_the_nets_as_they_were(system: System, tmp_path: Path) -> None:
    style = AdapterUse(str(a_lora(tmp_path / "style.safetensors")))
    before, weights = latents(system, asked()), fingerprint(system)

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(system, asked(style), on_step=stop)
    assert fingerprint(system) == weights
    assert torch.equal(latents(system, asked()), before)


def test_threads_with_other_adapters_take_turns(system: System, tmp_path: Path) -> None:
    path = str(a_lora(tmp_path / "style.safetensors"))
    requests = [asked(), asked(AdapterUse(path, 1.0)), asked(AdapterUse(path, -1.0))]
    alone = [generate(system, request)[0] for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = [pictures[0] for pictures in pool.map(partial(generate, system), requests)]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.made["weights"] == other.made["weights"]


def test_a_step_cannot_ask_for_pictures_of_its_own_under_adapters(system: System, tmp_path: Path) -> None:
    style = AdapterUse(str(a_lora(tmp_path / "style.safetensors")))

    def on_step(step: Step) -> None:
        generate(system, asked())

    with pytest.raises(UsageError, match="is making pictures with adapters of its own request"):
        generate(system, asked(style), on_step=on_step)
    assert len(generate(system, asked())) == 1


def test_a_file_that_changes_on_the_disk_is_read_again(system: System, tmp_path: Path) -> None:
    path = a_lora(tmp_path / "style.safetensors")
    use = asked(AdapterUse(str(path)))
    first = latents(system, use)
    stronger = {name: 2 * tensor for name, tensor in load_file(path).items()}
    save_tensors(stronger, path)
    os.utime(path, ns=(1, 1))  # whatever the clock of the disk resolves
    assert float((latents(system, use) - first).abs().max()) > 1e-2


def a_word(path: Path, vectors: int) -> AdapterUse:
    found = torch.randn(vectors, 32, generator=torch.Generator().manual_seed(3))
    save_tensors({"emb_params": found}, path)
    return AdapterUse(str(path))


def test_the_length_of_a_prompt_counts_the_vectors_of_its_words(system: System, tmp_path: Path) -> None:
    use = a_word(tmp_path / "wombat.safetensors", 60)
    request = replace(asked(use), prompt=Prompt("a " * 16 + "wombat " + "fox " * 15), canvas=Canvas(16, 16))
    assert notes(system, request) == ()
    assert system.adapts is not None
    with system.adapts.words(request):
        assert system.conditioner([request])["tokens"].shape[1] == 2 * 77  # 16 and 60 do not go into 75
    (said,) = notes(system, replace(asked(use), prompt=Prompt("a fox"), canvas=Canvas(16, 16)))
    assert said == "The prompt does not call the embedding 'wombat': write that word where it should act."


def test_what_acts_on_all_steps_is_not_asked_for_a_part(system: System, tmp_path: Path) -> None:
    style, word = a_lora(tmp_path / "style.safetensors"), a_word(tmp_path / "wombat.safetensors", 1)
    for use in (AdapterUse(str(style), start=0.5), replace(word, end=0.5)):
        with pytest.raises(UsageError, match="acts on all steps, but is asked for from"):
            latents(system, asked(use))
    with pytest.raises(UsageError, match="its weight is 1, or 0, found 0.5"):
        latents(system, asked(replace(word, weight=0.5)))


def test_text_towers_are_tiny() -> None:
    """The fixtures above are of the sizes that the tests think they are."""
    assert text().config.hidden_size == 32 and tokenizer().model_max_length == 77
